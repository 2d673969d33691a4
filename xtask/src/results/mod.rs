//! What tests print and report, read and judged.

mod instructions;
pub(crate) mod kernel;
pub(crate) mod outcome;
pub(crate) mod report;
pub(crate) mod tally;
