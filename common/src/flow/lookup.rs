//! Fast path: the entry of a packet that changes nothing of its flow but the counters.

use crate::{
    abi::{flow_entry::FlowEntry, time::Ticks, translation::Deliver},
    env::Env,
    flow::{entry::is_idle, limits::is_too_long, transition},
    wire::{address::Address, packet::Packet},
};

/// Result of a lookup in the flow table.
#[derive(Debug)]
pub enum Lookup<H> {
    /// The packet's entry, of which it changes only the counters: the case of nearly every packet.
    FastPath(H),
    /// There is an entry, and the slow path decides ([`crate::flow::lookup_slow`]).
    SlowPath,
    /// There is no entry, and the slow path would find none either.
    Miss,
}

/// Looks up a packet's entry, and counts the packet if that is all it changes.
#[inline(always)]
pub fn lookup_fast<'t, A: Address, T: Env<A>>(
    packet: &Packet<A>,
    env: &'t T,
) -> Lookup<T::Entry<'t>> {
    let now = env.now();
    let mut found = find_fast(packet, now, env);
    if let Lookup::FastPath(entry) = &mut found {
        env.touch(entry, packet, now);
    }
    found
}

/// Looks up a packet's entry without counting the packet.
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
    let wrong_input = entry.input != packet.input && entry.input != 0;
    let too_long = is_too_long(packet, translation);
    // A mapping is refreshed once a tick, by the slow path.
    let needs_refresh = translation.deliver == Deliver::UPLINK
        && match next_hop_at(&entry, now) {
            NextHop::AsKnown => false,
            NextHop::Ask => true,
            NextHop::Forget => {
                !translation.macs.is_unresolved() || translation.refreshes_mapping != 0
            }
        };
    if wrong_input
        || entry.epoch != env.epoch(entry.slot)
        || is_idle(&entry, now)
        || transition::may_change_state(entry.state, entry.is_reply, packet.flags)
        || packet.ttl <= 1
        || too_long
        || needs_refresh
    {
        return Lookup::SlowPath;
    }
    Lookup::FastPath(entry)
}

/// What to do about the MACs of a flow's next hop.
pub(crate) enum NextHop {
    /// Leave the entry's MACs as they are.
    AsKnown,
    /// Ask the route for the MACs, for the packets after this one. They are valid until the tick
    /// ends.
    Ask,
    /// Discard the MACs, which are of an earlier tick.
    Forget,
}

/// Decides whether a packet asks the route for the MACs of its flow's next hop. A flow asks once a
/// tick, whether there is an answer or not: with the first packet of a tick if the flow was used in
/// the tick before, otherwise with a fourth packet, because asking costs about what four packets
/// save by the answer.
///
/// The packet that asks, and all packets of a flow that never asks, leave by the neighbour table,
/// which thereby learns that its entry is in use.
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

/// Whether a packet alone determines its flow: it has ports, and no later fragments follow it.
#[inline(always)]
pub fn identifies_flow<A: Address>(packet: &Packet<A>) -> bool {
    !packet.first_fragment && packet.has_ports()
}
