//! What a packet of no flow may begin.

use bytemuck::Zeroable as _;

use crate::{
    abi::{self, Door, Endpoint, Flow, Macs, Uplink, exit, network, publish},
    address::Address,
    answer::Answer,
    begin::{PortWalk, reservation},
    crossing::Head,
    icmp_error::ErrorTranslation,
    ipv4::Ipv4,
    ipv6::Ipv6,
    mapping,
    mss::Search,
    packet::{Packet, Payload},
    reason::Reason,
    tables::{Route, Tables},
    tuple::{Tuple, protocol, side},
};

/// A packet of no flow, and the flow that it may begin.
#[derive(Clone, Copy)]
pub struct First<A> {
    /// As it arrived.
    pub packet: Packet<A>,
    /// The frame's source MAC.
    pub source_mac: [u8; 6],
    /// The flow table has been asked about it, and has none ([`crate::forward::Found::Nothing`]).
    pub is_of_none: bool,
    /// What [`plan`] answers.
    pub beginning: Beginning<A>,
    /// The packet's tuple, while a mapping is begun in its place.
    pub sent: Tuple<A>,
    /// The key that [`crate::begin`] reserves.
    pub reply_key: Tuple<A>,
    /// What [`crate::begin::begin`] answers: its `translation` is the packet's.
    pub half: Flow<A>,
    /// The ports that it tries.
    pub walk: PortWalk,
    /// How that went: one of [`crate::begin::reservation`].
    pub reservation: u8,
    /// How it is translated if it is an ICMP error.
    pub error: ErrorTranslation<A>,
    /// A [`crate::answer::Why`]: why its sender gets an error instead. If it is too long, for what
    /// `half.translation` says.
    pub refusal: u8,
    /// Where a SYN says how long segments may be.
    pub search: Search,
    /// That error.
    pub answer: Answer,
    /// What it gets where it becomes an IPv4 packet.
    pub head4: Head<Ipv4>,
    /// What it gets where it becomes an IPv6 packet.
    pub head6: Head<Ipv6>,
}

impl<A: Address> First<A> {
    /// Nothing is planned yet.
    pub fn new(packet: Packet<A>, source_mac: [u8; 6]) -> Self {
        let half = Flow::zeroed();
        let door = Door::uplink(0, &Uplink { address: packet.tuple.source, mtu: 0 });
        let beginning = Beginning {
            leaves: packet.tuple,
            forward: door,
            reply: door,
            forward_input: 0,
            reply_input: 0,
            slot: 0,
            epoch: 0,
            owner: 0,
            network: 0,
            as_host: false,
        };
        Self {
            packet,
            source_mac,
            is_of_none: false,
            beginning,
            sent: packet.tuple,
            reply_key: packet.tuple,
            half,
            walk: PortWalk::NOT_BEGUN,
            reservation: reservation::TAKEN,
            error: ErrorTranslation::none(),
            refusal: 0,
            search: Search::new(0),
            answer: Answer::NONE,
            head4: Head::none(),
            head6: Head::none(),
        }
    }
}

/// A flow that is to begin.
#[derive(Clone, Copy)]
pub struct Beginning<A> {
    /// The tuple its first packet leaves with, if the port is free.
    pub(crate) leaves: Tuple<A>,
    pub(crate) forward: Door,
    pub(crate) reply: Door,
    pub(crate) forward_input: u32,
    pub(crate) reply_input: u32,
    pub(crate) slot: u32,
    pub(crate) epoch: u32,
    /// The slot of the endpoint it counts for.
    pub(crate) owner: u32,
    /// Of that endpoint.
    pub(crate) network: u16,
    /// It leaves with an address of the host, which the host's own sockets use too.
    pub(crate) as_host: bool,
}

impl<A> Beginning<A> {
    /// Neighbours' packets must be rewritten after all.
    #[inline(always)]
    pub(crate) fn translate(&mut self) {
        for door in [&mut self.forward, &mut self.reply] {
            if door.exit == exit::BRIDGED {
                door.exit = exit::PEER;
            }
        }
    }
}

