//! Plans the flow that a packet without one may begin.

use crate::{
    abi::{
        drop_reason::DropReason, endpoint::Endpoint, macs::Macs, network, owner::Owner, publish,
        translation::Deliver,
    },
    env::{Env, Route},
    flow::{egress::Egress, new_flow::NewFlow},
    nat::endpoint_independent,
    scratch::Scratch,
    wire::{
        address::Address,
        packet::{Packet, Payload},
        protocol,
        tuple::{Side, Tuple},
    },
};

/// Plans the flow that a packet without one begins, in `scratch.new_flow`. Fails with the reason
/// why it begins none.
#[inline(always)]
pub fn plan<A: Address>(scratch: &mut Scratch<A>, env: &impl Env<A>) -> Result<(), DropReason> {
    // Written in place: as a value each new flow would take its room on the BPF stack.
    let Scratch { packet, source_mac, new_flow, .. } = scratch;
    match packet.tuple.side {
        Side::CONTAINER => plan_from_container(packet, source_mac, new_flow, env),
        _ => plan_from_uplink(packet, new_flow, env),
    }
}

#[inline(always)]
fn plan_from_container<A: Address>(
    packet: &Packet<A>,
    source_mac: &[u8; 6],
    new_flow: &mut NewFlow<A>,
    env: &impl Env<A>,
) -> Result<(), DropReason> {
    let tuple = &packet.tuple;
    let own = env.endpoint(&tuple.source).ok_or(DropReason::SourceAddressSpoofed)?;
    if own.host_side != packet.input {
        return Err(DropReason::SourceAddressSpoofed);
    }
    if own.macs.destination() != *source_mac {
        return Err(DropReason::SourceMacSpoofed);
    }
    if packet.payload == Payload::Unparsed {
        return Err(DropReason::ExtensionHeaders);
    }
    if tuple.destination.is_multicast() || tuple.destination.is_broadcast_of(&own.subnet, &own.mask)
    {
        return Err(DropReason::ToBridge);
    }
    // A packet with a link-local source can be replied to on its own link only.
    let answerable = packet.begins() && !tuple.source.stays_on_link();
    if answerable
        && let Some(slot) = env.published(tuple)
        && env.is_local(&tuple.destination)
    {
        let found = by_publish(packet, slot, &mut new_flow.translated, env)?;
        return hairpin(packet, own, &found, new_flow);
    }
    if let Some(other) = env.endpoint(&tuple.destination) {
        return to_container(packet, own, other, new_flow, env);
    }
    if env.is_local(&tuple.destination) {
        return match by_mapping(packet, &mut new_flow.translated, env) {
            Ok(found) if answerable => hairpin(packet, own, &found, new_flow),
            _ => Err(DropReason::ToHost),
        };
    }
    if tuple.destination.is_in(&own.subnet, &own.mask) || tuple.destination.stays_on_link() {
        return Err(DropReason::ToBridge);
    }
    if tuple.source.stays_on_link() {
        return Err(DropReason::NoRoute);
    }
    to_outside(packet, own, new_flow, env)
}

#[inline(always)]
fn to_container<A: Address>(
    packet: &Packet<A>,
    own: &Endpoint<A>,
    other: &Endpoint<A>,
    new_flow: &mut NewFlow<A>,
    env: &impl Env<A>,
) -> Result<(), DropReason> {
    if other.bridge != own.bridge {
        return Err(DropReason::OtherNetwork);
    }
    if own.network & network::NO_ICC != 0 {
        return Err(DropReason::IccOff);
    }
    // The packet arrives as if the bridge had forwarded it. The MACs are written all the same: only
    // the first frame of a flow has its source MAC checked.
    let egress = |from: &Endpoint<A>, to: &Endpoint<A>| Egress {
        macs: Macs::new(to.macs.destination(), from.macs.destination()),
        deliver: Deliver::SAME_BRIDGE,
        // No check, as on a bridge: both sides have the network's MTU.
        mtu: 0,
        ..Egress::container(to)
    };
    new_flow.translated = packet.tuple;
    new_flow.forward = egress(own, other);
    new_flow.reply = egress(other, own);
    new_flow.forward_input = own.host_side;
    new_flow.reply_input = other.host_side;
    new_flow.slot = other.slot;
    new_flow.epoch = env.epoch(other.slot);
    new_flow.owner = Owner::of(own.slot);
    new_flow.network = own.network_number as u16;
    new_flow.uses_host_address = false;
    Ok(())
}

