//! What this agent has put into the datapath.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::Context as _;
use causeway_api::{
    Error,
    types::{family::Family, publish::PublishPorts},
};
use ipnet::IpNet;

use crate::{
    datapath::{Datapath, EndpointEntry, Interface, PublishTarget},
    state::{
        container::{Container, Endpoint},
        network::Network,
        publish::Publish,
    },
};

/// The datapath, and which objects of the state this agent has put into it.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) datapath: Datapath,
    /// The indexes of the bridges by their networks' names.
    pub(super) bridges: BTreeMap<String, u32>,
    /// The indexes of the host sides of endpoints, by address.
    pub(super) endpoints: BTreeMap<IpAddr, u32>,
    pub(super) publishes: BTreeMap<PublishPorts, PublishTarget>,
}

impl Installed {
    pub(super) const fn new(datapath: Datapath) -> Self {
        Self {
            datapath,
            bridges: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            publishes: BTreeMap::new(),
        }
    }

    /// Puts a network, or its changed flow policy. Idempotent.
    pub(super) fn put_network(&mut self, network: &Network, index: u32) -> anyhow::Result<()> {
        let interface = Interface { index, name: network.bridge.clone() };
        self.datapath.put_bridge(&interface, &network.subnets, &network.flows.policy())
    }

    /// Index of a network's bridge.
    pub(super) fn bridge(&self, network: &Network) -> anyhow::Result<u32> {
        let bridge = self.bridges.get(&network.name).copied();
        bridge.ok_or_else(|| {
            Error::not_found(format!("network '{}' has no bridge", network.name)).into()
        })
    }

    /// Puts an endpoint whose host side has that index. Idempotent.
    pub(super) fn put_endpoint(
        &mut self,
        endpoint: &Endpoint,
        network: &Network,
        host_side: u32,
    ) -> anyhow::Result<()> {
        let bridge = self.bridge(network)?;
        let interface = Interface { index: host_side, name: endpoint.host_side.clone() };
        for place in places(endpoint, network)? {
            let entry = EndpointEntry {
                address: place.address,
                gateway: place.gateway,
                subnet: place.subnet,
                mac: endpoint.mac,
                bridge_mac: network.bridge_mac()?,
                host_side,
                bridge,
                masquerade: network.masquerade.has(Family::of(place.address.to_canonical())),
                internal: network.internal,
                icc: network.icc,
                mtu: network.mtu,
                device: endpoint.device,
            };
            self.datapath.put_endpoint(&entry, &interface)?;
            self.endpoints.insert(place.address, host_side);
        }
        Ok(())
    }

    /// Removes an endpoint whose link is gone. Succeeds if absent.
    pub(super) fn forget_endpoint(&mut self, endpoint: &Endpoint) -> anyhow::Result<()> {
        for address in endpoint.known_by() {
            if self.endpoints.contains_key(&address) {
                self.datapath.remove_endpoint(address)?;
                self.endpoints.remove(&address);
            }
        }
        Ok(())
    }

    /// Puts a publish of a container. Idempotent.
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

    /// Removes a publish, and the flows that drain of it. Succeeds if absent.
    pub(super) fn drop_publish(&mut self, publish: &Publish) -> anyhow::Result<()> {
        for drain in &publish.drains {
            self.datapath.end_draining(drain.slot)?;
        }
        if self.publishes.contains_key(&publish.ports) {
            self.datapath.remove_publish(&publish.ports)?;
            self.publishes.remove(&publish.ports);
        }
        Ok(())
    }
}

/// The target of the publishes of a container. IPv6 clients reach a container with IPv4 alone by
/// its IPv4-mapped address.
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

/// An address of an endpoint, with its subnet and gateway.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    address: IpAddr,
    subnet: IpNet,
    gateway: IpAddr,
}

/// The place of each address in [`Endpoint::known_by`].
fn places(endpoint: &Endpoint, network: &Network) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::new();
    for address in endpoint.addresses.iter().map(IpNet::addr) {
        let (subnet, gateway) =
            network.place_of(address).context("its address is of none of its network's subnets")?;
        places.push(Place { address, subnet, gateway });
    }
    // In the subnet of its IPv6 address, or of its only address.
    if let (Some(alias), Some(Place { subnet, gateway, .. })) = (endpoint.alias(), places.last()) {
        let prefix_len =
            if subnet.addr().is_ipv6() { subnet.prefix_len() } else { 96 + subnet.prefix_len() };
        let subnet = IpNet::new(IpAddr::V6(mapped(subnet.addr())), prefix_len)?;
        places.push(Place { address: alias.into(), subnet, gateway: mapped(*gateway).into() });
    }
    Ok(places)
}

/// The IPv4-mapped address of an IPv4 address.
const fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam;

    #[test]
    fn every_address_has_its_place() {
        let places_of = |addresses: &[&str], subnets: &[&str]| {
            let subnets: Vec<IpNet> =
                subnets.iter().map(|subnet| subnet.parse().unwrap()).collect();
            let network: Network = serde_json::from_value(serde_json::json!({
                "name": "n", "subnets": subnets, "gateways": ipam::choose_gateways(&subnets,
                &[]).unwrap(),
                "bridge": "cw0", "mtu": 1500, "internal": false, "masquerade": true, "icc": true,
            }))
            .unwrap();
            let endpoint: Endpoint = serde_json::from_value(serde_json::json!({
                "network": "n", "addresses": addresses, "mac": "02:63:ac:12:00:02",
                "interface": "eth0", "host_side": "cwv0",
            }))
            .unwrap();
            let places = places(&endpoint, &network).unwrap();
            assert!(places.iter().map(|place| place.address).eq(endpoint.known_by()));
            places
                .iter()
                .map(|place| format!("{} {} {}", place.address, place.subnet, place.gateway))
                .collect::<Vec<_>>()
        };
        let v4 = "172.18.0.2 172.18.0.0/16 172.18.0.1";
        let v6 = "fd00::2 fd00::/64 fd00::1";
        let link_local = "fe80::63:acff:fe12:2 fd00::/64 fd00::1";
        assert_eq!(
            places_of(&["172.18.0.2/16"], &["172.18.0.0/16"]),
            [v4, "::ffff:172.18.0.2 ::ffff:172.18.0.0/112 ::ffff:172.18.0.1"]
        );
        assert_eq!(places_of(&["fd00::2/64"], &["fd00::/64"]), [v6, link_local]);
        assert_eq!(
            places_of(&["172.18.0.2/16", "fd00::2/64"], &["172.18.0.0/16", "fd00::/64"]),
            [v4, v6, link_local]
        );
    }

    #[test]
    fn ipv6_clients_reach_containers_of_both_families() {
        let leads_to = |addresses: &[&str]| {
            let container: Container = serde_json::from_value(serde_json::json!({
                "name": "web", "netns": "/run/netns/web", "cookie": 1, "made": true,
                "endpoints": [{
                    "network": "n", "addresses": addresses, "mac": "02:63:ac:12:00:02",
                    "interface": "eth0", "host_side": "cwv0",
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
}
