//! The fast path: the entry of a packet whose flow it changes nothing of but the counters.

use crate::{
    abi::{flow_entry::FlowEntry, time::Ticks, translation::deliver},
    env::Env,
    flow::{
        entry::{is_idle, touch},
        limits::is_too_long,
        transition,
    },
    wire::{address::Address, packet::Packet},
};

/// What the table has for a packet.
#[derive(Debug)]
pub enum Lookup<H> {
    /// The half of a flow that the packet goes by, and changes nothing of but the counters: so it
    /// is for nearly every packet there is.
    FastPath(H),
    /// One that [`lookup`] has to look at.
    SlowPath,
    /// None, nor would [`lookup`] find any.
    Miss,
}

/// The half of a flow that a packet goes by, which is counted if it changes nothing else.
#[inline(always)]
pub fn lookup_fast<'t, A: Address, T: Env<A>>(
    packet: &Packet<A>,
    env: &'t T,
) -> Lookup<T::Entry<'t>> {
    let now = env.now();
    let mut found = find_fast(packet, now, env);
    if let Lookup::FastPath(entry) = &mut found {
        touch(entry, packet, now);
    }
    found
}

/// The same before it is counted.
#[inline(always)]
pub(crate) fn find_fast<'t, A: Address, T: Env<A>>(
    packet: &Packet<A>,
    now: Ticks,
    env: &'t T,
) -> Lookup<T::Entry<'t>> {
    if !identifies_flow(packet) {
        return Lookup::Miss;
    }
    let Some(entry) = env.flow(&packet.tuple) else { return Lookup::Miss };
    let translation = &entry.translation;
    let elsewhere = entry.input != packet.input && entry.input != 0;
    let too_long = is_too_long(packet, translation);
    // In every tick a mapping is kept alive anew.
    let ages = translation.deliver == deliver::UPLINK
        && match next_hop_at(&entry, now) {
            NextHop::AsKnown => false,
            NextHop::Ask => true,
            NextHop::Forget => {
                !translation.macs.is_unresolved() || translation.refreshes_mapping != 0
            }
        };
    if elsewhere
        || entry.epoch != env.epoch(entry.slot)
        || is_idle(&entry, now)
        || transition::may_change_state(entry.state, entry.is_reply, packet.flags)
        || packet.ttl <= 1
        || too_long
        || ages
    {
        return Lookup::SlowPath;
    }
    Lookup::FastPath(entry)
}

/// What is to be done about the MAC of a flow's next hop.
pub(crate) enum NextHop {
    /// Nothing.
    AsKnown,
    /// The route is asked for it, for the packets after this one: it may be kept until the tick
    /// ends.
    Ask,
    /// It was of another tick.
    Forget,
}

/// A flow that was used in the last tick too asks with its first packet of a tick, another one with
/// a fourth: to ask costs about what four packets save by it. Whether there is an answer or not, it
/// asks once a tick. The packet that asks, and all of a flow that never does, leave by the
/// neighbour table, which so learns that its entry is in use.
#[inline(always)]
pub(crate) fn next_hop_at<A>(entry: &FlowEntry<A>, now: Ticks) -> NextHop {
    let is_fourth = entry.packets & 3 == 3;
    match now.wrapping_sub(entry.last_used) {
        0 if is_fourth && entry.translation.macs.is_unresolved() => NextHop::Ask,
        0 => NextHop::AsKnown,
        1 => NextHop::Ask,
        _ => NextHop::Forget,
    }
}

/// Whether a packet tells by itself which flow it is of, and is decided about by itself.
#[inline(always)]
pub fn identifies_flow<A: Address>(packet: &Packet<A>) -> bool {
    !packet.first_fragment && packet.has_ports()
}
