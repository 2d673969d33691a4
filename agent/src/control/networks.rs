//! Networks: made, listed, removed.

use anyhow::{Context as _, ensure};
use causeway_api as api;
use causeway_api::messages;
use causeway_api::spec::DEFAULT_NETWORK;
use causeway_api::{
    NetworkSpec,
    types::{flow_options::Mapping, mac::Mac, subnet},
};
use tracing::{info, warn};

use super::{Agent, warn_all};
use crate::{
    datapath::{Interface, Terms},
    state::network::Network,
};

/// Begins the line that says why there is no default network.
pub(super) const NO_DEFAULT: &str = "cannot make the network 'default'; declare networks of your own in a file and give it with --config";

impl Agent {
    pub(super) fn network_list(&self) -> Vec<api::Network> {
        self.state.networks.values().map(|network| self.view_network(network)).collect()
    }

    pub(super) fn network_inspect(&self, name: &str) -> anyhow::Result<api::Network> {
        Ok(self.view_network(self.network(name)?))
    }

    pub(super) async fn network_create(
        &mut self,
        spec: &NetworkSpec,
        declared: bool,
    ) -> anyhow::Result<api::Network> {
        let network = Network { declared, ..self.plan().await?.network_of(spec)? };
        let name = network.name.clone();
        // Named before it is made: an agent that dies in between leaves nothing that the next one
        // does not know.
        self.state.networks.insert(name.clone(), network.clone());
        let built = match self.save() {
            Ok(()) => self.build_network(&network).await,
            Err(error) => Err(error),
        };
        if let Err(error) = built {
            warn_all(&self.dismantle_network(&network).await);
            self.state.networks.remove(&name);
            warn_all(self.save().err().as_slice());
            return Err(error);
        }
        say_floors(&network);
        info!(
            network = name,
            subnet = subnet::join(&network.subnets),
            bridge = network.bridge,
            "network created"
        );
        Ok(self.view_network(&network))
    }

    /// Makes a network's way of keeping flows, as the state has it, known to the datapath.
    pub(super) fn apply_flow_policy(&mut self, name: &str) -> anyhow::Result<()> {
        let network = self.network(name)?.clone();
        say_floors(&network);
        // One that is not there yet gets it with its bridge.
        if let Some(index) = self.bridges.get(name).copied() {
            let interface = Interface { index, name: network.bridge.clone() };
            self.datapath.put_bridge(&interface, &network.subnets, &self.terms_of(&network))?;
        }
        info!(network = name, "network changed: timeouts, ports, mapping, max_flows");
        Ok(())
    }

    pub(super) async fn network_remove(&mut self, name: &str) -> anyhow::Result<api::Network> {
        let network = self.network(name)?.clone();
        let on_it = self.containers_on(name);
        ensure!(
            on_it.is_empty(),
            "the containers {} are on it; remove each of them first, with 'causeway container rm {}' and so on",
            on_it.join(", "),
            on_it.first().map_or("", String::as_str)
        );
        let errors = self.dismantle_network(&network).await;
        ensure!(errors.is_empty(), "{}", messages::lines(&errors));
        self.state.networks.remove(name);
        if name == DEFAULT_NETWORK {
            self.state.no_default = true;
        }
        self.save()?;
        self.sync_host().await?;
        info!(network = name, "network removed");
        Ok(self.view_network(&network))
    }

    /// The network that there is when nobody declares one. Removed by command it stays away until
    /// `down`.
    pub(super) async fn ensure_default_network(&mut self) -> anyhow::Result<()> {
        if self.state.no_default || self.state.networks.contains_key(DEFAULT_NETWORK) {
            return Ok(());
        }
        let spec = NetworkSpec::default_network();
        self.network_create(&spec, false).await.map(|_| ()).context(NO_DEFAULT)
    }

    /// The network of that name.
    pub(super) fn network(&self, name: &str) -> anyhow::Result<&Network> {
        self.state.networks.get(name).with_context(|| {
            let names: Vec<&str> = self.state.networks.keys().map(String::as_str).collect();
            match names.as_slice() {
                [] => format!("there is no network '{name}', nor any other; make one with 'causeway network create'"),
                names => format!("there is no network '{name}'; there is {}", names.join(", ")),
            }
        })
    }

    /// The names of the containers on a network.
    pub(super) fn containers_on(&self, network: &str) -> Vec<String> {
        let on_it = self
            .state
            .containers
            .values()
            .filter(|container| container.endpoint_on(network).is_some());
        on_it.map(|container| container.name.clone()).collect()
    }

    async fn build_network(&mut self, network: &Network) -> anyhow::Result<()> {
        let index = self.create_bridge(network, bridge_mac(network)?).await?;
        self.bridges.insert(network.name.clone(), index);
        self.finish_bridge(network, index).await?;
        self.sync_host().await
    }

    /// What a bridge has beside its being there. Again is done.
    pub(super) async fn finish_bridge(
        &mut self,
        network: &Network,
        index: u32,
    ) -> anyhow::Result<()> {
        let interface = Interface { index, name: network.bridge.clone() };
        // Guarded before it has an address, so before anything is forwarded into it.
        self.datapath.put_bridge(&interface, &network.subnets, &self.terms_of(network))?;
        self.settle_ipv6(network)?;
        for (subnet, gateway) in network.subnets.iter().zip(&network.gateways) {
            let address = ipnet::IpNet::new(*gateway, subnet.prefix_len())?;
            self.host.handles.netlink.add_address(index, address).await?;
        }
        Ok(())
    }

    fn terms_of(&self, network: &Network) -> Terms {
        let policy = network.flows.policy();
        Terms {
            timeouts: policy
                .timeouts
                .iter()
                .map(|(timeout, seconds)| (timeout.timer(), *seconds))
                .collect(),
            ports: policy.ports,
            full_cone: policy.mapping == Mapping::FullCone,
            max_flows: policy.max_flows.unwrap_or(self.datapath.room() / 2),
        }
    }

    /// Takes a network away as far as it is there.
    pub(super) async fn dismantle_network(&mut self, network: &Network) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        if let Some(index) = self.bridges.get(&network.name).copied() {
            errors.extend(self.host.handles.netlink.delete_link(index).await.err());
            errors.extend(self.datapath.remove_bridge(index, &network.subnets).err());
            if errors.is_empty() {
                self.bridges.remove(&network.name);
            }
        }
        errors
    }
}

/// Says which of its timeouts are shorter than they should be.
fn say_floors(network: &Network) {
    for line in network.flows.policy().below_floors() {
        warn!(network = network.name, "{line}");
    }
}

/// Of the bridge, from its first gateway address.
pub(super) fn bridge_mac(network: &Network) -> anyhow::Result<Mac> {
    let first = network
        .gateways
        .first()
        .with_context(|| format!("network '{}' has no gateway", network.name))?;
    Ok(Mac::from_address(*first, 0))
}
