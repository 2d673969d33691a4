//! The maps that only the XDP program reads.

use anyhow::{Context as _, ensure};
use aya::{
    Ebpf,
    maps::{Array, MapData, xdp::DevMapHash},
};
use causeway_api::{Error, types::mac::Mac};
use causeway_common::abi::{UPLINK_MACS, UplinkMac, maps};

use super::{raw::Raw, take};

/// The maps that only the XDP program reads.
pub(in crate::datapath) struct XdpMaps {
    macs: Array<MapData, Raw<UplinkMac>>,
    receivers: DevMapHash<MapData>,
}

impl XdpMaps {
    /// Takes the maps from the loaded object.
    pub(in crate::datapath) fn open(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        Ok(Self { macs: take(ebpf, maps::UPLINK_MACS)?, receivers: take(ebpf, maps::RECEIVERS)? })
    }

    /// Sets the MAC of an uplink: other frames are not for the host.
    pub(in crate::datapath) fn put_mac(&mut self, index: u32, mac: Mac) -> anyhow::Result<()> {
        let place = index % UPLINK_MACS;
        let Raw(there) = self.macs.get(&place, 0).context("reading the MACs of the uplinks")?;
        ensure!(
            there.index == 0
                || there.index == index
                || nix::net::if_::if_indextoname(there.index).is_err(),
            Error::in_use(format!(
                "interface number {} has its place among the uplinks",
                there.index
            ))
        );
        let uplink = UplinkMac { index, mac: mac.0, _pad: 0 };
        self.macs.set(place, Raw(uplink), 0).context("writing the MAC of an uplink")
    }

    /// Removes the MAC of an uplink. Succeeds if absent.
    pub(in crate::datapath) fn remove_mac(&mut self, index: u32) -> anyhow::Result<()> {
        let place = index % UPLINK_MACS;
        let Raw(there) = self.macs.get(&place, 0).context("reading the MACs of the uplinks")?;
        if there.index == index {
            self.macs
                .set(place, Raw(UplinkMac::default()), 0)
                .context("removing the MAC of an uplink")?;
        }
        Ok(())
    }

    /// Lets XDP redirect to a host side. The kernel removes the entry with the interface.
    pub(in crate::datapath) fn put_receiver(&mut self, host_side: u32) -> anyhow::Result<()> {
        self.receivers
            .insert(host_side, host_side, None, 0)
            .context("writing where XDP may send frames")
    }
}
