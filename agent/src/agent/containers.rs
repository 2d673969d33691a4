//! Containers: made, attached, listed, removed.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use ipnet::IpNet;
use tracing::info;

use super::{Agent, networks::bridge_mac, publishes::check_publishable, warn_all};
use crate::{
    api::{self, ContainerSpec},
    line,
    model::{
        container::{Container, Endpoint, INTERFACE, host_side_name},
        ipam, name,
        network::{self, Network},
        publish::Publish,
    },
    net::{
        mac::Mac,
        netlink::Netlink,
        netns::{self, Netns},
    },
};

impl Agent {
    pub(super) fn container_list(&self) -> Vec<api::Container> {
        self.state.containers.values().map(|container| self.view_container(container)).collect()
    }

    pub(super) fn container_inspect(&self, name: &str) -> anyhow::Result<api::Container> {
        Ok(self.view_container(self.container(name)?))
    }

    /// Where the container's namespace is. The path may lead elsewhere by now: to another process that got the number of one that
    /// ended, or to a namespace that somebody else made.
    pub(super) fn container_enter(&self, name: &str) -> anyhow::Result<&Path> {
        let container = self.container(name)?;
        ensure!(
            cookie_at(&container.netns) == container.cookie,
            "{} no longer leads to its network namespace; remove it with 'causeway container rm {name}' and make it again",
            container.netns.display()
        );
        Ok(&container.netns)
    }

    /// Makes a namespace, or takes the one at `attach`, and puts it on its network.
    pub(super) async fn container_create(
        &mut self,
        spec: &ContainerSpec,
        attach: Option<&Path>,
    ) -> anyhow::Result<api::Container> {
        let container = self.plan_container(spec, attach).await?;
        self.add_container(container, spec).await
    }

    /// Makes what was planned for `spec`.
    pub(super) async fn add_container(
        &mut self,
        container: Container,
        spec: &ContainerSpec,
    ) -> anyhow::Result<api::Container> {
        let name = container.name.clone();
        let networks = self.state.networks.clone();
        if spec.addresses.is_empty() {
            self.remember_given(&container);
        }
        // Named before it is made: an agent that dies in between leaves nothing that the next one does not know.
        self.state.containers.insert(name.clone(), container.clone());
        let built = match self.save() {
            Ok(()) => self.build_container(&container).await,
            Err(error) => Err(error),
        };
        if let Err(error) = built {
            warn_all(&self.dismantle_container(&name).await);
            self.state.containers.remove(&name);
            self.state.networks = networks;
            warn_all(self.save().err().as_slice());
            return Err(error);
        }
        let view = self.container_inspect(&name)?;
        info!(container = name, address = ?container.address(), "container created");
        Ok(view)
    }

    pub(super) async fn container_remove(&mut self, name: &str) -> anyhow::Result<api::Container> {
        let view = self.container_inspect(name)?;
        let errors = self.dismantle_container(name).await;
        ensure!(errors.is_empty(), "{}; try again", line::of_all(&errors));
        self.state.containers.remove(name);
        self.save()?;
        info!(container = name, "container removed");
        Ok(view)
    }

    /// The container of that name.
    pub(super) fn container(&self, name: &str) -> anyhow::Result<&Container> {
        self.state
            .containers
            .get(name)
            .with_context(|| format!("there is no container '{name}'; 'causeway container ls' lists those that are"))
    }

