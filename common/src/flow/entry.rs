//! One direction of a flow in the table: used, idle, removed with the other.

use crate::{
    abi::{flow_entry::FlowEntry, time::Ticks},
    env::Env,
    wire::{address::Address, packet::Packet, tcp, tuple::Tuple},
};

#[inline(always)]
pub(crate) fn is_gone_or_idle<A: Address>(env: &impl Env<A>, key: &Tuple<A>, now: Ticks) -> bool {
    match env.flow(key) {
        Some(entry) => is_idle(&entry, now),
        None => true,
    }
}

#[inline(always)]
pub(crate) fn touch<A>(entry: &mut FlowEntry<A>, packet: &Packet<A>, now: Ticks) {
    entry.packets += 1;
    entry.bytes += u64::from(packet.length);
    entry.last_used = now;
    // Not as a reset says it: that is what the field is for.
    if packet.flags & (tcp::ACK | tcp::RST) == tcp::ACK {
        entry.acknowledged = packet.acknowledgment;
    }
}

/// Whether the half's time is over. Another CPU may have used it a tick later than `now`: that is
/// not 136 years ago.
#[inline(always)]
pub(crate) fn is_idle<A>(entry: &FlowEntry<A>, now: Ticks) -> bool {
    now.wrapping_sub(entry.last_used).cast_signed() > entry.timeout.cast_signed()
}

/// One half of a flow, as it was seen in the table: enough to remove both.
#[derive(Clone, Copy)]
pub(crate) struct EntryOwner {
    is_reply: u8,
    owner: u32,
}

impl EntryOwner {
    #[inline(always)]
    pub(crate) fn new<A>(entry: &FlowEntry<A>) -> Self {
        Self { is_reply: entry.is_reply, owner: entry.owner }
    }

    /// Removes the half. A flow counts for its owner as long as its forward half is there.
    #[inline(always)]
    fn remove<A: Address>(self, env: &impl Env<A>, key: &Tuple<A>) {
        if env.remove_flow(key) && self.is_reply == 0 && self.owner != 0 {
            env.uncount_flow(self.owner);
        }
    }
}

/// Removes both halves of a flow, whatever its state, given one's key and the other's.
#[inline(always)]
pub(crate) fn end<A: Address>(
    env: &impl Env<A>,
    seen: EntryOwner,
    key: &Tuple<A>,
    other: &Tuple<A>,
) {
    seen.remove(env, key);
    EntryOwner { is_reply: 1 - seen.is_reply, ..seen }.remove(env, other);
}

/// Removes both halves of a flow that has ended, given one's key and the other's.
///
/// Another CPU may do the same, and begin the next flow with these keys meanwhile: the other half
/// stays if it is that one's. (Between the look and the removal there is still a moment for that;
/// the half then left alone is found by the sweep.)
#[inline(always)]
pub(crate) fn remove<A: Address>(
    env: &impl Env<A>,
    seen: EntryOwner,
    key: &Tuple<A>,
    other: &Tuple<A>,
    now: Ticks,
) {
    seen.remove(env, key);
    if let Some(entry) = env.flow(other)
        && (entry.epoch != env.epoch(entry.slot) || is_idle(&entry, now))
    {
        let seen = EntryOwner::new(&entry);
        drop(entry);
        seen.remove(env, other);
    }
}

/// Removes a flow that has ended but still has its entries; false if it has not.
#[inline(always)]
pub(crate) fn reap_if_expired<A: Address>(env: &impl Env<A>, key: &Tuple<A>, now: Ticks) -> bool {
    let Some(entry) = env.flow(key) else { return false };
    let other = entry.translation.tuple.reversed();
    let stale = entry.epoch != env.epoch(entry.slot);
    let idle = is_idle(&entry, now);
    let seen = EntryOwner::new(&entry);
    drop(entry);
    if stale || (idle && is_gone_or_idle(env, &other, now)) {
        remove(env, seen, key, &other, now);
        return true;
    }
    false
}
