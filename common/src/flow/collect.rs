//! Removal of flows by key, for the agent (`flow_gc`). The agent has read the keys in an earlier
//! walk through the table, so each flow is checked again here before it is removed.

use crate::{
    env::Env,
    flow::entry::{EntryOwner, end, reap_if_expired},
    wire::{address::Address, tuple::Tuple},
};

/// Which flows to remove.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Collect {
    /// Flows that are stale or have expired.
    Ended = 0,
    /// All flows, whatever their state.
    Any = 1,
}

/// Keys that one run of the `flow_gc` program takes.
pub const KEYS_PER_RUN: usize = 64;

/// Removes both entries of the flow with that key. Returns false if the flow stays or is absent.
#[inline(always)]
pub fn collect<A: Address>(env: &impl Env<A>, key: &Tuple<A>, which: Collect) -> bool {
    if which == Collect::Ended {
        return reap_if_expired(env, key, env.now());
    }
    let Some(entry) = env.flow(key) else { return false };
    let (seen, other) = (EntryOwner::new(&entry), entry.translation.tuple.reversed());
    drop(entry);
    end(env, seen, key, &other);
    true
}
