//! Uplinks and the host's own addresses, as the datapath has them.

use anyhow::Context as _;
use tracing::{info, warn};

use crate::{
    control::{
        agent::Agent,
        snapshot::{HostSnapshot, Uplink},
        warn_once::Warning,
    },
    datapath::Interface,
};

impl Agent {
    /// Brings the datapath up to date with the host's addresses and uplinks.
    pub(in crate::control) async fn sync_host(&mut self) -> anyhow::Result<()> {
        let snapshot = self.host.snapshot().await?;
        self.sync_uplinks(&snapshot)
    }

    /// Brings the datapath up to date with the addresses and uplinks of a snapshot.
    pub(in crate::control) fn sync_uplinks(
        &mut self,
        snapshot: &HostSnapshot,
    ) -> anyhow::Result<()> {
        let local = snapshot.local_addresses();
        if local != self.host.local {
            let lost = self.installed.datapath.set_local_addresses(&local)?;
            self.host.lost.extend(lost);
            self.host.local = local;
        }
        let found = snapshot.uplinks(&self.host.wanted, &self.host.uplinks);
        let gone: Vec<u32> =
            self.host.uplinks.keys().filter(|index| !found.contains_key(index)).copied().collect();
        for index in gone {
            self.installed.datapath.remove_uplink(index)?;
            self.host.drivers.forget(index);
            if let Some(uplink) = self.host.uplinks.remove(&index) {
                info!(uplink = uplink.name, "no longer an uplink");
            }
        }
        for (index, uplink) in found {
            if self.host.uplinks.get(&index) == Some(&uplink) {
                continue;
            }
            let interface = Interface { index, name: uplink.name.clone() };
            self.installed
                .datapath
                .put_uplink(&interface, uplink.v4, uplink.v6, uplink.mtu)
                .with_context(|| {
                    format!("cannot take the interface '{}' as an uplink", uplink.name)
                })?;
            let Uplink { name, v4, v6, .. } = &uplink;
            info!(
                uplink = name,
                ipv4 = v4.map(tracing::field::display),
                ipv6 = v6.map(tracing::field::display),
                "uplink"
            );
            self.sync_xdp(&uplink, snapshot)?;
            self.host.uplinks.insert(index, uplink);
        }
        // After new flows have another address.
        if !self.host.lost.is_empty() {
            self.installed.datapath.end_flows_of_addresses(&self.host.lost)?;
            self.host.lost.clear();
        }
        self.sync_receivers(&snapshot.links);
        if !self.host.uplinks.is_empty() {
            self.warned.clear(&Warning::NoUplink);
        } else if self.warned.is_due(Warning::NoUplink) {
            warn!(
                "{}; containers do not reach the world until there is one",
                snapshot.why_no_uplink(&self.host.wanted)
            );
        }
        Ok(())
    }
}
