//! ICMP errors that the datapath sends, in both families.

use crate::{
    abi::network,
    icmp_reply::{build, error_source, may_reply},
    testing::fixture::{
        C1_SIDE, C2_SIDE, Fixture, Head, UPLINK, Watched, arrival, families, frame, header, model,
        packet as packet_of, sums_up, whole_packet,
    },
    wire::{
        address::{V4, V6},
        checksum,
        ethernet::{ETHERNET, ether_type},
        icmp::{IcmpError, IcmpErrorKind, MAX_FRAME, QUOTE},
        packet::{Packet, Payload},
        protocol,
    },
};
use std::vec::Vec;

use super::*;

families!(
    error_is_complete_and_goes_to_sender,
    quote_is_as_long_as_allowed,
    errors_and_later_fragments_get_no_error,
    truncated_frame_gets_no_error,
);

const ALL: [IcmpErrorKind; 4] = [
    IcmpErrorKind::TimeExceeded,
    IcmpErrorKind::TooLong,
    IcmpErrorKind::Prohibited,
    IcmpErrorKind::NoRoute,
];

/// The frame of a UDP packet with `data` bytes of payload.
fn sent<A: Fixture>(input: u32, head: Head, data: usize) -> Vec<u8> {
    let (from, to) = if input == UPLINK { (A::WORLD, A::HOST) } else { (A::C1, A::WORLD) };
    let tuple = packet_of::<A>(input, (from, 4000), (to, 5000), protocol::UDP, 0).tuple;
    frame::<A>(input, &whole_packet(head, &tuple, &std::vec![0xa5; data]))
}

fn answered<A: Fixture>(
    input: u32,
    frame: &[u8],
    kind: IcmpErrorKind,
    mtu: u16,
) -> Option<IcmpError> {
    let model = model::<A>();
    let packet = A::parse(frame, arrival(input, frame)).unwrap();
    let mut error = IcmpError::NONE;
    let watched = Watched::new(frame);
    let made = build(&mut error, &watched, &packet, error_source(&packet, &model)?, kind, mtu);
    assert!(watched.reach() as usize <= ETHERNET + QUOTE);
    made.map(|()| error)
}

/// Type and code of each error (RFC 792 and RFC 1812 section 5.2.7.1, RFC 4443 section 3).
fn type_and_code<A: Fixture>(kind: IcmpErrorKind) -> [u8; 2] {
    let v4 = A::FAMILY == V4::FAMILY;
    match kind {
        IcmpErrorKind::TimeExceeded => [if v4 { 11 } else { 3 }, 0],
        IcmpErrorKind::TooLong => [if v4 { 3 } else { 2 }, if v4 { 4 } else { 0 }],
        IcmpErrorKind::Prohibited => [if v4 { 3 } else { 1 }, if v4 { 13 } else { 1 }],
        IcmpErrorKind::NoRoute => [if v4 { 3 } else { 1 }, 0],
    }
}

fn error_is_complete_and_goes_to_sender<A: Fixture>() {
    for (input, by, to) in [(C1_SIDE, A::GATEWAY, A::C1), (UPLINK, A::HOST, A::WORLD)] {
        let sent = sent::<A>(input, Head::USUAL, 40);
        for kind in ALL {
            let error = answered::<A>(input, &sent, kind, 1400).expect("an error");
            let frame = error.frame();
            assert_eq!(
                (&frame[..6], &frame[6..12], &frame[12..14]),
                (&sent[6..12], &sent[..6], &sent[12..14])
            );
            let message = &frame[ETHERNET + header::<A>()..];
            let mut wanted = A::ip(A::ICMP, by, to, message);
            if A::FAMILY == V4::FAMILY {
                // Internetwork control, and no identification.
                wanted[1] = 0xc0;
                wanted[4..6].fill(0);
                wanted[10..12].fill(0);
                let sum = !checksum::sum(&wanted[..20]);
                wanted[10..12].copy_from_slice(&sum.to_ne_bytes());
            }
            assert_eq!(&frame[ETHERNET..], wanted, "{kind:?}");
            assert!(sums_up(A::ICMP, by, to, message), "{kind:?}");
            let rest = if kind == IcmpErrorKind::TooLong { [0, 0, 0x05, 0x78] } else { [0; 4] };
            assert_eq!(
                (&message[..2], &message[4..8]),
                (&type_and_code::<A>(kind)[..], &rest[..]),
                "{kind:?}"
            );
            assert_eq!(message[8..], sent[ETHERNET..], "{kind:?}: the packet as it arrived");
        }
    }
}