/// Decides what a packet of no flow may begin.
#[inline(always)]
pub fn plan<A: Address>(first: &mut First<A>, tables: &impl Tables<A>) -> Result<(), Reason> {
    // Written where it is to be: on its way there each beginning would take its room on BPF's
    // stack.
    let First { packet, source_mac, beginning, .. } = first;
    match packet.tuple.side {
        side::CONTAINER => first_from_container(packet, source_mac, beginning, tables),
        _ => first_from_uplink(packet, beginning, tables),
    }
}

#[inline(always)]
fn first_from_container<A: Address>(
    packet: &Packet<A>,
    source_mac: &[u8; 6],
    beginning: &mut Beginning<A>,
    tables: &impl Tables<A>,
) -> Result<(), Reason> {
    let tuple = &packet.tuple;
    let own = tables.endpoint(&tuple.source).ok_or(Reason::SourceAddressSpoofed)?;
    if own.host_side != packet.input {
        return Err(Reason::SourceAddressSpoofed);
    }
    if own.macs.destination() != *source_mac {
        return Err(Reason::SourceMacSpoofed);
    }
    if packet.payload == Payload::Hidden {
        return Err(Reason::ExtensionHeaders);
    }
    if tuple.destination.is_multicast() || tuple.destination.is_broadcast_of(&own.subnet, &own.mask)
    {
        return Err(Reason::ToBridge);
    }
    // What has a link-local source can be answered on its link alone.
    let answerable = packet.begins() && !tuple.source.stays_on_link();
    if answerable
        && let Some(slot) = tables.published(tuple)
        && tables.is_local(&tuple.destination)
    {
        let inside = by_publish(packet, slot, &mut beginning.leaves, tables)?;
        return hairpin(packet, own, &inside, beginning);
    }
    if let Some(other) = tables.endpoint(&tuple.destination) {
        return to_container(packet, own, other, beginning, tables);
    }
    if tables.is_local(&tuple.destination) {
        return match by_mapping(packet, &mut beginning.leaves, tables) {
            Ok(inside) if answerable => hairpin(packet, own, &inside, beginning),
            _ => Err(Reason::ToHost),
        };
    }
    if tuple.destination.is_in(&own.subnet, &own.mask) || tuple.destination.stays_on_link() {
        return Err(Reason::ToBridge);
    }
    if tuple.source.stays_on_link() {
        return Err(Reason::NoRoute);
    }
    to_outside(packet, own, beginning, tables)
}

#[inline(always)]
fn to_container<A: Address>(
    packet: &Packet<A>,
    own: &Endpoint<A>,
    other: &Endpoint<A>,
    beginning: &mut Beginning<A>,
    tables: &impl Tables<A>,
) -> Result<(), Reason> {
    if other.bridge != own.bridge {
        return Err(Reason::OtherNetwork);
    }
    if own.network & network::NO_ICC != 0 {
        return Err(Reason::IccOff);
    }
    // For the container it is as if the bridge had brought it. The MACs are written all the same:
    // no frame after the first is asked for its source's.
    let door = |from: &Endpoint<A>, to: &Endpoint<A>| Door {
        macs: Macs::new(to.macs.destination(), from.macs.destination()),
        exit: exit::BRIDGED,
        // The bridge would not look either: both sides have the network's MTU.
        mtu: 0,
        ..Door::container(to)
    };
    beginning.leaves = packet.tuple;
    beginning.forward = door(own, other);
    beginning.reply = door(other, own);
    beginning.forward_input = own.host_side;
    beginning.reply_input = other.host_side;
    beginning.slot = other.slot;
    beginning.epoch = tables.epoch(other.slot);
    beginning.owner = own.slot;
    beginning.network = own.network_number as u16;
    beginning.as_host = false;
    Ok(())
}

