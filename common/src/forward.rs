//! The decisions about packets: of a flow that is known, and at the last moment before one leaves.
//! `plan` and `begin` are what comes between for a packet of no flow.

use crate::{
    abi::{FlowEntry, Macs, Translation, deliver},
    address::Address,
    create::begin,
    drop_reason::DropReason,
    endpoint_independent,
    entry::{EntryOwner, end, is_gone_or_idle, is_idle, remove, touch},
    env::{DatagramTables, Tables},
    evict,
    flow::{self, State, Ticks, Way, tcp},
    fragment,
    host_flows::{self, HostFlow},
    icmp_error::{self, ErrorTranslation},
    packet::{Family, Frame, Packet, Payload, source_mac},
    plan::{Scratch, plan},
    tuple::{Tuple, side},
};

/// What becomes of a packet.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision<A> {
    /// It is rewritten and leaves.
    Forward(Translation<A>),
    /// It is a fragment: it is rewritten, gets that identification, and leaves.
    ForwardFragment(Translation<A>, u32),
    /// It and the fragments that were held for it come again, at the interface where they arrived.
    Reinject,
    /// It is an ICMP error of a flow: it and what it quotes are rewritten, and it leaves.
    ForwardError(ErrorTranslation<A>),
    /// It leaves the fast path.
    Stop(DropReason),
    /// It is longer than the MTU, in bytes, of what comes next.
    TooLong(u16),
}

impl<A> Decision<A> {
    /// That it leaves, or that it does not and why.
    pub(crate) fn of(leaves: Result<(), DropReason>, translation: &Translation<A>) -> Self
    where
        A: Copy,
    {
        match leaves {
            Ok(()) => Self::Forward(*translation),
            Err(DropReason::TooLong) => Self::TooLong(translation.mtu),
            Err(reason) => Self::Stop(reason),
        }
    }
}

/// Decides about a packet that arrived at a host side or an uplink: [`lookup`], and where that has
/// no answer, [`icmp_error::translate`] or [`plan`], [`begin`] and [`check_ttl_and_mtu`]; [`fragment::decide`]
/// about a fragment.
///
/// The kernel's programs call these themselves: each is a function of its own there, which the
/// verifier looks at once and not once for each way to it, and what they share lies in a map,
/// because it is more than BPF's 512 bytes of stack.
pub fn decide<A: Family>(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<A>,
    tables: &(impl Tables<A> + DatagramTables<A>),
) -> Decision<A> {
    let mut scratch = Scratch::new(*packet, source_mac(frame));
    if packet.payload == Payload::Link && packet.tuple.side == side::CONTAINER {
        return Decision::Stop(A::link_from_container(frame, packet, tables));
    }
    if packet.is_fragment() {
        return fragment::decide(&mut scratch, tables);
    }
    match lookup_fast(packet, tables) {
        Lookup::FastPath(entry) => return Decision::Forward(entry.translation),
        Lookup::SlowPath => {
            if let Some(leaves) = lookup(packet, &mut scratch.entry.translation, tables) {
                return Decision::of(leaves, &scratch.entry.translation);
            }
        }
        Lookup::Miss => {}
    }
    if packet.payload == Payload::Error
        && let Some(quote) = icmp_error::quote(frame, packet.payload_at, packet.tuple.side)
    {
        scratch.error_translation.quote = quote;
        if let Some(translated) =
            icmp_error::translate(packet, &mut scratch.error_translation, tables)
        {
            return translated.map_or_else(Decision::Stop, |()| {
                Decision::ForwardError(scratch.error_translation)
            });
        }
    }
    create_flow(&mut scratch, tables)
}

/// Decides about a packet of no flow, which begins one if it may.
pub(crate) fn create_flow<A: Address>(
    scratch: &mut Scratch<A>,
    tables: &impl Tables<A>,
) -> Decision<A> {
    match plan(scratch, tables) {
        Ok(()) => create_planned(scratch, tables),
        Err(reason) => Decision::Stop(reason),
    }
}

/// The same, once it is planned.
pub(crate) fn create_planned<A: Address>(
    scratch: &mut Scratch<A>,
    tables: &impl Tables<A>,
) -> Decision<A> {
    if endpoint_independent::needs_mapping(scratch)
        && !endpoint_independent::reuse_mapping(scratch, tables)
    {
        endpoint_independent::plan_mapping(scratch);
        let age_ring = create_with_eviction(scratch, tables);
        endpoint_independent::resume_flow(scratch);
        if let Err(reason) = age_ring {
            return Decision::Stop(reason);
        }
    }
    let age_ring = create_with_eviction(scratch, tables);
    match age_ring {
        Ok(()) => Decision::of(
            check_ttl_and_mtu(&scratch.packet, &scratch.entry.translation),
            &scratch.entry.translation,
        ),
        Err(reason) => Decision::Stop(reason),
    }
}

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
pub fn lookup_fast<'t, A: Address, T: Tables<A>>(
    packet: &Packet<A>,
    tables: &'t T,
) -> Lookup<T::Entry<'t>> {
    let now = tables.now();
    let mut found = find_fast(packet, now, tables);
    if let Lookup::FastPath(entry) = &mut found {
        touch(entry, packet, now);
    }
    found
}

