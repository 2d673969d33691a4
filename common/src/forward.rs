//! The decisions about packets: of a flow that is known, and at the last moment before one leaves.
//! `plan` and `begin` are what comes between for a packet of no flow.

use crate::{
    abi::{Flow, Macs, Translation, exit},
    address::Address,
    begin::begin,
    flow::{self, State, Ticks, Way, tcp},
    fragment,
    from_host::{self, Step},
    half::{Seen, end, is_gone_or_idle, is_idle, remove, touch},
    icmp_error::{self, ErrorTranslation},
    mapping,
    packet::{Family, Frame, Packet, Payload, source_mac},
    plan::{First, plan},
    reason::Reason,
    room,
    tables::{DatagramTables, Tables},
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
    PutBack,
    /// It is an ICMP error of a flow: it and what it quotes are rewritten, and it leaves.
    ForwardError(ErrorTranslation<A>),
    /// It leaves the fast path.
    Stop(Reason),
    /// It is longer than the MTU, in bytes, of what comes next.
    TooLong(u16),
}

impl<A> Decision<A> {
    /// That it leaves, or that it does not and why.
    pub(crate) fn of(leaves: Result<(), Reason>, translation: &Translation<A>) -> Self
    where
        A: Copy,
    {
        match leaves {
            Ok(()) => Self::Forward(*translation),
            Err(Reason::TooLong) => Self::TooLong(translation.mtu),
            Err(reason) => Self::Stop(reason),
        }
    }
}

/// Decides about a packet that arrived at a host side or an uplink: [`known`], and where that has
/// no answer, [`icmp_error::translate`] or [`plan`], [`begin`] and [`leave`]; [`fragment::decide`]
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
    let mut first = First::new(*packet, source_mac(frame));
    if packet.payload == Payload::Link && packet.tuple.side == side::CONTAINER {
        return Decision::Stop(A::link_from_container(frame, packet, tables));
    }
    if packet.is_fragment() {
        return fragment::decide(&mut first, tables);
    }
    match established(packet, tables) {
        Found::Settled(half) => return Decision::Forward(half.translation),
        Found::Unsettled => {
            if let Some(leaves) = known(packet, &mut first.half.translation, tables) {
                return Decision::of(leaves, &first.half.translation);
            }
        }
        Found::Nothing => {}
    }
    if packet.payload == Payload::Error
        && let Some(quote) = icmp_error::quote(frame, packet.payload_at, packet.tuple.side)
    {
        first.error.quote = quote;
        if let Some(translated) = icmp_error::translate(packet, &mut first.error, tables) {
            return translated
                .map_or_else(Decision::Stop, |()| Decision::ForwardError(first.error));
        }
    }
    begin_flow(&mut first, tables)
}

/// Decides about a packet of no flow, which begins one if it may.
pub(crate) fn begin_flow<A: Address>(first: &mut First<A>, tables: &impl Tables<A>) -> Decision<A> {
    match plan(first, tables) {
        Ok(()) => begin_planned(first, tables),
        Err(reason) => Decision::Stop(reason),
    }
}

/// The same, once it is planned.
pub(crate) fn begin_planned<A: Address>(
    first: &mut First<A>,
    tables: &impl Tables<A>,
) -> Decision<A> {
    if mapping::is_wanted(first) && !mapping::find(first, tables) {
        mapping::stand_in(first);
        let begun = begin_with_room(first, tables);
        mapping::stand_out(first);
        if let Err(reason) = begun {
            return Decision::Stop(reason);
        }
    }
    let begun = begin_with_room(first, tables);
    match begun {
        Ok(()) => {
            Decision::of(leave(&first.packet, &first.half.translation), &first.half.translation)
        }
        Err(reason) => Decision::Stop(reason),
    }
}

/// What the table has for a packet.
#[derive(Debug)]
pub enum Found<H> {
    /// The half of a flow that the packet goes by, and changes nothing of but the counters: so it
    /// is for nearly every packet there is.
    Settled(H),
    /// One that [`known`] has to look at.
    Unsettled,
    /// None, nor would [`known`] find any.
    Nothing,
}

/// The half of a flow that a packet goes by, which is counted if it changes nothing else.
#[inline(always)]
pub fn established<'t, A: Address, T: Tables<A>>(
    packet: &Packet<A>,
    tables: &'t T,
) -> Found<T::Half<'t>> {
    let now = tables.now();
    let mut found = settled(packet, now, tables);
    if let Found::Settled(half) = &mut found {
        touch(half, packet, now);
    }
    found
}

