//! XDP decides what the tc program would decide.

use crate::{
    abi::{
        drop_reason::DropReason,
        translation::{Deliver, Translation},
    },
    env::FlowStore as _,
    testing::{
        fixture::{
            C1_MAC, C1_SIDE, C1_SLOT, Fixture, Head, UPLINK, arrival, families, frame, header,
            left, model, packet, sum_at, sums_up, whole_packet,
        },
        model::Model,
        steps::{Decision, decide as decide_at_tc},
    },
    wire::{
        address::V4,
        checksum,
        ethernet::ETHERNET,
        packet::{Packet, Payload},
        protocol, tcp,
        tuple::{Side, Tuple},
    },
    xdp::{XdpVerdict, decide, rewrite},
};
use std::vec::Vec;

families!(
    xdp_forwards_as_tc_would,
    forwarded_frame_is_counted_once,
    uncertain_packet_passes,
    partial_checksum_passes,
    martians_are_dropped,
    rewrite_keeps_checksums_right,
    rewrite_never_yields_zero_checksum,
    rewrite_refuses_truncated_frame,
);

/// A UDP header and five bytes, or an echo's header and five bytes.
const DATAGRAM: [u8; 13] = [0, 0, 0, 0, 0, 13, 0, 0, b'h', b'e', b'l', b'l', b'o'];
const SEGMENT: [u8; 20] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, tcp::ACK, 0, 0, 0, 0, 0, 0];

/// A frame from outside.
fn frame_of<A: Fixture>(tuple: &Tuple<A>) -> Vec<u8> {
    let data = if tuple.protocol == protocol::TCP { &SEGMENT[..] } else { &DATAGRAM };
    frame::<A>(UPLINK, &whole_packet(Head::USUAL, tuple, data))
}

fn parse<A: Fixture>(frame: &[u8]) -> Packet<A> {
    A::parse_usual(frame, arrival(UPLINK, frame)).expect("a usual packet")
}

/// A reply to a flow that C1 has begun with the world from port 4000, and a model whose container
/// accepts XDP frames.
fn with_flow<A: Fixture>(protocol: u8) -> (Model<A>, Vec<u8>) {
    let mut model = model::<A>();
    model.receivers.insert(C1_SIDE);
    // An echo has one identifier and no second port.
    let port = if protocol == A::ICMP { 0 } else { 53 };
    let there = left(&model, &packet(C1_SIDE, (A::C1, 4000), (A::WORLD, port), protocol, tcp::SYN))
        .expect("it leaves");
    (model, frame_of(&there.tuple.reversed()))
}

/// A reply to such a flow after a first reply.
fn replied_flow<A: Fixture>(protocol: u8) -> (Model<A>, Vec<u8>) {
    let (model, answer) = with_flow(protocol);
    assert!(matches!(at_tc(&model, &answer), Decision::Forward(_)));
    (model, answer)
}

fn xdp<A: Fixture>(model: &Model<A>, frame: &[u8]) -> XdpVerdict<Translation<A>> {
    match decide(frame, &parse(frame), model) {
        XdpVerdict::Forward(entry) => XdpVerdict::Forward(entry.translation),
        XdpVerdict::Drop(reason) => XdpVerdict::Drop(reason),
        XdpVerdict::Pass => XdpVerdict::Pass,
    }
}

fn at_tc<A: Fixture>(model: &Model<A>, frame: &[u8]) -> Decision<A> {
    decide_at_tc(frame, &parse(frame), model)
}

fn xdp_forwards_as_tc_would<A: Fixture>() {
    for protocol in [protocol::UDP, A::ICMP] {
        let (model, answer) = with_flow::<A>(protocol);
        assert!(
            matches!(xdp(&model, &answer), XdpVerdict::Pass),
            "{protocol}: the first answer changes the flow's state"
        );
        let Decision::Forward(at_tc) = at_tc(&model, &answer) else {
            panic!("{protocol}: the packet belongs to the flow")
        };
        let XdpVerdict::Forward(xdp) = xdp(&model, &answer) else {
            panic!("{protocol}: the packet changes only counters")
        };
        assert_eq!(xdp, at_tc);
    }
}

