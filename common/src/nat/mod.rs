//! NAT: plans and creates flows, and translates packets of all kinds.

pub mod create;
pub mod endpoint_independent;
pub mod fragment;
pub mod host_flows;
pub mod icmp_error;
pub mod mss;
pub mod nat64;
pub mod nat64_error;
pub mod plan;
pub mod rewrite;
