//! Memory use of causeway, compared with netfilter.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::rig::Rig;

/// Memory use, in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// Capacity of the flow table.
    pub flows: u32,
    /// All maps.
    pub maps: u64,
    /// The largest map: the flow table.
    pub flow_table: u64,
    /// Resident memory of the agent.
    pub agent: u64,
    /// A netfilter flow, without hash chain and extensions. `None` if the kernel does not show it.
    pub netfilter_flow: Option<u64>,
}

impl Memory {
    /// Memory use of an agent with a flow table of that capacity.
    pub fn of(rig: &Rig, flows: u32) -> anyhow::Result<Self> {
        let process = PathBuf::from(format!("/proc/{}", rig.lab.agent_pid()));
        let mut maps = BTreeMap::new();
        for entry in fs::read_dir(process.join("fdinfo"))? {
            // The descriptor has been closed meanwhile.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            let field = |name: &str| {
                text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
            };
            if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
                maps.insert(id, bytes);
            }
        }
        let status = fs::read_to_string(process.join("status"))?;
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let resident: u64 = resident.context("a process has a VmRSS")?.trim().parse()?;
        Ok(Self {
            flows,
            maps: maps.values().sum(),
            flow_table: maps.values().copied().max().unwrap_or_default(),
            agent: resident * 1024,
            netfilter_flow: netfilter_flow(),
        })
    }
}

/// The object size: the third number of its line in `/proc/slabinfo`.
fn netfilter_flow() -> Option<u64> {
    let text = fs::read_to_string("/proc/slabinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("nf_conntrack "))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
