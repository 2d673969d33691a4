//! The flow tables of both families: list, end, collect.

use std::{collections::BTreeSet, net::IpAddr};

use aya::programs::SchedClassifier;
use causeway_common::wire::address::{V4, V6};

use super::flow_entries::FlowEntries;
use crate::datapath::{pins::Pins, types::FlowRecord};

/// The flow tables of both families.
pub(in crate::datapath) struct FlowTable {
    v4: FlowEntries<V4>,
    v6: FlowEntries<V6>,
}

impl FlowTable {
    /// Opens them. `program` is `flow_gc`, which removes flows.
    pub(in crate::datapath) fn open(
        program: &mut SchedClassifier,
        pins: &Pins,
    ) -> anyhow::Result<Self> {
        Ok(Self { v4: FlowEntries::open(program, pins)?, v6: FlowEntries::open(program, pins)? })
    }

    /// Capacity in flows, per family.
    pub(in crate::datapath) fn room(&self) -> u32 {
        self.v4.room() / 2
    }

    /// The live flows.
    pub(in crate::datapath) fn list(&self) -> anyhow::Result<Vec<FlowRecord>> {
        let mut records = Vec::new();
        self.v4.list(&mut records)?;
        self.v6.list(&mut records)?;
        records.sort_by_key(|record| {
            (record.container, record.protocol, record.forward, record.reply)
        });
        Ok(records)
    }

    /// Ends the live flows for which `wanted` is true. Returns their number.
    pub(in crate::datapath) fn end_live(
        &self,
        wanted: impl Fn(&FlowRecord) -> bool,
    ) -> anyhow::Result<u64> {
        Ok(self.v4.end_live(&wanted)? + self.v6.end_live(&wanted)?)
    }

    /// Ends all flows. Returns their number.
    pub(in crate::datapath) fn flush(&self) -> anyhow::Result<u64> {
        Ok(self.v4.flush()? + self.v6.flush()?)
    }

    /// Ends the flows from or to an interface. Returns their number.
    pub(in crate::datapath) fn end_of_interface(&self, index: u32) -> anyhow::Result<u64> {
        Ok(self.v4.end_of_interface(index)? + self.v6.end_of_interface(index)?)
    }

    /// Ends the flows from or to one of these addresses, translated or not. Returns their number.
    pub(in crate::datapath) fn end_of_addresses(
        &self,
        addresses: &BTreeSet<IpAddr>,
    ) -> anyhow::Result<u64> {
        Ok(self.v4.end_of_addresses(addresses)? + self.v6.end_of_addresses(addresses)?)
    }

    /// Removes expired and stale flows. Returns their number.
    pub(in crate::datapath) fn collect(&self) -> anyhow::Result<u64> {
        Ok(self.v4.collect()? + self.v6.collect()?)
    }
}
