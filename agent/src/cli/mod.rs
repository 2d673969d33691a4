//! The command line: what a person types, and what is printed.

pub mod args;
pub mod commands;
pub mod messages;
mod render;
mod usage;
mod values;