fn forwarded_frame_is_counted_once<A: Fixture>() {
    let (mut model, answer) = replied_flow::<A>(protocol::UDP);
    let counted =
        |model: &Model<A>| model.flow(&parse(&answer).tuple).expect("the reply entry").packets;
    assert_eq!(counted(&model), 1);
    assert!(matches!(xdp(&model, &answer), XdpVerdict::Forward(_)));
    assert_eq!(counted(&model), 2);
    model.receivers.clear();
    assert!(
        matches!(xdp(&model, &answer), XdpVerdict::Pass),
        "the container accepts no XDP frames"
    );
    assert_eq!(counted(&model), 2);
}

fn uncertain_packet_passes<A: Fixture>() {
    type Change<A> = fn(&mut Model<A>, &mut Packet<A>);
    let changes: [(&str, Change<A>); 9] = [
        ("the last hop", |_, packet| packet.ttl = 1),
        ("a first fragment", |_, packet| packet.first_fragment = true),
        ("a later fragment", |_, packet| packet.payload = Payload::Fragment),
        ("an error", |_, packet| packet.payload = Payload::Error),
        ("no flow", |_, packet| packet.tuple.destination_port = crate::wire::address::Port::new(1)),
        ("longer than the MTU", |_, packet| packet.length = 1501),
        ("its container is gone", |model, _| {
            model.epochs.insert(C1_SLOT, 1);
        }),
        ("idle for too long", |model, _| model.now.set(model.now.get() + 100_000)),
        ("SCTP", |_, packet| packet.payload = Payload::Sctp),
    ];
    for (what, change) in changes {
        let (mut model, answer) = replied_flow::<A>(protocol::UDP);
        let mut packet = parse(&answer);
        assert!(matches!(decide(&answer[..], &packet, &model), XdpVerdict::Forward(_)));
        change(&mut model, &mut packet);
        assert!(matches!(decide(&answer[..], &packet, &model), XdpVerdict::Pass), "{what}");
    }
    let (model, answer) = replied_flow::<A>(protocol::TCP);
    assert!(matches!(xdp(&model, &answer), XdpVerdict::Pass), "TCP");
}

/// An entry that does not lead into a container: a host flow goes on to the host's stack.
#[test]
fn host_flow_passes() {
    let (model, answer) = replied_flow::<V4>(protocol::UDP);
    model.flow(&parse(&answer).tuple).expect("the reply entry").translation.deliver =
        Deliver::STACK;
    assert!(matches!(xdp(&model, &answer), XdpVerdict::Pass));
}

fn partial_checksum_passes<A: Fixture>() {
    let (model, mut answer) = replied_flow::<A>(protocol::UDP);
    let at = ETHERNET + header::<A>() + 6;
    let whole = [answer[at], answer[at + 1]];
    let length = u32::from(13_u16.to_be());
    let pseudo =
        checksum::fold(A::WORLD.sum() + A::HOST.sum() + u32::from(17_u16.to_be()) + length);
    answer[at..at + 2].copy_from_slice(&pseudo.to_ne_bytes());
    assert!(matches!(xdp(&model, &answer), XdpVerdict::Pass));
    answer[at..at + 2].copy_from_slice(&whole);
    assert!(matches!(xdp(&model, &answer), XdpVerdict::Forward(_)));
    answer[at..at + 2].fill(0);
    assert!(matches!(xdp(&model, &answer), XdpVerdict::Forward(_)), "without a checksum");
}

fn martians_are_dropped<A: Fixture>() {
    let model = model::<A>();
    for number in [protocol::TCP, protocol::UDP, A::ICMP] {
        let of = |source, destination| {
            let tuple = packet(UPLINK, (source, 7), (destination, 7), number, 0).tuple;
            xdp(&model, &frame_of(&tuple))
        };
        for (source, destination) in
            [(A::LOOPBACK, A::HOST), (A::GROUP, A::HOST), (A::WORLD, A::LOOPBACK)]
        {
            assert!(
                matches!(of(source, destination), XdpVerdict::Drop(DropReason::Martian)),
                "{source:?} {destination:?}"
            );
        }
        // These are unusual, but no martians. Without a source address a host asks for one.
        for (source, destination) in
            [(A::UNSPECIFIED, A::GROUP), (A::WORLD, A::GROUP), (A::HOST, A::HOST)]
        {
            assert!(
                matches!(of(source, destination), XdpVerdict::Pass),
                "{source:?} {destination:?}"
            );
        }
    }
}

