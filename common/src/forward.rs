//! The decisions: what becomes of a packet from a container, of one from outside, and of one into a bridge.

use bytemuck::Zeroable as _;

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

/// Decides about a packet that arrived at a host side or an uplink: [`known`], and where that has no answer, [`plan`], [`begin`] and
/// [`leave`].
///
/// The kernel's programs call these themselves: each is a function of its own there, which the verifier looks at once and not once for
/// each way to it, and what they share lies in a map, because it is more than BPF's 512 bytes of stack.
pub fn decide<A: Address>(packet: &Packet<A>, tables: &impl Tables<A>) -> Decision<A> {
    if let Some(decision) = known(packet, tables) {
        return decision;
    }
    let mut first = First::new(*packet);
    match plan(&mut first, tables).and_then(|()| begin(&mut first, tables)) {
        Ok(()) => leave(packet, first.half.translation),
        Err(reason) => Decision::Stop(reason),
    }
}

/// Decides about a packet of a flow that is in the table; none if it is of no flow.
#[inline(always)]
pub fn known<A: Address>(packet: &Packet<A>, tables: &impl Tables<A>) -> Option<Decision<A>> {
    if !packet.has_ports() {
        return None;
    }
    let now = tables.now();
    let mut half = tables.flow(&packet.tuple)?;
    let translation = half.translation;
    if half.input != packet.input && half.input != 0 {
        drop(half);
        return elsewhere(packet, &translation, tables);
    }
    if half.epoch != tables.epoch(half.slot) {
        drop(half);
        remove(tables, &packet.tuple, &translation);
        return None;
    }
    if is_idle(&half, now) {
        drop(half);
        // A half is idle while the other is in use when packets go one way only.
        if is_gone_or_idle(tables, &translation.tuple.reversed(), now) {
            remove(tables, &packet.tuple, &translation);
            return None;
        }
        half = tables.flow(&packet.tuple)?;
    }
    touch(&mut half, packet, now);
    let flags = packet.tcp_flags();
    if flow::may_move(half.state, flags)
        && let Some(state) = State::from_number(half.state)
    {
        let way = if half.is_reply == 0 { Way::Forward } else { Way::Reply };
        let next = state.next(packet.tuple.protocol, way, flags);
        if next != state {
            half.move_to(next, packet.tuple.protocol);
            drop(half);
            // The other half is written after this one and without a lock: a packet in between finds the old state there, and at
            // worst keeps the old timeout until the next one.
            if let Some(mut other) = tables.flow(&translation.tuple.reversed()) {
                other.move_to(next, packet.tuple.protocol);
            }
        }
    }
    Some(leave(packet, translation))
}

/// A packet of no flow, and the flow that it may begin.
#[derive(Clone, Copy)]
pub struct First<A> {
    /// As it arrived.
    pub packet: Packet<A>,
    /// What [`plan`] answers.
    pub beginning: Beginning<A>,
    /// The key that [`begin`] reserves.
    pub reply_key: Tuple<A>,
    /// What [`begin`] answers: its `translation` is the packet's.
    pub half: Flow<A>,
}

impl<A: Address> First<A> {
    /// Nothing is planned yet.
    pub fn new(packet: Packet<A>) -> Self {
        let half = Flow::zeroed();
        let door = Door::uplink(0);
        let beginning = Beginning {
            leaves: packet.tuple,
            forward: door,
            reply: door,
            forward_input: 0,
            reply_input: 0,
            slot: 0,
            as_host: false,
        };
        Self { packet, beginning, reply_key: packet.tuple, half }
    }
}

/// Decides what a packet of no flow may begin.
#[inline(always)]
pub fn plan<A: Address>(first: &mut First<A>, tables: &impl Tables<A>) -> Result<(), Reason> {
    first.beginning = match first.packet.tuple.side {
        side::CONTAINER => first_from_container(&first.packet, tables)?,
        _ => first_from_uplink(&first.packet, tables)?,
    };
    Ok(())
}

/// Either another container uses that address, or the endpoint was made again with another host side: then the flow is over.
#[inline(always)]
fn elsewhere<A: Address>(
    packet: &Packet<A>,
    translation: &Translation<A>,
    tables: &impl Tables<A>,
) -> Option<Decision<A>> {
    match tables.endpoint(&packet.tuple.source) {
        Some(own) if own.host_side == packet.input => {
            remove(tables, &packet.tuple, translation);
            None
        }
        _ => Some(Decision::Stop(Reason::SourceAddressSpoofed)),
    }
}

