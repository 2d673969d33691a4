//! The flow table as a whole, of both families: listed, flushed, swept.

use std::{collections::BTreeSet, net::IpAddr};

use aya::programs::SchedClassifier;
use causeway_common::wire::address::{V4, V6};

use super::flow_entries::Halves;
use crate::datapath::{pins::Pins, types::FlowRecord};

/// The flow table.
pub(in crate::datapath) struct FlowTable {
    v4: Halves<V4>,
    v6: Halves<V6>,
}

impl FlowTable {
    /// Opens it; `program` is the one that removes flows.
    pub(in crate::datapath) fn open(
        program: &mut SchedClassifier,
        pins: &Pins,
    ) -> anyhow::Result<Self> {
        Ok(Self { v4: Halves::open(program, pins)?, v6: Halves::open(program, pins)? })
    }

    /// How many flows there is room for, in each family.
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

    /// Ends the live flows that are `wanted`; answers how many.
    pub(in crate::datapath) fn end_live(
        &self,
        wanted: impl Fn(&FlowRecord) -> bool,
    ) -> anyhow::Result<u64> {
        Ok(self.v4.end_live(&wanted)? + self.v6.end_live(&wanted)?)
    }

    /// Ends every flow; answers how many.
    pub(in crate::datapath) fn flush(&self) -> anyhow::Result<u64> {
        Ok(self.v4.flush()? + self.v6.flush()?)
    }

    /// Ends the flows that come or go by an interface; answers how many.
    pub(in crate::datapath) fn end_of_interface(&self, index: u32) -> anyhow::Result<u64> {
        Ok(self.v4.end_of_interface(index)? + self.v6.end_of_interface(index)?)
    }

    /// Ends the flows that come from or go to one of those addresses, translated or not; answers
    /// how many.
    pub(in crate::datapath) fn end_of_addresses(
        &self,
        addresses: &BTreeSet<IpAddr>,
    ) -> anyhow::Result<u64> {
        Ok(self.v4.end_of_addresses(addresses)? + self.v6.end_of_addresses(addresses)?)
    }

    /// Frees the entries of flows that have ended; answers how many.
    pub(in crate::datapath) fn sweep(&self) -> anyhow::Result<u64> {
        Ok(self.v4.sweep()? + self.v6.sweep()?)
    }
}
