//! The agent of causeway: container networking for one Linux host, in eBPF. The README's ARCHITECTURE part is the map.

pub mod api;
pub mod datapath;
pub mod model;
pub mod net;
