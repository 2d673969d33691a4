//! Bringing the host to what the configuration file declares.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use tracing::info;

use super::Agent;
use crate::{
    api::{ContainerSpec, NetworkSpec},
    config::Config,
    model::{
        container::Container,
        network::{self, Network},
        publish::Publish,
    },
};

impl Agent {
    /// Makes what is declared, makes anew what is declared otherwise than it is, and removes what a former file declared and this one
    /// does not. What was added by command stays.
    pub(super) async fn declare(&mut self, config: &Config) -> anyhow::Result<()> {
        self.declare_in_order(config).await.with_context(|| config.path.display().to_string())
    }

    async fn declare_in_order(&mut self, config: &Config) -> anyhow::Result<()> {
        let networks = self.outdated_networks(config);
        let containers = self.outdated_containers(config, &networks);
        self.check_declared(config, &networks, &containers).await?;
        for name in &containers {
            info!(container = name, "no longer declared so");
            self.container_remove(name).await.with_context(|| format!("container '{name}'"))?;
        }
        for name in &networks {
            info!(network = name, "no longer declared so");
            self.network_remove(name).await.with_context(|| format!("network '{name}'"))?;
        }
        if !config.networks.is_empty() {
            self.state.no_default = true;
        }
        for spec in &config.networks {
            match self.state.networks.get_mut(&spec.name) {
                Some(network) => network.declared = true,
                None => {
                    self.network_create(spec, true).await.with_context(|| format!("network '{}'", spec.name))?;
                }
            }
        }
        // A file that declares no networks may put containers on the default one.
        self.ensure_default_network().await?;
        for spec in &config.containers {
            self.declare_container(spec).await.with_context(|| format!("container '{}'", spec.name))?;
        }
        self.save()
    }

    /// Finds what would stop half-way, before anything is removed for it.
    async fn check_declared(
        &self,
        config: &Config,
        outdated: &[String],
        outdated_containers: &[String],
    ) -> anyhow::Result<()> {
        for name in outdated {
            let mut stay = self.containers_on(name);
            stay.retain(|container| !outdated_containers.contains(container));
            ensure!(
                stay.is_empty(),
                "network '{name}' is declared otherwise than it is, or no longer, and the containers {} that were added by command \
                 are on it; remove them first",
                stay.join(", ")
            );
        }
        for spec in &config.networks {
            if outdated.contains(&spec.name) || !self.state.networks.contains_key(&spec.name) {
                self.plan_network(spec, outdated).await.with_context(|| format!("network '{}'", spec.name))?;
            }
        }
        Ok(())
    }

    fn outdated_networks(&self, config: &Config) -> Vec<String> {
        let outdated = |network: &&Network| match config.networks.iter().find(|spec| spec.name == network.name) {
            None => network.declared,
            Some(spec) => !is_as_declared(network, spec),
        };
        self.state.networks.values().filter(outdated).map(|network| network.name.clone()).collect()
    }

    fn outdated_containers(&self, config: &Config, networks: &[String]) -> Vec<String> {
        let outdated: BTreeSet<&str> = networks.iter().map(String::as_str).collect();
        let is_outdated = |container: &&Container| {
            let moves = container.endpoints.iter().any(|endpoint| outdated.contains(endpoint.network.as_str()));
            match config.containers.iter().find(|spec| spec.name == container.name) {
                None => container.declared,
                Some(spec) => moves || !container_is_as_declared(container, spec),
            }
        };
        self.state.containers.values().filter(is_outdated).map(|container| container.name.clone()).collect()
    }

