//! Frames of both families, parsed.

use crate::{
    testing::fixture::{
        C1_SIDE, Fixture, Head, UPLINK, Watched, arrival, families, frame, header,
        packet as tuple_of, whole_packet,
    },
    wire::{
        ethernet::ETHERNET,
        packet::{Arrival, Malformed, Packet, Payload},
        protocol, sctp, tcp,
        tuple::{Echo, Tuple},
    },
};
use std::vec::Vec;

use super::*;

families!(
    tuple_and_payload_are_parsed,
    options_do_not_hide_payload,
    truncated_frame_is_not_overread,
    only_first_packets_start_flows,
    both_parsers_agree_on_any_bytes,
    gso_length_is_that_of_segments,
);

const PROTOCOLS: [u8; 3] = [protocol::TCP, protocol::UDP, protocol::SCTP];

fn parse<A: Fixture>(frame: &[u8]) -> Result<Packet<A>, Malformed> {
    A::parse(frame, arrival(C1_SIDE, frame))
}

fn usual<A: Fixture>(frame: &[u8]) -> Result<Packet<A>, Malformed> {
    A::parse_usual(frame, arrival(C1_SIDE, frame))
}

/// A frame from the first container to the world, and where its payload begins.
fn sent<A: Fixture>(head: Head, protocol: u8, data: &[u8]) -> (Vec<u8>, usize) {
    let tuple = tuple_of::<A>(C1_SIDE, (A::C1, 4000), (A::WORLD, 80), protocol, 0).tuple;
    (frame::<A>(C1_SIDE, &whole_packet(head, &tuple, data)), ETHERNET + A::length_of(head))
}

/// TCP's SYN and ACK, or what else has those bytes.
const DATA: [u8; 20] = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 0xff, 0xff, 0, 0, 0, 0];

/// An SCTP packet with an INIT.
const INIT: [u8; 32] = {
    let mut bytes = [0; 32];
    bytes[12] = 1;
    bytes[15] = 20;
    bytes[19] = 9;
    bytes
};

fn tuple_and_payload_are_parsed<A: Fixture>() {
    for (number, data, payload, flags, sequence, acknowledgment) in [
        (protocol::TCP, &DATA[..], Payload::Tcp, 0x12, 1, 2),
        (protocol::UDP, &DATA, Payload::Udp, 0, 0, 0),
        (protocol::SCTP, &INIT, Payload::Sctp, tcp::SYN, 0, 9),
    ] {
        let (frame, at) = sent::<A>(Head::USUAL, number, data);
        let packet = parse::<A>(&frame).unwrap();
        let Tuple {
            source,
            destination,
            source_port,
            destination_port,
            protocol,
            side,
            echo,
            _pad,
        } = packet.tuple;
        assert_eq!((source, destination, protocol, echo), (A::C1, A::WORLD, number, Echo::NONE));
        assert_eq!(
            (source_port.get(), destination_port.get(), side),
            (4000, 80, crate::wire::tuple::Side::CONTAINER)
        );
        assert_eq!((packet.payload, packet.flags, packet.payload_at), (payload, flags, at));
        assert_eq!((packet.sequence, packet.acknowledgment), (sequence, acknowledgment));
        let length = u32::try_from(frame.len() - ETHERNET).unwrap();
        assert_eq!(
            (packet.ttl, packet.length, packet.segment, packet.input),
            (64, length, length, C1_SIDE)
        );
        assert!(!packet.is_fragment() && packet.id == 0 && packet.has_ports());
    }
    let (frame, _) = sent::<A>(Head::USUAL, A::ICMP, &DATA);
    let packet = parse::<A>(&frame).unwrap();
    let Tuple { source_port, destination_port, echo, .. } = packet.tuple;
    assert_eq!((source_port.get(), destination_port.get(), echo), (4000, 0, Echo::REQUEST));
    assert_eq!((packet.payload, packet.tuple.protocol), (Payload::Echo, A::ICMP));
}

