//! The agent of causeway: container networking for one Linux host, in eBPF.
//!
//! Three crates, so that cargo forbids the wrong arrow:
//!
//! - `causeway-api`: requests, replies, error codes, specifications, and a client for the socket.
//!   It builds without an eBPF toolchain.
//! - `causeway-netlink`: namespaces, links, addresses, routes, sysctls and sockets. It has all of
//!   rtnetlink's types.
//! - this one: the agent and its command line.
//!
//! From the command line down to the kernel:
//!
//! - [`cli`]: arguments, commands, and what they print. All but `up`, `down` and `exec` send a
//!   request of `causeway-api` to the agent.
//! - [`server`]: the agent's socket. It hands each request to [`control`].
//! - [`control`]: the one task that owns all state. It derives changes from what is wanted and what
//!   is there, validates them, and makes them with `causeway-netlink` and [`datapath`].
//! - [`state`], [`config_file`], [`ipam`], [`instance`]: the state file, what a configuration file
//!   declares, the choice of addresses, and an instance's files.
//! - [`datapath`]: the programs and maps in the kernel. It has all of aya's types.
//!
//! A publish, for example: `cli` parses a `PublishSpec`, which crosses the socket as it is;
//! `control` records it as a `Publish` of [`state`]; `datapath` writes it into the maps as an
//! `abi::Publish`, which the programs read for every packet to a published port.
//!
//! `docs/design/overview.md` has the map of the whole workspace and the invariants I1 to I14.

pub mod cli;
pub mod config_file;
pub mod control;
pub mod datapath;
pub mod instance;
pub mod ipam;
pub mod server;
pub mod state;