    async fn declare_container(&mut self, spec: &ContainerSpec) -> anyhow::Result<()> {
        if !self.state.containers.contains_key(&spec.name) {
            let mut container = self.plan_container(spec, None).await?;
            container.declared = true;
            for publish in &mut container.publishes {
                publish.declared = true;
            }
            return self.add_container(container, spec).await.map(|_| ());
        }
        let outdated: Vec<Publish> = self.container(&spec.name)?.publishes.clone();
        for publish in outdated.iter().filter(|publish| publish.declared && !spec.publishes.contains(&publish.spec)) {
            self.publish_remove(&spec.name, &publish.spec)?;
        }
        for publish in &spec.publishes {
            if !self.container(&spec.name)?.publishes.iter().any(|there| there.spec == *publish) {
                let publish = Publish { spec: *publish, from: Vec::new(), declared: true };
                self.add_publish(&spec.name, publish).await?;
            }
        }
        if let Some(container) = self.state.containers.get_mut(&spec.name) {
            container.declared = true;
            for publish in &mut container.publishes {
                publish.declared |= spec.publishes.contains(&publish.spec);
            }
        }
        Ok(())
    }
}

fn is_as_declared(network: &Network, spec: &NetworkSpec) -> bool {
    let gateways = network::choose_gateways(&spec.subnets, &spec.gateways);
    network.subnets == spec.subnets
        && gateways.is_ok_and(|gateways| gateways == network.gateways)
        && spec.bridge.as_ref().is_none_or(|bridge| *bridge == network.bridge)
        && spec.mtu.is_none_or(|mtu| mtu == network.mtu)
        && (spec.internal, spec.masquerade, spec.icc) == (network.internal, network.masquerade, network.icc)
}

fn container_is_as_declared(container: &Container, spec: &ContainerSpec) -> bool {
    let Some(endpoint) = container.endpoint_on(spec.network.as_deref().unwrap_or(network::DEFAULT)) else {
        return false;
    };
    let has = |address| endpoint.addresses.iter().any(|ours| ours.addr() == address);
    let mac = spec.mac.as_deref().map(str::parse);
    container.made
        && spec.addresses.iter().all(|address| has(*address))
        && mac.is_none_or(|mac| mac.is_ok_and(|mac: crate::net::mac::Mac| mac == endpoint.mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_open_is_as_declared_whatever_was_chosen() {
        let spec = network::default_spec();
        let mut network = Network {
            name: spec.name.clone(),
            subnets: spec.subnets.clone(),
            gateways: spec.gateways.clone(),
            bridge: "cw0".to_owned(),
            mtu: 1400,
            internal: false,
            masquerade: true,
            icc: true,
            last: None,
            declared: false,
        };
        assert!(is_as_declared(&network, &spec));
        let open = NetworkSpec { bridge: None, gateways: Vec::new(), ..spec.clone() };
        assert!(is_as_declared(&network, &open));
        assert!(!is_as_declared(&network, &NetworkSpec { mtu: Some(1500), ..spec.clone() }));
        assert!(!is_as_declared(&network, &NetworkSpec { icc: false, ..spec.clone() }));
        network.gateways = vec!["172.18.0.9".parse().unwrap()];
        assert!(!is_as_declared(&network, &open));
    }

    #[test]
    fn a_container_declared_elsewhere_is_outdated() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "web", "netns": "/run/netns/web", "cookie": 1, "made": true,
            "endpoints": [{
                "network": "default", "addresses": ["172.18.0.2/16"], "mac": "02:63:ac:12:00:02",
                "interface": "eth0", "host_side": "cwv00000000",
            }],
        }))
        .unwrap();
        let spec = ContainerSpec {
            name: "web".to_owned(),
            network: None,
            addresses: Vec::new(),
            mac: None,
            publishes: Vec::new(),
        };
        assert!(container_is_as_declared(&container, &spec));
        for other in [
            ContainerSpec { network: Some("front".to_owned()), ..spec.clone() },
            ContainerSpec { addresses: vec!["172.18.0.3".parse().unwrap()], ..spec.clone() },
            ContainerSpec { mac: Some("02:63:ac:12:00:03".to_owned()), ..spec.clone() },
        ] {
            assert!(!container_is_as_declared(&container, &other), "{other:?}");
        }
    }
}
