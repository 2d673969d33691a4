//! IPv6 clients of a container that has IPv4 alone (NAT64): the frames of either family, changed in
//! a plain buffer. The decisions are IPv6's.

use causeway_common::{
    abi::{
        Deliver, Endpoint, Translation,
        drop_reason::{DropReason, Fate},
    },
    flow::error::ErrorTranslation,
    nat::{
        nat64::{mapped_packet, to_ipv4, to_ipv6},
        nat64_error::{error_to_ipv4, error_to_ipv6, rewrite_quote},
    },
    testing::{
        model::Model,
        steps::{Decision, decide_nat64},
    },
    wire::{
        address::{V4, V6},
        ethernet::{ETHERNET, ether_type},
        frame::Frame as _,
        headers::Head,
        packet::{Arrival, Packet, Payload},
        parse::Parse as _,
        tuple::Side,
    },
};

use crate::{
    fixture::{self, CONTAINERS, FIRST_PUBLISH, Scenery as _},
    programs::{Outcome, answered, rewrite_payload},
};

/// The publishes that lead to a container with IPv4 alone: one of UDP and one of TCP.
const PUBLISHES: [(u32, usize); 2] = [(1, 0), (3, 1)];

/// Takes IPv6 from the containers of two publishes, as far as those lead to them.
pub fn put(model: &mut Model<V6>) {
    for (publish, container) in PUBLISHES {
        let mapped = |v4| V6::v4_mapped(V4::named(v4));
        let own = model.endpoints[&V6::named(CONTAINERS[container])];
        let [a, b, ..] = CONTAINERS[container];
        let endpoint =
            Endpoint { subnet: mapped([a, b, 0, 0]), gateway: mapped([a, b, 0, 1]), ..own };
        let address = mapped(CONTAINERS[container]);
        model.endpoints.insert(address, endpoint);
        model
            .publishes
            .get_mut(&(FIRST_PUBLISH + publish))
            .expect("the fixture has it")
            .container = address;
    }
}

/// What becomes of a container's IPv4 frame among IPv6's flows. None if it belongs to none of them.
pub fn from_container(frame: &[u8], arrival: Arrival, env: &Model<V6>) -> Option<Outcome> {
    let packet = V4::parse(frame, arrival).ok()?;
    debug_assert_eq!(packet.tuple.side, Side::CONTAINER);
    let v4 = fixture::model::<V4>();
    let decision = decide_nat64(frame, &packet, &v4, env).err()?;
    let mapped = mapped_packet(&packet);
    Some(match decision {
        Decision::Forward(translation) => {
            if packet.payload == Payload::Udp
                && frame.read::<u16>(packet.payload_at + 6).unwrap_or(0) == 0
            {
                return Some(Outcome::Stop(DropReason::NoChecksum));
            }
            left(&translation, to_ipv6_frame(frame, &mapped, &translation, env))
        }
        Decision::ForwardError(error) => {
            left_error(&error, error_to_ipv6_frame(frame, &mapped, &error))
        }
        Decision::Stop(reason) => stop(frame, &packet, reason, 0, &v4),
        Decision::TooLong(mtu) => stop(frame, &packet, DropReason::TooLong, mtu, &v4),
        Decision::ForwardFragment(..) | Decision::Reinject => {
            panic!("{decision:?}: no fragment changes its family")
        }
    })
}

/// The IPv4 frame of an IPv6 packet.
pub fn to_ipv4_frame(
    frame: &[u8],
    packet: &Packet<V6>,
    translation: &Translation<V6>,
    env: &Model<V6>,
) -> Option<Vec<u8>> {
    let mut head = Head::none();
    to_ipv4(frame, packet, &translation.tuple, 0x1234, &mut head)?;
    let payload = rewrite_payload(frame, packet, translation, env)?;
    Some(assemble(
        frame,
        translation,
        ether_type::IPV4,
        &[bytemuck::bytes_of(&head.outer), &payload],
    ))
}

fn to_ipv6_frame(
    frame: &[u8],
    packet: &Packet<V6>,
    translation: &Translation<V6>,
    env: &Model<V6>,
) -> Option<Vec<u8>> {
    let mut head = Head::none();
    to_ipv6(frame, packet, &translation.tuple, &mut head)?;
    let payload = rewrite_payload(frame, packet, translation, env)?;
    Some(assemble(
        frame,
        translation,
        ether_type::IPV6,
        &[bytemuck::bytes_of(&head.outer), &payload],
    ))
}

