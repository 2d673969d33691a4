//! The command line: arguments, verbs and output.

pub mod args;
pub mod commands;
pub mod messages;
mod render;
mod usage;
mod values;
