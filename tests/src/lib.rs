//! The lab of network namespaces (a host, the world outside it, containers, and a real agent), and
//! the traffic that tests send through it. Functions panic when they fail, which ends a test with
//! the reason.
//!
//! No packet leaves the machine, and its root namespace is never touched.

pub mod agent;
pub mod articles;
pub mod bench;
pub mod effort;
pub mod family;
pub mod http;
pub mod lab;
mod maps;
pub mod netfilter;
pub mod offload;
pub mod packet;
pub mod ping;
pub mod pins;
pub mod place;
pub mod programs;
pub mod raw;
pub mod report;
pub mod route;
pub mod sctp;
pub mod shared;
pub mod snapshot;
pub mod snmp;
pub mod tap;
pub mod tcp;
pub mod transfer;
pub mod udp;
pub mod undo;
pub mod verb;
pub mod wait;
pub mod wide;
