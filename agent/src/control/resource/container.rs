//! Containers: a namespace and its endpoints, made, adopted and removed.

use anyhow::{bail, ensure};
use causeway_api::{Error, error::command};
use causeway_netlink::Netns;
use tracing::{info, warn};

use super::endpoint::delete_named;
use crate::{
    control::{
        agent::{Agent, log_undo_errors},
        change::Action,
        observed::cookie_at,
    },
    state::container::Container,
};

impl Agent {
    /// Makes a container; `action` records it. What was made is removed again if it fails.
    pub(in crate::control) async fn create_container(
        &mut self,
        container: &Container,
        action: &Action,
    ) -> anyhow::Result<()> {
        let name = &container.name;
        let networks = self.state.networks.clone();
        // Recorded before it is made, so that the next agent knows it if this one dies in between.
        action.record(&mut self.state);
        let built = match self.save() {
            Ok(()) => self.build_container(container).await,
            Err(error) => Err(error),
        };
        if let Err(error) = built {
            log_undo_errors(&self.dismantle_container(name).await);
            self.state.containers.remove(name);
            self.state.networks = networks;
            log_undo_errors(self.save().err().as_slice());
            return Err(error);
        }
        self.find_receivers().await?;
        let addresses: Vec<String> =
            container.addresses().map(|address| address.to_string()).collect();
        info!(container = name, address = addresses.join(", "), "container created");
        Ok(())
    }

    /// Removes a container; `action` records it.
    pub(in crate::control) async fn remove_container(
        &mut self,
        name: &str,
        action: &Action,
    ) -> anyhow::Result<()> {
        let errors = self.dismantle_container(name).await;
        ensure!(errors.is_empty(), Error::all(&errors).or_hint("try again"));
        action.record(&mut self.state);
        self.save()?;
        self.end_stray_sockets();
        info!(container = name, "container removed");
        Ok(())
    }

    /// Puts a container of an earlier agent into the datapath.
    pub(in crate::control) async fn adopt_container(
        &mut self,
        name: &str,
        host_sides: &[u32],
        has_path: bool,
    ) -> anyhow::Result<()> {
        let container = self.state.container(name)?.clone();
        if !has_path {
            // The namespace lives, or its host side would be gone; only the process that gave the
            // path has ended.
            warn!(
                container = name,
                netns = %container.netns.display(),
                "the path no longer leads to the container's network namespace"
            );
        }
        for (endpoint, index) in container.endpoints.iter().zip(host_sides) {
            let network = self.state.network(&endpoint.network)?;
            self.installed.put_endpoint(endpoint, network, *index)?;
            self.join_bridge(endpoint, *index).await?;
        }
        for publish in &container.publishes {
            self.installed.put_publish(publish, &container)?;
        }
        info!(container = name, "container taken over");
        Ok(())
    }

    /// Removes what is left of a container that an earlier agent made.
    pub(in crate::control) async fn drop_container(&mut self, name: &str) {
        if let Some(container) = self.state.containers.get_mut(name) {
            adopt_namespace(container);
        }
        log_undo_errors(&self.dismantle_container(name).await);
    }

    /// Removes the endpoints whose host side was removed by another program from the datapath.
    ///
    /// The container stays in the state, so that its name is not given again, until it is removed.
    /// Its flows end, and packets to its publishes are counted as for a container that is gone.
    pub(in crate::control) fn forget_endpoints(
        &mut self,
        name: &str,
        gone: &[String],
    ) -> anyhow::Result<()> {
        warn!(
            "the link of container '{name}' is gone; remove it with {}",
            command(&["container", "rm", name], self.instance.name())
        );
        let container = self.state.container(name)?;
        for endpoint in &container.endpoints {
            if gone.contains(&endpoint.host_side) {
                self.installed.forget_endpoint(endpoint)?;
            }
        }
        self.end_stray_sockets();
        Ok(())
    }

    async fn build_container(&mut self, container: &Container) -> anyhow::Result<()> {
        let netns = if container.made {
            Netns::create(&container.name)?
        } else {
            Netns::open(&container.netns)?
        };
        let cookie = netns.cookie()?;
        if container.cookie.is_some_and(|checked| checked != cookie) {
            let what = format!(
                "{} leads to another network namespace than a moment ago",
                container.netns.display()
            );
            bail!(Error::in_use(what).hint("try again"));
        }
        if let Some(known) = self.state.containers.get_mut(&container.name) {
            known.cookie = Some(cookie);
        }
        for endpoint in &container.endpoints {
            self.build_endpoint(container, endpoint, &netns).await?;
        }
        for publish in &container.publishes {
            self.installed.put_publish(publish, container)?;
        }
        self.save()
    }

    /// Removes a container as far as it is there: its links first, since the datapath must check
    /// what comes from them while they exist; its namespace last, if it was made for it.
    async fn dismantle_container(&mut self, name: &str) -> Vec<anyhow::Error> {
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
            errors.extend(self.installed.drop_publish(publish).err());
        }
        errors.extend(self.end_drains_in(name).err());
        for endpoint in unlinked {
            errors.extend(self.installed.forget_endpoint(endpoint).err());
        }
        errors.extend(remove_namespace(&container).err());
        errors
    }
}

/// Takes the namespace at a container's path for its own if the container was never finished: the
/// name was free when it was begun, so what is there was made for it.
pub(in crate::control) fn adopt_namespace(container: &mut Container) {
    if container.cookie.is_none() && container.made {
        container.cookie = cookie_at(&container.netns);
    }
}

/// Removes the namespace that was made for a container. Succeeds if absent, or if another namespace
/// took its place.
pub(in crate::control) fn remove_namespace(container: &Container) -> anyhow::Result<()> {
    let Some(ours) = container.cookie.filter(|_| container.made) else {
        return Ok(());
    };
    match cookie_at(&container.netns) {
        Some(there) if there != ours => Ok(()),
        _ => Netns::remove(&container.name),
    }
}
