//! The state after the changes so far, from which the next changes are derived: whether names,
//! addresses and ports are free, and what is chosen where the request leaves it open.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context as _, bail};
use causeway_api::{
    ContainerSpec, Error, NetworkSpec,
    spec::DEFAULT_NETWORK,
    types::{
        device::Device,
        family::Family,
        mac::Mac,
        name,
        publish::{PublishPorts, PublishSpec},
        subnet,
    },
};
use causeway_netlink::netns;
use ipnet::IpNet;

use super::{
    change::{Action, Change, Origin},
    observed::{NamespaceSnapshot, Observed},
};
use crate::{
    ipam,
    state::{
        State,
        container::{Container, Endpoint, INTERFACE, host_side_name},
        network::Network,
        publish::Publish,
    },
};

/// The agent's settings that decide how new objects are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings<'a> {
    /// The instance's name.
    pub(super) instance: &'a str,
    /// What connects new containers.
    pub(super) device: Device,
}

/// State and changes so far.
pub(super) struct Draft<'a> {
    settings: Settings<'a>,
    pub(super) observed: &'a Observed,
    /// With the changes so far made.
    pub(super) state: State,
    pub(super) changes: Vec<Change>,
    /// Who asks for the next changes.
    pub(super) origin: Origin,
    /// Addresses that are given only to containers that ask for them.
    pub(super) reserved: BTreeSet<IpAddr>,
    /// Names of interfaces that the changes so far remove.
    gone: BTreeSet<String>,
}

impl<'a> Draft<'a> {
    pub(super) const fn new(settings: Settings<'a>, observed: &'a Observed, state: State) -> Self {
        Self {
            settings,
            observed,
            state,
            changes: Vec::new(),
            origin: Origin::State,
            reserved: BTreeSet::new(),
            gone: BTreeSet::new(),
        }
    }

    /// Adds a change.
    pub(super) fn push(&mut self, action: Action) {
        if let Action::RemoveNetwork { name } = &action {
            self.gone.extend(self.state.networks.get(name).map(|there| there.bridge.clone()));
        }
        if let Action::RemoveContainer { name } | Action::DropContainer { name, .. } = &action {
            let container = self.state.containers.get(name).into_iter();
            let endpoints = container.flat_map(|there| &there.endpoints);
            self.gone.extend(endpoints.map(|endpoint| endpoint.host_side.clone()));
        }
        action.record(&mut self.state);
        self.changes.push(Change { action, origin: self.origin.clone() });
    }

    /// The network of that name.
    pub(super) fn network(&self, name: &str) -> anyhow::Result<&Network> {
        if self.origin.is_start() && self.state.networks.is_empty() {
            let what = format!("there is no network '{name}', nor any other");
            bail!(Error::not_found(what).hint("declare it in the file"));
        }
        self.state.network(name)
    }

    /// The network that a spec asks for.
    pub(super) fn network_of(&self, spec: &NetworkSpec) -> anyhow::Result<Network> {
        name::check(&spec.name)?;
        let others = || self.state.networks.values();
        if self.state.networks.contains_key(&spec.name) {
            let what = format!("there is a network '{}' already", spec.name);
            let error = Error::already_exists(what).hint("take another name");
            bail!(self.or_command(error, "remove it with", &["network", "rm", &spec.name]));
        }
        let subnets = subnet::check_all(&spec.subnets)?;
        let gateways = ipam::choose_gateways(&subnets, &spec.gateways)?;
        let mtu = spec.mtu.unwrap_or(self.observed.mtu);
        subnet::check_mtu_for(mtu, &subnets)?;
        spec.flows.check()?;
        for subnet in &subnets {
            for other in others() {
                let clash = other.subnets.iter().find(|theirs| subnet::overlap(**theirs, *subnet));
                if let Some(theirs) = clash {
                    let name = &other.name;
                    let what = format!("the subnet {subnet} overlaps {theirs} of network '{name}'");
                    bail!(Error::in_use(what).hint("take another subnet"));
                }
            }
        }
        let bridge = match &spec.bridge {
            None => self.free_bridge_name(),
            Some(bridge) => {
                name::check_interface(bridge)?;
                if let Some(other) = others().find(|other| other.bridge == *bridge) {
                    let what = format!("'{bridge}' is the bridge of network '{}'", other.name);
                    bail!(Error::in_use(what).hint("take another name for the bridge"));
                }
                bridge.clone()
            }
        };
        let families: Vec<Family> = subnets.iter().copied().map(Family::of_subnet).collect();
        let network = Network {
            name: spec.name.clone(),
            subnets,
            gateways,
            bridge,
            mtu,
            internal: spec.internal,
            masquerade: spec.masquerade.among(&families),
            icc: spec.icc,
            flows: spec.flows.clone(),
            last: Vec::new(),
            declared: matches!(self.origin, Origin::File(_)),
        };
        let mac = network.bridge_mac()?;
        if let Some(owner) = self.owner_of_mac(&network, mac)? {
            let what =
                format!("the bridge would have the MAC address {mac}, which belongs to {owner}");
            bail!(Error::in_use(what).hint("give another gateway"));
        }
        Ok(network)
    }

