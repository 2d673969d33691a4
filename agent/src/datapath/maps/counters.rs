//! The counters of the datapath. A new one is a field, opened by its name, and a method that reads
//! it.

use std::{collections::BTreeMap, fmt};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use causeway_common::abi::{drop_reason::DropReason, maps};

use super::take;

/// The maps of counters.
pub struct Counters {
    reasons: PerCpuArray<MapData, u64>,
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // aya's maps are not `Debug`.
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}

impl Counters {
    /// Takes the maps from the loaded object.
    pub(in crate::datapath) fn open(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        Ok(Self { reasons: take(ebpf, maps::REASONS)? })
    }

    /// Packets by drop reason since the datapath was loaded, of all CPUs together.
    pub fn reasons(&self) -> anyhow::Result<BTreeMap<&'static str, u64>> {
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