fn options_do_not_hide_payload<A: Fixture>() {
    for options in 1..=Head::OPTIONS {
        for protocol in PROTOCOLS.into_iter().chain([A::ICMP]) {
            let data = if protocol == protocol::SCTP { &INIT[..] } else { &DATA };
            let (with, at) = sent::<A>(Head { options, ..Head::USUAL }, protocol, data);
            let (without, _) = sent::<A>(Head::USUAL, protocol, data);
            assert_eq!(usual::<A>(&with), Err(Malformed), "{options}, {protocol}");
            let (with, without) = (parse::<A>(&with).unwrap(), parse::<A>(&without).unwrap());
            let longer = u32::try_from(at - without.payload_at).unwrap();
            assert_eq!(
                (with.payload_at, with.length, with.segment),
                (at, without.length + longer, with.length)
            );
            let Packet { payload_at, length, segment, .. } = without;
            assert_eq!(
                Packet { payload_at, length, segment, ..with },
                without,
                "{options}, {protocol}"
            );
        }
    }
}

fn truncated_frame_is_not_overread<A: Fixture>() {
    for options in [0, 1, Head::OPTIONS] {
        for protocol in PROTOCOLS.into_iter().chain([A::ICMP]) {
            let data = if protocol == protocol::SCTP { &INIT[..] } else { &DATA };
            let (frame, _) = sent::<A>(Head { options, ..Head::USUAL }, protocol, data);
            for length in 0..frame.len() {
                let cut = &frame[..length];
                assert_eq!(
                    (usual::<A>(cut), parse::<A>(cut)),
                    (Err(Malformed), Err(Malformed)),
                    "{length} bytes"
                );
                // Where the rest is not in reach, though the frame has it.
                let arrival = arrival(C1_SIDE, &frame);
                if let Ok(packet) = A::parse(cut, arrival) {
                    assert_eq!(Ok(packet), A::parse(&frame[..], arrival), "{length} bytes");
                }
            }
        }
    }
}

fn only_first_packets_start_flows<A: Fixture>() {
    let (frame, at) = sent::<A>(Head::USUAL, protocol::TCP, &DATA);
    for (flags, begins) in [
        (0x02, true),
        (0xc2, true),
        (0x12, false),
        (0x06, false),
        (0x03, false),
        (0x10, false),
        (0, false),
    ] {
        let mut frame = frame.clone();
        frame[at + 13] = flags;
        assert_eq!(parse::<A>(&frame).unwrap().begins(), begins, "flags {flags:#x}");
    }
    let (echo, at) = sent::<A>(Head::USUAL, A::ICMP, &DATA);
    let errors = A::ERRORS.map(|(kind, _)| (kind, Payload::Error, false));
    for (kind, payload, begins) in [
        (A::ECHO_REQUEST, Payload::Echo, true),
        (A::ECHO_REPLY, Payload::Echo, false),
        (200, Payload::Other, false),
    ]
    .into_iter()
    .chain(errors)
    {
        let mut echo = echo.clone();
        echo[at] = kind;
        let packet = parse::<A>(&echo).unwrap();
        assert_eq!((packet.payload, packet.begins()), (payload, begins), "type {kind}");
    }
    let (init, at) = sent::<A>(Head::USUAL, protocol::SCTP, &INIT);
    assert!(parse::<A>(&init).unwrap().begins());
    let mut data = init;
    data[at + 12] = 0;
    assert!(!parse::<A>(&data).unwrap().begins());
    assert!(parse::<A>(&sent::<A>(Head::USUAL, protocol::UDP, &DATA).0).unwrap().begins());
    let packet = parse::<A>(&sent::<A>(Head::USUAL, 47, &DATA).0).unwrap();
    assert_eq!(
        (packet.payload, packet.begins(), packet.has_ports()),
        (Payload::Other, false, false)
    );
}

