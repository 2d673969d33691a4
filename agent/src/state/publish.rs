//! A publish, and the flows that finish where it led before.

use causeway_api::types::publish::{PublishOptions, PublishPorts, PublishSpec};
use serde::{Deserialize, Serialize};

/// A publish of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Which ports.
    #[serde(rename = "spec")]
    pub ports: PublishPorts,
    /// What it has beside them.
    #[serde(flatten)]
    pub options: PublishOptions,
    /// The configuration file has it: it goes when the file has it no longer.
    #[serde(default)]
    pub declared: bool,
    /// Containers that it led to before, where flows may finish.
    #[serde(default)]
    pub drains: Vec<Drain>,
}

impl Publish {
    /// One that has led nowhere else before.
    pub fn new(spec: PublishSpec, declared: bool) -> Self {
        Self { ports: spec.ports, options: spec.options, declared, drains: Vec::new() }
    }

    /// The publish as it would be asked for.
    pub fn spec(&self) -> PublishSpec {
        PublishSpec { ports: self.ports, options: self.options.clone() }
    }

    /// Whether it is what `spec` asks for.
    pub fn is(&self, spec: &PublishSpec) -> bool {
        self.ports == spec.ports && self.options == spec.options
    }
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
