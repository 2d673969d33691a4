//! The programs, one file for each hook.

#![expect(clippy::needless_pass_by_value, reason = "aya's macros hand the context over by value")]

pub(crate) mod flow_gc;
pub(crate) mod from_container;
pub(crate) mod from_uplink;
pub(crate) mod socket;
pub(crate) mod to_bridge;
pub(crate) mod to_uplink;
pub(crate) mod xdp;
