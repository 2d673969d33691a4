//! The decisions: what becomes of a packet from a container, of one from outside, and of one into a bridge.

use crate::{
    abi::{Door, Endpoint, Flow, Translation, exit, network, publish},
    address::{Address, Port},
    flow::{self, State, Ticks, Way},
    packet::{Packet, Payload},
    reason::Reason,
    tables::{Refused, Route, Tables},
    tuple::{Tuple, protocol, side},
};

/// How many ports a new flow tries before it is refused.
pub const PORT_TRIES: u32 = 16;

/// What becomes of a packet.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision<A> {
    /// It is rewritten and leaves.
    Forward(Translation<A>),
    /// It leaves the fast path.
    Stop(Reason),
}

/// Decides about a packet that a container sent.
#[inline(always)]
pub fn from_container<A: Address>(packet: &Packet<A>, tables: &impl Tables<A>) -> Decision<A> {
    let now = tables.now();
    if packet.has_ports() {
        match established(packet, tables, now) {
            Known::Yes(translation) => return leave(packet, translation),
            Known::Spoofed => return Decision::Stop(Reason::SourceAddressSpoofed),
            Known::No => {}
        }
    }
    match first_from_container(packet, tables, now) {
        Ok(translation) => leave(packet, translation),
        Err(reason) => Decision::Stop(reason),
    }
}

/// Decides about a packet that arrived at an uplink.
#[inline(always)]
pub fn from_uplink<A: Address>(packet: &Packet<A>, tables: &impl Tables<A>) -> Decision<A> {
    if !packet.has_ports() {
        return Decision::Stop(Reason::NotOurs);
    }
    let now = tables.now();
    match established(packet, tables, now) {
        Known::Yes(translation) => return leave(packet, translation),
        Known::Spoofed | Known::No => {}
    }
    match first_from_uplink(packet, tables, now) {
        Ok(translation) => leave(packet, translation),
        Err(reason) => Decision::Stop(reason),
    }
}

/// Decides about a packet that the host's stack sends into a network. `input` is the interface it came to the host by, zero if
/// the host itself sends it.
#[inline(always)]
pub const fn into_bridge(input: u32) -> Reason {
    if input == 0 { Reason::FromHost } else { Reason::NotPublished }
}

#[inline(always)]
fn leave<A>(packet: &Packet<A>, translation: Translation<A>) -> Decision<A> {
    if packet.ttl <= 1 {
        match translation.exit {
            exit::BRIDGED => {}
            exit::NEIGHBOUR => return Decision::Stop(Reason::TtlExpired),
            _ => return Decision::Stop(Reason::TtlExceeded),
        }
    }
    Decision::Forward(translation)
}

/// What the flow table says of a packet.
enum Known<A> {
    Yes(Translation<A>),
    /// Of a flow, but it did not arrive where that flow's packets do.
    Spoofed,
    No,
}

/// What a visit of its half found.
enum Seen<A> {
    Good(Translation<A>),
    Moved(Translation<A>, u8, Ticks),
    Idle(Translation<A>),
    Stale(Translation<A>),
    Spoofed,
}

