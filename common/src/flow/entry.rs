//! Use, expiry and removal of the entries of the flow table.

use crate::{
    abi::{flow_entry::FlowEntry, owner::Owner, time::Ticks},
    env::Env,
    wire::{address::Address, tuple::Tuple},
};

#[inline(always)]
pub(crate) fn is_gone_or_idle<A: Address>(env: &impl Env<A>, key: &Tuple<A>, now: Ticks) -> bool {
    match env.flow(key) {
        Some(entry) => is_idle(&entry, now),
        None => true,
    }
}

/// Whether the entry's timeout has passed. The difference is signed: another CPU may have used the
/// entry a tick later than `now`, which must not read as 2^32 ticks ago.
#[inline(always)]
pub(crate) fn is_idle<A>(entry: &FlowEntry<A>, now: Ticks) -> bool {
    now.wrapping_sub(entry.last_used).cast_signed() > entry.timeout.cast_signed()
}

/// What was read of an entry: enough to remove both entries of its flow.
#[derive(Clone, Copy)]
pub(crate) struct EntryOwner {
    is_reply: u8,
    owner: Owner,
}

impl EntryOwner {
    #[inline(always)]
    pub(crate) fn new<A>(entry: &FlowEntry<A>) -> Self {
        Self { is_reply: entry.is_reply, owner: entry.owner }
    }

    /// Removes the entry. A flow counts for its owner as long as its forward entry exists.
    #[inline(always)]
    fn remove<A: Address>(self, env: &impl Env<A>, key: &Tuple<A>) {
        if env.remove_flow(key) && self.is_reply == 0 && !self.owner.is_none() {
            env.uncount_flow(self.owner);
        }
    }
}

/// Removes both entries of a flow whatever its state, given the key of the entry that was read
/// (`key`) and the key of the other (`other`).
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

/// Removes both entries of a flow that has ended, given the key of the entry that was read (`key`)
/// and the key of the other (`other`).
///
/// Race: another CPU may remove the same flow and insert the next one with these keys. So the other
/// entry is removed only if it is stale or idle itself. The next flow's entry can still arrive
/// between that check and the removal; the entry that is then left alone is removed by `flow_gc`.
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

/// Removes a flow that is stale or has expired. Returns false if it is live or absent.
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
