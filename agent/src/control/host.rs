//! The host's namespace, and what the datapath was told of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::bail;
use causeway_api::{
    Error,
    types::{device::Device, xdp::Xdp},
};
use causeway_netlink::{Netlink, Netns, sysctl, watch};
use tokio::sync::mpsc;
use tracing::warn;

use super::{
    drivers::Drivers,
    snapshot::{HostSnapshot, Uplink, has_ethernet_header},
};

/// The host's namespace and a netlink socket in it.
#[derive(Debug)]
pub struct Handles {
    /// The namespace.
    pub netns: Netns,
    /// A netlink socket in the namespace.
    pub netlink: Netlink,
}

/// The host, and what the datapath was told of it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) handles: Handles,
    /// The uplinks' names; those of the default route if empty.
    pub(super) wanted: Vec<String>,
    /// A port may be both published and bound by a process.
    pub(super) allow_bind: bool,
    /// What connects containers that are made from now on.
    pub(super) device: Device,
    changes: Option<mpsc::Receiver<()>>,
    /// The addresses of the host, as the datapath has them.
    pub(super) local: BTreeSet<IpAddr>,
    /// Addresses that the host no longer has, whose flows have not been ended yet.
    pub(super) lost: BTreeSet<IpAddr>,
    /// The uplinks by index, as the datapath has them.
    pub(super) uplinks: BTreeMap<u32, Uplink>,
    pub(super) drivers: Drivers,
}

/// Whether the host has IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ipv6 {
    Enabled,
    /// Switched off by `net.ipv6.conf.all.disable_ipv6`.
    Disabled,
    /// The kernel was built or started without IPv6.
    Absent,
}

impl Host {
    pub(super) async fn open(
        netns: Netns,
        wanted: Vec<String>,
        allow_bind: bool,
        xdp: Xdp,
        device: Device,
    ) -> anyhow::Result<Self> {
        // Before the first snapshot, so that no change is missed in between.
        let changes = watch::changes(&netns).await?;
        let netlink = Netlink::open(&netns).await?;
        Ok(Self {
            handles: Handles { netns, netlink },
            wanted,
            allow_bind,
            device,
            changes: Some(changes),
            local: BTreeSet::new(),
            lost: BTreeSet::new(),
            uplinks: BTreeMap::new(),
            drivers: Drivers::new(xdp),
        })
    }

    /// Returns when something changed; never if that cannot be known.
    pub(super) async fn changed(&mut self) {
        if let Some(changes) = &mut self.changes {
            if changes.recv().await.is_some() {
                return;
            }
            warn!(
                "the kernel no longer reports changes; restart the agent if an uplink or an \
                 address changes"
            );
            self.changes = None;
        }
        std::future::pending::<()>().await;
    }

    pub(super) async fn snapshot(&self) -> anyhow::Result<HostSnapshot> {
        let netlink = &self.handles.netlink;
        Ok(HostSnapshot {
            links: netlink.links().await?,
            addresses: netlink.addresses().await?,
            routes: netlink.routes().await?,
        })
    }

    /// Fails if an uplink that was asked for by name can never be one.
    pub(super) async fn check_wanted(&self) -> anyhow::Result<()> {
        let links = self.handles.netlink.links().await?;
        for name in &self.wanted {
            let Some(link) = links.iter().find(|link| link.name == *name) else {
                let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
                bail!(Error::not_found(format!(
                    "the host has no interface '{name}' to be an uplink; it has {}",
                    names.join(", ")
                )));
            };
            if !has_ethernet_header(link) {
                bail!(Error::unsupported(format!(
                    "the interface '{name}' has no Ethernet header, so it cannot be an uplink yet"
                )));
            }
        }
        Ok(())
    }

    /// Whether the host has IPv6.
    pub(super) fn ipv6(&self) -> anyhow::Result<Ipv6> {
        let disabled = sysctl::get(&self.handles.netns, "ipv6/conf/all/disable_ipv6")?;
        Ok(match disabled.as_deref() {
            Some("0") => Ipv6::Enabled,
            Some(_) => Ipv6::Disabled,
            None => Ipv6::Absent,
        })
    }
}
