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
pub mod env;
pub mod flow;
pub mod guard;
pub mod icmp_reply;
pub mod nat;
pub mod pipeline;
pub mod scratch;
#[cfg(any(test, feature = "model"))]
pub mod testing;
pub mod verdict;
pub mod wire;
pub mod xdp;
