//! What is decided early, and that it is what would be decided late.

use std::vec::Vec;

use super::*;
use crate::{
    address::{Port, V4, V6},
    forward::{
        Decision, decide as decide_late,
        tests::{C1, C1_SIDE, HOST, UPLINK, WORLD, model},
    },
    ipv4::Ipv4,
    ipv6::Ipv6,
    model::Model,
    packet::Arrival,
    tuple::{Tuple, side},
};

/// A frame from outside with every checksum in full.
fn frame(protocol: u8, from: (V4, u16), to: (V4, u16)) -> Vec<u8> {
    let mut payload = match protocol {
        protocol::UDP => [&from.1.to_be_bytes()[..], &to.1.to_be_bytes(), &[0, 13, 0, 0], b"hello"].concat(),
        protocol::TCP => {
            [&from.1.to_be_bytes()[..], &to.1.to_be_bytes(), &[0; 8], &[0x50, 0x10, 0, 0, 0, 0, 0, 0]].concat()
        }
        // A reply: the identifier is the port of the side that asked.
        protocol::ICMP => [&[0, 0, 0, 0][..], &to.1.to_be_bytes(), &[0, 1], b"hello"].concat(),
        other => panic!("no payload for {other}"),
    };
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        tos: 0,
        total_length: (20 + payload.len() as u16).to_be(),
        id: 0,
        fragment: 0,
        ttl: 64,
        protocol,
        checksum: 0,
        source: from.0,
        destination: to.0,
    };
    ip.checksum = !checksum::sum(bytemuck::bytes_of(&ip));
    if let Some(at) = sum_at(protocol) {
        let sum = !whole_sum(protocol, from.0, to.0, &payload);
        payload[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
    }
    [&[2; 12][..], &[8, 0], bytemuck::bytes_of(&ip), &payload].concat()
}

fn sum_at(protocol: u8) -> Option<usize> {
    match protocol {
        protocol::UDP => Some(6),
        protocol::TCP => Some(16),
        protocol::ICMP => Some(2),
        _ => None,
    }
}

/// The sum that the checksum of a payload is of: with the checksum in it, all ones.
fn whole_sum<A: Address>(protocol: u8, source: A, destination: A, payload: &[u8]) -> u16 {
    let own = u32::from(checksum::sum(payload));
    if protocol == protocol::ICMP {
        return own as u16;
    }
    let length = u32::from((payload.len() as u16).to_be());
    let both = u32::from(checksum::fold(source.sum() + destination.sum()));
    checksum::fold(both + u32::from(u16::from(protocol).to_be()) + length + own)
}

fn parse(frame: &[u8]) -> Packet<V4> {
    V4::parse_usual(frame, arrival(frame)).expect("a usual packet")
}

fn arrival(frame: &[u8]) -> Arrival {
    Arrival { side: side::UPLINK, input: UPLINK, length: frame.len() as u32, gso_size: 0 }
}

/// With the flow that C1 has begun with the world from port 4000, and that was answered; and one of the world's with a published port.
fn with_flows(protocol: u8) -> (Model<V4>, Vec<u8>) {
    let mut model = model();
    model.receivers.insert(C1_SIDE);
    let answer = frame(protocol, (WORLD, 53), (HOST, 4000));
    let mut sent = parse(&answer);
    sent.tuple = Tuple { source: C1, side: side::CONTAINER, ..sent.tuple.reversed() };
    sent.input = C1_SIDE;
    sent.flags = if protocol == protocol::TCP { crate::flow::tcp::SYN } else { 0 };
    assert!(matches!(decide_late(&[2; 64][..], &sent, &model), Decision::Forward(_)));
    (model, answer)
}

fn early(model: &Model<V4>, frame: &[u8]) -> Early<Translation<V4>> {
    match decide(frame, &parse(frame), model) {
        Early::Forward(half) => Early::Forward(half.translation),
        Early::Drop(reason) => Early::Drop(reason),
        Early::Pass => Early::Pass,
    }
}

fn late(model: &Model<V4>, frame: &[u8]) -> Decision<V4> {
    decide_late(frame, &parse(frame), model)
}