    /// Checks everything and chooses what was left open; touches nothing.
    pub(super) async fn plan_container(
        &self,
        spec: &ContainerSpec,
        attach: Option<&Path>,
    ) -> anyhow::Result<Container> {
        let name = &spec.name;
        name::check(name)?;
        ensure!(
            !self.state.containers.contains_key(name),
            "there is a container '{name}' already; take another name, or remove it with 'causeway container rm {name}'"
        );
        let network = self.network(spec.network.as_deref().unwrap_or(network::DEFAULT))?;
        let address = self.choose_address(network, &spec.addresses)?;
        let mac = self.choose_mac(network, address.addr(), spec.mac.as_deref())?;
        let mut publishes: Vec<Publish> = Vec::new();
        for publish in &spec.publishes {
            check_publishable(network, publish)?;
            if let Some(other) = publishes.iter().find(|other| other.spec.conflicts(publish)) {
                bail!("the publish {publish} conflicts with {} of the same container; leave one out", other.spec);
            }
            self.check_port_free(publish)?;
            publishes.push(Publish { spec: *publish, from: Vec::new(), declared: false });
        }
        let (netns, cookie) = match attach {
            Some(path) => (path.to_owned(), Some(self.check_attachable(path, network).await?)),
            None => (check_creatable(name)?, None),
        };
        let endpoint = Endpoint {
            network: network.name.clone(),
            addresses: vec![address],
            mac,
            interface: INTERFACE.to_owned(),
            host_side: self.free_host_side_name(name, &network.name).await?,
        };
        Ok(Container {
            name: name.clone(),
            netns,
            cookie,
            made: attach.is_none(),
            endpoints: vec![endpoint],
            publishes,
            declared: false,
        })
    }

    fn choose_address(&self, network: &Network, asked: &[IpAddr]) -> anyhow::Result<IpNet> {
        let mut taken: BTreeSet<IpAddr> = network.gateways.iter().copied().collect();
        let on_it =
            |container: &Container| container.endpoint_on(&network.name).map(|endpoint| endpoint.addresses.clone());
        let addresses = self.state.containers.values().filter_map(on_it).flatten();
        taken.extend(addresses.map(|address| address.addr()));
        if let Some(address) = asked.iter().find(|address| address.is_ipv6()) {
            bail!("the address {address} is IPv6, which is not supported yet; give an IPv4 address or none");
        }
        match asked {
            [] => {
                let free = |subnet: &IpNet| {
                    let address = ipam::next_free(*subnet, network.last, &taken)?;
                    IpNet::new(address, subnet.prefix_len()).ok()
                };
                network.subnets.iter().find_map(free).with_context(|| {
                    format!(
                        "every address of network '{}' is taken; remove a container, or use a larger network",
                        network.name
                    )
                })
            }
            [address] => {
                let Some((subnet, gateway)) = network.place_of(*address) else {
                    let subnets: Vec<String> = network.subnets.iter().map(ToString::to_string).collect();
                    bail!(
                        "the address {address} is not in the subnet {} of network '{}'",
                        subnets.join(", "),
                        network.name
                    );
                };
                ensure!(*address != gateway, "the address {address} is the gateway of network '{}'", network.name);
                ensure!(
                    ipam::is_assignable(subnet, *address),
                    "the address {address} is the network or broadcast address of {subnet}"
                );
                if let Some(owner) = self.owner_of(&network.name, *address) {
                    bail!(
                        "the address {address} belongs to container '{owner}'; give another, or none for the next free one"
                    );
                }
                Ok(IpNet::new(*address, subnet.prefix_len())?)
            }
            [_, second, ..] => bail!("the address {second} is a second IPv4 address; a container has one on a network"),
        }
    }

    /// The next address that is given is one after these.
    fn remember_given(&mut self, container: &Container) {
        for endpoint in &container.endpoints {
            if let Some(network) = self.state.networks.get_mut(&endpoint.network) {
                network.last = endpoint.addresses.first().map(IpNet::addr);
            }
        }
    }

    fn choose_mac(&self, network: &Network, address: IpAddr, asked: Option<&str>) -> anyhow::Result<Mac> {
        let mac = match (asked, address) {
            (Some(text), _) => text.parse()?,
            (None, IpAddr::V4(address)) => Mac::from_ipv4(address),
            (None, IpAddr::V6(_)) => bail!("an endpoint needs an IPv4 address"),
        };
        ensure!(mac != bridge_mac(network)?, "the MAC address {mac} is the bridge's; give another");
        let has_it =
            |container: &&Container| container.endpoint_on(&network.name).is_some_and(|endpoint| endpoint.mac == mac);
        if let Some(owner) = self.state.containers.values().find(has_it) {
            bail!(
                "the MAC address {mac} belongs to container '{}' on network '{}'; give another",
                owner.name,
                network.name
            );
        }
        Ok(mac)
    }

