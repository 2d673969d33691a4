//! What causeway's kernel side and its agent share: the layouts of the maps, and every decision
//! about a packet that needs no kernel.
//!
//! # Floors
//!
//! Modules use only those below them:
//!
//! - [`pipeline`]: the order of a packet's steps; [`xdp`]: the same for a frame without an skb.
//! - [`nat`]: plans and creates flows, translates packets. [`guard`]: what a container may claim in
//!   ARP and neighbour discovery. [`icmp_reply`]: the error for the sender of a refused packet.
//! - [`flow`]: lookup, states, eviction and collection of flow entries.
//! - [`env`](mod@env): the maps and helpers that decisions use, as traits. [`scratch`]: what the
//!   steps share about a packet. [`verdict`]: the outcome of a step.
//! - [`abi`]: keys, values and names of the maps, and the drop reasons.
//! - [`wire`]: bytes: headers, checksums, addresses, tuples.
//!
//! `testing` (feature `model`) has the environment over ordinary collections.
//!
//! # The way of a packet
//!
//! A program of the kernel side is called with a frame. [`pipeline::from_container`] or another
//! function of a hook reads the frame's type, [`wire`] parses it into a [`wire::packet::Packet`],
//! and [`flow::lookup`] asks for the entry of its tuple. Nearly every packet has one, changes
//! nothing of it but the counters, and is rewritten as the entry says. For the others [`nat::plan`]
//! says what they may begin, `nat::create` reserves a port and inserts both entries, and the packet
//! leaves by the new flow; or a [`abi::DropReason`] says why it does not.
//!
//! # Words
//!
//! A *flow* is a connection or exchange, with a *forward* and a *reply* tuple; a *flow
//! entry* is one direction of it in the flow table; an *endpoint* is the attachment of a container
//! to a network; a *publish* leads from host ports to container ports; a *slot* is the number of an
//! endpoint or a publish in the datapath. A flow is stale when the *epoch* of its slot has changed
//! since the flow began. `docs/glossary.md` has the rest.

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
