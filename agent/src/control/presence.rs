//! What of it is still there: bridges, host sides and namespaces can be removed by hand, and a
//! container's namespace ends with its last process.

use std::collections::BTreeSet;

use causeway_netlink::link::Link;
use tracing::warn;

use super::{Agent, containers::cookie_at, host::Sight};
use crate::state::{
    container::{Container, Endpoint},
    network::Network,
};

impl Agent {
    /// Says once what went away by itself. It stays known, so that a name is not given again by
    /// accident, until it is removed. But what has no link any more leaves the datapath: its flows
    /// end, and what comes to its publishes is counted as for a container that is gone.
    pub(super) fn forget_vanished(&mut self, sight: &Sight) -> anyhow::Result<()> {
        let indexes: BTreeSet<u32> = sight.links.iter().map(|link| link.index).collect();
        let networks = self.state.networks.values();
        let lost = networks.filter(|network| {
            self.bridges.get(&network.name).is_some_and(|index| !indexes.contains(index))
        });
        let lost: BTreeSet<String> = lost.map(|network| network.name.clone()).collect();
        for network in
            lost.difference(&self.lost_bridges).filter_map(|name| self.state.networks.get(name))
        {
            warn!("{}", bridge_gone(network));
        }
        self.lost_bridges = lost;

        let names = names(&sight.links);
        let has_vanished = |endpoint: &Endpoint| {
            let in_use =
                endpoint.addresses.iter().any(|address| self.endpoints.contains(&address.addr()));
            in_use && !names.contains(endpoint.host_side.as_str())
        };
        let vanished = self
            .state
            .containers
            .values()
            .filter(|container| container.endpoints.iter().any(has_vanished));
        for Container { name, endpoints, .. } in vanished.cloned().collect::<Vec<_>>() {
            warn!(
                "the link of container '{name}' is gone; remove it with 'causeway container rm {name}'"
            );
            for endpoint in
                endpoints.iter().filter(|endpoint| !names.contains(endpoint.host_side.as_str()))
            {
                self.forget_endpoint(endpoint)?;
            }
            self.end_stray_sockets();
        }
        Ok(())
    }

    /// The names of the host's interfaces.
    pub(super) async fn link_names(&self) -> anyhow::Result<BTreeSet<String>> {
        let links = self.host.handles.netlink.links().await?;
        Ok(links.into_iter().map(|link| link.name).collect())
    }
}

/// What is gone of a container, if anything is.
pub(super) fn what_is_gone(container: &Container, links: &BTreeSet<String>) -> Option<String> {
    let lost = container.endpoints.iter().find(|endpoint| !links.contains(&endpoint.host_side));
    if let Some(endpoint) = lost {
        return Some(format!("its host side {} is gone", endpoint.host_side));
    }
    // One that was attached lives on without the path that was given, as long as its host side is
    // there.
    let unnamed = container.made && cookie_at(&container.netns) != container.cookie;
    unnamed.then(|| format!("its network namespace {} is gone", container.netns.display()))
}

/// What to say of a network whose bridge was removed by hand.
pub(super) fn bridge_gone(network: &Network) -> String {
    let Network { name, bridge, .. } = network;
    format!(
        "the bridge {bridge} of network '{name}' is gone; remove the containers that are on it, then the network with 'causeway \
         network rm {name}', and make both again"
    )
}

fn names(links: &[Link]) -> BTreeSet<&str> {
    links.iter().map(|link| link.name.as_str()).collect()
}
