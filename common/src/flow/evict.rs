//! Room in a full table, or for an endpoint that has all the flows it may have: one that has ended,
//! or that never got an answer, gives way to a new one. One in use never does.
//!
//! Every flow that begins is noted in a ring. When the table is full the oldest notes are looked
//! at, a few for each new flow; those of flows in use are noted again, so that in time each flow is
//! looked at, whether an agent runs or not.

use crate::{
    abi::{state::State, time::Ticks},
    env::Env,
    flow::entry::{EntryOwner, end, is_gone_or_idle, is_idle},
    wire::{address::Address, tuple::side},
};

/// How many flows a new one looks at before it is refused.
pub const EVICTION_SCAN: u32 = 64;

/// For how long after its last packet a flow is left in peace that one side alone uses, and more
/// than once: it may want no answer.
const ONE_WAY_GRACE: Ticks = 2;

/// What came of a look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Evict {
    /// There is room.
    Done,
    /// That flow stays.
    Skip,
    /// There are no notes.
    Empty,
}

/// Removes one flow that may give way, of `owner` if that is not zero; false if there was none
/// among the oldest.
pub fn evict_one<A: Address>(owner: u32, env: &impl Env<A>) -> bool {
    (0..EVICTION_SCAN).map(|_| try_evict(owner, env)).find(|try_evict| *try_evict != Evict::Skip)
        == Some(Evict::Done)
}

/// Removes the flow that was noted first, if it may give way. `owner` is as for [`evict_one`].
#[inline(always)]
pub fn try_evict<A: Address>(owner: u32, env: &impl Env<A>) -> Evict {
    let now = env.now();
    let Some(key) = env.pop_oldest() else { return Evict::Empty };
    let Some(entry) = env.flow(&key) else { return Evict::Skip };
    let other = entry.translation.tuple.reversed();
    let stale = entry.epoch != env.epoch(entry.slot);
    let half_open = State::from_number(entry.state).is_none_or(State::is_half_open);
    let quiet = now.wrapping_sub(entry.last_used).cast_signed() >= ONE_WAY_GRACE.cast_signed();
    let one_sided = entry.state == State::Unreplied as u8 && entry.packets > 1 && !quiet;
    // The host's own under its own port: it is noted again with its next packet.
    let note = key.side == side::HOST && entry.translation.port_delta == 0;
    let wanted = owner == 0 || entry.owner == owner;
    let idle = is_idle(&entry, now);
    let seen = EntryOwner::new(&entry);
    drop(entry);
    let may_give_way = note || (half_open && !one_sided);
    if stale || (may_give_way && wanted) || (idle && is_gone_or_idle(env, &other, now)) {
        end(env, seen, &key, &other);
        return if wanted { Evict::Done } else { Evict::Skip };
    }
    env.push_newest(&key);
    Evict::Skip
}
