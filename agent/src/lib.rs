//! The agent of causeway: container networking for one Linux host, in eBPF. The README's
//! ARCHITECTURE part is the map.

pub mod cli;
pub mod config_file;
pub mod control;
pub mod datapath;
pub mod instance;
pub mod ipam;
pub mod server;
pub mod state;