#[test]
fn a_packet_that_changes_nothing_is_forwarded_as_it_would_be_late() {
    for protocol in [protocol::UDP, protocol::ICMP] {
        let (model, answer) = with_flows(protocol);
        assert!(matches!(early(&model, &answer), Early::Pass), "{protocol}: the first answer changes the flow's state");
        let Decision::Forward(late) = late(&model, &answer) else { panic!("{protocol}: it is of the flow") };
        let Early::Forward(early) = early(&model, &answer) else { panic!("{protocol}: it changes nothing any more") };
        assert_eq!(early, late);
    }
}

#[test]
fn what_is_forwarded_early_is_counted_once_and_what_passes_is_not() {
    let (mut model, answer) = with_flows(protocol::UDP);
    let counted = |model: &Model<V4>| model.flow(&parse(&answer).tuple).expect("the reply half").packets;
    let _ = late(&model, &answer);
    assert_eq!(counted(&model), 1);
    assert!(matches!(early(&model, &answer), Early::Forward(_)));
    assert_eq!(counted(&model), 2);
    model.receivers.clear();
    assert!(matches!(early(&model, &answer), Early::Pass), "the container takes none");
    assert_eq!(counted(&model), 2);
}

#[test]
fn what_is_not_sure_passes() {
    let changes: [(&str, fn(&mut Model<V4>, &mut Vec<u8>)); 7] = [
        ("the last hop", |_, frame| frame[22] = 1),
        ("a first fragment", |_, frame| frame[20] = 0x20),
        ("a later fragment", |_, frame| frame[21] = 1),
        ("of no flow", |_, frame| frame[35] ^= 1),
        ("its container is gone", |model, _| {
            model.epochs.insert(crate::forward::tests::C1_SLOT, 1);
        }),
        ("idle for too long", |model, _| model.now.set(model.now.get() + 100_000)),
        ("longer than the link is wide", |_, frame| {
            frame.resize(14 + 1501, 0);
            frame[16..18].copy_from_slice(&1501_u16.to_be_bytes());
        }),
    ];
    for (what, change) in changes {
        let (mut model, mut answer) = with_flows(protocol::UDP);
        let _ = late(&model, &answer);
        assert!(matches!(early(&model, &answer), Early::Forward(_)));
        change(&mut model, &mut answer);
        assert!(matches!(early(&model, &answer), Early::Pass), "{what}");
    }
    let (model, answer) = with_flows(protocol::TCP);
    let _ = late(&model, &answer);
    assert!(matches!(early(&model, &answer), Early::Pass), "TCP");
}

#[test]
fn a_sum_that_was_left_to_the_hardware_is_left_to_the_kernel() {
    let (model, mut answer) = with_flows(protocol::UDP);
    let _ = late(&model, &answer);
    let (whole, length) = ([answer[40], answer[41]], u32::from(13_u16.to_be()));
    let pseudo = checksum::fold(WORLD.sum() + HOST.sum() + u32::from(17_u16.to_be()) + length);
    answer[40..42].copy_from_slice(&pseudo.to_ne_bytes());
    assert!(matches!(early(&model, &answer), Early::Pass));
    answer[40..42].copy_from_slice(&whole);
    assert!(matches!(early(&model, &answer), Early::Forward(_)));
    answer[40..42].fill(0);
    assert!(matches!(early(&model, &answer), Early::Forward(_)), "without a sum");
}

#[test]
fn martians_are_dropped_and_what_is_only_strange_is_not() {
    let model = model();
    let of = |source: [u8; 4], destination: [u8; 4]| {
        early(&model, &frame(protocol::TCP, (V4::new(source), 7), (V4::new(destination), 7)))
    };
    let host = HOST.octets();
    for (source, destination) in
        [([127, 0, 0, 1], host), ([224, 0, 0, 1], host), ([255; 4], host), ([10, 0, 2, 2], [127, 0, 0, 1])]
    {
        assert!(matches!(of(source, destination), Early::Drop(Reason::Martian)), "{source:?} {destination:?}");
    }
    for (source, destination) in
        [([0; 4], [255; 4]), ([10, 0, 2, 2], [224, 0, 0, 1]), ([240, 0, 0, 1], host), (host, host)]
    {
        assert!(matches!(of(source, destination), Early::Pass), "{source:?} {destination:?}");
    }
}