/// The same before it is counted.
#[inline(always)]
pub(crate) fn find_fast<'t, A: Address, T: Tables<A>>(
    packet: &Packet<A>,
    now: Ticks,
    tables: &'t T,
) -> Lookup<T::Entry<'t>> {
    if !identifies_flow(packet) {
        return Lookup::Miss;
    }
    let Some(entry) = tables.flow(&packet.tuple) else { return Lookup::Miss };
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
        || entry.epoch != tables.epoch(entry.slot)
        || is_idle(&entry, now)
        || flow::may_move(entry.state, entry.is_reply, packet.flags)
        || packet.ttl <= 1
        || too_long
        || ages
    {
        return Lookup::SlowPath;
    }
    Lookup::FastPath(entry)
}

/// Begins the planned flow, if need be in the room of another.
fn create_with_eviction<A: Address>(
    scratch: &mut Scratch<A>,
    tables: &impl Tables<A>,
) -> Result<(), DropReason> {
    match begin(scratch, tables) {
        Err(DropReason::TableFull) if evict::evict_one(0, tables) => begin(scratch, tables),
        Err(DropReason::TooManyFlows) if evict::evict_one(scratch.entry.owner, tables) => {
            begin(scratch, tables)
        }
        age_ring => age_ring,
    }
}

