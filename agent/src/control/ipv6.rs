//! IPv6 on the host and on the interfaces that are made.

use anyhow::{Context as _, bail};
use causeway_api::{
    messages,
    types::{family::Family, mac::Mac},
};
use causeway_netlink::{Netns, sysctl};
use tracing::{info, warn};

use super::{Agent, host::Sight, warn_all};
use crate::state::{Sysctl, network::Network};

/// What an interface that is made from then on has.
const DEFAULT_FORWARDING: &str = "ipv6/conf/default/forwarding";

impl Agent {
    /// Makes a network's bridge, and answers its index.
    ///
    /// A bridge of an IPv6 network forwards, which `bpf_fib_lookup` demands of where a packet comes
    /// from. It inherits that: when `forwarding` of an interface is written, the kernel drops the
    /// default routes that the host has learned from routers (`rt6_purge_dflt_routers`).
    pub(super) async fn create_bridge(
        &mut self,
        network: &Network,
        mac: Mac,
    ) -> anyhow::Result<u32> {
        let netlink = self.host.handles.netlink.clone();
        if network.has(Family::V6) {
            self.begin_inheriting()?;
        }
        let created = netlink.create_bridge(&network.bridge, mac, network.mtu).await;
        let ended = self.end_inheriting();
        if created.is_err() {
            warn_all(ended.err().as_slice());
            return created;
        }
        ended.and(created)
    }

    /// What is made has `forwarding` until [`Self::end_inheriting`]. That it was not so before is
    /// in the state file first.
    fn begin_inheriting(&mut self) -> anyhow::Result<()> {
        let netns = &self.host.handles.netns;
        let value = sysctl::get(netns, DEFAULT_FORWARDING)?.context("this kernel has no IPv6")?;
        if value != "0" {
            return Ok(());
        }
        self.state.host.sysctls.push(Sysctl { key: DEFAULT_FORWARDING.to_owned(), value });
        self.save()?;
        sysctl::set(&self.host.handles.netns, DEFAULT_FORWARDING, "1")?;
        Ok(())
    }

    /// Puts back what it was, also if it was an earlier agent that began. Not begun is done.
    pub(super) fn end_inheriting(&mut self) -> anyhow::Result<()> {
        let Some(at) =
            self.state.host.sysctls.iter().position(|sysctl| sysctl.key == DEFAULT_FORWARDING)
        else {
            return Ok(());
        };
        sysctl::set(
            &self.host.handles.netns,
            DEFAULT_FORWARDING,
            &self.state.host.sysctls[at].value,
        )?;
        self.state.host.sysctls.remove(at);
        self.save()
    }

    /// Sets IPv6 of a bridge as its network needs it. Again is done.
    pub(super) fn settle_ipv6(&self, network: &Network) -> anyhow::Result<()> {
        let settle = if network.has(Family::V6) { enable_ipv6 } else { disable_ipv6 };
        settle(&self.host.handles.netns, &network.bridge)
    }

    /// Switches forwarding on again where somebody switched it off (it is part of `all`), unless
    /// the host would lose routes by that.
    pub(super) fn keep_forwarding(&mut self, sight: &Sight) -> anyhow::Result<()> {
        let networks = self.state.networks.values().filter(|network| network.has(Family::V6));
        for Network { name, bridge, .. } in
            networks.filter(|network| self.bridges.contains_key(&network.name))
        {
            let key = format!("ipv6/conf/{bridge}/forwarding");
            if sysctl::get(&self.host.handles.netns, &key)?.as_deref() != Some("0") {
                self.said_no_forwarding.remove(name);
            } else if !sight.hears_routers() {
                sysctl::set(&self.host.handles.netns, &key, "1")?;
                info!(network = name, "its bridge forwards IPv6 again");
            } else if self.said_no_forwarding.insert(name.clone()) {
                warn!(
                    "net.ipv6.conf.{bridge}.forwarding was switched off, so containers of network '{name}' do not reach the world by IPv6; switch it \
                     on with 'sysctl net.ipv6.conf.{bridge}.forwarding=1' (until its routers' next advertisements the host then lacks the \
                     default routes that it has from them)"
                );
            }
        }
        Ok(())
    }
}