#[inline(always)]
fn to_outside<A: Address>(
    packet: &Packet<A>,
    own: &Endpoint<A>,
    new_flow: &mut NewFlow<A>,
    env: &impl Env<A>,
) -> Result<(), DropReason> {
    if own.network & network::INTERNAL != 0 {
        return Err(DropReason::InternalNetwork);
    }
    match packet.payload {
        Payload::Fragment => return Err(DropReason::Fragment),
        Payload::Error => return Err(DropReason::ErrorOfNoFlow),
        Payload::Link | Payload::Unparsed | Payload::Other => {
            return Err(DropReason::ProtocolNotTranslated);
        }
        Payload::Tcp | Payload::Udp | Payload::Sctp | Payload::Echo => {}
    }
    if !packet.begins() {
        return Err(DropReason::NoFlow);
    }
    if packet.ttl <= 1 {
        return Err(DropReason::TtlExceeded);
    }
    let Route::Through(output) = env.route(&packet.tuple, own.bridge) else {
        return Err(DropReason::NoRoute);
    };
    let uplink = env.uplink(output).ok_or(DropReason::NotAnUplink)?;
    let masquerade = own.network & network::MASQUERADE != 0;
    let refreshes_mapping = masquerade
        && endpoint_independent::applies_to(own.network_number, packet.tuple.protocol, env);
    new_flow.translated = packet.tuple;
    new_flow.translated.side = Side::UPLINK;
    if masquerade {
        new_flow.translated.source = uplink.address;
    }
    new_flow.forward =
        Egress { refreshes_mapping: u8::from(refreshes_mapping), ..Egress::uplink(output, uplink) };
    new_flow.reply = Egress::container(own);
    new_flow.forward_input = own.host_side;
    new_flow.reply_input = 0;
    new_flow.slot = own.slot;
    new_flow.epoch = env.epoch(own.slot);
    new_flow.owner = Owner::of(own.slot);
    new_flow.network = own.network_number as u16;
    new_flow.uses_host_address = masquerade;
    Ok(())
}

/// Plans a flow from a container to a port of the host that leads to a container.
#[inline(always)]
fn hairpin<A: Address>(
    packet: &Packet<A>,
    own: &Endpoint<A>,
    found: &PublishTarget<'_, A>,
    new_flow: &mut NewFlow<A>,
) -> Result<(), DropReason> {
    let target = found.endpoint;
    if own.network & network::INTERNAL != 0 && target.bridge != own.bridge {
        return Err(DropReason::InternalNetwork);
    }
    plan_entry(packet, found, new_flow);
    new_flow.reply = Egress::container(own);
    new_flow.forward_input = own.host_side;
    new_flow.reply_input = target.host_side;
    new_flow.slot = found.slot;
    new_flow.epoch = found.epoch;
    new_flow.owner = Owner::of(own.slot);
    new_flow.network = own.network_number as u16;
    Ok(())
}

/// Plans the direction into the container that a port of the host leads to. If the container could
/// not reply to the client's address, its network's gateway stands for the client.
#[inline(always)]
fn plan_entry<A: Address>(
    packet: &Packet<A>,
    found: &PublishTarget<'_, A>,
    new_flow: &mut NewFlow<A>,
) {
    let destination = &new_flow.translated.destination;
    let is_nat64 = destination.is_v4_mapped();
    // A container drops packets from its own address.
    new_flow.uses_host_address = is_nat64 || *destination == packet.tuple.source;
    if new_flow.uses_host_address {
        new_flow.translated.source = found.endpoint.gateway;
    }
    new_flow.forward = if is_nat64 {
        Egress::container_nat64(found.endpoint)
    } else {
        Egress::container(found.endpoint)
    };
}

