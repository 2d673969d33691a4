//! Endpoints: a pair of interfaces, one in the container and one on its network's bridge.

use anyhow::Context as _;
use causeway_api::Error;
use causeway_netlink::{Netlink, Netns, bridge::PortSpec, pair::PairSpec};

use super::ipv6::{disable_ipv6, enable_ipv6};
use crate::{
    control::agent::Agent,
    state::{
        container::{Container, Endpoint},
        network::Network,
    },
};

const LOOPBACK: &str = "lo";

impl Agent {
    /// Makes the pair with all that the container has on it, and puts the endpoint into the
    /// datapath.
    pub(super) async fn build_endpoint(
        &mut self,
        container: &Container,
        endpoint: &Endpoint,
        netns: &Netns,
    ) -> anyhow::Result<()> {
        let network = self.state.network(&endpoint.network)?;
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
        // Program and addresses are there before the first packet can be: until the link joins its
        // bridge it has no carrier.
        self.installed.put_endpoint(endpoint, network, index)?;
        configure_container_side(netns, endpoint, network).await?;
        self.join_bridge(endpoint, index).await
    }

    /// Makes the host side of an endpoint that the datapath has a port of its bridge. Idempotent.
    pub(super) async fn join_bridge(
        &self,
        endpoint: &Endpoint,
        host_side: u32,
    ) -> anyhow::Result<()> {
        let network = self.state.network(&endpoint.network)?;
        let controller = self.installed.bridge(network)?;
        let port =
            PortSpec { index: host_side, controller, isolated: !network.icc, mac: endpoint.mac };
        let joined = self.host.handles.netlink.join_bridge(&port).await;
        joined.with_context(|| format!("cannot put it on the bridge '{}'", network.bridge))
    }
}

/// Removes an interface by its name. Succeeds if absent.
pub(in crate::control) async fn delete_named(netlink: &Netlink, name: &str) -> anyhow::Result<()> {
    match netlink.link(name).await? {
        Some(link) => netlink
            .delete_link(link.index)
            .await
            .with_context(|| format!("cannot remove the interface '{name}'")),
        None => Ok(()),
    }
}

/// Sets up the container side: `lo`, IPv6 settings, addresses, default routes.
async fn configure_container_side(
    netns: &Netns,
    endpoint: &Endpoint,
    network: &Network,
) -> anyhow::Result<()> {
    let netlink = Netlink::open(netns).await?;
    if network.has_v6() {
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
        .ok_or_else(|| Error::not_found("the container side was removed while it was set up"))?;
    for address in &endpoint.addresses {
        netlink.add_address(link.index, *address).await?;
        if let Some((_, gateway)) = network.place_of(address.addr()).filter(|_| !network.internal) {
            netlink.add_default_route(gateway, link.index).await?;
        }
    }
    Ok(())
}