impl Agent {
    /// Makes the interfaces again what they were before somebody switched IPv6 of the whole host
    /// off and on: the kernel has then taken every address from the bridges, and given link-local
    /// ones to what had none.
    pub(super) async fn restore_ipv6(&mut self, sight: &Sight) {
        if check_ipv6(&self.host.handles.netns).is_err() {
            return;
        }
        let networks: Vec<Network> = self.state.networks.values().cloned().collect();
        for network in networks {
            let Some(index) = self.bridges.get(&network.name).copied() else { continue };
            if !sight.links.iter().any(|link| link.index == index)
                || !is_astray(&network, index, sight)
            {
                continue;
            }
            match self.finish_bridge(&network, index).await {
                Ok(()) => info!(network = network.name, "its bridge has its IPv6 again as it had"),
                Err(error) => warn!(
                    network = network.name,
                    error = messages::line(&error),
                    "its bridge cannot be restored"
                ),
            }
        }
        let endpoints = self.state.containers.values().flat_map(|container| &container.endpoints);
        for link in endpoints
            .filter_map(|endpoint| sight.links.iter().find(|link| link.name == endpoint.host_side))
        {
            if sight.addresses_on(link.index).any(|address| address.is_ipv6())
                && let Err(error) = disable_ipv6(&self.host.handles.netns, &link.name)
            {
                warn!(
                    interface = link.name,
                    error = messages::line(&error),
                    "it keeps an IPv6 address that it should not have"
                );
            }
        }
    }
}

/// Whether a network's bridge lacks its IPv6 gateway's address, or has IPv6 without a subnet of it.
fn is_astray(network: &Network, index: u32, sight: &Sight) -> bool {
    if !network.has(Family::V6) {
        return sight.addresses_on(index).any(|address| address.is_ipv6());
    }
    let gateway = network.gateways.iter().find(|gateway| gateway.is_ipv6());
    gateway.is_some_and(|gateway| !sight.addresses_on(index).any(|address| address == *gateway))
}

/// Fails if the host has no IPv6.
pub(super) fn check_ipv6(netns: &Netns) -> anyhow::Result<()> {
    match sysctl::get(netns, "ipv6/conf/all/disable_ipv6")?.as_deref() {
        Some("0") => Ok(()),
        Some(_) => bail!(
            "IPv6 is disabled on the host; enable it with 'sysctl net.ipv6.conf.all.disable_ipv6=0', or leave the IPv6 subnet out"
        ),
        None => bail!(
            "this kernel was started without IPv6 (ipv6.disable=1), or has none; leave the IPv6 subnet out"
        ),
    }
}

/// A network of IPv4 alone has interfaces without IPv6: no link-local address that would be a way
/// around its policy.
pub(super) fn disable_ipv6(netns: &Netns, interface: &str) -> anyhow::Result<()> {
    let key = format!("ipv6/conf/{interface}/disable_ipv6");
    match sysctl::get(netns, &key)? {
        // A kernel without IPv6.
        None => Ok(()),
        Some(_) => sysctl::set(netns, &key, "1").map(|_| ()),
    }
}

/// An interface whose addresses are given by the agent alone, and can be used at once. What it has
/// by default may be anything.
pub(super) fn enable_ipv6(netns: &Netns, interface: &str) -> anyhow::Result<()> {
    let settings = [
        ("accept_ra", "0"),
        // There is nothing to detect: the link-local address is of the MAC, which is given once.
        ("accept_dad", "0"),
        // The programs know the link-local address by the MAC.
        ("addr_gen_mode", "0"),
        // As it is with IPv4's.
        ("keep_addr_on_down", "1"),
        ("disable_ipv6", "0"),
    ];
    for (name, value) in settings {
        sysctl::set(netns, &format!("ipv6/conf/{interface}/{name}"), value)?;
    }
    Ok(())
}
