//! Eviction: when the table is full or an endpoint has reached its quota, an expired or half-open
//! flow is removed for a new one (conntrack's `early_drop`). A flow in use is never evicted.
//!
//! The key of every new flow is pushed to a ring. When room is needed, the oldest keys are popped
//! and their flows examined, a few for each new flow. The key of a flow that stays is pushed again,
//! so that every flow is examined in time, whether an agent runs or not.

use crate::{
    abi::{owner::Owner, state::State, time::Ticks},
    env::Env,
    flow::entry::{EntryOwner, end, is_gone_or_idle, is_idle},
    wire::{address::Address, tuple::Side},
};

/// How many flows are examined for a new one before that is refused.
pub const EVICTION_SCAN: u32 = 64;

/// Ticks after its last packet for which a one-way flow of more than one packet is not evicted: its
/// protocol may not want replies.
const ONE_WAY_GRACE: Ticks = 2;

/// Outcome of examining one flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Evict {
    /// The flow was removed: there is room.
    Done,
    /// No room was made: the next flow is to be examined.
    Skip,
    /// The ring is empty.
    Empty,
}

/// Evicts one flow, one of `owner` if that is not zero. Returns false if none of the oldest
/// [`EVICTION_SCAN`] flows may be evicted.
pub fn evict_one<A: Address>(owner: Owner, env: &impl Env<A>) -> bool {
    (0..EVICTION_SCAN).map(|_| try_evict(owner, env)).find(|outcome| *outcome != Evict::Skip)
        == Some(Evict::Done)
}

/// Pops the oldest key, and removes its flow if it may be evicted. `owner` is as for [`evict_one`].
#[inline(always)]
pub fn try_evict<A: Address>(owner: Owner, env: &impl Env<A>) -> Evict {
    let now = env.now();
    let Some(key) = env.pop_oldest() else { return Evict::Empty };
    let Some(entry) = env.flow(&key) else { return Evict::Skip };
    let other = entry.translation.tuple.reversed();
    let stale = entry.epoch != env.epoch(entry.slot);
    let half_open = State::from_number(entry.state).is_none_or(State::is_half_open);
    let quiet = now.wrapping_sub(entry.last_used).cast_signed() >= ONE_WAY_GRACE.cast_signed();
    let one_sided = entry.state == State::Unreplied as u8 && entry.packets > 1 && !quiet;
    // A host flow under its own port is only tracked: its next packet inserts it again.
    let only_tracked = key.side == Side::HOST && entry.translation.port_delta == 0;
    let owner_matches = owner.is_none() || entry.owner == owner;
    let idle = is_idle(&entry, now);
    let seen = EntryOwner::new(&entry);
    drop(entry);
    let evictable = only_tracked || (half_open && !one_sided);
    if stale || (evictable && owner_matches) || (idle && is_gone_or_idle(env, &other, now)) {
        end(env, seen, &key, &other);
        return if owner_matches { Evict::Done } else { Evict::Skip };
    }
    env.push_newest(&key);
    Evict::Skip
}
