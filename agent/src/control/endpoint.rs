//! Endpoints: the pair of interfaces that connects a container, and what the datapath knows of it.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::Context as _;
use causeway_api::types::family::Family;
use causeway_netlink::{Netlink, Netns, bridge::PortSpec, pair::PairSpec};
use ipnet::IpNet;

use super::{
    Agent,
    ipv6::{disable_ipv6, enable_ipv6},
    networks::bridge_mac,
};
use crate::{
    datapath::{EndpointEntry, Interface},
    state::{
        container::{Container, Endpoint},
        network::Network,
    },
};

const LOOPBACK: &str = "lo";

impl Agent {
    /// Makes the pair and all that the container has on it, and makes it known to the datapath.
    pub(super) async fn build_endpoint(
        &mut self,
        container: &Container,
        endpoint: &Endpoint,
        netns: &Netns,
    ) -> anyhow::Result<()> {
        let network = self.network(&endpoint.network)?.clone();
        let spec = PairSpec {
            device: endpoint.device,
            host_side: &endpoint.host_side,
            container_side: &endpoint.interface,
            container: netns,
            mac: endpoint.mac,
            mtu: network.mtu,
            alias: &container.name,
        };
        let index = self.host.handles.netlink.create_pair(&spec).await?;
        // A port of a bridge needs no address, whatever passes through it.
        disable_ipv6(&self.host.handles.netns, &endpoint.host_side)?;
        // The program is there, and the container has all that it has, before the first packet can
        // be: until it joins its bridge the link has no carrier.
        self.put_endpoint(endpoint, index)?;
        furnish(netns, endpoint, &network).await?;
        self.join_bridge(endpoint, index).await
    }

    /// Connects an endpoint that the datapath knows with its bridge. Again is done.
    pub(super) async fn join_bridge(
        &self,
        endpoint: &Endpoint,
        host_side: u32,
    ) -> anyhow::Result<()> {
        let network = self.network(&endpoint.network)?;
        let controller = *self.bridges.get(&network.name).context("its network has no bridge")?;
        let port =
            PortSpec { index: host_side, controller, isolated: !network.icc, mac: endpoint.mac };
        let joined = self.host.handles.netlink.join_bridge(&port).await;
        joined.with_context(|| format!("cannot put it on the bridge '{}'", network.bridge))
    }

    /// Makes an endpoint that is there known to the datapath.
    pub(super) fn put_endpoint(
        &mut self,
        endpoint: &Endpoint,
        host_side: u32,
    ) -> anyhow::Result<()> {
        let network = self.network(&endpoint.network)?.clone();
        let bridge = *self.bridges.get(&network.name).context("its network has no bridge")?;
        let interface = Interface { index: host_side, name: endpoint.host_side.clone() };
        for place in places(endpoint, &network)? {
            let entry = EndpointEntry {
                address: place.address,
                gateway: place.gateway,
                subnet: place.subnet,
                mac: endpoint.mac,
                bridge_mac: bridge_mac(&network)?,
                host_side,
                bridge,
                masquerade: network.masquerade.has(Family::of(place.address.to_canonical())),
                internal: network.internal,
                icc: network.icc,
                mtu: network.mtu,
                device: endpoint.device,
            };
            self.datapath.put_endpoint(&entry, &interface)?;
            self.endpoints.insert(place.address);
        }
        Ok(())
    }

    /// Takes an endpoint that has no link any more out of the datapath. Absent is done.
    pub(super) fn forget_endpoint(&mut self, endpoint: &Endpoint) -> anyhow::Result<()> {
        for address in endpoint.known_by() {
            if self.endpoints.contains(&address) {
                self.datapath.remove_endpoint(address)?;
                self.endpoints.remove(&address);
            }
        }
        Ok(())
    }
}

/// An address that an endpoint is known by, and where it is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    address: IpAddr,
    subnet: IpNet,
    gateway: IpAddr,
}

/// One for each of [`Endpoint::known_by`].
fn places(endpoint: &Endpoint, network: &Network) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::new();
    for address in endpoint.addresses.iter().map(IpNet::addr) {
        let (subnet, gateway) =
            network.place_of(address).context("its address is of none of its network's subnets")?;
        places.push(Place { address, subnet, gateway });
    }
    // That of its IPv6 address, or of its only one.
    if let (Some(alias), Some(Place { subnet, gateway, .. })) = (endpoint.alias(), places.last()) {
        let prefix_len =
            if subnet.addr().is_ipv6() { subnet.prefix_len() } else { 96 + subnet.prefix_len() };
        let subnet = IpNet::new(IpAddr::V6(mapped(subnet.addr())), prefix_len)?;
        places.push(Place { address: alias.into(), subnet, gateway: mapped(*gateway).into() });
    }
    Ok(places)
}

/// IPv4 as it is among IPv6 addresses.
const fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Removes a link by its name. Absent is done.
pub(super) async fn delete_named(netlink: &Netlink, name: &str) -> anyhow::Result<()> {
    match netlink.link(name).await? {
        Some(link) => netlink
            .delete_link(link.index)
            .await
            .with_context(|| format!("cannot remove the interface '{name}'")),
        None => Ok(()),
    }
}

/// What the container has on its side: `lo`, its addresses, its default routes.
async fn furnish(netns: &Netns, endpoint: &Endpoint, network: &Network) -> anyhow::Result<()> {
    let netlink = Netlink::open(netns).await?;
    if network.has(Family::V6) {
        enable_ipv6(netns, &endpoint.interface)?;
    } else {
        disable_ipv6(netns, &endpoint.interface)?;
    }
    if let Some(loopback) = netlink.link(LOOPBACK).await?.filter(|loopback| !loopback.up) {
        netlink.set_up(loopback.index).await?;
    }
    let link = netlink
        .link(&endpoint.interface)
        .await?
        .context("the container side went away while it was set up")?;
    for address in &endpoint.addresses {
        netlink.add_address(link.index, *address).await?;
        if let Some((_, gateway)) = network.place_of(address.addr()).filter(|_| !network.internal) {
            netlink.add_default_route(gateway, link.index).await?;
        }
    }
    Ok(())
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
                "name": "n", "subnets": subnets, "gateways": ipam::choose_gateways(&subnets, &[]).unwrap(),
                "bridge": "cw0", "mtu": 1500, "internal": false, "masquerade": true, "icc": true,
            }))
            .unwrap();
            let endpoint: Endpoint = serde_json::from_value(serde_json::json!({
                "network": "n", "addresses": addresses, "mac": "02:63:ac:12:00:02", "interface": "eth0", "host_side": "cwv0",
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
}