/// Decides about a packet that the host's stack sends into a network. `input` is the interface it came to the host by, zero if
/// the host itself sends it.
#[inline(always)]
pub const fn into_bridge(input: u32) -> Reason {
    if input == 0 { Reason::FromHost } else { Reason::NotPublished }
}

/// The last word on a packet that is to leave: not if its hops are used up.
#[inline(always)]
pub fn leave<A>(packet: &Packet<A>, translation: Translation<A>) -> Decision<A> {
    if packet.ttl <= 1 {
        match translation.exit {
            exit::BRIDGED => {}
            exit::NEIGHBOUR => return Decision::Stop(Reason::TtlExpired),
            _ => return Decision::Stop(Reason::TtlExceeded),
        }
    }
    Decision::Forward(translation)
}

#[inline(always)]
fn is_gone_or_idle<A: Address>(tables: &impl Tables<A>, key: &Tuple<A>, now: Ticks) -> bool {
    match tables.flow(key) {
        Some(half) => is_idle(&half, now),
        None => true,
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

/// Removes both halves of a flow, given one's key and translation.
#[inline(always)]
fn remove<A: Address>(tables: &impl Tables<A>, key: &Tuple<A>, translation: &Translation<A>) {
    tables.remove_flow(key);
    tables.remove_flow(&translation.tuple.reversed());
}

#[inline(always)]
fn first_from_container<A: Address>(packet: &Packet<A>, tables: &impl Tables<A>) -> Result<Beginning<A>, Reason> {
    let tuple = &packet.tuple;
    let own = tables.endpoint(&tuple.source).ok_or(Reason::SourceAddressSpoofed)?;
    if own.host_side != packet.input {
        return Err(Reason::SourceAddressSpoofed);
    }
    if own.macs.destination() != packet.source_mac {
        return Err(Reason::SourceMacSpoofed);
    }
    if tuple.destination.is_multicast() || tuple.destination.is_broadcast_of(&own.subnet, &own.mask) {
        return Err(Reason::ToBridge);
    }
    if packet.begins()
        && let Some(slot) = tables.published(tuple)
        && tables.is_local(&tuple.destination)
    {
        return hairpin(packet, &own, slot, tables);
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
    to_outside(packet, &own, tables)
}

#[inline(always)]
fn to_container<A: Address>(
    packet: &Packet<A>,
    own: &Endpoint<A>,
    other: &Endpoint<A>,
) -> Result<Beginning<A>, Reason> {
    if other.bridge != own.bridge {
        return Err(Reason::OtherNetwork);
    }
    if own.network & network::NO_ICC != 0 {
        return Err(Reason::IccOff);
    }
    // The frame's own MACs stay: for the container it is as if the bridge had brought it. Nothing is kept of such a flow.
    let door = Door { output: other.host_side, macs: other.macs, exit: exit::BRIDGED };
    Ok(Beginning {
        leaves: packet.tuple,
        forward: door,
        reply: door,
        forward_input: 0,
        reply_input: 0,
        slot: 0,
        as_host: false,
    })
}

#[inline(always)]
fn to_outside<A: Address>(
    packet: &Packet<A>,
    own: &Endpoint<A>,
    tables: &impl Tables<A>,
) -> Result<Beginning<A>, Reason> {
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
    Ok(Beginning {
        leaves: Tuple { source, side: side::UPLINK, ..packet.tuple },
        forward: Door::uplink(output),
        reply: Door::container(own),
        forward_input: own.host_side,
        reply_input: 0,
        slot: own.slot,
        as_host: masquerade,
    })
}

/// From a container to a published port of the host.
#[inline(always)]
fn hairpin<A: Address>(
    packet: &Packet<A>,
    own: &Endpoint<A>,
    slot: u32,
    tables: &impl Tables<A>,
) -> Result<Beginning<A>, Reason> {
    let (destination, port, target) = published_to(packet, slot, tables)?;
    if own.network & network::INTERNAL != 0 && target.bridge != own.bridge {
        return Err(Reason::InternalNetwork);
    }
    // A container takes no packet from its own address, so to itself it speaks as the gateway.
    let to_itself = destination == packet.tuple.source;
    let source = if to_itself { own.gateway } else { packet.tuple.source };
    Ok(Beginning {
        leaves: Tuple { source, destination, destination_port: port, side: side::CONTAINER, ..packet.tuple },
        forward: Door::container(&target),
        reply: Door::container(own),
        forward_input: own.host_side,
        reply_input: target.host_side,
        slot,
        as_host: to_itself,
    })
}

#[inline(always)]
fn first_from_uplink<A: Address>(packet: &Packet<A>, tables: &impl Tables<A>) -> Result<Beginning<A>, Reason> {
    if !packet.has_ports() {
        return Err(Reason::NotOurs);
    }
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
    Ok(Beginning {
        leaves: Tuple { destination, destination_port: port, side: side::CONTAINER, ..packet.tuple },
        forward: Door::container(&target),
        reply: Door::uplink(packet.input),
        forward_input: 0,
        reply_input: target.host_side,
        slot,
        as_host: false,
    })
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
pub struct Beginning<A> {
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

/// Begins the planned flow: both halves are in the table, or neither.
#[inline(always)]
pub fn begin<A: Address>(first: &mut First<A>, tables: &impl Tables<A>) -> Result<(), Reason> {
    // Field by field, in place: a value made first and moved then would take its room on BPF's stack.
    let First { packet, beginning, reply_key, half } = first;
    let key = &packet.tuple;
    if beginning.forward.exit == exit::BRIDGED {
        half.translation.set(key, &beginning.leaves, &beginning.forward);
        return Ok(());
    }
    half.packets = 0;
    half.bytes = 0;
    half.input = beginning.reply_input;
    half.slot = beginning.slot;
    half.epoch = tables.epoch(beginning.slot);
    half.last_used = tables.now();
    half.is_reply = 1;
    half.move_to(State::first(key.protocol), key.protocol);
    *reply_key = beginning.leaves.reversed();
    reserve(beginning, key, reply_key, half, tables)?;
    half.translation.set(key, &reply_key.reversed(), &beginning.forward);
    half.input = beginning.forward_input;
    half.is_reply = 0;
    touch(half, packet, half.last_used);
    match tables.insert_flow(key, half) {
        Ok(()) => Ok(()),
        Err(refused) => {
            tables.remove_flow(reply_key);
            // Another CPU began the same flow with an earlier packet: this one follows it.
            match (refused, tables.flow(key)) {
                (Refused::Taken, Some(earlier)) => {
                    half.translation = earlier.translation;
                    Ok(())
                }
                _ => Err(Reason::TableFull),
            }
        }
    }
}

/// Inserts the reply half under the first free port. That insert is the reservation: whoever comes second finds the port taken.
#[inline(always)]
fn reserve<A: Address>(
    beginning: &Beginning<A>,
    key: &Tuple<A>,
    reply_key: &mut Tuple<A>,
    half: &mut Flow<A>,
    tables: &impl Tables<A>,
) -> Result<(), Reason> {
    for attempt in 0..PORT_TRIES {
        if attempt > 0 {
            reply_key.destination_port = some_port(tables.random());
        }
        if beginning.as_host && tables.host_socket(reply_key) {
            continue;
        }
        half.translation.set(reply_key, &key.reversed(), &beginning.reply);
        match tables.insert_flow(reply_key, half) {
            Ok(()) => return Ok(()),
            Err(Refused::Full) => return Err(Reason::TableFull),
            Err(Refused::Taken) => {
                bury(tables, reply_key, half.last_used);
                if tables.insert_flow(reply_key, half).is_ok() {
                    return Ok(());
                }
            }
        }
    }
    Err(Reason::PortsExhausted)
}

/// Removes a flow that has ended but still has its entries.
#[inline(always)]
fn bury<A: Address>(tables: &impl Tables<A>, key: &Tuple<A>, now: Ticks) {
    let Some(half) = tables.flow(key) else { return };
    let translation = half.translation;
    let stale = half.epoch != tables.epoch(half.slot);
    let idle = is_idle(&half, now);
    drop(half);
    if stale || (idle && is_gone_or_idle(tables, &translation.tuple.reversed(), now)) {
        remove(tables, key, &translation);
    }
}

/// A port in 1024..32768: below what Linux gives its own sockets by default, so that they seldom meet.
#[inline(always)]
const fn some_port(random: u32) -> Port {
    let port = (random & 0x7fff) as u16;
    Port::new(if port < 1024 { port + 1024 } else { port })
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, vec::Vec};

    use super::*;
    use crate::{
        abi::{Macs, Publish},
        address::V4,
        flow::{tcp, ticks},
        model::Model,
        tuple::echo,
    };

    const C1: V4 = V4::new([172, 18, 0, 2]);
    const C2: V4 = V4::new([172, 18, 0, 3]);
    const GATEWAY: V4 = V4::new([172, 18, 0, 1]);
    const HOST: V4 = V4::new([10, 0, 2, 15]);
    const WORLD: V4 = V4::new([203, 0, 113, 10]);
    const UPLINK: u32 = 2;
    const C1_SIDE: u32 = 11;
    const C2_SIDE: u32 = 12;
    const C1_SLOT: u32 = 1;
    const C2_SLOT: u32 = 2;
    const PUBLISH_SLOT: u32 = 3;

    fn model() -> Model<V4> {
        let mut model = Model::default();
        for (address, host_side, slot) in [(C1, C1_SIDE, C1_SLOT), (C2, C2_SIDE, C2_SLOT)] {
            model.endpoints.insert(
                address,
                Endpoint {
                    subnet: V4::new([172, 18, 0, 0]),
                    mask: V4::new([255, 255, 0, 0]),
                    gateway: GATEWAY,
                    host_side,
                    bridge: 5,
                    slot,
                    network: network::MASQUERADE,
                    macs: Macs::new([2; 6], [4; 6]),
                },
            );
        }
        model.uplinks.insert(UPLINK, HOST);
        model.routes.push((V4::default(), V4::default(), UPLINK));
        model.local.extend([HOST, GATEWAY]);
        for protocol in [protocol::TCP, protocol::UDP] {
            model.ports.insert((protocol, Port::new(5000), None), PUBLISH_SLOT);
        }
        let publish = Publish { container: C1, host_port: Port::new(5000), container_port: Port::new(80), flags: 0 };
        model.publishes.insert(PUBLISH_SLOT, publish);
        model
    }

    fn packet(input: u32, from: (V4, u16), to: (V4, u16), protocol: u8, flags: u8) -> Packet<V4> {
        Packet {
            tuple: Tuple {
                source: from.0,
                destination: to.0,
                source_port: Port::new(from.1),
                destination_port: Port::new(to.1),
                protocol,
                side: if input == UPLINK { side::UPLINK } else { side::CONTAINER },
                echo: if protocol == protocol::ICMP { echo::REQUEST } else { echo::NONE },
                _pad: 0,
            },
            payload: match protocol {
                protocol::TCP => Payload::Tcp(flags),
                protocol::UDP => Payload::Udp,
                _ => Payload::Echo,
            },
            payload_at: 34,
            ttl: 64,
            input,
            length: 60,
            source_mac: [2; 6],
        }
    }

    fn udp(input: u32, from: (V4, u16), to: (V4, u16)) -> Packet<V4> {
        packet(input, from, to, protocol::UDP, 0)
    }

    /// The packet as it left, or why it did not.
    fn left(model: &Model<V4>, packet: &Packet<V4>) -> Result<Translation<V4>, Reason> {
        match decide(packet, model) {
            Decision::Forward(translation) => Ok(translation),
            Decision::Stop(reason) => Err(reason),
        }
    }

    /// The answer to what left: it arrives where that one went.
    fn answer(translation: &Translation<V4>, flags: u8) -> Packet<V4> {
        let tuple = translation.tuple.reversed();
        Packet {
            tuple,
            input: translation.output,
            ..packet(0, (tuple.source, 0), (tuple.destination, 0), tuple.protocol, flags)
        }
    }

    #[test]
    fn forward_then_reply_is_identity() {
        let cases = [
            ("masquerade", C1_SIDE, C1, WORLD, 53),
            ("publish", UPLINK, WORLD, HOST, 5000),
            ("hairpin", C2_SIDE, C2, HOST, 5000),
            ("hairpin to itself", C1_SIDE, C1, GATEWAY, 5000),
        ];
        for (what, input, from, to, port) in cases {
            for protocol in [protocol::TCP, protocol::UDP] {
                let model = model();
                let sent = packet(input, (from, 4000), (to, port), protocol, tcp::SYN);
                let there = left(&model, &sent).expect(what);
                let back = left(&model, &answer(&there, tcp::SYN | tcp::ACK)).expect(what);
                assert_eq!(back.tuple, sent.tuple.reversed(), "{what}: the answer is to what was sent");
                assert_eq!(back.output, input, "{what}: it goes back where that came from");
                assert_eq!(checksum_of(&there, &sent.tuple), 0, "{what}: the deltas are those of the tuples");
            }
        }
    }

    /// Zero if the deltas say what the tuples say.
    fn checksum_of(translation: &Translation<V4>, from: &Tuple<V4>) -> u16 {
        let address = crate::checksum::delta(from.address_sum(), translation.tuple.address_sum());
        let port = crate::checksum::delta(from.port_sum(), translation.tuple.port_sum());
        u16::from(address != translation.address_delta || port != translation.port_delta)
    }

    #[test]
    fn no_two_live_flows_share_a_reply_tuple() {
        let model = model();
        let mut seed = 7_u32;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        let mut begun = HashSet::new();
        for _ in 0..20_000 {
            let port = 4000 + u16::try_from(random(40)).unwrap();
            let sent = match random(4) {
                0 => udp(C1_SIDE, (C1, port), (WORLD, 53)),
                1 => udp(C2_SIDE, (C2, port), (WORLD, 53)),
                2 => udp(UPLINK, (WORLD, port), (HOST, 5000)),
                _ => udp(C2_SIDE, (C2, port), (HOST, 5000)),
            };
            let translation = left(&model, &sent).unwrap();
            begun.insert(sent.tuple);
            assert_eq!(left(&model, &answer(&translation, 0)).unwrap().tuple, sent.tuple.reversed());
        }
        let flows = model.flows.borrow();
        assert_eq!(flows.len(), begun.len() * 2, "each flow has two halves of its own");
        for (key, half) in flows.iter() {
            assert_eq!(flows[&half.translation.tuple.reversed()].translation.tuple.reversed(), *key);
        }
    }

    #[test]
    fn a_port_that_is_taken_gives_way_to_another() {
        let model = model();
        assert_eq!(left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53))).unwrap().tuple.source_port.get(), 4000);
        let second = left(&model, &udp(C2_SIDE, (C2, 4000), (WORLD, 53))).unwrap().tuple.source_port.get();
        assert_ne!(second, 4000);
        // Toward another destination the same port is free.
        let elsewhere = left(&model, &udp(C2_SIDE, (C2, 4000), (V4::new([203, 0, 113, 11]), 53))).unwrap();
        assert_eq!(elsewhere.tuple.source_port.get(), 4000);
    }

    #[test]
    fn a_port_of_a_socket_of_the_host_is_not_taken() {
        let mut model = model();
        model.sockets.insert(udp(UPLINK, (WORLD, 53), (HOST, 4000)).tuple);
        let port = left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53))).unwrap().tuple.source_port.get();
        assert_ne!(port, 4000);
    }

    #[test]
    fn an_answer_to_a_socket_of_the_host_is_not_published() {
        let mut model = model();
        let arriving = udp(UPLINK, (WORLD, 53), (HOST, 5000));
        model.sockets.insert(arriving.tuple);
        assert_eq!(left(&model, &arriving), Err(Reason::HostSocket));
        assert!(model.flows.borrow().is_empty());
    }

    #[test]
    fn when_every_port_is_taken_the_flow_is_refused() {
        let model = model();
        let mut refused = None;
        for port in 1..=u16::MAX {
            let _ = left(&model, &udp(C1_SIDE, (C1, port), (WORLD, 53))).unwrap();
        }
        let before = model.flows.borrow().len();
        if let Err(reason) = left(&model, &udp(C2_SIDE, (C2, 4000), (WORLD, 53))) {
            refused = Some(reason);
        }
        assert_eq!(refused, Some(Reason::PortsExhausted));
        assert_eq!(model.flows.borrow().len(), before);
    }

    #[test]
    fn a_full_table_keeps_what_it_has_and_leaves_no_half() {
        for room in [0, 1, 2, 3] {
            let mut model = model();
            model.room = room;
            let first = left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53)));
            let second = left(&model, &udp(C1_SIDE, (C1, 4001), (WORLD, 53)));
            assert_eq!(first.is_ok(), room >= 2);
            assert_eq!(second, Err(Reason::TableFull));
            assert_eq!(model.flows.borrow().len(), room & !1);
            assert_eq!(left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53))).is_ok(), room >= 2);
        }
    }

    #[test]
    fn a_flow_ends_with_its_slots_epoch() {
        let mut model = model();
        let sent = udp(UPLINK, (WORLD, 4000), (HOST, 5000));
        let there = left(&model, &sent).unwrap();
        let mut back = answer(&there, 0);
        assert!(left(&model, &back).is_ok());
        model.epochs.insert(PUBLISH_SLOT, 1);
        // Now it is the container that begins, with a port that nothing publishes.
        let again = left(&model, &back).unwrap();
        assert_eq!(again.tuple.source, HOST);
        assert_eq!(again.tuple.source_port.get(), 80);
        model.publishes.insert(
            PUBLISH_SLOT,
            Publish { container: C2, host_port: Port::new(5000), container_port: Port::new(80), flags: 0 },
        );
        assert_eq!(left(&model, &sent).unwrap().tuple.destination, C2, "a fixed port meets the new container at once");
        back.tuple.source = C2;
        back.input = C2_SIDE;
        assert_eq!(left(&model, &back).unwrap().tuple, sent.tuple.reversed());
    }

    #[test]
    fn an_idle_flow_counts_as_absent_and_its_port_is_free() {
        let model = model();
        let first = left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53))).unwrap();
        model.now.set(model.now.get() + State::Unreplied.timeout(protocol::UDP) + 1);
        let second = left(&model, &udp(C2_SIDE, (C2, 4000), (WORLD, 53))).unwrap();
        assert_eq!(second.tuple, first.tuple, "the port is used again");
        assert_eq!(left(&model, &answer(&second, 0)).unwrap().tuple.destination, C2);
        assert_eq!(model.flows.borrow().len(), 2, "nothing is left of the first");
    }

    #[test]
    fn expiry_never_frees_a_port_in_use() {
        let model = model();
        let sent = udp(C1_SIDE, (C1, 4000), (WORLD, 53));
        let there = left(&model, &sent).unwrap();
        // One way only: the reply half is never used.
        for _ in 0..10 {
            model.now.set(model.now.get() + ticks(100));
            assert_eq!(left(&model, &sent).unwrap(), there);
        }
        let other = left(&model, &udp(C2_SIDE, (C2, 4000), (WORLD, 53))).unwrap();
        assert_ne!(other.tuple.source_port, there.tuple.source_port);
        assert_eq!(
            left(&model, &answer(&there, 0)).unwrap().tuple,
            sent.tuple.reversed(),
            "the late answer is still known"
        );
    }

    #[test]
    fn a_clock_that_another_cpu_read_later_ends_nothing() {
        let model = model();
        let sent = udp(C1_SIDE, (C1, 4000), (WORLD, 53));
        let there = left(&model, &sent).unwrap();
        model.now.set(model.now.get() - 1);
        assert_eq!(left(&model, &sent).unwrap(), there);
    }

    #[test]
    fn both_halves_move_together() {
        let model = model();
        let to = |flags| packet(C1_SIDE, (C1, 4000), (WORLD, 80), protocol::TCP, flags);
        let there = left(&model, &to(tcp::SYN)).unwrap();
        let states = || -> Vec<u8> { model.flows.borrow().values().map(|half| half.state).collect() };
        let steps = [
            (false, tcp::SYN | tcp::ACK, State::SynReceived),
            (true, tcp::ACK, State::Established),
            (false, tcp::FIN | tcp::ACK, State::ReplyClosed),
            (true, tcp::FIN | tcp::ACK, State::Closing),
            (true, tcp::SYN, State::SynSent),
            (false, tcp::RST, State::Closed),
        ];
        for (forward, flags, state) in steps {
            let packet = if forward { to(flags) } else { answer(&there, flags) };
            assert!(left(&model, &packet).is_ok());
            assert_eq!(states(), [state as u8; 2], "after {flags:#x}");
        }
    }

    #[test]
    fn an_endpoint_made_again_takes_up_its_flows_port() {
        let mut model = model();
        let sent = udp(C2_SIDE, (C2, 4000), (HOST, 5000));
        assert!(left(&model, &sent).is_ok());
        let mut own = model.endpoints[&C2];
        own.host_side = 99;
        model.endpoints.insert(C2, own);
        let there = left(&model, &Packet { input: 99, ..sent }).unwrap();
        assert_eq!(left(&model, &answer(&there, 0)).unwrap().output, 99);
    }

    #[test]
    fn a_publish_whose_container_is_gone_drops() {
        let mut model = model();
        model.endpoints.remove(&C1);
        assert_eq!(left(&model, &udp(UPLINK, (WORLD, 4000), (HOST, 5000))), Err(Reason::ContainerGone));
    }

    #[test]
    fn without_a_route_nothing_leaves() {
        let mut model = model();
        model.routes.clear();
        assert_eq!(left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53))), Err(Reason::NoRoute));
    }

    #[test]
    fn random_ports_are_unprivileged_and_below_the_hosts_own() {
        for random in (0..=u32::MAX).step_by(9973) {
            assert!((1024..32768).contains(&some_port(random).get()));
        }
    }
}
