//! What causeway's kernel side and agent share: the layouts of the maps, and every decision about a
//! packet that can be made without a kernel.
//!
//! Words: a *flow* is a connection or exchange, with a *forward* and a *reply* tuple; a *half* is
//! one direction's entry in the flow table; an *endpoint* is one container's place on one network;
//! a *publish* leads from host ports to container ports; a *slot* is the number that an endpoint or
//! a publish has in the datapath, and its *epoch* tells whether a flow that began through it still
//! counts.

#![no_std]
#![deny(unsafe_code)]

#[cfg(any(test, feature = "model"))]
extern crate std;

pub mod abi;
pub mod address;
pub mod arp;
pub mod checksum;
pub mod collect;
pub mod create;
pub mod drop_reason;
pub mod endpoint_independent;
mod entry;
pub mod env;
pub mod evict;
#[cfg(test)]
mod fixture;
pub mod flow;
pub mod forward;
pub mod fragment;
pub mod host_flows;
pub mod icmp_error;
pub mod icmp_reply;
pub mod ipv4;
pub mod ipv6;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod mss;
pub mod nat64;
pub mod nd;
pub mod packet;
mod plain_bytes;
pub mod plan;
mod sctp;
pub mod tuple;
pub mod xdp;