#[test]
fn a_rewritten_frame_has_right_sums_and_its_translation() {
    for protocol in [protocol::UDP, protocol::ICMP] {
        let (model, mut answer) = with_flows(protocol);
        let _ = late(&model, &answer);
        let packet = parse(&answer);
        let Early::Forward(translation) = early(&model, &answer) else { panic!("{protocol}: it is of a flow") };
        rewrite(&mut answer[..], &packet, &translation).expect("it is long enough");
        let rewritten = parse(&answer);
        assert_eq!(Tuple { side: side::CONTAINER, ..rewritten.tuple }, translation.tuple, "{protocol}");
        assert_eq!((rewritten.ttl, &answer[..6]), (63, &translation.macs.destination()[..]));
        assert_eq!(checksum::sum(&answer[14..34]), 0xffff, "{protocol}: the header's");
        assert_eq!(whole_sum(protocol, rewritten.tuple.source, rewritten.tuple.destination, &answer[34..]), 0xffff);
    }
}

#[test]
fn a_datagram_without_a_sum_stays_without() {
    let (model, mut answer) = with_flows(protocol::UDP);
    let _ = late(&model, &answer);
    answer[40..42].fill(0);
    let packet = parse(&answer);
    let Early::Forward(translation) = early(&model, &answer) else { panic!("it is of a flow") };
    rewrite(&mut answer[..], &packet, &translation).expect("it is long enough");
    assert_eq!(answer[40..42], [0, 0]);
}

/// A sum that comes out as zero would say that there is none.
#[test]
fn no_sum_becomes_none() {
    let (model, answer) = with_flows(protocol::UDP);
    let _ = late(&model, &answer);
    let packet = parse(&answer);
    let Early::Forward(translation) = early(&model, &answer) else { panic!("it is of a flow") };
    let mut zeros = 0;
    for port in 0..=u16::MAX {
        let mut frame = answer.clone();
        let translation = Translation { port_delta: checksum::delta(0, u32::from(port)), ..translation };
        rewrite(&mut frame[..], &packet, &translation).expect("it is long enough");
        assert_ne!(frame[40..42], [0, 0], "port {port}");
        zeros += u32::from(frame[40..42] == [0xff, 0xff]);
    }
    assert!(zeros > 0, "none came out as zero");
}

#[test]
fn a_cut_frame_is_refused_and_not_written_beyond() {
    let (model, answer) = with_flows(protocol::UDP);
    let _ = late(&model, &answer);
    let packet = parse(&answer);
    let Early::Forward(translation) = early(&model, &answer) else { panic!("it is of a flow") };
    for length in 0..42 {
        assert_eq!(rewrite(&mut answer.clone()[..length], &packet, &translation), None, "{length} bytes");
    }
}

#[test]
fn ipv6_has_the_same_unfinished_sums() {
    let address = |last: u8| {
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        octets[15] = last;
        V6::new(octets)
    };
    let (source, destination) = (address(1), address(2));
    let mut payload = [&[0, 53, 0x0f, 0xa0, 0, 13, 0, 0][..], b"hello"].concat();
    let ip = Ipv6 {
        version_class_flow: [0x60, 0, 0, 0],
        payload_length: 13_u16.to_be(),
        next_header: protocol::UDP,
        hop_limit: 64,
        source,
        destination,
    };
    let whole = !whole_sum(protocol::UDP, source, destination, &payload);
    let pseudo = whole_sum(protocol::UDP, source, destination, &[0; 13]);
    for (sum, unfinished) in [(whole, false), (pseudo, true)] {
        payload[6..8].copy_from_slice(&sum.to_ne_bytes());
        let frame = [&[2; 12][..], &[0x86, 0xdd], bytemuck::bytes_of(&ip), &payload].concat();
        let packet = V6::parse_usual(&frame[..], arrival(&frame)).expect("a usual packet");
        assert_eq!(packet.tuple.destination_port, Port::new(4000));
        assert_eq!(has_unfinished_sum(&frame[..], &packet), unfinished);
    }
}