fn quote_is_as_long_as_allowed<A: Fixture>() {
    for options in [0, 1, Head::OPTIONS] {
        for data in [8, 9, 31, 48, 49, 75, 76, 77, 1000] {
            let sent = sent::<A>(C1_SIDE, Head { options, ..Head::USUAL }, data);
            let whole = sent.len() - ETHERNET;
            // An odd last byte is left out.
            let expected = whole.min(QUOTE) & !1;
            for padding in [0, 7] {
                let padded = [&sent[..], &std::vec![0xee; padding]].concat();
                let error = answered::<A>(C1_SIDE, &padded, IcmpErrorKind::Prohibited, 0)
                    .expect("an error");
                let message = &error.frame()[ETHERNET + header::<A>()..];
                assert_eq!(message[8..], sent[ETHERNET..][..expected], "{options} {data}");
                assert!(sums_up(A::ICMP, A::GATEWAY, A::C1, message), "{options} {data}");
                assert!(error.frame().len() <= MAX_FRAME);
            }
        }
    }
}

fn errors_and_later_fragments_get_no_error<A: Fixture>() {
    let of = |payload| Packet {
        payload,
        ..packet_of::<A>(C1_SIDE, (A::C1, 1), (A::WORLD, 2), protocol::UDP, 0)
    };
    for (payload, may) in [
        (Payload::Udp, true),
        (Payload::Tcp, true),
        (Payload::Echo, true),
        (Payload::Other, true),
        (Payload::Error, false),
        (Payload::Fragment, false),
        // It may be an error.
        (Payload::Unparsed, false),
    ] {
        assert_eq!(may_reply(&of(payload)), may, "{payload:?}");
    }
    assert!(may_reply(&Packet { first_fragment: true, ..of(Payload::Udp) }));
    let mut model = model::<A>();
    let from = |input, source| packet_of::<A>(input, (source, 1), (A::WORLD, 2), protocol::UDP, 0);
    assert_eq!(error_source(&from(C1_SIDE, A::C1), &model), Some(A::GATEWAY));
    assert_eq!(error_source(&from(C2_SIDE, A::UNUSED), &model), None);
    assert_eq!(error_source(&from(UPLINK, A::WORLD), &model), Some(A::HOST));
    model.uplinks.clear();
    assert_eq!(error_source(&from(UPLINK, A::WORLD), &model), None);
    // The flags of the container's network do not matter.
    model.endpoints.get_mut(&A::C1).unwrap().network = network::INTERNAL;
    assert_eq!(error_source(&from(C1_SIDE, A::C1), &model), Some(A::GATEWAY));
}

fn truncated_frame_gets_no_error<A: Fixture>() {
    let sent = sent::<A>(C1_SIDE, Head::USUAL, 20);
    let packet = A::parse(&sent[..], arrival(C1_SIDE, &sent)).unwrap();
    for length in 0..sent.len() {
        let mut error = IcmpError::NONE;
        let made =
            build(&mut error, &sent[..length], &packet, A::GATEWAY, IcmpErrorKind::NoRoute, 0);
        assert_eq!((made, error.frame().len()), (None, 0), "{length}");
    }
    let mut error = IcmpError::NONE;
    build(&mut error, &sent[..], &packet, A::GATEWAY, IcmpErrorKind::NoRoute, 0).expect("an error");
}

#[test]
fn ether_type_matches_family() {
    let kind = |frame: &[u8]| u16::from_ne_bytes([frame[12], frame[13]]);
    let v4 = answered::<V4>(UPLINK, &sent::<V4>(UPLINK, Head::USUAL, 8), IcmpErrorKind::NoRoute, 0)
        .unwrap();
    let v6 = answered::<V6>(UPLINK, &sent::<V6>(UPLINK, Head::USUAL, 8), IcmpErrorKind::NoRoute, 0)
        .unwrap();
    assert_eq!((kind(v4.frame()), kind(v6.frame())), (ether_type::IPV4, ether_type::IPV6));
}
