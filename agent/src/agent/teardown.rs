//! `down`: removing all that the state names, with an agent or without one.

pub use super::host::Handles;
use super::{adopt::claim, containers::remove_namespace, endpoint::delete_named, forwarding};
use crate::{api::Removed, datapath::Datapath, instance::Instance, state::State};

/// Removes everything, and finishes whatever fails on the way. `host` is none if its namespace is gone: its links went with it. The
/// state file stays if something failed, so that it can be tried again. A datapath that is to be `kept` is another agent's.
pub async fn remove_instance(
    instance: &Instance,
    state: &State,
    host: Option<&Handles>,
    kept: bool,
) -> (Removed, Vec<anyhow::Error>) {
    let mut errors = Vec::new();
    for container in state.containers.values() {
        let mut container = container.clone();
        claim(&mut container);
        for endpoint in &container.endpoints {
            if let Some(Handles { netlink, .. }) = host {
                errors.extend(delete_named(netlink, &endpoint.host_side).await.err());
            }
        }
        errors.extend(remove_namespace(&container).err());
    }
    for network in state.networks.values() {
        if let Some(Handles { netlink, .. }) = host {
            errors.extend(delete_named(netlink, &network.bridge).await.err());
        }
    }
    // After the links: until then the programs keep networks apart.
    let datapath = if kept { Ok(Vec::new()) } else { Datapath::remove(instance.name()) };
    match datapath {
        Ok(left) => {
            if let Some(Handles { netlink, .. }) = host {
                for index in left {
                    errors.extend(netlink.delete_empty_clsact(index).await.err());
                }
            }
        }
        Err(error) => errors.push(error),
    }
    if let Some(Handles { netns, .. }) = host {
        errors.extend(forwarding::restore(netns, &state.host.sysctls));
    }
    if errors.is_empty() {
        errors.extend(State::remove(&instance.state()).err());
    }
    let removed = Removed {
        networks: state.networks.keys().cloned().collect(),
        containers: state.containers.keys().cloned().collect(),
        files: Vec::new(),
    };
    (removed, errors)
}
