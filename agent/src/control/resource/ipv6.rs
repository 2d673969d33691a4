//! IPv6 on the host and on the interfaces that are made.

use causeway_api::{Error, types::mac::Mac};
use causeway_netlink::{Netns, sysctl};
use tracing::{info, warn};

use crate::{
    control::{
        agent::{Agent, log_undo_errors},
        warn_once::Warning,
    },
    state::{Sysctl, network::Network},
};

/// `forwarding` of interfaces that are made from then on.
const DEFAULT_FORWARDING: &str = "ipv6/conf/default/forwarding";

impl Agent {
    /// Makes a network's bridge, and returns its index.
    ///
    /// The bridge of an IPv6 network must have `forwarding`, or `bpf_fib_lookup` refuses packets
    /// that come in by it. The bridge inherits the value from `default`: a write to `forwarding` of
    /// an interface makes the kernel drop the default routes that the host has learned from routers
    /// (`rt6_purge_dflt_routers`).
    pub(super) async fn create_bridge(
        &mut self,
        network: &Network,
        mac: Mac,
    ) -> anyhow::Result<u32> {
        let netlink = self.host.handles.netlink.clone();
        if network.has_v6() {
            self.begin_inheriting()?;
        }
        let created = netlink.create_bridge(&network.bridge, mac, network.mtu).await;
        let ended = self.end_inheriting();
        if created.is_err() {
            log_undo_errors(ended.err().as_slice());
            return created;
        }
        ended.and(created)
    }

    /// Interfaces that are made have `forwarding` until [`Self::end_inheriting`]. The state file
    /// has the former value before it changes.
    fn begin_inheriting(&mut self) -> anyhow::Result<()> {
        let netns = &self.host.handles.netns;
        let value = sysctl::get(netns, DEFAULT_FORWARDING)?
            .ok_or_else(|| Error::unsupported("this kernel has no IPv6"))?;
        if value != "0" {
            return Ok(());
        }
        self.state.host.sysctls.push(Sysctl { key: DEFAULT_FORWARDING.to_owned(), value });
        self.save()?;
        sysctl::set(&self.host.handles.netns, DEFAULT_FORWARDING, "1")?;
        Ok(())
    }

    /// Writes the former value back, also if an earlier agent changed it. Idempotent.
    pub(in crate::control) fn end_inheriting(&mut self) -> anyhow::Result<()> {
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

    /// Sets IPv6 of a bridge as its network needs it. Idempotent.
    pub(super) fn set_bridge_ipv6(&self, network: &Network) -> anyhow::Result<()> {
        let set = if network.has_v6() { enable_ipv6 } else { disable_ipv6 };
        set(&self.host.handles.netns, &network.bridge)
    }

    /// Switches IPv6 forwarding of a bridge on again. A write to `conf.all.forwarding` switches it
    /// off too.
    pub(in crate::control) fn forward_ipv6(&mut self, network: &str) -> anyhow::Result<()> {
        let bridge = &self.state.network(network)?.bridge;
        let key = format!("ipv6/conf/{bridge}/forwarding");
        sysctl::set(&self.host.handles.netns, &key, "1")?;
        info!(network, "its bridge forwards IPv6 again");
        Ok(())
    }

    /// Warns that a bridge does not forward IPv6, and that the host would lose routes if it were
    /// switched on.
    pub(in crate::control) fn report_not_forwarding(&mut self, network: &str) {
        let Some(Network { name, bridge, .. }) = self.state.networks.get(network) else { return };
        if self.warned.is_due(Warning::NotForwarding(name.clone())) {
            warn!(
                "net.ipv6.conf.{bridge}.forwarding was switched off, so containers of network \
                 '{name}' do not reach the world by IPv6; switch it \
                 on with 'sysctl net.ipv6.conf.{bridge}.forwarding=1' (until its routers' next \
                 advertisements the host then lacks the \
                 default routes that it has from them)"
            );
        }
    }

    /// Switches IPv6 of a host side off again: another program switched IPv6 of the whole host off
    /// and on, and the kernel gave link-local addresses to interfaces that had none.
    pub(in crate::control) fn disable_ipv6_again(&self, interface: &str) {
        if let Err(error) = disable_ipv6(&self.host.handles.netns, interface) {
            warn!(
                interface,
                error = self.instance.line(&error),
                "it keeps an IPv6 address that it should not have"
            );
        }
    }
}

/// Disables IPv6 on an interface of a network without IPv6: a link-local address would bypass the
/// network's policy.
pub(super) fn disable_ipv6(netns: &Netns, interface: &str) -> anyhow::Result<()> {
    let key = format!("ipv6/conf/{interface}/disable_ipv6");
    match sysctl::get(netns, &key)? {
        // The kernel has no IPv6.
        None => Ok(()),
        Some(_) => sysctl::set(netns, &key, "1").map(|_| ()),
    }
}

/// Enables IPv6 on an interface that gets its addresses from the agent alone and can use them at
/// once. Every setting is written, as defaults of the host may differ.
pub(super) fn enable_ipv6(netns: &Netns, interface: &str) -> anyhow::Result<()> {
    let settings = [
        ("accept_ra", "0"),
        // There is no duplicate to detect: the link-local address is derived from the MAC, which is
        // unique.
        ("accept_dad", "0"),
        // The datapath derives the link-local address from the MAC.
        ("addr_gen_mode", "0"),
        // As IPv4 behaves.
        ("keep_addr_on_down", "1"),
        ("disable_ipv6", "0"),
    ];
    for (name, value) in settings {
        sysctl::set(netns, &format!("ipv6/conf/{interface}/{name}"), value)?;
    }
    Ok(())
}