#[inline(always)]
fn established<A: Address>(packet: &Packet<A>, tables: &impl Tables<A>, now: Ticks) -> Known<A> {
    let seen = tables.flow(&packet.tuple, |half| {
        if half.input != packet.input && half.input != 0 {
            return Seen::Spoofed;
        }
        if half.epoch != tables.epoch(half.slot) {
            return Seen::Stale(half.translation);
        }
        if is_idle(half, now) {
            return Seen::Idle(half.translation);
        }
        touch(half, packet, now);
        let flags = packet.tcp_flags();
        if flow::may_move(half.state, flags)
            && let Some(state) = State::from_number(half.state)
        {
            let way = if half.is_reply == 0 { Way::Forward } else { Way::Reply };
            let next = state.next(packet.tuple.protocol, way, flags);
            if next as u8 != half.state {
                half.state = next as u8;
                half.timeout = next.timeout(packet.tuple.protocol);
                return Seen::Moved(half.translation, half.state, half.timeout);
            }
        }
        Seen::Good(half.translation)
    });
    match seen {
        Some(Seen::Good(translation)) => Known::Yes(translation),
        Some(Seen::Moved(translation, state, timeout)) => {
            // The other half is written after this one and without a lock: a packet in between finds the old state there, and at
            // worst keeps the old timeout until the next one.
            let _ = tables.flow(&translation.tuple.reversed(), |other| {
                other.state = state;
                other.timeout = timeout;
            });
            Known::Yes(translation)
        }
        Some(Seen::Idle(translation)) => {
            // A half is idle while the other is in use when packets go one way only.
            let other = translation.tuple.reversed();
            if tables.flow(&other, |other| is_idle(other, now)) == Some(false) {
                let _ = tables.flow(&packet.tuple, |half| touch(half, packet, now));
                return Known::Yes(translation);
            }
            remove(tables, &packet.tuple, &other);
            Known::No
        }
        Some(Seen::Stale(translation)) => {
            remove(tables, &packet.tuple, &translation.tuple.reversed());
            Known::No
        }
        Some(Seen::Spoofed) => Known::Spoofed,
        None => Known::No,
    }
}

#[inline(always)]
fn touch<A>(half: &mut Flow<A>, packet: &Packet<A>, now: Ticks) {
    half.packets += 1;
    half.bytes += u64::from(packet.length);
    half.last_used = now;
}

/// Whether the half's time is over. Another CPU may have used it a tick later than `now`: that is not 136 years ago.
#[inline(always)]
fn is_idle<A>(half: &Flow<A>, now: Ticks) -> bool {
    now.wrapping_sub(half.last_used).cast_signed() > half.timeout.cast_signed()
}

#[inline(always)]
fn remove<A: Address>(tables: &impl Tables<A>, key: &Tuple<A>, other: &Tuple<A>) {
    tables.remove_flow(key);
    tables.remove_flow(other);
}

#[inline(always)]
fn first_from_container<A: Address>(
    packet: &Packet<A>,
    tables: &impl Tables<A>,
    now: Ticks,
) -> Result<Translation<A>, Reason> {
    let tuple = &packet.tuple;
    let own = tables.endpoint(&tuple.source).ok_or(Reason::SourceAddressSpoofed)?;
    if own.host_side != packet.input {
        return Err(Reason::SourceAddressSpoofed);
    }
    if own.macs.destination != packet.source_mac {
        return Err(Reason::SourceMacSpoofed);
    }
    if tuple.destination.is_multicast() || tuple.destination.is_broadcast_of(&own.subnet, &own.mask) {
        return Err(Reason::ToBridge);
    }
    if packet.begins()
        && let Some(slot) = tables.published(tuple)
        && tables.is_local(&tuple.destination)
    {
        return hairpin(packet, &own, slot, tables, now);
    }
    if let Some(other) = tables.endpoint(&tuple.destination) {
        return to_container(packet, &own, &other);
    }
    if tables.is_local(&tuple.destination) {
        return Err(Reason::ToHost);
    }
    if tuple.destination.is_in(&own.subnet, &own.mask) {
        return Err(Reason::ToBridge);
    }
    to_outside(packet, &own, tables, now)
}

#[inline(always)]
fn to_container<A: Address>(packet: &Packet<A>, own: &Endpoint<A>, other: &Endpoint<A>) -> Result<Translation<A>, Reason> {
    if other.bridge != own.bridge {
        return Err(Reason::OtherNetwork);
    }
    if own.network & network::NO_ICC != 0 {
        return Err(Reason::IccOff);
    }
    // The frame's own MACs stay: for the container it is as if the bridge had brought it.
    let door = Door { output: other.host_side, macs: other.macs, exit: exit::BRIDGED };
    Ok(Translation::new(&packet.tuple, packet.tuple, door))
}

