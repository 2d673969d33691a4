//! Room in a full table: a flow that has ended, or that never got an answer, gives way to a new one. One in use never does.
//!
//! Every flow that begins is noted in a ring. When the table is full the oldest notes are looked at, a few for each new flow; those of
//! flows in use are noted again, so that in time each flow is looked at, whether an agent runs or not.

use crate::{
    address::Address,
    flow::{State, Ticks},
    half::{Seen, end, is_gone_or_idle, is_idle},
    tables::Tables,
};

/// How many flows a new one looks at before it is refused.
const LOOKS: u32 = 8;

/// For how long after its last packet a half-open flow is left in peace: a handshake takes less.
const PEACE: Ticks = 2;

/// Removes one flow that may give way; false if there was none among the oldest.
#[inline(always)]
pub fn make<A: Address>(tables: &impl Tables<A>) -> bool {
    let now = tables.now();
    for _ in 0..LOOKS {
        let Some(key) = tables.oldest_begun() else { return false };
        let Some(half) = tables.flow(&key) else { continue };
        let other = half.translation.tuple.reversed();
        let stale = half.epoch != tables.epoch(half.slot);
        let half_open = State::from_number(half.state).is_none_or(State::is_half_open);
        let quiet = now.wrapping_sub(half.last_used).cast_signed() >= PEACE.cast_signed();
        let idle = is_idle(&half, now);
        let seen = Seen::new(&half);
        drop(half);
        if stale || (half_open && quiet) || (idle && is_gone_or_idle(tables, &other, now)) {
            end(tables, seen, &key, &other);
            return true;
        }
        tables.note_begun(&key);
    }
    false
}
