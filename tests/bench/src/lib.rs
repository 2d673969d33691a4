//! The benchmark: the cost of a packet through a host with causeway, with its alternatives, and
//! without any.
//!
//! Frames are generated and counted in the kernel, so that no process's system calls are measured.
//! Every contender has a host of its own, made of namespaces. All hosts of one comparison exist at
//! once and take turns.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts and times become statistics, whose last digits mean nothing"
)]

pub mod baseline;
pub mod conntrack;
pub mod contender;
pub mod control;
pub mod forwarding;
pub mod guard;
pub mod kernel;
pub mod machine;
pub mod measurement;
pub mod memory;
pub mod plot;
pub mod processor;
pub mod programs;
pub mod report;
pub mod results;
pub mod rig;
pub mod statistics;
pub mod suite;
pub mod targets;
pub mod tcp;
pub mod traffic;
