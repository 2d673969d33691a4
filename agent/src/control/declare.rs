//! Bringing the host to what the configuration file declares.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context as _, ensure};
use causeway_api::spec::DEFAULT_NETWORK;
use causeway_api::{
    ContainerSpec, NetworkSpec,
    types::{
        family::Family,
        publish::{PublishPorts, PublishSpec},
        subnet,
    },
};
use tracing::info;

use super::{Agent, containers::remember_given, networks::NO_DEFAULT, plan::Plan};
use crate::ipam;
use crate::{
    config_file::Config,
    state::{State, container::Container, network::Network, publish::Publish},
};

impl Agent {
    /// Makes what is declared, makes anew what is declared otherwise than it is, and removes what a
    /// former file declared and this one does not. What was added by command stays.
    pub(super) async fn declare(&mut self, config: &Config) -> anyhow::Result<()> {
        self.declare_in_order(config).await.with_context(|| config.path.display().to_string())
    }

    async fn declare_in_order(&mut self, config: &Config) -> anyhow::Result<()> {
        let networks = outdated_networks(&self.state, config);
        let containers = outdated_containers(&self.state, config, &networks);
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
        for spec in networks_in_turn(config) {
            match self.state.networks.get_mut(&spec.name) {
                Some(network) => {
                    network.declared = true;
                    let (before, after) = (network.flows.policy(), spec.flows.policy());
                    network.flows = spec.flows.clone();
                    if before != after {
                        self.apply_flow_policy(&spec.name)
                            .with_context(|| format!("network '{}'", spec.name))?;
                    }
                }
                None => {
                    self.network_create(spec, true)
                        .await
                        .with_context(|| format!("network '{}'", spec.name))?;
                }
            }
        }
        // A file that declares no networks may put containers on the default one.
        self.ensure_default_network().await?;
        for (name, publish) in outdated_publishes(&self.state, config) {
            self.publish_remove(&name, &publish).with_context(|| format!("container '{name}'"))?;
        }
        for spec in &config.containers {
            self.declare_container(config, spec)
                .await
                .with_context(|| format!("container '{}'", spec.name))?;
        }
        self.save()
    }

    async fn declare_container(
        &mut self,
        config: &Config,
        spec: &ContainerSpec,
    ) -> anyhow::Result<()> {
        if !self.state.containers.contains_key(&spec.name) {
            let plan = self.plan().await?.for_file().reserving(asked_for(config));
            let container = plan.container_of(spec, None).await?;
            return self.add_container(container, &spec.addresses).await.map(|_| ());
        }
        for publish in &spec.publishes {
            if !self.container(&spec.name)?.publishes.iter().any(|there| there.is(publish)) {
                self.add_publish(&spec.name, Publish::new(publish.clone(), true)).await?;
            }
        }
        if let Some(container) = self.state.containers.get_mut(&spec.name) {
            container.declared = true;
            for publish in &mut container.publishes {
                publish.declared |= spec.publishes.iter().any(|spec| publish.is(spec));
            }
        }
        Ok(())
    }
}

/// Goes through all that bringing the host to the file would do, so that what would stop half-way
/// stops before the first change.
pub(super) async fn check(config: Option<&Config>, mut plan: Plan<'_>) -> anyhow::Result<()> {
    let Some(config) = config else {
        return foresee_default(&mut plan);
    };
    check_in_order(config, plan.for_file().reserving(asked_for(config)))
        .await
        .with_context(|| config.path.display().to_string())
}

async fn check_in_order(config: &Config, mut plan: Plan<'_>) -> anyhow::Result<()> {
    let networks = outdated_networks(&plan.state, config);
    let containers = outdated_containers(&plan.state, config, &networks);
    for name in &containers {
        plan.without_container(name);
    }
    for name in &networks {
        check_unused(&plan.state, name)?;
        plan.without_network(name);
    }
    plan.state.no_default |= !config.networks.is_empty();
    for spec in networks_in_turn(config) {
        if !plan.state.networks.contains_key(&spec.name) {
            let network =
                plan.network_of(spec).with_context(|| format!("network '{}'", spec.name))?;
            plan.state.networks.insert(network.name.clone(), network);
        }
    }
    foresee_default(&mut plan)?;
    for (name, outdated) in outdated_publishes(&plan.state, config) {
        if let Some(container) = plan.state.containers.get_mut(&name) {
            container.publishes.retain(|publish| publish.ports != outdated);
        }
    }
    for spec in &config.containers {
        foresee_container(&mut plan, spec)
            .await
            .with_context(|| format!("container '{}'", spec.name))?;
    }
    Ok(())
}

