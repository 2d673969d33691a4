//! `down`: removes everything that the state names, with or without a running agent.

use std::collections::BTreeSet;

use causeway_api::{Error, Removed};
use causeway_netlink::Netlink;
use tracing::debug;

pub use super::host::Handles;
use super::resource::{
    container::{adopt_namespace, remove_namespace},
    endpoint::delete_named,
    forwarding,
};
use crate::{datapath::Datapath, instance::Instance, state::State};

/// Removes everything, and goes on after what fails. `host` is none if its namespace is gone: its
/// links went with it. The state file stays if something failed, so that it can be tried again.
/// With `keep_datapath` the datapath stays: it belongs to another agent.
pub async fn remove_instance(
    instance: &Instance,
    state: &State,
    host: Option<&Handles>,
    keep_datapath: bool,
) -> (Removed, Vec<anyhow::Error>) {
    let mut errors = Vec::new();
    if let Some(Handles { netlink, .. }) = host {
        errors.extend(delete_host_sides(netlink, state).await);
    }
    for container in state.containers.values() {
        let mut container = container.clone();
        adopt_namespace(&mut container);
        errors.extend(remove_namespace(&container).err());
    }
    for network in state.networks.values() {
        if let Some(Handles { netlink, .. }) = host {
            errors.extend(delete_named(netlink, &network.bridge).await.err());
        }
    }
    // After the links: while they exist the programs keep networks apart.
    let datapath = if keep_datapath { Ok(Vec::new()) } else { Datapath::remove(instance.name()) };
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

/// Removes the host sides at once, or one by one if that fails, so that an error names the
/// interface.
async fn delete_host_sides(netlink: &Netlink, state: &State) -> Vec<anyhow::Error> {
    let names: BTreeSet<&str> = state
        .containers
        .values()
        .flat_map(|container| &container.endpoints)
        .map(|endpoint| endpoint.host_side.as_str())
        .collect();
    let together = async {
        let links = netlink.links().await?;
        let ours = links.iter().filter(|link| names.contains(link.name.as_str()));
        netlink.delete_links(&ours.map(|link| link.index).collect::<Vec<_>>()).await
    };
    let mut errors = Vec::new();
    if let Err(error) = together.await {
        debug!(error = %Error::from_chain(&*error), "the host sides are removed one by one");
        for name in names {
            errors.extend(delete_named(netlink, name).await.err());
        }
    }
    errors
}
