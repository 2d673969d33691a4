//! The agent of causeway: container networking for one Linux host, in eBPF.
//!
//! From what a person types down to the kernel:
//!
//! - [`cli`]: arguments, commands, and what they print. All but `up`, `down` and `exec` send a
//!   request of `causeway-api` to the agent.
//! - [`server`]: the agent's socket; hands each request to [`control`].
//! - [`control`]: the one task that owns everything. It decides what exists, makes it with
//!   `causeway-netlink`, and writes it into the maps.
//! - [`state`], [`config_file`], [`ipam`], [`instance`]: what survives a restart, what a file
//!   declares, which address a container gets, and an instance's files.
//! - [`datapath`]: programs and maps. The only module that names aya.
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
