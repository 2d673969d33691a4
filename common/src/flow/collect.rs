//! Flows that the agent wants removed, by key: it knows who they are only as of the moment in which
//! it walked through the table, so the kernel looks again.

use crate::{
    env::Env,
    flow::entry::{EntryOwner, end, reap_if_expired},
    wire::{address::Address, tuple::Tuple},
};

/// Which of the flows are to be removed.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Collect {
    /// Those that have ended.
    Ended = 0,
    /// All.
    Any = 1,
}

/// How many keys one run of the kernel's program takes.
pub const KEYS_PER_RUN: usize = 64;

/// Removes both halves of the flow that has that key; false if it stays or is gone.
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