#[inline(always)]
fn to_outside<A: Address>(
    packet: &Packet<A>,
    own: &Endpoint<A>,
    beginning: &mut Beginning<A>,
    tables: &impl Tables<A>,
) -> Result<(), Reason> {
    if own.network & network::INTERNAL != 0 {
        return Err(Reason::InternalNetwork);
    }
    match packet.payload {
        Payload::Fragment => return Err(Reason::Fragment),
        Payload::Error => return Err(Reason::ErrorOfNoFlow),
        Payload::Link | Payload::Hidden | Payload::Other => {
            return Err(Reason::ProtocolNotTranslated);
        }
        Payload::Tcp | Payload::Udp | Payload::Sctp | Payload::Echo => {}
    }
    if !packet.begins() {
        return Err(Reason::NoFlow);
    }
    if packet.ttl <= 1 {
        return Err(Reason::TtlExceeded);
    }
    let Route::Through(output) = tables.route(&packet.tuple, own.bridge) else {
        return Err(Reason::NoRoute);
    };
    let uplink = tables.uplink(output).ok_or(Reason::NotAnUplink)?;
    let masquerade = own.network & network::MASQUERADE != 0;
    let mapped = masquerade && mapping::is_for(own.network_number, packet.tuple.protocol, tables);
    beginning.leaves = packet.tuple;
    beginning.leaves.side = side::UPLINK;
    if masquerade {
        beginning.leaves.source = uplink.address;
    }
    beginning.forward = Door { mapped: u8::from(mapped), ..Door::uplink(output, uplink) };
    beginning.reply = Door::container(own);
    beginning.forward_input = own.host_side;
    beginning.reply_input = 0;
    beginning.slot = own.slot;
    beginning.epoch = tables.epoch(own.slot);
    beginning.owner = own.slot;
    beginning.network = own.network_number as u16;
    beginning.as_host = masquerade;
    Ok(())
}

/// From a container to a port of the host that leads to a container.
#[inline(always)]
fn hairpin<A: Address>(
    packet: &Packet<A>,
    own: &Endpoint<A>,
    inside: &Inside<'_, A>,
    beginning: &mut Beginning<A>,
) -> Result<(), Reason> {
    let target = inside.target;
    if own.network & network::INTERNAL != 0 && target.bridge != own.bridge {
        return Err(Reason::InternalNetwork);
    }
    enter(packet, inside, beginning);
    beginning.reply = Door::container(own);
    beginning.forward_input = own.host_side;
    beginning.reply_input = target.host_side;
    beginning.slot = inside.slot;
    beginning.epoch = inside.epoch;
    beginning.owner = own.slot;
    beginning.network = own.network_number as u16;
    Ok(())
}

/// Into the container that a port of the host leads to. Where the client's address is none that it
/// could answer to, the network's gateway speaks for the client.
#[inline(always)]
fn enter<A: Address>(packet: &Packet<A>, inside: &Inside<'_, A>, beginning: &mut Beginning<A>) {
    let destination = &beginning.leaves.destination;
    let crosses = destination.is_mapped();
    // A container takes no packet from its own address.
    beginning.as_host = crosses || *destination == packet.tuple.source;
    if beginning.as_host {
        beginning.leaves.source = inside.target.gateway;
    }
    beginning.forward =
        if crosses { Door::crossing(inside.target) } else { Door::container(inside.target) };
}

