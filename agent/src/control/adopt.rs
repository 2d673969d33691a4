//! Taking over what an earlier agent of the instance left.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use causeway_api::messages;
use causeway_netlink::link::Link;
use tracing::{info, warn};

use super::{
    Agent,
    containers::cookie_at,
    host::{Host, Sight},
    plan::Plan,
    warn_all,
};
use crate::state::{
    State,
    container::{Container, is_host_side_name},
    network::Network,
};

impl Agent {
    /// Puts what is still there into the datapath again, and drops with a warning what is there no
    /// longer.
    pub(super) async fn adopt(&mut self) -> anyhow::Result<()> {
        let sight = self.host.look().await?;
        let lost = self.adopt_networks(&sight).await?;
        let containers: Vec<Container> = self.state.containers.values().cloned().collect();
        let endpoints = containers.iter().flat_map(|container| &container.endpoints);
        let known: BTreeSet<String> =
            endpoints.map(|endpoint| endpoint.host_side.clone()).collect();
        for container in containers {
            match host_sides(&container, &self.bridges, &sight) {
                Ok(host_sides) => {
                    if cookie_at(&container.netns) != container.cookie {
                        // The namespace lives, or its host side would be gone; only the process
                        // that gave the path has ended.
                        warn!(
                            container = container.name,
                            netns = %container.netns.display(),
                            "the path no longer leads to the container's network namespace"
                        );
                    }
                    self.adopt_container(&container, &host_sides).await.with_context(|| {
                        format!("cannot take over container '{}'", container.name)
                    })?;
                }
                Err(error) => {
                    warn!(
                        container = container.name,
                        error = messages::line(&error),
                        "container dropped"
                    );
                    self.drop_container(&container.name).await;
                }
            }
        }
        for name in lost {
            self.state.networks.remove(&name);
        }
        self.remove_orphans(&sight, &known).await;
        self.save()?;
        self.sync_host().await
    }

    /// Answers the names of the networks whose bridges are gone.
    async fn adopt_networks(&mut self, sight: &Sight) -> anyhow::Result<Vec<String>> {
        let mut lost = Vec::new();
        for network in self.state.networks.values().cloned().collect::<Vec<_>>() {
            let Some(bridge) = bridge_of(&network, sight) else {
                warn!(
                    network = network.name,
                    bridge = network.bridge,
                    "network dropped: its bridge is gone"
                );
                lost.push(network.name);
                continue;
            };
            self.bridges.insert(network.name.clone(), bridge.index);
            if !bridge.up {
                self.host.handles.netlink.set_up(bridge.index).await?;
            }
            self.finish_bridge(&network, bridge.index)
                .await
                .with_context(|| format!("cannot take over network '{}'", network.name))?;
            info!(network = network.name, "network taken over");
        }
        Ok(lost)
    }

    async fn adopt_container(
        &mut self,
        container: &Container,
        host_sides: &[u32],
    ) -> anyhow::Result<()> {
        for (endpoint, index) in container.endpoints.iter().zip(host_sides) {
            self.put_endpoint(endpoint, *index)?;
            self.join_bridge(endpoint, *index).await?;
        }
        for publish in &container.publishes {
            self.put_publish(publish, container)?;
        }
        info!(container = container.name, "container taken over");
        Ok(())
    }

    /// What is left of a container goes too.
    async fn drop_container(&mut self, name: &str) {
        if let Some(container) = self.state.containers.get_mut(name) {
            claim(container);
        }
        warn_all(&self.dismantle_container(name).await);
        self.state.containers.remove(name);
    }

    /// Host sides that nobody knows: of an agent that ended before it could take back what failed.
    async fn remove_orphans(&self, sight: &Sight, known: &BTreeSet<String>) {
        let bridges: Vec<u32> = self.bridges.values().copied().collect();
        let is_orphan = |link: &&Link| {
            is_host_side_name(&link.name)
                && link.controller.is_some_and(|controller| bridges.contains(&controller))
                && !known.contains(&link.name)
        };
        for link in sight.links.iter().filter(is_orphan) {
            warn!(interface = link.name, "an interface that belongs to no container is removed");
            warn_all(self.host.handles.netlink.delete_link(link.index).await.err().as_slice());
        }
    }
}

/// What will be there once it is taken over, to plan from; touches nothing.
pub(super) fn foresee<'a>(
    instance: &'a str,
    host: &'a Host,
    state: &State,
    sight: Sight,
) -> Plan<'a> {
    let index = |network: &Network| Some((network.name.clone(), bridge_of(network, &sight)?.index));
    let bridges: BTreeMap<String, u32> = state.networks.values().filter_map(index).collect();
    let is_lost = |container: &&Container| host_sides(container, &bridges, &sight).is_err();
    let lost: Vec<&str> = state
        .containers
        .values()
        .filter(is_lost)
        .map(|container| container.name.as_str())
        .collect();
    let mut kept = state.clone();
    kept.networks.retain(|name, _| bridges.contains_key(name));
    for container in kept.containers.values_mut() {
        claim(container);
    }
    let mut plan = Plan::new(instance, host, kept, sight, bridges);
    for name in lost {
        plan.without_container(name);
    }
    plan
}

fn bridge_of<'a>(network: &Network, sight: &'a Sight) -> Option<&'a Link> {
    sight
        .links
        .iter()
        .find(|link| link.name == network.bridge && link.kind.as_deref() == Some("bridge"))
}

/// The indexes of a container's host sides, if all of it is there.
fn host_sides(
    container: &Container,
    bridges: &BTreeMap<String, u32>,
    sight: &Sight,
) -> anyhow::Result<Vec<u32>> {
    let cookie = container.cookie.context("it was never finished")?;
    let mut indexes = Vec::new();
    for endpoint in &container.endpoints {
        let Some(bridge) = bridges.get(&endpoint.network) else {
            bail!("its network '{}' is gone", endpoint.network);
        };
        let is_it =
            |link: &&Link| link.name == endpoint.host_side && link.controller == Some(*bridge);
        let Some(link) = sight.links.iter().find(is_it) else {
            bail!("its host side {} is gone", endpoint.host_side);
        };
        indexes.push(link.index);
    }
    ensure!(
        !container.made || cookie_at(&container.netns) == Some(cookie),
        "its network namespace {} is gone",
        container.netns.display()
    );
    Ok(indexes)
}

/// The namespace of a container that was never finished: its name was free when it was begun, so
/// what is there was made for it.
pub(super) fn claim(container: &mut Container) {
    if container.cookie.is_none() && container.made {
        container.cookie = cookie_at(&container.netns);
    }
}
