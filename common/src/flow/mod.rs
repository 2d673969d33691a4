//! The life of a flow entry: lookup, change of state, expiry, eviction.

pub mod collect;
pub mod egress;
pub mod entry;
pub mod error;
pub mod evict;
pub mod fragment_context;
pub mod limits;
pub mod lookup;
pub mod lookup_slow;
pub mod mapping;
pub mod new_flow;
pub mod port_walk;
pub mod transition;