#[test]
fn ipv4_martians_are_recognized() {
    let is_martian = |source: [u8; 4], destination: [u8; 4]| {
        packet(UPLINK, (V4::new(source), 7), (V4::new(destination), 7), protocol::UDP, 0)
            .tuple
            .is_martian()
    };
    assert!(is_martian([255; 4], [10, 0, 2, 15]) && is_martian([127, 9, 9, 9], [10, 0, 2, 15]));
    assert!(!is_martian([0; 4], [255; 4]) && !is_martian([240, 0, 0, 1], [10, 0, 2, 15]));
}

fn rewrite_keeps_checksums_right<A: Fixture>() {
    for protocol in [protocol::UDP, A::ICMP] {
        let (model, mut answer) = replied_flow::<A>(protocol);
        let packet = parse::<A>(&answer);
        let XdpVerdict::Forward(translation) = xdp(&model, &answer) else {
            panic!("{protocol}: it is of a flow")
        };
        rewrite(&mut answer[..], &packet, &translation).expect("it is long enough");
        let rewritten = parse::<A>(&answer);
        assert_eq!(
            Tuple { side: Side::CONTAINER, ..rewritten.tuple },
            translation.tuple,
            "{protocol}"
        );
        assert_eq!((rewritten.ttl, &answer[..6]), (63, &C1_MAC[..]));
        let Tuple { source, destination, .. } = rewritten.tuple;
        assert!(sums_up(protocol, source, destination, &answer[packet.payload_at..]), "{protocol}");
        let whole = whole_packet(
            Head { hops: 63, ..Head::USUAL },
            &translation.tuple,
            &answer[packet.payload_at..],
        );
        assert_eq!(answer[ETHERNET..], whole, "{protocol}");
    }
}

#[test]
fn rewrite_adds_no_udp_checksum() {
    let (model, mut answer) = replied_flow::<V4>(protocol::UDP);
    answer[40..42].fill(0);
    let packet = parse(&answer);
    let XdpVerdict::Forward(translation) = xdp(&model, &answer) else { panic!("it is of a flow") };
    rewrite(&mut answer[..], &packet, &translation).expect("it is long enough");
    assert_eq!(answer[40..42], [0, 0]);
}

/// A UDP checksum that comes out as zero must not be sent as zero, which means none.
fn rewrite_never_yields_zero_checksum<A: Fixture>() {
    let (model, answer) = replied_flow::<A>(protocol::UDP);
    let packet = parse(&answer);
    let XdpVerdict::Forward(translation) = xdp(&model, &answer) else { panic!("it is of a flow") };
    let at = packet.payload_at + sum_at::<A>(protocol::UDP).expect("UDP has one");
    let mut zeros = 0;
    for port in 0..=u16::MAX {
        let mut frame = answer.clone();
        let translation =
            Translation { port_delta: checksum::delta(0, u32::from(port)), ..translation };
        rewrite(&mut frame[..], &packet, &translation).expect("it is long enough");
        assert_ne!(frame[at..at + 2], [0, 0], "port {port}");
        zeros += u32::from(frame[at..at + 2] == [0xff, 0xff]);
    }
    assert!(zeros > 0, "no checksum came out as zero");
}

fn rewrite_refuses_truncated_frame<A: Fixture>() {
    let (model, answer) = replied_flow::<A>(protocol::UDP);
    let packet = parse(&answer);
    let XdpVerdict::Forward(translation) = xdp(&model, &answer) else { panic!("it is of a flow") };
    for length in 0..packet.payload_at + 8 {
        assert_eq!(
            rewrite(&mut answer.clone()[..length], &packet, &translation),
            None,
            "{length} bytes"
        );
    }
}