#[inline(always)]
fn to_outside<A: Address>(
    packet: &Packet<A>,
    own: &Endpoint<A>,
    tables: &impl Tables<A>,
    now: Ticks,
) -> Result<Translation<A>, Reason> {
    if own.network & network::INTERNAL != 0 {
        return Err(Reason::InternalNetwork);
    }
    match packet.payload {
        Payload::Fragment => return Err(Reason::Fragment),
        Payload::Other => return Err(Reason::ProtocolNotTranslated),
        Payload::Tcp(_) | Payload::Udp | Payload::Echo => {}
    }
    if !packet.begins() {
        return Err(Reason::NoFlow);
    }
    if packet.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    let Route::Through(output) = tables.route(&packet.tuple, own.bridge) else {
        return Err(Reason::NoRoute);
    };
    let address = tables.uplink(output).ok_or(Reason::NotAnUplink)?;
    let masquerade = own.network & network::MASQUERADE != 0;
    let source = if masquerade { address } else { packet.tuple.source };
    let beginning = Beginning {
        leaves: Tuple { source, side: side::UPLINK, ..packet.tuple },
        forward: Door::uplink(output),
        reply: Door::container(own),
        forward_input: own.host_side,
        reply_input: 0,
        slot: own.slot,
        as_host: masquerade,
    };
    begin(packet, beginning, tables, now)
}

/// From a container to a published port of the host.
#[inline(always)]
fn hairpin<A: Address>(
    packet: &Packet<A>,
    own: &Endpoint<A>,
    slot: u32,
    tables: &impl Tables<A>,
    now: Ticks,
) -> Result<Translation<A>, Reason> {
    let (destination, port, target) = published_to(packet, slot, tables)?;
    if own.network & network::INTERNAL != 0 && target.bridge != own.bridge {
        return Err(Reason::InternalNetwork);
    }
    // A container takes no packet from its own address, so to itself it speaks as the gateway.
    let to_itself = destination == packet.tuple.source;
    let source = if to_itself { own.gateway } else { packet.tuple.source };
    let beginning = Beginning {
        leaves: Tuple { source, destination, destination_port: port, side: side::CONTAINER, ..packet.tuple },
        forward: Door::container(&target),
        reply: Door::container(own),
        forward_input: own.host_side,
        reply_input: target.host_side,
        slot,
        as_host: to_itself,
    };
    begin(packet, beginning, tables, now)
}

#[inline(always)]
fn first_from_uplink<A: Address>(
    packet: &Packet<A>,
    tables: &impl Tables<A>,
    now: Ticks,
) -> Result<Translation<A>, Reason> {
    let Some(slot) = tables.published(&packet.tuple) else {
        return Err(Reason::NotOurs);
    };
    if !tables.is_local(&packet.tuple.destination) {
        return Err(Reason::NotOurs);
    }
    if !packet.begins() {
        // The host itself may talk from that port: only a SYN is for the publish.
        return Err(Reason::NotOurs);
    }
    let (destination, port, target) = published_to(packet, slot, tables)?;
    let beginning = Beginning {
        leaves: Tuple { destination, destination_port: port, side: side::CONTAINER, ..packet.tuple },
        forward: Door::container(&target),
        reply: Door::uplink(packet.input),
        forward_input: 0,
        reply_input: target.host_side,
        slot,
        as_host: false,
    };
    begin(packet, beginning, tables, now)
}

