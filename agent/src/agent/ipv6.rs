//! IPv6 on the host and on the interfaces that are made.

use anyhow::{Context as _, bail};
use tracing::warn;

use super::{Agent, warn_all};
use crate::{
    model::{family::Family, network::Network},
    net::{mac::Mac, netns::Netns, sysctl},
    state::Sysctl,
};

/// What an interface that is made from then on has.
const DEFAULT_FORWARDING: &str = "ipv6/conf/default/forwarding";

impl Agent {
    /// Makes a network's bridge, and answers its index.
    ///
    /// A bridge of an IPv6 network forwards, which `bpf_fib_lookup` demands of where a packet comes from. It inherits that: when `forwarding` of
    /// an interface is written, the kernel drops the default routes that the host has learned from routers (`rt6_purge_dflt_routers`).
    pub(super) async fn create_bridge(&mut self, network: &Network, mac: Mac) -> anyhow::Result<u32> {
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

    /// What is made has `forwarding` until [`Self::end_inheriting`]. That it was not so before is in the state file first.
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
        let Some(at) = self.state.host.sysctls.iter().position(|sysctl| sysctl.key == DEFAULT_FORWARDING) else {
            return Ok(());
        };
        sysctl::set(&self.host.handles.netns, DEFAULT_FORWARDING, &self.state.host.sysctls[at].value)?;
        self.state.host.sysctls.remove(at);
        self.save()
    }

    /// Sets IPv6 of a bridge as its network needs it. Again is done.
    pub(super) fn settle_ipv6(&self, network: &Network) -> anyhow::Result<()> {
        let (netns, bridge) = (&self.host.handles.netns, network.bridge.as_str());
        if !network.has(Family::V6) {
            return disable_ipv6(netns, bridge);
        }
        enable_ipv6(netns, bridge)?;
        if sysctl::get(netns, &format!("ipv6/conf/{bridge}/forwarding"))?.as_deref() == Some("0") {
            warn!(
                "net.ipv6.conf.{bridge}.forwarding was switched off, so containers of network '{}' do not reach the world by IPv6; switch it on with \
                 'sysctl net.ipv6.conf.{bridge}.forwarding=1' (the host then loses its IPv6 default route, if that is from a router's \
                 advertisement, until the next one)",
                network.name
            );
        }
        Ok(())
    }
}

/// Fails if the host has no IPv6.
pub(super) fn check_ipv6(netns: &Netns) -> anyhow::Result<()> {
    match sysctl::get(netns, "ipv6/conf/all/disable_ipv6")?.as_deref() {
        Some("0") => Ok(()),
        Some(_) => bail!(
            "IPv6 is disabled on the host; enable it with 'sysctl net.ipv6.conf.all.disable_ipv6=0', or leave the IPv6 subnet out"
        ),
        None => bail!("this kernel was started without IPv6 (ipv6.disable=1), or has none; leave the IPv6 subnet out"),
    }
}

/// A network of IPv4 alone has interfaces without IPv6: no link-local address that would be a way around its policy.
pub(super) fn disable_ipv6(netns: &Netns, interface: &str) -> anyhow::Result<()> {
    let key = format!("ipv6/conf/{interface}/disable_ipv6");
    match sysctl::get(netns, &key)? {
        // A kernel without IPv6.
        None => Ok(()),
        Some(_) => sysctl::set(netns, &key, "1").map(|_| ()),
    }
}

/// An interface whose addresses are given by the agent alone, and can be used at once. What it has by default may be anything.
pub(super) fn enable_ipv6(netns: &Netns, interface: &str) -> anyhow::Result<()> {
    let settings = [
        ("accept_ra", "0"),
        // There is nothing to detect: the link-local address is of the MAC, which is given once.
        ("accept_dad", "0"),
        // The programs know the link-local address by the MAC.
        ("addr_gen_mode", "0"),
        ("disable_ipv6", "0"),
    ];
    for (name, value) in settings {
        sysctl::set(netns, &format!("ipv6/conf/{interface}/{name}"), value)?;
    }
    Ok(())
}