/// The IPv4 frame of an ICMPv6 error.
pub fn error_to_ipv4_frame(
    frame: &[u8],
    packet: &Packet<V6>,
    error: &ErrorTranslation<V6>,
) -> Option<Vec<u8>> {
    let (mut head, mut was) = (Head::none(), frame.to_vec());
    error_to_ipv4(frame, packet, error, 0x1234, &mut head)?;
    rewrite_quote(&mut was[..], error, &mut head)?;
    let parts = [
        bytemuck::bytes_of(&head.outer),
        bytemuck::bytes_of(&head.icmp),
        bytemuck::bytes_of(&head.quoted),
        &was[error.quote.payload_at..],
    ];
    Some(assemble(frame, &error.outer, ether_type::IPV4, &parts))
}

fn error_to_ipv6_frame(
    frame: &[u8],
    packet: &Packet<V6>,
    error: &ErrorTranslation<V6>,
) -> Option<Vec<u8>> {
    let (mut head, mut was) = (Head::none(), frame.to_vec());
    error_to_ipv6(frame, packet, error, &mut head)?;
    rewrite_quote(&mut was[..], error, &mut head)?;
    let parts = [
        bytemuck::bytes_of(&head.outer),
        bytemuck::bytes_of(&head.icmp),
        bytemuck::bytes_of(&head.quoted),
        &was[error.quote.payload_at..],
    ];
    Some(assemble(frame, &error.outer, ether_type::IPV6, &parts))
}

fn assemble(
    frame: &[u8],
    translation: &Translation<V6>,
    ether_type: u16,
    parts: &[&[u8]],
) -> Vec<u8> {
    let macs = if translation.deliver != Deliver::UPLINK || translation.macs.is_resolved() {
        bytemuck::bytes_of(&translation.macs)
    } else {
        &frame[..ETHERNET - 2]
    };
    [macs, &ether_type.to_ne_bytes(), &parts.concat()].concat()
}

fn left(translation: &Translation<V6>, frame: Option<Vec<u8>>) -> Outcome {
    match frame {
        Some(frame) => {
            Outcome::Leave { frame, output: translation.output, deliver: translation.deliver }
        }
        None => Outcome::Stop(DropReason::RewriteFailed),
    }
}

/// The outcome of an error; one that the other family does not have ends.
pub fn left_error(error: &ErrorTranslation<V6>, frame: Option<Vec<u8>>) -> Outcome {
    match frame {
        Some(frame) => left(&error.outer, Some(frame)),
        None => Outcome::Stop(DropReason::ErrorNotTranslated),
    }
}

fn stop(
    frame: &[u8],
    packet: &Packet<V4>,
    reason: DropReason,
    mtu: u16,
    v4: &Model<V4>,
) -> Outcome {
    debug_assert_eq!(reason.fate(), Fate::Drop);
    let Some(kind) = reason.icmp_error() else { return Outcome::Stop(reason) };
    match answered(frame, packet, kind, mtu, v4) {
        Some(answer) => Outcome::Answer(reason, answer),
        None => Outcome::Stop(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::{BRIDGE_MAC, Fixture, HOST, NEAR_MAC, WORLD, mac_of},
        programs::{Hook, run},
        wire::{Frame, header_sums_up, protocol},
    };

    #[test]
    fn datagrams_change_family_both_ways() {
        let mut model = fixture::model::<V6>();
        put(&mut model);
        let client = Frame {
            macs: (Fixture::MODEL.uplink_mac, NEAR_MAC),
            source: V6::named(WORLD).ip(),
            destination: V6::named(HOST).ip(),
            ttl: 9,
            options: Vec::new(),
            extensions: Vec::new(),
            dont_fragment: false,
            fragment: None,
            protocol: protocol::UDP,
            payload: [&[0x9c, 0x40, 0x13, 0x89, 0, 11, 0, 0], &b"odd"[..]].concat(),
        }
        .summed();
        let uplink = Fixture::MODEL.uplink;
        let outcome = run(Hook::Uplink, &client.bytes(), uplink, true, &model);
        let Outcome::Leave { frame, output, deliver } = outcome else { panic!("{outcome:?}") };
        assert_eq!((deliver, output), (Deliver::CONTAINER_NAT64, Fixture::MODEL.sides[0]));
        let there = Frame::read(&frame).expect("a packet");
        assert_eq!(there.destination, V4::named(CONTAINERS[0]).ip());
        assert!(header_sums_up(&frame) && there.transport_sums_up());
        assert_eq!(there.ttl, 8);

        let mut answer = there.reversed();
        answer.macs = (BRIDGE_MAC, mac_of(0));
        let answer = answer.summed();
        let outcome = run(Hook::HostSide, &answer.bytes(), output, true, &model);
        let Outcome::Leave { frame, output, .. } = outcome else { panic!("{outcome:?}") };
        let back = Frame::read(&frame).expect("a packet");
        assert_eq!(output, uplink);
        assert_eq!((back.source, back.destination), (client.destination, client.source));
        assert_eq!(back.ports(), client.ports().map(|(from, to)| (to, from)));
        assert!(back.transport_sums_up());
    }
}
