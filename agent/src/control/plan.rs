//! Checks and choices before anything is touched: what a command asks for, and what a configuration
//! file declares, against what there is. A file is planned as a whole, so that one that cannot be
//! carried out changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use causeway_api::spec::DEFAULT_NETWORK;
use causeway_api::{
    ContainerSpec, NetworkSpec,
    types::{family::Family, mac::Mac, name, publish::PublishPorts, subnet},
};
use causeway_netlink::{Netlink, Netns, netns, route::Route};
use ipnet::IpNet;

use super::{
    Agent,
    containers::cookie_at,
    host::{Host, Sight},
    ipv6::check_ipv6,
    networks::bridge_mac,
    presence::bridge_gone,
    publishes::check_publishable,
    sockets,
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

/// What there is at one moment, or would be once the steps before are done.
pub(super) struct Plan<'a> {
    instance: &'a str,
    host: &'a Host,
    /// With the steps before as if done.
    pub(super) state: State,
    sight: Sight,
    /// The indexes of the bridges that are there, by their networks' names.
    bridges: BTreeMap<String, u32>,
    /// Namespaces that will have gone.
    leaving: BTreeSet<PathBuf>,
    /// Given to nobody who does not ask for them.
    reserved: BTreeSet<IpAddr>,
    /// For a file no agent runs yet, so that no hint may name a verb that needs one.
    of_file: bool,
}

impl<'a> Plan<'a> {
    /// From `state`, whose bridges are `bridges`.
    pub(super) fn new(
        instance: &'a str,
        host: &'a Host,
        state: State,
        sight: Sight,
        bridges: BTreeMap<String, u32>,
    ) -> Self {
        Self {
            instance,
            host,
            state,
            sight,
            bridges,
            leaving: BTreeSet::new(),
            reserved: BTreeSet::new(),
            of_file: false,
        }
    }

    /// The same for what a file declares.
    pub(super) fn for_file(self) -> Self {
        Self { of_file: true, ..self }
    }

    /// The same for containers that come with others, which ask for these addresses.
    pub(super) fn reserving(self, addresses: impl Iterator<Item = IpAddr>) -> Self {
        Self { reserved: addresses.collect(), ..self }
    }

    /// As if the container were removed.
    pub(super) fn without_container(&mut self, name: &str) {
        if let Some(container) = self.state.containers.remove(name)
            && container.made
            && cookie_at(&container.netns) == container.cookie
        {
            self.leaving.insert(container.netns);
        }
    }

    /// As if the network were removed.
    pub(super) fn without_network(&mut self, name: &str) {
        self.state.networks.remove(name);
        if let Some(index) = self.bridges.remove(name) {
            self.sight = std::mem::take(&mut self.sight).without(&[index]);
        }
    }

    /// The network of that name.
    pub(super) fn network(&self, name: &str) -> anyhow::Result<&Network> {
        self.state.networks.get(name).with_context(|| {
            let names: Vec<&str> = self.state.networks.keys().map(String::as_str).collect();
            match (names.as_slice(), self.of_file) {
                ([], true) => format!("there is no network '{name}', nor any other; declare it in the file"),
                ([], false) => {
                    format!("there is no network '{name}', nor any other; make one with 'causeway network create'")
                }
                (names, _) => format!("there is no network '{name}'; there is {}", names.join(", ")),
            }
        })
    }

