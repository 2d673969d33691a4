//! The agent of causeway: container networking for one Linux host, in eBPF. The README's
//! ARCHITECTURE part is the map.

pub mod agent;
pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod datapath;
pub mod down;
pub mod exec;
pub mod instance;
pub mod line;
pub mod model;
pub mod net;
pub mod run;
pub mod server;
pub mod show;
pub mod state;
pub mod up;