    fn owner_of(&self, network: &str, address: IpAddr) -> Option<&str> {
        let has_it = |container: &&Container| {
            let endpoint = container.endpoint_on(network);
            endpoint.is_some_and(|endpoint| endpoint.addresses.iter().any(|theirs| theirs.addr() == address))
        };
        self.state.containers.values().find(has_it).map(|container| container.name.as_str())
    }

    /// Answers the namespace's cookie if it can be made a container.
    async fn check_attachable(&self, path: &Path, network: &Network) -> anyhow::Result<u64> {
        ensure!(path.is_absolute(), "the path {} does not begin with '/'", path.display());
        let netns = Netns::open(path)?;
        let cookie = netns.cookie()?;
        ensure!(
            cookie != self.state.host.cookie,
            "{} is the host's own network namespace; give a container's",
            path.display()
        );
        if let Some(owner) = self.state.containers.values().find(|container| container.cookie == Some(cookie)) {
            bail!("{} is container '{}' already; a namespace is one container", path.display(), owner.name);
        }
        let netlink = Netlink::open(&netns).await?;
        ensure!(
            netlink.link(INTERFACE).await?.is_none(),
            "{} has an interface '{INTERFACE}' already, which is what the container side is called; rename it or remove it",
            path.display()
        );
        let routes = netlink.routes().await?;
        let default =
            routes.iter().find(|route| route.destination.prefix_len() == 0 && route.destination.addr().is_ipv4());
        ensure!(
            network.internal || default.is_none(),
            "{} has a default route already; remove it, or use a network that was created with --internal",
            path.display()
        );
        Ok(cookie)
    }

    async fn free_host_side_name(&self, container: &str, network: &str) -> anyhow::Result<String> {
        for attempt in 0..100 {
            let name = host_side_name(self.instance.name(), container, network, attempt);
            if self.host.handles.netlink.link(&name).await?.is_none() {
                return Ok(name);
            }
        }
        bail!("no name is free for the host side; look for interfaces that are called cwv... and belong to nobody")
    }

    async fn build_container(&mut self, container: &Container) -> anyhow::Result<()> {
        let netns = if container.made { Netns::create(&container.name)? } else { Netns::open(&container.netns)? };
        let cookie = netns.cookie()?;
        if let Some(known) = self.state.containers.get_mut(&container.name) {
            known.cookie = Some(cookie);
        }
        for endpoint in &container.endpoints {
            self.build_endpoint(container, endpoint, &netns).await?;
        }
        let address = container.address().context("the container has no address")?;
        for publish in &container.publishes {
            self.put_publish(publish, address)?;
        }
        self.save()
    }

    /// Takes a container away as far as it is there: what leads to it first, its namespace last and only if it was made for it.
    pub(super) async fn dismantle_container(&mut self, name: &str) -> Vec<anyhow::Error> {
        let Some(container) = self.state.containers.get(name).cloned() else {
            return Vec::new();
        };
        let mut errors = Vec::new();
        for publish in &container.publishes {
            errors.extend(self.drop_publish(&publish.spec).err());
        }
        for endpoint in &container.endpoints {
            errors.extend(self.dismantle_endpoint(endpoint).await);
        }
        errors.extend(remove_namespace(&container).err());
        errors
    }
}

/// Removes the namespace that was made for a container. Absent is done, and so is one that somebody else put in its place.
pub(super) fn remove_namespace(container: &Container) -> anyhow::Result<()> {
    let Some(ours) = container.cookie.filter(|_| container.made) else {
        return Ok(());
    };
    match cookie_at(&container.netns) {
        Some(there) if there != ours => Ok(()),
        _ => Netns::remove(&container.name),
    }
}

/// The cookie of the namespace at a path; none if there is none.
pub(super) fn cookie_at(path: &Path) -> Option<u64> {
    Netns::open(path).and_then(|netns| netns.cookie()).ok()
}

/// Where the namespace will be, if that is free.
fn check_creatable(name: &str) -> anyhow::Result<PathBuf> {
    let path = netns::named(name);
    let there = path.symlink_metadata().is_ok();
    ensure!(
        !there,
        "there is a network namespace {} already; take another name, or make it a container with 'causeway container attach {name} --netns {}'",
        path.display(),
        path.display()
    );
    Ok(path)
}