    /// Checks everything and chooses what was left open.
    pub(super) fn network_of(&self, spec: &NetworkSpec) -> anyhow::Result<Network> {
        name::check(&spec.name)?;
        let others = || self.state.networks.values();
        ensure!(
            !self.state.networks.contains_key(&spec.name),
            "there is a network '{}' already; take another name{}",
            spec.name,
            self.or_command(&format!("remove it with 'causeway network rm {}'", spec.name))
        );
        let subnets = subnet::check_all(&spec.subnets)?;
        let gateways = ipam::choose_gateways(&subnets, &spec.gateways)?;
        let mtu = spec.mtu.unwrap_or_else(|| self.host.mtu(&self.sight));
        subnet::check_mtu_for(mtu, &subnets)?;
        spec.flows.check()?;
        for subnet in &subnets {
            for other in others() {
                let clash = other.subnets.iter().find(|theirs| subnet::overlap(**theirs, *subnet));
                if let Some(theirs) = clash {
                    bail!(
                        "the subnet {subnet} overlaps {theirs} of network '{}'; take another subnet",
                        other.name
                    );
                }
            }
            self.sight.check_free(*subnet)?;
        }
        let families: Vec<Family> = subnets.iter().copied().map(Family::of_subnet).collect();
        if families.contains(&Family::V6) {
            check_ipv6(&self.host.handles.netns)?;
        }
        let bridge = match &spec.bridge {
            None => self.free_bridge_name(),
            Some(bridge) => {
                name::check_interface(bridge)?;
                ensure!(
                    !self.sight.links.iter().any(|link| link.name == *bridge),
                    "the host has an interface '{bridge}' already; take another name for the bridge"
                );
                if let Some(other) = others().find(|other| other.bridge == *bridge) {
                    bail!(
                        "'{bridge}' is the bridge of network '{}'; take another name for the bridge",
                        other.name
                    );
                }
                bridge.clone()
            }
        };
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
            declared: false,
        };
        let mac = bridge_mac(&network)?;
        if let Some(owner) = self.owner_of_mac(&network, mac)? {
            bail!(
                "the bridge would have the MAC address {mac}, which belongs to {owner}; give another gateway"
            );
        }
        Ok(network)
    }

    /// Checks everything and chooses what was left open.
    pub(super) async fn container_of(
        &self,
        spec: &ContainerSpec,
        attach: Option<&Path>,
    ) -> anyhow::Result<Container> {
        let name = &spec.name;
        name::check(name)?;
        ensure!(
            !self.state.containers.contains_key(name),
            "there is a container '{name}' already; take another name{}",
            self.or_command(&format!("remove it with 'causeway container rm {name}'"))
        );
        let network = self.network(spec.network.as_deref().unwrap_or(DEFAULT_NETWORK))?;
        self.check_bridge(network)?;
        let addresses = self.choose_addresses(network, &spec.addresses)?;
        let mac = self.choose_mac(network, &addresses, spec.mac)?;
        let mut publishes: Vec<Publish> = Vec::new();
        for publish in &spec.publishes {
            let ports = &publish.ports;
            if let Some(other) = publishes.iter().find(|other| other.ports.conflicts(ports)) {
                bail!(
                    "the publish {ports} conflicts with {} of the same container; leave one out",
                    other.ports
                );
            }
            self.check_publish(network, ports)?;
            publishes.push(Publish::new(publish.clone(), self.of_file));
        }
        let (netns, cookie) = match attach {
            Some(path) => (path.to_owned(), Some(self.check_attachable(path, network).await?)),
            None => (self.check_creatable(name)?, None),
        };
        let endpoint = Endpoint {
            network: network.name.clone(),
            addresses,
            mac,
            interface: INTERFACE.to_owned(),
            host_side: self.free_host_side_name(name, &network.name)?,
            device: self.host.device,
        };
        Ok(Container {
            name: name.clone(),
            netns,
            cookie,
            made: attach.is_none(),
            endpoints: vec![endpoint],
            publishes,
            declared: self.of_file,
        })
    }

    /// Whether the network allows it, and the host and the other publishes leave the ports free.
    pub(super) fn check_publish(
        &self,
        network: &Network,
        spec: &PublishPorts,
    ) -> anyhow::Result<()> {
        check_publishable(network, spec)?;
        for container in self.state.containers.values() {
            if let Some(theirs) =
                container.publishes.iter().find(|theirs| theirs.ports.conflicts(spec))
            {
                let (name, theirs) = (&container.name, theirs.ports);
                bail!(
                    "{} is published by container '{name}'; take another host port{}",
                    theirs.describe(),
                    self.or_command(&format!(
                        "end that with 'causeway publish rm {name} {theirs}'"
                    ))
                );
            }
        }
        if let Some(address) = spec.host_address {
            let gateways = || self.state.networks.values().flat_map(|network| &network.gateways);
            ensure!(
                self.sight.has(address) || gateways().any(|gateway| *gateway == address),
                "the host has no address {address}; give one of the host's own, or none for any"
            );
        }
        let own: Vec<Family> = network.families().collect();
        let served: Vec<Family> = spec.families(&own).collect();
        if !self.host.allow_bind
            && let Some(port) = sockets::taken_port(&self.host.handles.netns, spec, &served)?
        {
            bail!(
                "a process of the host has port {port}/{} already; take another host port, stop it, or allow both with 'causeway up \
                 --allow-bind'",
                spec.protocol
            );
        }
        Ok(())
    }

    /// A hint's second half: with a file there is nobody to command.
    fn or_command(&self, way: &str) -> String {
        if self.of_file {
            " in the file, or start without --config".to_owned()
        } else {
            format!(", or {way}")
        }
    }

    /// A bridge that was removed by hand is still known. One that is planned has no index yet.
    fn check_bridge(&self, network: &Network) -> anyhow::Result<()> {
        let Some(index) = self.bridges.get(&network.name) else { return Ok(()) };
        ensure!(
            self.sight.links.iter().any(|link| link.index == *index),
            "{}",
            bridge_gone(network)
        );
        Ok(())
    }

    /// `cwN` with the lowest free N.
    fn free_bridge_name(&self) -> String {
        let of_links = self.sight.links.iter().map(|link| link.name.as_str());
        let of_networks = self.state.networks.values().map(|network| network.bridge.as_str());
        let taken: BTreeSet<&str> = of_links.chain(of_networks).collect();
        let mut names = (0_u32..).map(|number| format!("cw{number}"));
        // There are fewer interfaces than numbers.
        names.find(|name| !taken.contains(name.as_str())).unwrap_or_default()
    }

    /// One of each of the network's subnets.
    fn choose_addresses(&self, network: &Network, asked: &[IpAddr]) -> anyhow::Result<Vec<IpNet>> {
        if let Some(address) = asked.iter().find(|address| !network.has(Family::of(**address))) {
            let family = Family::of(*address);
            bail!(
                "the address {address} is {family}, and network '{}' has {} alone; give an {1} address, or none for the next free one",
                network.name,
                family.other()
            );
        }
        let mut addresses = Vec::new();
        for subnet in &network.subnets {
            let family = Family::of_subnet(*subnet);
            let mut of_family = asked.iter().filter(|address| Family::of(**address) == family);
            let address = match of_family.next() {
                Some(address) => self.check_address(network, *subnet, *address)?,
                None => self.give_address(network, *subnet)?,
            };
            if let Some(second) = of_family.next() {
                bail!(
                    "the address {second} is a second {family} address; a container has one of each family on a network, so give one"
                );
            }
            addresses.push(IpNet::new(address, subnet.prefix_len())?);
        }
        Ok(addresses)
    }

    fn give_address(&self, network: &Network, subnet: IpNet) -> anyhow::Result<IpAddr> {
        let mut taken: BTreeSet<IpAddr> =
            network.gateways.iter().chain(&self.reserved).copied().collect();
        let endpoints = self
            .state
            .containers
            .values()
            .filter_map(|container| container.endpoint_on(&network.name));
        taken.extend(endpoints.flat_map(|endpoint| &endpoint.addresses).map(IpNet::addr));
        let last = network.last.iter().copied().find(|last| subnet.contains(last));
        ipam::next_free(subnet, last, &taken).with_context(|| {
            format!(
                "every address of the subnet {subnet} of network '{}' is taken; remove a container, or use a larger network",
                network.name
            )
        })
    }

    fn check_address(
        &self,
        network: &Network,
        subnet: IpNet,
        address: IpAddr,
    ) -> anyhow::Result<IpAddr> {
        let another = "give another, or none for the next free one";
        ensure!(
            subnet.contains(&address),
            "the address {address} is not in the subnet {subnet} of network '{}'; {another}",
            network.name
        );
        ensure!(
            !network.gateways.contains(&address),
            "the address {address} is the gateway of network '{}'; {another}",
            network.name
        );
        ensure!(
            ipam::is_assignable(subnet, address),
            "the address {address} is {} of {subnet}; {another}",
            ipam::unassignable(subnet)
        );
        if let Some(owner) = self.owner_of(&network.name, address) {
            bail!("the address {address} belongs to container '{owner}'; {another}");
        }
        Ok(address)
    }

    /// Derived from the first address, so that a container made again has the same one.
    fn choose_mac(
        &self,
        network: &Network,
        addresses: &[IpNet],
        asked: Option<Mac>,
    ) -> anyhow::Result<Mac> {
        let first = addresses.first().context("the container has no address")?.addr();
        if asked.is_none() && first.is_ipv6() {
            // Of four billion one may be given twice, and then there is another.
            for attempt in 0.. {
                let mac = Mac::from_address(first, attempt);
                if self.owner_of_mac(network, mac)?.is_none() {
                    return Ok(mac);
                }
            }
        }
        let mac = asked.unwrap_or_else(|| Mac::from_address(first, 0));
        if let Some(owner) = self.owner_of_mac(network, mac)? {
            bail!("the MAC address {mac} belongs to {owner}; give another");
        }
        Ok(mac)
    }

    /// Who has a MAC that somebody else on the network would have too. With IPv6 it gives the
    /// link-local address, which is to lead to one container alone, whatever network it is on.
    fn owner_of_mac(&self, network: &Network, mac: Mac) -> anyhow::Result<Option<String>> {
        for other in self.state.networks.values() {
            if other.name != network.name && !(other.has(Family::V6) && network.has(Family::V6)) {
                continue;
            }
            if bridge_mac(other)? == mac {
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

    /// Answers the namespace's cookie if it can be made a container.
    async fn check_attachable(&self, path: &Path, network: &Network) -> anyhow::Result<u64> {
        ensure!(
            path.is_absolute(),
            "the path {} does not begin with '/'; give the whole path",
            path.display()
        );
        let netns = Netns::open(path)?;
        let cookie = netns.cookie()?;
        ensure!(
            cookie != self.state.host.cookie,
            "{} is the host's own network namespace; give a container's",
            path.display()
        );
        if let Some(owner) =
            self.state.containers.values().find(|container| container.cookie == Some(cookie))
        {
            bail!(
                "{} is container '{}' already; a namespace is one container",
                path.display(),
                owner.name
            );
        }
        let netlink = Netlink::open(&netns).await?;
        ensure!(
            netlink.link(INTERFACE).await?.is_none(),
            "{} has an interface '{INTERFACE}' already, which is what the container side is called; rename it or remove it",
            path.display()
        );
        let routes = netlink.routes().await?;
        let is_in_the_way = |route: &&Route| {
            route.destination.prefix_len() == 0 && network.has(Family::of_subnet(route.destination))
        };
        if let Some(default) = routes.iter().find(is_in_the_way).filter(|_| !network.internal) {
            bail!(
                "{} has an {} default route already; remove it, or use a network that was created with --internal",
                path.display(),
                Family::of_subnet(default.destination)
            );
        }
        Ok(cookie)
    }

    /// Where the namespace will be, if that is free.
    fn check_creatable(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = netns::named(name);
        let there = path.symlink_metadata().is_ok() && !self.leaving.contains(&path);
        ensure!(
            !there,
            "there is a network namespace {} already; take another name{}",
            path.display(),
            self.or_command(&format!(
                "make it a container with 'causeway container attach {name} --netns {}'",
                path.display()
            ))
        );
        Ok(path)
    }

    fn free_host_side_name(&self, container: &str, network: &str) -> anyhow::Result<String> {
        let is_free = |name: &String| !self.sight.links.iter().any(|link| link.name == *name);
        let mut names =
            (0..100).map(|attempt| host_side_name(self.instance, container, network, attempt));
        names
            .find(is_free)
            .context("no name is free for the host side; remove interfaces that are called cwv... and belong to nobody")
    }
}

impl Agent {
    /// To plan from what there is now.
    pub(super) async fn plan(&self) -> anyhow::Result<Plan<'_>> {
        let sight = self.host.look().await?;
        Ok(Plan::new(
            self.instance.name(),
            &self.host,
            self.state.clone(),
            sight,
            self.bridges.clone(),
        ))
    }
}