    /// The container that a spec asks for, in the namespace `attach` or in one of its own.
    pub(super) fn container_of(
        &self,
        spec: &ContainerSpec,
        attach: Option<&NamespaceSnapshot>,
    ) -> anyhow::Result<Container> {
        let name = &spec.name;
        name::check(name)?;
        if self.state.containers.contains_key(name) {
            let what = format!("there is a container '{name}' already");
            let error = Error::already_exists(what).hint("take another name");
            bail!(self.or_command(error, "remove it with", &["container", "rm", name]));
        }
        let network = self.network(spec.network.as_deref().unwrap_or(DEFAULT_NETWORK))?;
        let addresses = self.choose_addresses(network, &spec.addresses)?;
        let mac = self.choose_mac(network, &addresses, spec.mac)?;
        let declared = matches!(self.origin, Origin::File(_));
        let mut publishes: Vec<Publish> = Vec::new();
        for publish in &spec.publishes {
            let ports = &publish.ports;
            if let Some(other) = publishes.iter().find(|other| other.ports.conflicts(ports)) {
                let other = other.ports;
                let what =
                    format!("the publish {ports} conflicts with {other} of the same container");
                bail!(Error::invalid(what).hint("leave one out"));
            }
            publishes.push(self.publish_of(network, publish, declared)?);
        }
        let endpoint = Endpoint {
            network: network.name.clone(),
            addresses,
            mac,
            interface: INTERFACE.to_owned(),
            host_side: self.free_host_side_name(name, &network.name)?,
            device: self.settings.device,
        };
        Ok(Container {
            name: name.clone(),
            netns: attach.map_or_else(|| netns::named(name), |attach| attach.path.clone()),
            cookie: attach.map(|attach| attach.cookie),
            made: attach.is_none(),
            endpoints: vec![endpoint],
            publishes,
            declared,
        })
    }

    /// The publish that a spec asks for, of a container on that network.
    pub(super) fn publish_of(
        &self,
        network: &Network,
        spec: &PublishSpec,
        declared: bool,
    ) -> anyhow::Result<Publish> {
        let ports = spec.ports;
        let spec = PublishSpec { ports, options: spec.options.check()? };
        check_publishable(network, &ports)?;
        check_admits(network, &spec)?;
        let mut published = self.state.publishes();
        if let Some((owner, theirs)) = published.find(|(_, theirs)| theirs.ports.conflicts(&ports))
        {
            let (name, theirs) = (&owner.name, theirs.ports);
            let what = format!("container '{name}' publishes {}", theirs.describe());
            let error = Error::in_use(what).hint("take another host port");
            let theirs = theirs.to_string();
            bail!(self.or_command(error, "end that with", &["publish", "rm", name, &theirs]));
        }
        Ok(Publish::new(spec, declared))
    }

    /// Completes the remedy of an error: a command, or what can be done in the file while no agent
    /// runs that would take one.
    fn or_command(&self, error: Error, how: &str, command: &[&str]) -> Error {
        if self.origin.is_start() {
            error.hint("in the file, or start without --config")
        } else {
            error.hint(format!(", or {how}")).run(command)
        }
    }

    /// `cwN` with the lowest free N.
    fn free_bridge_name(&self) -> String {
        let links = self.observed.host.links.iter().map(|link| &link.name);
        let bridges = self.state.networks.values().map(|network| &network.bridge);
        let taken: BTreeSet<&String> =
            links.filter(|name| !self.gone.contains(*name)).chain(bridges).collect();
        let mut names = (0_u32..).map(|number| format!("cw{number}"));
        // There are fewer interfaces than numbers.
        names.find(|name| !taken.contains(name)).unwrap_or_default()
    }