fn foresee_default(plan: &mut Plan<'_>) -> anyhow::Result<()> {
    if !plan.state.no_default && !plan.state.networks.contains_key(DEFAULT_NETWORK) {
        let network = plan.network_of(&NetworkSpec::default_network()).context(NO_DEFAULT)?;
        plan.state.networks.insert(network.name.clone(), network);
    }
    Ok(())
}

async fn foresee_container(plan: &mut Plan<'_>, spec: &ContainerSpec) -> anyhow::Result<()> {
    let Some(there) = plan.state.containers.get(&spec.name) else {
        let container = plan.container_of(spec, None).await?;
        remember_given(&mut plan.state, &container, &spec.addresses);
        plan.state.containers.insert(container.name.clone(), container);
        return Ok(());
    };
    let present: Vec<PublishSpec> = there.publishes.iter().map(Publish::spec).collect();
    let network =
        there.endpoints.first().map(|endpoint| endpoint.network.clone()).unwrap_or_default();
    for publish in spec.publishes.iter().filter(|publish| !present.contains(publish)) {
        plan.check_publish(plan.network(&network)?, &publish.ports)?;
        let publish = Publish::new(publish.clone(), true);
        if let Some(container) = plan.state.containers.get_mut(&spec.name) {
            container.publishes.push(publish);
        }
    }
    Ok(())
}

/// Only containers that were added by command can be left on it.
fn check_unused(state: &State, name: &str) -> anyhow::Result<()> {
    let on_it = |container: &&Container| container.endpoint_on(name).is_some();
    let stay: Vec<&str> =
        state.containers.values().filter(on_it).map(|container| container.name.as_str()).collect();
    ensure!(
        stay.is_empty(),
        "network '{name}' is declared otherwise than it is, or no longer, and these containers that were added by command are on it: \
         {}; keep it in the file as it is, or start without --config, remove them with 'causeway container rm', and start again with it",
        stay.join(", ")
    );
    Ok(())
}

/// Those that name their bridge first, so that no other is given that name.
fn networks_in_turn(config: &Config) -> impl Iterator<Item = &NetworkSpec> {
    let (named, open): (Vec<_>, Vec<_>) =
        config.networks.iter().partition(|spec| spec.bridge.is_some());
    named.into_iter().chain(open)
}

/// The addresses that containers name, so that no other is given them.
fn asked_for(config: &Config) -> impl Iterator<Item = IpAddr> {
    config.containers.iter().flat_map(|spec| &spec.addresses).copied()
}

fn outdated_networks(state: &State, config: &Config) -> Vec<String> {
    let outdated =
        |network: &&Network| match config.networks.iter().find(|spec| spec.name == network.name) {
            None => network.declared,
            Some(spec) => !is_as_declared(network, spec),
        };
    state.networks.values().filter(outdated).map(|network| network.name.clone()).collect()
}

fn outdated_containers(state: &State, config: &Config, networks: &[String]) -> Vec<String> {
    let outdated: BTreeSet<&str> = networks.iter().map(String::as_str).collect();
    let is_outdated = |container: &&Container| {
        let moves =
            container.endpoints.iter().any(|endpoint| outdated.contains(endpoint.network.as_str()));
        match config.containers.iter().find(|spec| spec.name == container.name) {
            None => container.declared,
            Some(spec) => moves || !container_is_as_declared(container, spec),
        }
    };
    state.containers.values().filter(is_outdated).map(|container| container.name.clone()).collect()
}

/// With their containers' names, those too that were moved to a container that was added by
/// command.
fn outdated_publishes(state: &State, config: &Config) -> Vec<(String, PublishPorts)> {
    let mut outdated = Vec::new();
    for Container { name, publishes, .. } in state.containers.values() {
        let spec = config.containers.iter().find(|spec| spec.name == *name);
        let declared = spec.map(|spec| spec.publishes.as_slice()).unwrap_or_default();
        let is_outdated =
            |publish: &&Publish| publish.declared && !declared.iter().any(|spec| publish.is(spec));
        outdated.extend(
            publishes.iter().filter(is_outdated).map(|publish| (name.clone(), publish.ports)),
        );
    }
    outdated
}