/// The same before it is counted.
#[inline(always)]
pub(crate) fn settled<'t, A: Address, T: Tables<A>>(
    packet: &Packet<A>,
    now: Ticks,
    tables: &'t T,
) -> Found<T::Half<'t>> {
    if !may_be_known(packet) {
        return Found::Nothing;
    }
    let Some(half) = tables.flow(&packet.tuple) else { return Found::Nothing };
    let translation = &half.translation;
    let elsewhere = half.input != packet.input && half.input != 0;
    let too_long = is_too_long(packet, translation);
    // In every tick a mapping is kept alive anew.
    let ages = translation.exit == exit::NEIGHBOUR
        && match next_hop_at(&half, now) {
            NextHop::AsKnown => false,
            NextHop::Ask => true,
            NextHop::Forget => !translation.macs.are_unsought() || translation.mapped != 0,
        };
    if elsewhere
        || half.epoch != tables.epoch(half.slot)
        || is_idle(&half, now)
        || flow::may_move(half.state, half.is_reply, packet.flags)
        || packet.ttl <= 1
        || too_long
        || ages
    {
        return Found::Unsettled;
    }
    Found::Settled(half)
}

/// Begins the planned flow, if need be in the room of another.
fn begin_with_room<A: Address>(
    first: &mut First<A>,
    tables: &impl Tables<A>,
) -> Result<(), Reason> {
    match begin(first, tables) {
        Err(Reason::TableFull) if room::make(0, tables) => begin(first, tables),
        Err(Reason::TooManyFlows) if room::make(first.half.owner, tables) => begin(first, tables),
        begun => begun,
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
fn next_hop_at<A>(half: &Flow<A>, now: Ticks) -> NextHop {
    let is_fourth = half.packets & 3 == 3;
    match now.wrapping_sub(half.last_used) {
        0 if is_fourth && half.translation.macs.are_unsought() => NextHop::Ask,
        0 => NextHop::AsKnown,
        1 => NextHop::Ask,
        _ => NextHop::Forget,
    }
}

/// Decides about a packet of a flow that is in the table, whose translation is then in `leaving`;
/// none if it is of no flow.
#[inline(always)]
pub fn known<A: Address>(
    packet: &Packet<A>,
    leaving: &mut Translation<A>,
    tables: &impl Tables<A>,
) -> Option<Result<(), Reason>> {
    if may_be_known(packet) { of_flow(packet, leaving, tables) } else { None }
}

/// Whether a packet tells by itself which flow it is of, and is decided about by itself.
#[inline(always)]
pub fn may_be_known<A: Address>(packet: &Packet<A>) -> bool {
    !packet.first_fragment && packet.has_ports()
}

/// The same for a packet whose ports are known, whatever it carries.
#[inline(always)]
pub fn of_flow<A: Address>(
    packet: &Packet<A>,
    leaving: &mut Translation<A>,
    tables: &impl Tables<A>,
) -> Option<Result<(), Reason>> {
    let now = tables.now();
    let mut half = tables.flow(&packet.tuple)?;
    *leaving = half.translation;
    // A MAC that it has is of the last tick.
    leaving.macs = half.translation.macs_of_container();
    if half.input != packet.input && half.input != 0 {
        let seen = Seen::new(&half);
        drop(half);
        return elsewhere(packet, seen, &leaving.tuple.reversed(), tables);
    }
    if half.epoch != tables.epoch(half.slot) {
        let seen = Seen::new(&half);
        drop(half);
        remove(tables, seen, &packet.tuple, &leaving.tuple.reversed(), now);
        return None;
    }
    if is_idle(&half, now) {
        let seen = Seen::new(&half);
        drop(half);
        // A half is idle while the other is in use when packets go one way only.
        let other = leaving.tuple.reversed();
        if is_gone_or_idle(tables, &other, now) {
            remove(tables, seen, &packet.tuple, &other, now);
            return None;
        }
        half = tables.flow(&packet.tuple)?;
    }
    if leaving.exit == exit::NEIGHBOUR {
        match next_hop_at(&half, now) {
            NextHop::AsKnown => {}
            NextHop::Ask => {
                let bridge =
                    tables.network(u32::from(half.network)).map_or(0, |network| network.bridge);
                let macs = tables.next_hop(&leaving.tuple, bridge, leaving.output);
                half.translation.macs = macs.unwrap_or(Macs::MISSING);
            }
            NextHop::Forget => half.translation.macs = Macs::default(),
        }
    }
    if leaving.mapped != 0 && half.last_used != now {
        drop(half);
        mapping::refresh(&packet.tuple, &leaving.tuple, now, tables);
        half = tables.flow(&packet.tuple)?;
    }
    touch(&mut half, packet, now);
    if flow::may_move(half.state, half.is_reply, packet.flags)
        && let Some(state) = State::from_number(half.state)
    {
        let way = if half.is_reply == 0 { Way::Forward } else { Way::Reply };
        let next = state.next(packet.tuple.protocol, way, packet.flags);
        let network = half.network;
        if packet.payload == Payload::Sctp
            && packet.flags & tcp::SYN != 0
            && state != State::Replied
        {
            // Not once both have agreed: then nobody from elsewhere can change what its end is
            // known by.
            half.acknowledged = packet.acknowledgment;
        }
        if next != state {
            drop(half);
            advance(packet, &leaving.tuple.reversed(), state, next, network, tables);
        }
    }
    Some(leave(packet, leaving))
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
        let acknowledged = |key| tables.flow(key).map_or(0, |half| half.acknowledged);
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
        if let Some(mut half) = tables.flow(key) {
            half.state = next as u8;
            half.timeout = timeout;
        }
    }
}

/// How far beyond what the other side expects next a reset may be, in bytes: what a sender may have
/// on its way.
const RESET_WINDOW: u32 = 1 << 20;

/// Either another container uses that address, or the endpoint was made again with another host
/// side: then the flow is over.
#[inline(always)]
fn elsewhere<A: Address>(
    packet: &Packet<A>,
    seen: Seen,
    other: &Tuple<A>,
    tables: &impl Tables<A>,
) -> Option<Result<(), Reason>> {
    match tables.endpoint(&packet.tuple.source) {
        Some(own) if own.host_side == packet.input => {
            end(tables, seen, &packet.tuple, other);
            None
        }
        _ => Some(Err(Reason::SourceAddressSpoofed)),
    }
}

/// The last word on a packet that is to leave: not if its hops are used up, nor if it is too long,
/// nor a part of one into another family.
#[inline(always)]
pub fn leave<A: Address>(packet: &Packet<A>, translation: &Translation<A>) -> Result<(), Reason> {
    if packet.ttl <= 1 {
        match translation.exit {
            exit::BRIDGED | exit::HOST => {}
            _ => return Err(Reason::TtlExceeded),
        }
    }
    if translation.exit == exit::CROSSING && packet.is_fragment() {
        return Err(Reason::Fragment);
    }
    if is_too_long(packet, translation) { Err(Reason::TooLong) } else { Ok(()) }
}

/// Whether a packet is longer than what comes next can carry. A container takes what it would have
/// put together itself.
#[inline(always)]
fn is_too_long<A: Address>(packet: &Packet<A>, translation: &Translation<A>) -> bool {
    packet.segment > u32::from(translation.mtu)
        && translation.mtu != 0
        && (packet.dont_fragment || translation.exit == exit::NEIGHBOUR)
}

/// Decides about a packet that the host itself sends out of an uplink; none if it leaves as it is.
/// `hidden` is as for [`from_host::step`].
pub fn decide_from_host<A: Family>(
    packet: &Packet<A>,
    hidden: bool,
    tables: &impl Tables<A>,
) -> Option<Translation<A>> {
    if !from_host::concerns(packet, tables) {
        return None;
    }
    let mut step = from_host::step(packet, hidden, tables);
    let mut first = First::new(*packet, [0; 6]);
    if step == Step::Known {
        if of_flow(packet, &mut first.half.translation, tables) == Some(Ok(())) {
            return Some(first.half.translation);
        }
        // It has ended, and is gone.
        step = from_host::step(packet, hidden, tables);
    }
    if !matches!(step, Step::Note | Step::Shift) {
        return None;
    }
    first.beginning = from_host::beginning(packet, step, tables);
    begin(&mut first, tables).ok().map(|()| first.half.translation)
}

/// Decides about a packet that the host's stack sends into a network. `input` is the interface it
/// came to the host by, zero if the host itself sends it.
#[inline(always)]
pub const fn into_bridge(input: u32) -> Reason {
    if input == 0 { Reason::FromHost } else { Reason::NotPublished }
}

#[cfg(test)]
mod full_cone;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
