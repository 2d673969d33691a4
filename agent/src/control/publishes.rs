//! Publishes: added, listed, removed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, bail, ensure};
use causeway_api as api;
use causeway_api::{
    PublishAdd,
    types::{family::Family, publish::PublishSpec},
};
use ipnet::IpNet;
use tracing::info;

use super::{Agent, presence::what_is_gone, view::view_publish, warn_all};
use crate::{
    datapath::PublishEntry,
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
        let publish = Publish {
            spec: add.publish,
            from: check_from(&add.from)?,
            declared: false,
            drains: Vec::new(),
        };
        self.add_publish(&add.container, publish).await
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
        plan.check_publish(network, &publish.spec)?;
        // It may be an address of a moment ago.
        if publish.spec.host_address.is_some() {
            self.sync_host().await?;
        }
        let view = view_publish(name, &publish);
        self.put_publish(&publish, &container)?;
        if let Some(container) = self.state.containers.get_mut(name) {
            container.publishes.push(publish.clone());
        }
        if let Err(error) = self.save() {
            warn_all(self.drop_publish(&publish.spec).err().as_slice());
            self.forget_publish(name, &publish.spec);
            return Err(error);
        }
        info!(container = name, publish = %publish.spec, "published");
        Ok(view)
    }

    pub(super) fn publish_remove(
        &mut self,
        name: &str,
        spec: &PublishSpec,
    ) -> anyhow::Result<api::Publish> {
        let container = self.container(name)?;
        let Some(publish) =
            container.publishes.iter().find(|publish| publish.spec == *spec).cloned()
        else {
            let others: Vec<String> =
                container.publishes.iter().map(|publish| publish.spec.to_string()).collect();
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
        let spec = publish.spec;
        let (container_v4, container_v6) = where_it_leads(container);
        let entry = PublishEntry {
            protocol: spec.protocol,
            host_address: spec.host_address,
            host_ports: spec.host_ports,
            container_ports: spec.container_ports,
            container_v4,
            container_v6,
            from: publish.from.clone(),
        };
        self.datapath.put_publish(&entry)?;
        self.publishes.insert(spec, entry);
        Ok(())
    }

    /// Takes it out of the datapath, with what drains of it. Absent is done.
    pub(super) fn drop_publish(&mut self, spec: &PublishSpec) -> anyhow::Result<()> {
        let publishes = self.state.containers.values().flat_map(|container| &container.publishes);
        let drains =
            publishes.filter(|publish| publish.spec == *spec).flat_map(|publish| &publish.drains);
        for slot in drains.map(|drain| drain.slot).collect::<Vec<_>>() {
            self.datapath.end_draining(slot)?;
        }
        if let Some(entry) = self.publishes.get(spec) {
            self.datapath.remove_publish(entry)?;
            self.publishes.remove(spec);
        }
        Ok(())
    }

    pub(super) fn forget_publish(&mut self, container: &str, spec: &PublishSpec) {
        if let Some(container) = self.state.containers.get_mut(container) {
            container.publishes.retain(|publish| publish.spec != *spec);
        }
    }

    /// The network a container is on.
    pub(super) fn network_of(&self, container: &Container) -> anyhow::Result<&Network> {
        let endpoint = container.endpoints.first().context("the container is on no network")?;
        self.network(&endpoint.network)
    }
}

/// Where IPv4 and IPv6 clients find a container. One of IPv4 alone is found by IPv6 clients too.
pub(super) fn where_it_leads(container: &Container) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let (mut v4, mut v6) = (None, None);
    for address in container.addresses() {
        match address {
            IpAddr::V4(address) => v4 = Some(address),
            IpAddr::V6(address) => v6 = Some(address),
        }
    }
    (v4, v6.or_else(|| v4.map(|address| address.to_ipv6_mapped())))
}

/// What can be said before it is known which ports are taken.
pub(super) fn check_publishable(network: &Network, spec: &PublishSpec) -> anyhow::Result<()> {
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
    let served: Vec<Family> = publish.spec.families(&families).collect();
    let admitted = |subnet: &IpNet| served.contains(&Family::of(subnet.addr()));
    if let ([served], Some(subnet)) = (&served[..], publish.from.first()) {
        ensure!(
            publish.from.iter().any(admitted),
            "--from {subnet} admits nobody: the publish {} is for {served} clients alone; give a subnet of theirs, or none",
            publish.spec
        );
    }
    Ok(())
}

/// Clients that may use a publish: subnets that are some.
fn check_from(from: &[IpNet]) -> anyhow::Result<Vec<IpNet>> {
    let mut checked: Vec<IpNet> = Vec::new();
    for subnet in from {
        if let IpNet::V6(v6) = subnet
            && let (Some(mapped), Some(prefix_len)) =
                (v6.network().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
        {
            bail!("--from {subnet} is of IPv4 addresses; write {mapped}/{prefix_len}");
        }
        ensure!(
            subnet.addr() == subnet.network(),
            "--from {subnet} has host bits set; write {}",
            subnet.trunc()
        );
        if !checked.contains(subnet) {
            checked.push(*subnet);
        }
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_subnets() {
        let check = |text: &str| {
            let from: Vec<IpNet> =
                text.split_whitespace().map(|subnet| subnet.parse().unwrap()).collect();
            check_from(&from).map(|from| from.len()).map_err(|error| error.to_string())
        };
        assert_eq!(check(""), Ok(0));
        assert_eq!(check("10.0.0.0/8 192.168.1.1/32 10.0.0.0/8"), Ok(2));
        assert!(check("10.1.0.0/8").unwrap_err().contains("write 10.0.0.0/8"));
        assert_eq!(check("10.0.0.0/8 2001:db8::/32 ::/0"), Ok(3));
        assert!(check("2001:db8::1/32").unwrap_err().contains("write 2001:db8::/32"));
        assert!(check("::ffff:10.0.0.0/104").unwrap_err().contains("write 10.0.0.0/8"));
    }

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
            let (v4, v6) = where_it_leads(&container);
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
