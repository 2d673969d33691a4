//! One direction of a flow in the table: used, idle, removed with the other.

use crate::{abi::Flow, address::Address, flow::Ticks, packet::Packet, tables::Tables, tuple::Tuple};

#[inline(always)]
pub(crate) fn is_gone_or_idle<A: Address>(tables: &impl Tables<A>, key: &Tuple<A>, now: Ticks) -> bool {
    match tables.flow(key) {
        Some(half) => is_idle(&half, now),
        None => true,
    }
}

#[inline(always)]
pub(crate) fn touch<A>(half: &mut Flow<A>, packet: &Packet<A>, now: Ticks) {
    half.packets += 1;
    half.bytes += u64::from(packet.length);
    half.last_used = now;
}

/// Whether the half's time is over. Another CPU may have used it a tick later than `now`: that is not 136 years ago.
#[inline(always)]
pub(crate) fn is_idle<A>(half: &Flow<A>, now: Ticks) -> bool {
    now.wrapping_sub(half.last_used).cast_signed() > half.timeout.cast_signed()
}

/// Removes both halves of a flow that has ended, given one's key and the other's.
///
/// Another CPU may do the same, and begin the next flow with these keys meanwhile: the other half stays if it is that one's. (Between the
/// look and the removal there is still a moment for that; the half then left alone is found by the sweep.)
#[inline(always)]
pub(crate) fn remove<A: Address>(tables: &impl Tables<A>, key: &Tuple<A>, other: &Tuple<A>, now: Ticks) {
    tables.remove_flow(key);
    if let Some(half) = tables.flow(other)
        && (half.epoch != tables.epoch(half.slot) || is_idle(&half, now))
    {
        drop(half);
        tables.remove_flow(other);
    }
}

/// Removes a flow that has ended but still has its entries.
#[inline(always)]
pub(crate) fn bury<A: Address>(tables: &impl Tables<A>, key: &Tuple<A>, now: Ticks) {
    let Some(half) = tables.flow(key) else { return };
    let other = half.translation.tuple.reversed();
    let stale = half.epoch != tables.epoch(half.slot);
    let idle = is_idle(&half, now);
    drop(half);
    if stale || (idle && is_gone_or_idle(tables, &other, now)) {
        remove(tables, key, &other, now);
    }
}
