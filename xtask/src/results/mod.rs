//! Reads what tests print and report, and judges it.

mod instructions;
pub(crate) mod kernel;
pub(crate) mod outcome;
pub(crate) mod report;
pub(crate) mod tally;
