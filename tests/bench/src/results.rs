//! The results of one run.

use serde::Serialize;

use crate::{
    contender::Contender,
    control::Timing,
    machine::Machine,
    measurement::Measurement,
    memory::Memory,
    programs::{Cost, Program},
    targets::Outcome,
};

/// The output of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// The machine.
    pub machine: Machine,
    /// The arguments.
    pub command: String,
    /// Length of a turn, and number of rounds.
    pub rounds: u32,
    /// Milliseconds.
    pub turn: u128,
    /// Contenders that could not take part, and why.
    pub left_out: Vec<(Contender, String)>,
    /// The measurements.
    pub measurements: Vec<Measurement>,
    /// The targets that were measured.
    pub targets: Vec<Outcome>,
    /// The programs of causeway.
    pub programs: Vec<Program>,
    /// Their costs.
    pub costs: Vec<Cost>,
    /// Memory use of causeway.
    pub memory: Option<Memory>,
    /// Latency of control operations.
    pub timings: Vec<Timing>,
}
