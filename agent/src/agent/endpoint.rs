//! Endpoints: the veth pair of a container, and what the datapath knows of it.

use anyhow::Context as _;

use super::{Agent, forwarding::disable_ipv6, networks::bridge_mac};
use crate::{
    datapath::{EndpointEntry, Interface},
    model::{
        container::{Container, Endpoint},
        network::Network,
    },
    net::{
        netlink::{Netlink, PortSpec, VethSpec},
        netns::Netns,
    },
};

const LOOPBACK: &str = "lo";

impl Agent {
    /// Makes the veth pair and all that the container has on it, and makes it known to the datapath.
    pub(super) async fn build_endpoint(
        &mut self,
        container: &Container,
        endpoint: &Endpoint,
        netns: &Netns,
    ) -> anyhow::Result<()> {
        let network = self.network(&endpoint.network)?.clone();
        let spec = VethSpec {
            host_side: &endpoint.host_side,
            container_side: &endpoint.interface,
            container: netns,
            mac: endpoint.mac,
            mtu: network.mtu,
            alias: &container.name,
        };
        let index = self.host.handles.netlink.create_veth(&spec).await?;
        disable_ipv6(&self.host.handles.netns, &endpoint.host_side)?;
        // The program is there before the first packet can be.
        self.put_endpoint(endpoint, index)?;
        self.join_bridge(endpoint, index).await?;
        furnish(netns, endpoint, &network).await
    }

    /// Connects an endpoint that the datapath knows with its bridge. Again is done.
    pub(super) async fn join_bridge(&self, endpoint: &Endpoint, host_side: u32) -> anyhow::Result<()> {
        let network = self.network(&endpoint.network)?;
        let controller = *self.bridges.get(&network.name).context("its network has no bridge")?;
        let port = PortSpec { index: host_side, controller, isolated: !network.icc, mac: endpoint.mac };
        let joined = self.host.handles.netlink.join_bridge(&port).await;
        joined.with_context(|| format!("cannot put it on the bridge '{}'", network.bridge))
    }

    /// Makes an endpoint that is there known to the datapath.
    pub(super) fn put_endpoint(&mut self, endpoint: &Endpoint, host_side: u32) -> anyhow::Result<()> {
        let network = self.network(&endpoint.network)?.clone();
        let bridge = *self.bridges.get(&network.name).context("its network has no bridge")?;
        let interface = Interface { index: host_side, name: endpoint.host_side.clone() };
        for address in &endpoint.addresses {
            let (subnet, gateway) =
                network.place_of(address.addr()).context("its address is of none of its network's subnets")?;
            let entry = EndpointEntry {
                address: address.addr(),
                gateway,
                subnet,
                mac: endpoint.mac,
                bridge_mac: bridge_mac(&network)?,
                host_side,
                bridge,
                masquerade: network.masquerade,
                internal: network.internal,
                icc: network.icc,
                mtu: network.mtu,
            };
            self.datapath.put_endpoint(&entry, &interface)?;
            self.endpoints.insert(address.addr());
        }
        Ok(())
    }

    /// Takes an endpoint that has no link any more out of the datapath. Absent is done.
    pub(super) fn forget_endpoint(&mut self, endpoint: &Endpoint) -> anyhow::Result<()> {
        for address in &endpoint.addresses {
            if self.endpoints.contains(&address.addr()) {
                self.datapath.remove_endpoint(address.addr())?;
                self.endpoints.remove(&address.addr());
            }
        }
        Ok(())
    }
}

/// Removes a link by its name. Absent is done.
pub(super) async fn delete_named(netlink: &Netlink, name: &str) -> anyhow::Result<()> {
    match netlink.link(name).await? {
        Some(link) => {
            netlink.delete_link(link.index).await.with_context(|| format!("cannot remove the interface '{name}'"))
        }
        None => Ok(()),
    }
}

/// What the container has on its side: `lo`, its address, its default route.
async fn furnish(netns: &Netns, endpoint: &Endpoint, network: &Network) -> anyhow::Result<()> {
    let netlink = Netlink::open(netns).await?;
    disable_ipv6(netns, &endpoint.interface)?;
    if let Some(loopback) = netlink.link(LOOPBACK).await?.filter(|loopback| !loopback.up) {
        netlink.set_up(loopback.index).await?;
    }
    let link = netlink.link(&endpoint.interface).await?.context("the container side went away while it was set up")?;
    for address in &endpoint.addresses {
        netlink.add_address(link.index, *address).await?;
        if let Some((_, gateway)) = network.place_of(address.addr()).filter(|_| !network.internal) {
            netlink.add_default_route(gateway, link.index).await?;
        }
    }
    Ok(())
}
