//! The life of a flow: its states and timeouts, filters over flows, and a full table.

mod fairness;
mod filters;
mod pressure;
mod tcp_states;
mod timeouts;