/// Each way reads no further than the kernel's program sees to it that there is something.
fn both_parsers_agree_on_any_bytes<A: Fixture>() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut parsed, mut usually) = (0, 0);
    for round in 0..200_000_usize {
        let protocol = [protocol::TCP, protocol::UDP, protocol::SCTP, A::ICMP, 44, 47][round % 6];
        let options = if round % 4 == 0 { round / 4 % (Head::OPTIONS + 1) } else { 0 };
        let (mut frame, at) = sent::<A>(Head { options, ..Head::USUAL }, protocol, &INIT);
        for _ in 0..round % 5 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let byte = usize::try_from(state >> 33).unwrap() % (at + 20);
            frame[byte] = (state >> 24) as u8;
        }
        let arrival = arrival(if round % 2 == 0 { C1_SIDE } else { UPLINK }, &frame);
        frame.truncate(frame.len() - usize::try_from(state >> 60).unwrap());
        let watched = Watched::new(&frame);
        let whole = A::parse(&watched, arrival);
        assert!(watched.reach() <= A::LONGEST);
        let watched = Watched::new(&frame);
        let usual = A::parse_usual(&watched, arrival);
        assert!(watched.reach() <= A::USUAL);
        if let Ok(packet) = usual {
            usually += 1;
            assert_eq!(whole, Ok(packet), "{frame:02x?}");
        }
        if let Ok(packet) = whole {
            parsed += 1;
            assert!(
                packet.payload_at <= A::PAYLOAD_MASK
                    && packet.payload_at >= ETHERNET + header::<A>()
            );
            assert!(!packet.begins() || packet.has_ports());
            assert!(packet.segment == packet.length && packet.input == arrival.input);
            if PROTOCOLS.contains(&packet.tuple.protocol) && packet.has_ports() {
                let ports = [packet.tuple.source_port, packet.tuple.destination_port]
                    .map(|port| port.word().to_ne_bytes());
                assert_eq!(ports.concat(), frame[packet.payload_at..][..4]);
            }
        }
    }
    assert!(parsed > 20_000 && usually > 10_000 && parsed > usually, "{parsed} and {usually}");
}

fn gso_length_is_that_of_segments<A: Fixture>() {
    for options in [0, 3] {
        let head = Head { options, ..Head::USUAL };
        let (mut frame, at) = sent::<A>(head, protocol::TCP, &[&DATA[..], &[0; 40]].concat());
        // Two words of options.
        frame[at + 12] = 0x70;
        let arrival = Arrival { gso_size: 1000, ..arrival(C1_SIDE, &frame) };
        let packet = A::parse(&frame[..], arrival).unwrap();
        assert_eq!(packet.segment as usize, A::length_of(head) + 28 + 1000);
        let (frame, _) = sent::<A>(head, protocol::UDP, &DATA);
        let packet = A::parse(&frame[..], arrival_of(&frame, 1000)).unwrap();
        assert_eq!(packet.segment as usize, A::length_of(head) + 8 + 1000);
        let (frame, _) = sent::<A>(head, protocol::SCTP, &INIT);
        assert_eq!(
            A::parse(&frame[..], arrival_of(&frame, sctp::GSO_BY_FRAGMENTS)).unwrap().segment,
            0
        );
    }
    // More than the length field can say (BIG TCP); only such a packet may say nothing.
    let (mut frame, _) = sent::<A>(Head::USUAL, protocol::TCP, &DATA);
    let field = if header::<A>() == 20 { 2 } else { 4 };
    frame[ETHERNET + field..][..2].fill(0);
    let arrival = Arrival { length: 100_000, ..arrival_of(&frame, 1000) };
    let packet = A::parse_usual(&frame[..], arrival).unwrap();
    assert_eq!((packet.payload, packet.length), (Payload::Tcp, 100_000 - ETHERNET as u32));
    let header: A::Header = frame[..].read(ETHERNET).unwrap();
    assert_eq!(A::total_length(&header), u32::MAX);
}

fn arrival_of(frame: &[u8], gso_size: u32) -> Arrival {
    Arrival { gso_size, ..arrival(C1_SIDE, frame) }
}