#[inline(always)]
fn first_from_uplink<A: Address>(
    packet: &Packet<A>,
    beginning: &mut Beginning<A>,
    tables: &impl Tables<A>,
) -> Result<(), Reason> {
    if packet.tuple.is_martian() {
        return Err(Reason::Martian);
    }
    if !packet.has_ports() {
        return Err(Reason::NotOurs);
    }
    if !packet.begins() {
        // The host itself may talk from that port: only a SYN is for a container.
        return Err(Reason::NotOurs);
    }
    let (inside, mapped, uplink) = if let Some(slot) = tables.published(&packet.tuple) {
        let uplink = tables.uplink(packet.input);
        let destination = &packet.tuple.destination;
        // Nearly always it is the uplink's own address.
        if !(uplink.is_some_and(|uplink| uplink.address == *destination)
            || tables.is_local(destination))
        {
            return Err(Reason::NotOurs);
        }
        if !is_outside(&packet.tuple.source, tables) {
            return Err(Reason::SourceNotOutside);
        }
        (by_publish(packet, slot, &mut beginning.leaves, tables)?, 0, uplink)
    } else {
        let inside = by_mapping(packet, &mut beginning.leaves, tables)?;
        if !is_outside(&packet.tuple.source, tables) {
            return Err(Reason::SourceNotOutside);
        }
        (inside, 1, tables.uplink(packet.input))
    };
    if packet.ttl <= 1 {
        return Err(Reason::TtlExceeded);
    }
    let target = inside.target;
    let uplink = uplink.ok_or(Reason::NotAnUplink)?;
    enter(packet, &inside, beginning);
    beginning.reply = Door { mapped, ..Door::uplink(packet.input, uplink) };
    beginning.forward_input = 0;
    beginning.reply_input = target.host_side;
    beginning.slot = inside.slot;
    beginning.epoch = inside.epoch;
    beginning.owner = target.slot | abi::FROM_OUTSIDE;
    beginning.network = target.network_number as u16;
    Ok(())
}

/// Whether a packet from an uplink may have that source. An answer to another one would go
/// elsewhere than back, and to the host's own exchange with the container if it took its tuple.
#[inline(always)]
fn is_outside<A: Address>(source: &A, tables: &impl Tables<A>) -> bool {
    !(source.is_martian_source()
        || source.stays_on_link()
        || tables.is_local(source)
        || tables.is_inside(source))
}

/// Where a port of the host leads.
struct Inside<'t, A> {
    target: &'t Endpoint<A>,
    slot: u32,
    epoch: u32,
}

/// Leads a packet where a publish does, and makes that the destination that it leaves with.
#[inline(always)]
fn by_publish<'t, A: Address>(
    packet: &Packet<A>,
    slot: u32,
    leaves: &mut Tuple<A>,
    tables: &'t impl Tables<A>,
) -> Result<Inside<'t, A>, Reason> {
    // UDP does not say which side began: an answer to the host's own socket must not begin a flow.
    if packet.tuple.protocol == protocol::UDP && tables.host_socket(&packet.tuple) {
        return Err(Reason::HostSocket);
    }
    // In this order: a publish that goes is taken from its port before its epoch moves on, so what
    // is found there after the epoch was read cannot have ended before.
    let epoch = tables.epoch(slot);
    if tables.published(&packet.tuple) != Some(slot) {
        return Err(Reason::ContainerGone);
    }
    let publish = tables.publish(slot).ok_or(Reason::ContainerGone)?;
    if publish.flags & publish::SOURCES_LISTED != 0 && !tables.admits(slot, &packet.tuple.source) {
        return Err(Reason::SourceNotAdmitted);
    }
    let target = tables.endpoint(&publish.container).ok_or(Reason::ContainerGone)?;
    *leaves = packet.tuple;
    leaves.destination = publish.container;
    leaves.destination_port = publish.container_port_of(packet.tuple.destination_port);
    leaves.side = side::CONTAINER;
    Ok(Inside { target, slot, epoch })
}

/// The same for a mapping.
#[inline(always)]
fn by_mapping<'t, A: Address>(
    packet: &Packet<A>,
    leaves: &mut Tuple<A>,
    tables: &'t impl Tables<A>,
) -> Result<Inside<'t, A>, Reason> {
    if !packet.begins() {
        return Err(Reason::NotOurs);
    }
    *leaves = packet.tuple;
    leaves.side = side::CONTAINER;
    let (slot, epoch) = mapping::lead(&packet.tuple, leaves, tables).ok_or(Reason::NotOurs)?;
    if tables.host_socket(&packet.tuple) {
        return Err(Reason::HostSocket);
    }
    let target = tables.endpoint(&leaves.destination).ok_or(Reason::ContainerGone)?;
    if !mapping::is_for(target.network_number, packet.tuple.protocol, tables) {
        return Err(Reason::NotOurs);
    }
    Ok(Inside { target, slot, epoch })
}

#[cfg(test)]
mod tests;
