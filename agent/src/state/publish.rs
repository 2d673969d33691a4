//! A publish, and the flows that finish where it led before.

use causeway_api::types::publish::PublishSpec;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A publish as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Which ports.
    pub spec: PublishSpec,
    /// Clients that may use it; any if empty.
    #[serde(default)]
    pub from: Vec<IpNet>,
    /// The configuration file has it: it goes when the file has it no longer.
    #[serde(default)]
    pub declared: bool,
    /// Where it led before and flows may finish.
    #[serde(default)]
    pub drains: Vec<Drain>,
}

/// Flows of a publish that finish in the container that it led to before it was moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// That container's name.
    pub container: String,
    /// What the datapath knows the flows by.
    pub slot: u32,
    /// When what is left of them ends: milliseconds since the machine started, sleep included
    /// (`CLOCK_BOOTTIME`).
    pub until: u64,
}
