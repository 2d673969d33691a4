//! The counters of the datapath.

use std::collections::BTreeMap;

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use causeway_common::abi::{drop_reason::DropReason, maps};

use super::take;

/// The maps of counters.
pub(in crate::datapath) struct Stats {
    reasons: PerCpuArray<MapData, u64>,
}

impl Stats {
    /// Takes the maps from the loaded object.
    pub(in crate::datapath) fn open(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        Ok(Self { reasons: take(ebpf, maps::REASONS)? })
    }

    /// Packets by drop reason, of all CPUs together.
    pub(in crate::datapath) fn reasons(&self) -> anyhow::Result<BTreeMap<&'static str, u64>> {
        DropReason::ALL
            .iter()
            .map(|reason| {
                let counts = self.reasons.get(&(*reason as u32), 0);
                let counts =
                    counts.with_context(|| format!("reading the count of '{}'", reason.name()))?;
                Ok((reason.name(), counts.iter().sum()))
            })
            .collect()
    }
}
