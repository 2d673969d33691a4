//! Publishes: added, listed, removed.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, bail, ensure};
use causeway_api as api;
use causeway_api::{
    PublishAdd,
    types::{
        family::Family,
        publish::{PublishPorts, PublishSpec},
    },
};
use ipnet::IpNet;
use tracing::info;

use super::{Agent, presence::what_is_gone, view::view_publish, warn_all};
use crate::{
    datapath::PublishTarget,
    state::{container::Container, network::Network, publish::Publish},
};

impl Agent {
    pub(super) fn publish_list(&self) -> Vec<api::Publish> {
        let containers = self.state.containers.values();
        containers
            .flat_map(|container| {
                container.publishes.iter().map(|publish| view_publish(&container.name, publish))
            })
            .collect()
    }

    pub(super) async fn publish_add(&mut self, add: &PublishAdd) -> anyhow::Result<api::Publish> {
        let PublishSpec { ports, options } = &add.publish;
        let spec = PublishSpec { ports: *ports, options: options.check()? };
        self.add_publish(&add.container, Publish::new(spec, false)).await
    }

    pub(super) async fn add_publish(
        &mut self,
        name: &str,
        publish: Publish,
    ) -> anyhow::Result<api::Publish> {
        let container = self.container(name)?.clone();
        let network = self.network_of(&container)?;
        check_admits(network, &publish)?;
        if let Some(gone) = what_is_gone(&container, &self.link_names().await?) {
            bail!(
                "{gone}; remove the container with 'causeway container rm {name}', and make it again"
            );
        }
        let mut plan = self.plan().await?;
        if publish.declared {
            plan = plan.for_file();
        }
        plan.check_publish(network, &publish.ports)?;
        // It may be an address of a moment ago.
        if publish.ports.host_address.is_some() {
            self.sync_host().await?;
        }
        let view = view_publish(name, &publish);
        self.put_publish(&publish, &container)?;
        if let Some(container) = self.state.containers.get_mut(name) {
            container.publishes.push(publish.clone());
        }
        if let Err(error) = self.save() {
            warn_all(self.drop_publish(&publish.ports).err().as_slice());
            self.forget_publish(name, &publish.ports);
            return Err(error);
        }
        info!(container = name, publish = %publish.ports, "published");
        Ok(view)
    }

    pub(super) fn publish_remove(
        &mut self,
        name: &str,
        spec: &PublishPorts,
    ) -> anyhow::Result<api::Publish> {
        let container = self.container(name)?;
        let Some(publish) =
            container.publishes.iter().find(|publish| publish.ports == *spec).cloned()
        else {
            let others: Vec<String> =
                container.publishes.iter().map(|publish| publish.ports.to_string()).collect();
            match others.as_slice() {
                [] => bail!("the container '{name}' has no publishes"),
                others => bail!(
                    "the container '{name}' has no such publish; it has {}",
                    others.join(", ")
                ),
            }
        };
        self.drop_publish(spec)?;
        self.forget_publish(name, spec);
        self.save()?;
        self.end_stray_sockets();
        info!(container = name, publish = %spec, "no longer published");
        Ok(view_publish(name, &publish))
    }

    /// Writes it into the datapath.
    pub(super) fn put_publish(
        &mut self,
        publish: &Publish,
        container: &Container,
    ) -> anyhow::Result<()> {
        let target = target_of(container);
        self.datapath.put_publish(&publish.spec(), target)?;
        self.publishes.insert(publish.ports, target);
        Ok(())
    }

    /// Takes it out of the datapath, with what drains of it. Absent is done.
    pub(super) fn drop_publish(&mut self, spec: &PublishPorts) -> anyhow::Result<()> {
        let publishes = self.state.containers.values().flat_map(|container| &container.publishes);
        let drains =
            publishes.filter(|publish| publish.ports == *spec).flat_map(|publish| &publish.drains);
        for slot in drains.map(|drain| drain.slot).collect::<Vec<_>>() {
            self.datapath.end_draining(slot)?;
        }
        if self.publishes.contains_key(spec) {
            self.datapath.remove_publish(spec)?;
            self.publishes.remove(spec);
        }
        Ok(())
    }

    pub(super) fn forget_publish(&mut self, container: &str, spec: &PublishPorts) {
        if let Some(container) = self.state.containers.get_mut(container) {
            container.publishes.retain(|publish| publish.ports != *spec);
        }
    }

    /// The network a container is on.
    pub(super) fn network_of(&self, container: &Container) -> anyhow::Result<&Network> {
        let endpoint = container.endpoints.first().context("the container is on no network")?;
        self.network(&endpoint.network)
    }
}

/// Where the publishes of a container lead. IPv6 clients reach one of IPv4 alone too.
pub(super) fn target_of(container: &Container) -> PublishTarget {
    let (mut v4, mut v6) = (None, None);
    for address in container.addresses() {
        match address {
            IpAddr::V4(address) => v4 = Some(address),
            IpAddr::V6(address) => v6 = Some(address),
        }
    }
    PublishTarget { v4, v6: v6.or_else(|| v4.map(|address: Ipv4Addr| address.to_ipv6_mapped())) }
}

/// What can be said before it is known which ports are taken.
pub(super) fn check_publishable(network: &Network, spec: &PublishPorts) -> anyhow::Result<()> {
    let families: Vec<Family> = network.families().collect();
    ensure!(
        spec.families(&families).next().is_some(),
        "the publish {spec} has an IPv4 host address, and network '{}' has IPv6 alone; give an IPv6 address of the host, or none",
        network.name
    );
    ensure!(
        !network.internal,
        "the network '{}' is internal: nothing of it can be published; use a network that is not",
        network.name
    );
    Ok(())
}

/// Fails if nobody whom a publish admits can reach it.
fn check_admits(network: &Network, publish: &Publish) -> anyhow::Result<()> {
    let families: Vec<Family> = network.families().collect();
    let served: Vec<Family> = publish.ports.families(&families).collect();
    let admitted = |subnet: &IpNet| served.contains(&Family::of(subnet.addr()));
    if let ([served], Some(subnet)) = (&served[..], publish.options.from.first()) {
        ensure!(
            publish.options.from.iter().any(admitted),
            "--from {subnet} admits nobody: the publish {} is for {served} clients alone; give a subnet of theirs, or none",
            publish.ports
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_both_families_find_a_container_unless_it_has_ipv6_alone() {
        let leads_to = |addresses: &[&str]| {
            let container: Container = serde_json::from_value(serde_json::json!({
                "name": "web", "netns": "/run/netns/web", "cookie": 1, "made": true,
                "endpoints": [{
                    "network": "n", "addresses": addresses, "mac": "02:63:ac:12:00:02", "interface": "eth0", "host_side": "cwv0",
                }],
            }))
            .unwrap();
            let PublishTarget { v4, v6 } = target_of(&container);
            (v4.map(|address| address.to_string()), v6.map(|address| address.to_string()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(leads_to(&["172.18.0.2/16"]), (some("172.18.0.2"), some("::ffff:172.18.0.2")));
        assert_eq!(leads_to(&["fd00::2/64"]), (None, some("fd00::2")));
        assert_eq!(
            leads_to(&["172.18.0.2/16", "fd00::2/64"]),
            (some("172.18.0.2"), some("fd00::2"))
        );
    }

    #[test]
    fn what_would_serve_nobody_is_refused() {
        let check = |subnet: &str, internal: bool, publish: &str| {
            let network: Network = serde_json::from_value(serde_json::json!({
                "name": "n", "subnets": [subnet], "gateways": [], "bridge": "cw0", "mtu": 1500, "internal": internal,
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