    fn free_host_side_name(&self, container: &str, network: &str) -> anyhow::Result<String> {
        let instance = self.settings.instance;
        let endpoints = || self.state.containers.values().flat_map(|there| &there.endpoints);
        let is_free = |name: &String| {
            (self.observed.host.link(name).is_none() || self.gone.contains(name))
                && !endpoints().any(|endpoint| endpoint.host_side == *name)
        };
        let mut names =
            (0..100).map(|attempt| host_side_name(instance, container, network, attempt));
        names.find(is_free).ok_or_else(|| {
            Error::in_use("no name is free for the host side")
                .hint("remove interfaces named cwv... that no container has")
                .into()
        })
    }

    /// One address of each of the network's subnets.
    fn choose_addresses(&self, network: &Network, asked: &[IpAddr]) -> anyhow::Result<Vec<IpNet>> {
        if let Some(address) = asked.iter().find(|address| !network.has(Family::of(**address))) {
            let family = Family::of(*address);
            let other = family.other();
            let what = format!(
                "the address {address} is {family}, and network '{}' has {other} alone",
                network.name
            );
            let hint = format!("give an {other} address, or none for the next free one");
            bail!(Error::invalid(what).hint(hint));
        }
        let mut addresses = Vec::new();
        for subnet in &network.subnets {
            let family = Family::of_subnet(*subnet);
            let mut of_family = asked.iter().filter(|address| Family::of(**address) == family);
            let address = match of_family.next() {
                Some(address) => self.check_address(network, *subnet, *address)?,
                None => self.next_address(network, *subnet)?,
            };
            if let Some(second) = of_family.next() {
                let what = format!("the address {second} is a second {family} address");
                bail!(
                    Error::invalid(what)
                        .hint("a container has one of each family on a network, so give one")
                );
            }
            addresses.push(IpNet::new(address, subnet.prefix_len())?);
        }
        Ok(addresses)
    }

    /// The next free address of a subnet.
    fn next_address(&self, network: &Network, subnet: IpNet) -> anyhow::Result<IpAddr> {
        let mut taken: BTreeSet<IpAddr> =
            network.gateways.iter().chain(&self.reserved).copied().collect();
        let containers = self.state.containers.values();
        let endpoints = containers.filter_map(|there| there.endpoint_on(&network.name));
        taken.extend(endpoints.flat_map(|endpoint| &endpoint.addresses).map(IpNet::addr));
        let last = network.last.iter().copied().find(|last| subnet.contains(last));
        let Some(address) = ipam::next_free(subnet, last, &taken) else {
            let name = &network.name;
            let what = format!("every address of the subnet {subnet} of network '{name}' is taken");
            bail!(Error::in_use(what).hint("remove a container, or use a larger network"));
        };
        Ok(address)
    }

    /// Fails unless a container can have the address.
    fn check_address(
        &self,
        network: &Network,
        subnet: IpNet,
        address: IpAddr,
    ) -> anyhow::Result<IpAddr> {
        let name = &network.name;
        let error = if !subnet.contains(&address) {
            let place = format!("the subnet {subnet} of network '{name}'");
            Error::invalid(format!("the address {address} is not in {place}"))
        } else if network.gateways.contains(&address) {
            Error::in_use(format!("the address {address} is the gateway of network '{name}'"))
        } else if !ipam::is_assignable(subnet, address) {
            let what = ipam::unassignable(subnet);
            Error::invalid(format!("the address {address} is {what} of {subnet}"))
        } else if let Some(owner) = self.owner_of(name, address) {
            Error::in_use(format!("the address {address} belongs to container '{owner}'"))
        } else {
            return Ok(address);
        };
        bail!(error.hint("give another, or none for the next free one"))
    }