/// Where a publish leads: address, port and endpoint.
#[inline(always)]
fn published_to<A: Address>(
    packet: &Packet<A>,
    slot: u32,
    tables: &impl Tables<A>,
) -> Result<(A, Port, Endpoint<A>), Reason> {
    // UDP does not say which side began: an answer to the host's own socket must not begin a flow.
    if packet.tuple.protocol == protocol::UDP && tables.host_socket(&packet.tuple) {
        return Err(Reason::HostSocket);
    }
    let publish = tables.publish(slot).ok_or(Reason::ContainerGone)?;
    if publish.flags & publish::SOURCES_LISTED != 0 && !tables.admits(slot, &packet.tuple.source) {
        return Err(Reason::SourceNotAdmitted);
    }
    let target = tables.endpoint(&publish.container).ok_or(Reason::ContainerGone)?;
    Ok((publish.container, publish.container_port_of(packet.tuple.destination_port), target))
}

/// A flow that is to begin.
#[derive(Clone, Copy)]
struct Beginning<A> {
    /// The tuple its first packet leaves with, if the port is free.
    leaves: Tuple<A>,
    forward: Door,
    reply: Door,
    forward_input: u32,
    reply_input: u32,
    slot: u32,
    /// It leaves with an address of the host, which the host's own sockets use too.
    as_host: bool,
}

#[inline(always)]
fn begin<A: Address>(
    packet: &Packet<A>,
    beginning: Beginning<A>,
    tables: &impl Tables<A>,
    now: Ticks,
) -> Result<Translation<A>, Reason> {
    let key = &packet.tuple;
    let mut leaves = beginning.leaves;
    let state = State::first(key.protocol);
    let half = |translation, is_reply, input| Flow {
        packets: 0,
        bytes: 0,
        translation,
        input,
        slot: beginning.slot,
        epoch: tables.epoch(beginning.slot),
        last_used: now,
        timeout: state.timeout(key.protocol),
        state: state as u8,
        is_reply,
        _pad: [0; 2],
    };
    for attempt in 0..PORT_TRIES {
        if attempt > 0 {
            leaves.source_port = some_port(tables.random());
        }
        let reply_key = leaves.reversed();
        if beginning.as_host && tables.host_socket(&reply_key) {
            continue;
        }
        let back = key.reversed();
        let reply = half(Translation::new(&reply_key, back, beginning.reply), 1, beginning.reply_input);
        // This insert is what reserves the port: whoever comes second sees it taken.
        match tables.insert_flow(&reply_key, &reply) {
            Ok(()) => {}
            Err(Refused::Full) => return Err(Reason::TableFull),
            Err(Refused::Taken) => {
                bury(tables, &reply_key, now);
                if tables.insert_flow(&reply_key, &reply).is_err() {
                    continue;
                }
            }
        }
        let translation = Translation::new(key, leaves, beginning.forward);
        let mut forward = half(translation, 0, beginning.forward_input);
        touch(&mut forward, packet, now);
        return match tables.insert_flow(key, &forward) {
            Ok(()) => Ok(translation),
            Err(refused) => {
                tables.remove_flow(&reply_key);
                // Another CPU began the same flow with an earlier packet: this one follows it.
                let first = tables.flow(key, |half| half.translation);
                first.filter(|_| refused == Refused::Taken).ok_or(Reason::TableFull)
            }
        };
    }
    Err(Reason::PortsExhausted)
}

/// Removes a flow that has ended but still has its entries.
#[inline(always)]
fn bury<A: Address>(tables: &impl Tables<A>, key: &Tuple<A>, now: Ticks) {
    let found = tables.flow(key, |half| {
        let stale = half.epoch != tables.epoch(half.slot);
        (half.translation.tuple.reversed(), stale, is_idle(half, now))
    });
    let Some((other, stale, idle)) = found else { return };
    if stale || (idle && tables.flow(&other, |other| is_idle(other, now)) != Some(false)) {
        remove(tables, key, &other);
    }
}

/// A port in 1024..32768: below what Linux gives its own sockets by default, so that they seldom meet.
#[inline(always)]
const fn some_port(random: u32) -> Port {
    let port = (random & 0x7fff) as u16;
    Port::new(if port < 1024 { port + 1024 } else { port })
}
