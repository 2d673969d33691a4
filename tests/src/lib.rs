//! The lab: a host, the world outside it and containers, each a network namespace, with a real
//! agent between them; and the traffic that the tests send through it. Everything here panics when
//! it cannot do its work, since that ends a test with the reason.
//!
//! No packet leaves the machine, and the machine's own namespace is not touched.

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
