//! Agents and containers that start, stop, crash and are replaced.

mod agent;
