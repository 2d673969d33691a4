//! Room in a full table, or for an endpoint that has all the flows it may have: one that has ended,
//! or that never got an answer, gives way to a new one. One in use never does.
//!
//! Every flow that begins is noted in a ring. When the table is full the oldest notes are looked
//! at, a few for each new flow; those of flows in use are noted again, so that in time each flow is
//! looked at, whether an agent runs or not.

use crate::{
    address::Address,
    flow::{State, Ticks},
    half::{Seen, end, is_gone_or_idle, is_idle},
    tables::Tables,
    tuple::side,
};

/// How many flows a new one looks at before it is refused.
pub const LOOKS: u32 = 64;

/// For how long after its last packet a flow is left in peace that one side alone uses, and more
/// than once: it may want no answer.
const PEACE: Ticks = 2;

/// What came of a look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// There is room.
    Room,
    /// That flow stays.
    Next,
    /// There are no notes.
    Nothing,
}

/// Removes one flow that may give way, of `owner` if that is not zero; false if there was none
/// among the oldest.
pub fn make<A: Address>(owner: u32, tables: &impl Tables<A>) -> bool {
    (0..LOOKS).map(|_| look(owner, tables)).find(|look| *look != Look::Next) == Some(Look::Room)
}

/// Removes the flow that was noted first, if it may give way. `owner` is as for [`make`].
#[inline(always)]
pub fn look<A: Address>(owner: u32, tables: &impl Tables<A>) -> Look {
    let now = tables.now();
    let Some(key) = tables.oldest_begun() else { return Look::Nothing };
    let Some(half) = tables.flow(&key) else { return Look::Next };
    let other = half.translation.tuple.reversed();
    let stale = half.epoch != tables.epoch(half.slot);
    let half_open = State::from_number(half.state).is_none_or(State::is_half_open);
    let quiet = now.wrapping_sub(half.last_used).cast_signed() >= PEACE.cast_signed();
    let one_sided = half.state == State::Unreplied as u8 && half.packets > 1 && !quiet;
    // The host's own under its own port: it is noted again with its next packet.
    let note = key.side == side::HOST && half.translation.port_delta == 0;
    let wanted = owner == 0 || half.owner == owner;
    let idle = is_idle(&half, now);
    let seen = Seen::new(&half);
    drop(half);
    let may_give_way = note || (half_open && !one_sided);
    if stale || (may_give_way && wanted) || (idle && is_gone_or_idle(tables, &other, now)) {
        end(tables, seen, &key, &other);
        return if wanted { Look::Room } else { Look::Next };
    }
    tables.note_begun(&key);
    Look::Next
}
