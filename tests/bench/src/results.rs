//! All that one run has found.

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

/// What `--json` writes.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Where.
    pub machine: Machine,
    /// What was asked for.
    pub command: String,
    /// How long a turn was, and how many rounds there were.
    pub rounds: u32,
    /// Milliseconds.
    pub turn: u128,
    /// Who could not take part, and why.
    pub left_out: Vec<(Contender, String)>,
    /// Each a comparison.
    pub measurements: Vec<Measurement>,
    /// What must be reached, as far as it was measured.
    pub targets: Vec<Outcome>,
    /// causeway's programs.
    pub programs: Vec<Program>,
    /// What they cost.
    pub costs: Vec<Cost>,
    /// What causeway takes of the machine's memory.
    pub memory: Option<Memory>,
    /// How long what is asked for takes.
    pub timings: Vec<Timing>,
}