    /// The MAC that was asked for, or one derived from the first address, so that a container made
    /// again has the same one.
    fn choose_mac(
        &self,
        network: &Network,
        addresses: &[IpNet],
        asked: Option<Mac>,
    ) -> anyhow::Result<Mac> {
        let first = addresses.first().context("the container has no address")?.addr();
        if asked.is_none() && first.is_ipv6() {
            // Two of four billion may be the same, and then there is another.
            for attempt in 0.. {
                let mac = Mac::from_address(first, attempt);
                if self.owner_of_mac(network, mac)?.is_none() {
                    return Ok(mac);
                }
            }
        }
        let mac = asked.unwrap_or_else(|| Mac::from_address(first, 0));
        if let Some(owner) = self.owner_of_mac(network, mac)? {
            let what = format!("the MAC address {mac} belongs to {owner}");
            bail!(Error::in_use(what).hint("give another"));
        }
        Ok(mac)
    }

    /// Who has a MAC on the network. An IPv6 link-local address is derived from the MAC and leads
    /// to one container of all IPv6 networks, so their containers count too.
    fn owner_of_mac(&self, network: &Network, mac: Mac) -> anyhow::Result<Option<String>> {
        for other in self.state.networks.values() {
            if other.name != network.name && !(other.has_v6() && network.has_v6()) {
                continue;
            }
            if other.bridge_mac()? == mac {
                return Ok(Some(format!("the bridge of network '{}'", other.name)));
            }
            let has_it = |container: &&Container| {
                container.endpoint_on(&other.name).is_some_and(|endpoint| endpoint.mac == mac)
            };
            if let Some(owner) = self.state.containers.values().find(has_it) {
                return Ok(Some(format!("container '{}' on network '{}'", owner.name, other.name)));
            }
        }
        Ok(None)
    }

    fn owner_of(&self, network: &str, address: IpAddr) -> Option<&str> {
        let has_it = |container: &&Container| {
            let endpoint = container.endpoint_on(network);
            endpoint.is_some_and(|endpoint| {
                endpoint.addresses.iter().any(|theirs| theirs.addr() == address)
            })
        };
        self.state.containers.values().find(has_it).map(|container| container.name.as_str())
    }
}

/// Fails if the network has no port that could be published so.
fn check_publishable(network: &Network, ports: &PublishPorts) -> anyhow::Result<()> {
    let families: Vec<Family> = network.families().collect();
    let name = &network.name;
    if ports.families(&families).next().is_none() {
        let what = format!(
            "the publish {ports} has an IPv4 host address, and network '{name}' has IPv6 alone"
        );
        bail!(Error::invalid(what).hint("give an IPv6 address of the host, or none"));
    }
    if network.internal {
        let what = format!("the network '{name}' is internal: nothing of it can be published");
        bail!(Error::invalid(what).hint("use a network that is not"));
    }
    Ok(())
}

/// Fails if the options of a publish admit no client that its addresses serve.
fn check_admits(network: &Network, publish: &PublishSpec) -> anyhow::Result<()> {
    let families: Vec<Family> = network.families().collect();
    let served: Vec<Family> = publish.ports.families(&families).collect();
    let from = &publish.options.from;
    let admitted = |subnet: &IpNet| served.contains(&Family::of(subnet.addr()));
    if let ([served], Some(subnet)) = (&served[..], from.first())
        && !from.iter().any(admitted)
    {
        let what = format!(
            "--from {subnet} admits no client: the publish {} is for {served} clients alone",
            publish.ports
        );
        bail!(Error::invalid(what).hint("give a subnet of theirs, or none"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_that_serves_no_client_is_refused() {
        let check = |subnet: &str, internal: bool, publish: &str| {
            let network: Network = serde_json::from_value(serde_json::json!({
                "name": "n", "subnets": [subnet], "gateways": [], "bridge": "cw0", "mtu": 1500,
                "internal": internal,
                "masquerade": true, "icc": true,
            }))
            .unwrap();
            check_publishable(&network, &publish.parse().unwrap())
                .map_err(|error| error.to_string())
        };
        assert_eq!(check("10.0.0.0/24", false, "[2001:db8::1]:80:80"), Ok(()));
        assert_eq!(check("10.0.0.0/24", false, "10.0.2.15:80:80"), Ok(()));
        assert_eq!(check("fd00::/64", false, "80:80"), Ok(()));
        assert!(
            check("fd00::/64", false, "10.0.2.15:80:80")
                .unwrap_err()
                .contains("network 'n' has IPv6 alone; give an IPv6")
        );
        assert!(check("fd00::/64", true, "80:80").unwrap_err().contains("internal"));
    }
}