#[inline(always)]
fn plan_from_uplink<A: Address>(
    packet: &Packet<A>,
    new_flow: &mut NewFlow<A>,
    env: &impl Env<A>,
) -> Result<(), DropReason> {
    if packet.tuple.is_martian() {
        return Err(DropReason::Martian);
    }
    if !packet.has_ports() {
        return Err(DropReason::NotOurs);
    }
    if !packet.begins() {
        // The host itself may use that port: only a SYN is for a container.
        return Err(DropReason::NotOurs);
    }
    let (found, refreshes_mapping, uplink) = if let Some(slot) = env.published(&packet.tuple) {
        let uplink = env.uplink(packet.input);
        let destination = &packet.tuple.destination;
        // The first test suffices for nearly every packet.
        if !(uplink.is_some_and(|uplink| uplink.address == *destination)
            || env.is_local(destination))
        {
            return Err(DropReason::NotOurs);
        }
        if !is_outside(&packet.tuple.source, env) {
            return Err(DropReason::SourceNotOutside);
        }
        (by_publish(packet, slot, &mut new_flow.translated, env)?, 0, uplink)
    } else {
        let found = by_mapping(packet, &mut new_flow.translated, env)?;
        if !is_outside(&packet.tuple.source, env) {
            return Err(DropReason::SourceNotOutside);
        }
        (found, 1, env.uplink(packet.input))
    };
    if packet.ttl <= 1 {
        return Err(DropReason::TtlExceeded);
    }
    let target = found.endpoint;
    let uplink = uplink.ok_or(DropReason::NotAnUplink)?;
    plan_entry(packet, &found, new_flow);
    new_flow.reply = Egress { refreshes_mapping, ..Egress::uplink(packet.input, uplink) };
    new_flow.forward_input = 0;
    new_flow.reply_input = target.host_side;
    new_flow.slot = found.slot;
    new_flow.epoch = found.epoch;
    new_flow.owner = Owner::inbound(target.slot);
    new_flow.network = target.network_number as u16;
    Ok(())
}

/// Whether a packet from an uplink may have that source address. A reply to any other would not go
/// back to the sender, and could take the tuple of an exchange between the host and the container.
#[inline(always)]
fn is_outside<A: Address>(source: &A, env: &impl Env<A>) -> bool {
    !(source.is_martian_source()
        || source.stays_on_link()
        || env.is_local(source)
        || env.is_in_local_subnet(source))
}

/// The container that a port of the host leads to.
struct PublishTarget<'t, A> {
    endpoint: &'t Endpoint<A>,
    slot: u32,
    epoch: u32,
}

/// Finds the container of a publish, and writes the tuple that the packet leaves with to
/// `translated`.
#[inline(always)]
fn by_publish<'t, A: Address>(
    packet: &Packet<A>,
    slot: u32,
    translated: &mut Tuple<A>,
    env: &'t impl Env<A>,
) -> Result<PublishTarget<'t, A>, DropReason> {
    // UDP does not show which side began: a reply to a socket of the host must not begin a flow.
    if packet.tuple.protocol == protocol::UDP && env.host_socket(&packet.tuple) {
        return Err(DropReason::HostSocket);
    }
    // The order matters. The agent removes a publish from its port before it raises the epoch, so a
    // publish that is found after the epoch was read had not ended when it was read.
    let epoch = env.epoch(slot);
    if env.published(&packet.tuple) != Some(slot) {
        return Err(DropReason::ContainerGone);
    }
    let publish = env.publish(slot).ok_or(DropReason::ContainerGone)?;
    if publish.flags & publish::SOURCES_LISTED != 0 && !env.admits(slot, &packet.tuple.source) {
        return Err(DropReason::SourceNotAdmitted);
    }
    let endpoint = env.endpoint(&publish.container).ok_or(DropReason::ContainerGone)?;
    *translated = packet.tuple;
    translated.destination = publish.container;
    translated.destination_port = publish.container_port_of(packet.tuple.destination_port);
    translated.side = Side::CONTAINER;
    Ok(PublishTarget { endpoint, slot, epoch })
}

/// Finds the container of an endpoint-independent mapping, and writes the tuple that the packet
/// leaves with to `translated`.
#[inline(always)]
fn by_mapping<'t, A: Address>(
    packet: &Packet<A>,
    translated: &mut Tuple<A>,
    env: &'t impl Env<A>,
) -> Result<PublishTarget<'t, A>, DropReason> {
    if !packet.begins() {
        return Err(DropReason::NotOurs);
    }
    *translated = packet.tuple;
    translated.side = Side::CONTAINER;
    let (slot, epoch) = endpoint_independent::lookup_external(&packet.tuple, translated, env)
        .ok_or(DropReason::NotOurs)?;
    if env.host_socket(&packet.tuple) {
        return Err(DropReason::HostSocket);
    }
    let endpoint = env.endpoint(&translated.destination).ok_or(DropReason::ContainerGone)?;
    if !endpoint_independent::applies_to(endpoint.network_number, packet.tuple.protocol, env) {
        return Err(DropReason::NotOurs);
    }
    Ok(PublishTarget { endpoint, slot, epoch })
}

#[cfg(test)]
mod tests;
