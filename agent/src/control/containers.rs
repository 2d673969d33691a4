//! Containers: made, attached, listed, removed.

use std::{net::IpAddr, path::Path};

use anyhow::{Context as _, ensure};
use causeway_api as api;
use causeway_api::{ContainerSpec, messages};
use causeway_netlink::Netns;
use ipnet::IpNet;
use tracing::info;

use super::{Agent, endpoint::delete_named, warn_all};
use crate::state::{State, container::Container};

impl Agent {
    pub(super) async fn container_list(&self) -> anyhow::Result<Vec<api::Container>> {
        let links = self.link_names().await?;
        Ok(self
            .state
            .containers
            .values()
            .map(|container| self.view_container(container, &links))
            .collect())
    }

    pub(super) async fn container_inspect(&self, name: &str) -> anyhow::Result<api::Container> {
        let container = self.container(name)?;
        Ok(self.view_container(container, &self.link_names().await?))
    }

    /// Where the container's namespace is. The path may lead elsewhere by now: to another process
    /// that got the number of one that ended, or to a namespace that somebody else made.
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
        let container = self.plan().await?.container_of(spec, attach).await?;
        self.add_container(container, &spec.addresses).await
    }

    /// Makes what was planned; `asked` are the addresses that were asked for.
    pub(super) async fn add_container(
        &mut self,
        container: Container,
        asked: &[IpAddr],
    ) -> anyhow::Result<api::Container> {
        let name = container.name.clone();
        let networks = self.state.networks.clone();
        remember_given(&mut self.state, &container, asked);
        // Named before it is made: an agent that dies in between leaves nothing that the next one
        // does not know.
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
        self.find_receivers().await?;
        let view = self.container_inspect(&name).await?;
        let addresses: Vec<String> =
            container.addresses().map(|address| address.to_string()).collect();
        info!(container = name, address = addresses.join(", "), "container created");
        Ok(view)
    }

    pub(super) async fn container_remove(&mut self, name: &str) -> anyhow::Result<api::Container> {
        let view = self.container_inspect(name).await?;
        let errors = self.dismantle_container(name).await;
        ensure!(errors.is_empty(), "{}; try again", messages::lines(&errors));
        self.state.containers.remove(name);
        self.save()?;
        self.end_stray_sockets();
        info!(container = name, "container removed");
        Ok(view)
    }

    /// The container of that name.
    pub(super) fn container(&self, name: &str) -> anyhow::Result<&Container> {
        self.state.containers.get(name).with_context(|| {
            format!("there is no container '{name}'; 'causeway container ls' lists those that are")
        })
    }

    async fn build_container(&mut self, container: &Container) -> anyhow::Result<()> {
        let netns = if container.made {
            Netns::create(&container.name)?
        } else {
            Netns::open(&container.netns)?
        };
        let cookie = netns.cookie()?;
        if let Some(known) = self.state.containers.get_mut(&container.name) {
            known.cookie = Some(cookie);
        }
        for endpoint in &container.endpoints {
            self.build_endpoint(container, endpoint, &netns).await?;
        }
        for publish in &container.publishes {
            self.put_publish(publish, container)?;
        }
        self.save()
    }

    /// Takes a container away as far as it is there: its links first, since while there is one what
    /// comes from it must be checked; its namespace last, and only if it was made for it.
    pub(super) async fn dismantle_container(&mut self, name: &str) -> Vec<anyhow::Error> {
        let Some(container) = self.state.containers.get(name).cloned() else {
            return Vec::new();
        };
        let mut errors = Vec::new();
        let mut unlinked = Vec::new();
        for endpoint in &container.endpoints {
            match delete_named(&self.host.handles.netlink, &endpoint.host_side).await {
                Ok(()) => unlinked.push(endpoint),
                Err(error) => errors.push(error),
            }
        }
        for publish in &container.publishes {
            errors.extend(self.drop_publish(&publish.ports).err());
        }
        errors.extend(self.end_drains_in(name).err());
        for endpoint in unlinked {
            errors.extend(self.forget_endpoint(endpoint).err());
        }
        errors.extend(remove_namespace(&container).err());
        errors
    }
}

/// The next addresses that are given are those after these, but for what was `asked` for.
pub(super) fn remember_given(state: &mut State, container: &Container, asked: &[IpAddr]) {
    for endpoint in &container.endpoints {
        if let Some(network) = state.networks.get_mut(&endpoint.network) {
            let given = endpoint
                .addresses
                .iter()
                .map(IpNet::addr)
                .filter(|address| !asked.contains(address));
            given.for_each(|address| network.remember(address));
        }
    }
}

/// Removes the namespace that was made for a container. Absent is done, and so is one that somebody
/// else put in its place.
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