/// What is to be done about the MAC of a flow's next hop.
enum NextHop {
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
fn next_hop_at<A>(entry: &FlowEntry<A>, now: Ticks) -> NextHop {
    let is_fourth = entry.packets & 3 == 3;
    match now.wrapping_sub(entry.last_used) {
        0 if is_fourth && entry.translation.macs.is_unresolved() => NextHop::Ask,
        0 => NextHop::AsKnown,
        1 => NextHop::Ask,
        _ => NextHop::Forget,
    }
}

/// Decides about a packet of a flow that is in the table, whose translation is then in `leaving`;
/// none if it is of no flow.
#[inline(always)]
pub fn lookup<A: Address>(
    packet: &Packet<A>,
    leaving: &mut Translation<A>,
    tables: &impl Tables<A>,
) -> Option<Result<(), DropReason>> {
    if identifies_flow(packet) { lookup_slow(packet, leaving, tables) } else { None }
}

/// Whether a packet tells by itself which flow it is of, and is decided about by itself.
#[inline(always)]
pub fn identifies_flow<A: Address>(packet: &Packet<A>) -> bool {
    !packet.first_fragment && packet.has_ports()
}

/// The same for a packet whose ports are known, whatever it carries.
#[inline(always)]
pub fn lookup_slow<A: Address>(
    packet: &Packet<A>,
    leaving: &mut Translation<A>,
    tables: &impl Tables<A>,
) -> Option<Result<(), DropReason>> {
    let now = tables.now();
    let mut entry = tables.flow(&packet.tuple)?;
    *leaving = entry.translation;
    // A MAC that it has is of the last tick.
    leaving.macs = entry.translation.macs_of_container();
    if entry.input != packet.input && entry.input != 0 {
        let seen = EntryOwner::new(&entry);
        drop(entry);
        return wrong_interface(packet, seen, &leaving.tuple.reversed(), tables);
    }
    if entry.epoch != tables.epoch(entry.slot) {
        let seen = EntryOwner::new(&entry);
        drop(entry);
        remove(tables, seen, &packet.tuple, &leaving.tuple.reversed(), now);
        return None;
    }
    if is_idle(&entry, now) {
        let seen = EntryOwner::new(&entry);
        drop(entry);
        // A half is idle while the other is in use when packets go one way only.
        let other = leaving.tuple.reversed();
        if is_gone_or_idle(tables, &other, now) {
            remove(tables, seen, &packet.tuple, &other, now);
            return None;
        }
        entry = tables.flow(&packet.tuple)?;
    }
    if leaving.deliver == deliver::UPLINK {
        match next_hop_at(&entry, now) {
            NextHop::AsKnown => {}
            NextHop::Ask => {
                let bridge =
                    tables.network(u32::from(entry.network)).map_or(0, |network| network.bridge);
                let macs = tables.next_hop(&leaving.tuple, bridge, leaving.output);
                entry.translation.macs = macs.unwrap_or(Macs::FAILED);
            }
            NextHop::Forget => entry.translation.macs = Macs::default(),
        }
    }
    if leaving.refreshes_mapping != 0 && entry.last_used != now {
        drop(entry);
        endpoint_independent::refresh(&packet.tuple, &leaving.tuple, now, tables);
        entry = tables.flow(&packet.tuple)?;
    }
    touch(&mut entry, packet, now);
    if flow::may_move(entry.state, entry.is_reply, packet.flags)
        && let Some(state) = State::from_number(entry.state)
    {
        let way = if entry.is_reply == 0 { Way::Forward } else { Way::Reply };
        let next = state.next(packet.tuple.protocol, way, packet.flags);
        let network = entry.network;
        if packet.payload == Payload::Sctp
            && packet.flags & tcp::SYN != 0
            && state != State::Replied
        {
            // Not once both have agreed: then nobody from elsewhere can change what its end is
            // known by.
            entry.acknowledged = packet.acknowledgment;
        }
        if next != state {
            drop(entry);
            advance(packet, &leaving.tuple.reversed(), state, next, network, tables);
        }
    }
    Some(check_ttl_and_mtu(packet, leaving))
}

/// Moves both halves of a flow to another state.
#[inline(always)]
fn advance<A: Address>(
    packet: &Packet<A>,
    other: &Tuple<A>,
    state: State,
    next: State,
    network: u16,
    tables: &impl Tables<A>,
) {
    if packet.flags & tcp::RST != 0 {
        let acknowledged = |key| tables.flow(key).map_or(0, |entry| entry.acknowledged);
        let genuine = if packet.payload == Payload::Sctp {
            // It has the receiver's tag, or the sender's own, reflected (RFC 9260 section 8.5.1).
            packet.sequence == acknowledged(other) || packet.sequence == acknowledged(&packet.tuple)
        } else {
            // Only who sees the connection knows what the other side expects next (RFC 5961 section
            // 3).
            !state.is_open() || packet.sequence.wrapping_sub(acknowledged(other)) < RESET_WINDOW
        };
        if !genuine {
            return;
        }
    }
    let timeout = tables.timeout(network, next, packet.tuple.protocol);
    // One half is written after the other and without a lock: a packet in between finds the old
    // state there, and at worst keeps the old timeout until the next one.
    for key in [&packet.tuple, other] {
        if let Some(mut entry) = tables.flow(key) {
            entry.state = next as u8;
            entry.timeout = timeout;
        }
    }
}

/// How far beyond what the other side expects next a reset may be, in bytes: what a sender may have
/// on its way.
const RESET_WINDOW: u32 = 1 << 20;

/// Either another container uses that address, or the endpoint was made again with another host
/// side: then the flow is over.
#[inline(always)]
fn wrong_interface<A: Address>(
    packet: &Packet<A>,
    seen: EntryOwner,
    other: &Tuple<A>,
    tables: &impl Tables<A>,
) -> Option<Result<(), DropReason>> {
    match tables.endpoint(&packet.tuple.source) {
        Some(own) if own.host_side == packet.input => {
            end(tables, seen, &packet.tuple, other);
            None
        }
        _ => Some(Err(DropReason::SourceAddressSpoofed)),
    }
}

/// The last word on a packet that is to leave: not if its hops are used up, nor if it is too long,
/// nor a part of one into another family.
#[inline(always)]
pub fn check_ttl_and_mtu<A: Address>(
    packet: &Packet<A>,
    translation: &Translation<A>,
) -> Result<(), DropReason> {
    if packet.ttl <= 1 {
        match translation.deliver {
            deliver::SAME_BRIDGE | deliver::STACK => {}
            _ => return Err(DropReason::TtlExceeded),
        }
    }
    if translation.deliver == deliver::CONTAINER_NAT64 && packet.is_fragment() {
        return Err(DropReason::Fragment);
    }
    if is_too_long(packet, translation) { Err(DropReason::TooLong) } else { Ok(()) }
}

/// Whether a packet is longer than what comes next can carry. A container takes what it would have
/// put together itself.
#[inline(always)]
fn is_too_long<A: Address>(packet: &Packet<A>, translation: &Translation<A>) -> bool {
    packet.segment > u32::from(translation.mtu)
        && translation.mtu != 0
        && (packet.dont_fragment || translation.deliver == deliver::UPLINK)
}

/// Decides about a packet that the host itself sends out of an uplink; none if it leaves as it is.
/// `bypasses_socket_lookup` is as for [`host_flows::classify`].
pub fn decide_to_uplink<A: Family>(
    packet: &Packet<A>,
    bypasses_socket_lookup: bool,
    tables: &impl Tables<A>,
) -> Option<Translation<A>> {
    if !host_flows::may_belong_to_host_flow(packet, tables) {
        return None;
    }
    let mut step = host_flows::classify(packet, bypasses_socket_lookup, tables);
    let mut scratch = Scratch::new(*packet, [0; 6]);
    if step == HostFlow::Existing {
        if lookup_slow(packet, &mut scratch.entry.translation, tables) == Some(Ok(())) {
            return Some(scratch.entry.translation);
        }
        // It has ended, and is gone.
        step = host_flows::classify(packet, bypasses_socket_lookup, tables);
    }
    if !matches!(step, HostFlow::Track | HostFlow::Remap) {
        return None;
    }
    scratch.new_flow = host_flows::plan(packet, step, tables);
    begin(&mut scratch, tables).ok().map(|()| scratch.entry.translation)
}

/// Decides about a packet that the host's stack sends into a network. `input` is the interface it
/// came to the host by, zero if the host itself sends it.
#[inline(always)]
pub const fn into_bridge(input: u32) -> DropReason {
    if input == 0 { DropReason::FromHost } else { DropReason::NotPublished }
}

#[cfg(test)]
mod endpoint_independent_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