fn is_as_declared(network: &Network, spec: &NetworkSpec) -> bool {
    let families: Vec<Family> = network.families().collect();
    let gateways = ipam::choose_gateways(&network.subnets, &spec.gateways);
    subnet::check_all(&spec.subnets).is_ok_and(|subnets| subnets == network.subnets)
        && gateways.is_ok_and(|gateways| gateways == network.gateways)
        && spec.bridge.as_ref().is_none_or(|bridge| *bridge == network.bridge)
        && spec.mtu.is_none_or(|mtu| mtu == network.mtu)
        && (spec.internal, spec.icc) == (network.internal, network.icc)
        && spec.masquerade.among(&families) == network.masquerade
}

fn container_is_as_declared(container: &Container, spec: &ContainerSpec) -> bool {
    let Some(endpoint) = container.endpoint_on(spec.network.as_deref().unwrap_or(DEFAULT_NETWORK))
    else {
        return false;
    };
    let has = |address| endpoint.addresses.iter().any(|ours| ours.addr() == address);
    container.made
        && spec.addresses.iter().all(|address| has(*address))
        && spec.mac.is_none_or(|mac| mac == endpoint.mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_api::types::{flow_options::FlowOptions, masquerade::Masquerade};

    #[test]
    fn what_is_left_open_is_as_declared_whatever_was_chosen() {
        let spec = NetworkSpec::default_network();
        let mut network = Network {
            name: spec.name.clone(),
            subnets: spec.subnets.clone(),
            gateways: spec.gateways.clone(),
            bridge: "cw0".to_owned(),
            mtu: 1400,
            internal: false,
            masquerade: Masquerade::ON,
            icc: true,
            flows: FlowOptions::default(),
            last: Vec::new(),
            declared: false,
        };
        assert!(is_as_declared(&network, &spec));
        let open = NetworkSpec { bridge: None, gateways: Vec::new(), ..spec.clone() };
        assert!(is_as_declared(&network, &open));
        assert!(!is_as_declared(&network, &NetworkSpec { mtu: Some(1500), ..spec.clone() }));
        assert!(!is_as_declared(&network, &NetworkSpec { icc: false, ..spec.clone() }));
        let flows = FlowOptions { max_flows: Some(7), ..FlowOptions::default() };
        assert!(
            is_as_declared(&network, &NetworkSpec { flows, ..spec.clone() }),
            "it is changed as it is"
        );
        let only = |family| NetworkSpec { masquerade: Masquerade::only(family), ..spec.clone() };
        assert!(
            is_as_declared(&network, &only(Family::V4))
                && !is_as_declared(&network, &only(Family::V6))
        );
        network.gateways = vec!["172.18.0.9".parse().unwrap()];
        assert!(!is_as_declared(&network, &open));
    }

    #[test]
    fn the_order_of_subnets_and_gateways_does_not_matter() {
        let spec = NetworkSpec {
            subnets: vec!["fd00::/64".parse().unwrap(), "10.0.0.0/24".parse().unwrap()],
            gateways: vec!["fd00::9".parse().unwrap()],
            ..NetworkSpec::default_network()
        };
        let subnets = subnet::check_all(&spec.subnets).unwrap();
        let network: Network = serde_json::from_value(serde_json::json!({
            "name": spec.name, "subnets": subnets, "gateways": ipam::choose_gateways(&subnets, &spec.gateways).unwrap(),
            "bridge": "cw0", "mtu": 1500, "internal": false, "masquerade": true, "icc": true,
        }))
        .unwrap();
        assert!(is_as_declared(&network, &spec));
        assert!(!is_as_declared(&network, &NetworkSpec { gateways: Vec::new(), ..spec.clone() }));
        assert!(!is_as_declared(
            &network,
            &NetworkSpec { masquerade: Masquerade::only(Family::V4), ..spec.clone() }
        ));
        assert!(!is_as_declared(
            &network,
            &NetworkSpec { subnets: vec!["10.0.0.0/24".parse().unwrap()], ..spec }
        ));
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
            ContainerSpec { mac: Some("02:63:ac:12:00:03".parse().unwrap()), ..spec.clone() },
        ] {
            assert!(!container_is_as_declared(&container, &other), "{other:?}");
        }
    }
}
