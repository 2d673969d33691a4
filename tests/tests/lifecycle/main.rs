//! Agents and containers that start, stop, crash and are replaced.

mod down;
mod replacement;
mod restart;
