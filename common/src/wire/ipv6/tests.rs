//! What IPv6 alone has: extension headers, its own fragments, and addresses of the other family.

use network_types::ip::Ipv6Hdr;

use crate::{
    abi::translation::Translation,
    nat::rewrite::Rewrite as _,
    testing::fixture::{C1_SIDE, Fixture as _, UPLINK, Watched, arrival, frame},
    wire::{
        address::{V4, V6},
        ethernet::ETHERNET,
        ipv6::Ipv6,
        packet::{Arrival, Malformed, Packet, Payload},
        protocol,
        quote::Quote,
        tuple::{Echo, Tuple},
    },
};
use std::vec::Vec;

use super::*;

/// An extension header: its number and what it is like.
#[derive(Clone, Copy, Debug)]
enum Header {
    /// Of so many bytes.
    HopByHop(usize),
    /// Of so many bytes.
    Destination(usize),
    /// Of so many bytes, with so many places left to visit.
    Routing(usize, u8),
    /// The offset in units of eight bytes, and whether more come.
    Fragment(u16, bool),
    /// Any other number.
    Other(u8),
}
use Header::{Destination, Fragment, HopByHop, Other, Routing};

const ID: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];

impl Header {
    const fn number(self) -> u8 {
        match self {
            HopByHop(_) => 0,
            Destination(_) => 60,
            Routing(..) => 43,
            Fragment(..) => 44,
            Other(number) => number,
        }
    }

    fn bytes(self, next: u8) -> Vec<u8> {
        let long = |length: usize| {
            let mut bytes = std::vec![0; length];
            bytes[..2].copy_from_slice(&[next, u8::try_from(length / 8 - 1).unwrap()]);
            bytes
        };
        match self {
            HopByHop(length) | Destination(length) => long(length),
            Routing(length, left) => {
                let mut bytes = long(length);
                bytes[3] = left;
                bytes
            }
            Fragment(offset, more) => {
                let place = (offset << 3 | u16::from(more)).to_be_bytes();
                [&[next, 0][..], &place, &ID].concat()
            }
            Other(_) => long(8),
        }
    }
}

/// The packet of a chain of headers before what a protocol carries.
fn packet_of(chain: &[Header], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let numbers: Vec<u8> = chain.iter().map(|header| header.number()).chain([protocol]).collect();
    let headers: Vec<u8> =
        chain.iter().zip(&numbers[1..]).flat_map(|(header, next)| header.bytes(*next)).collect();
    V6::ip(numbers[0], V6::C1, V6::WORLD, &[&headers[..], payload].concat())
}

fn frame_of(chain: &[Header], protocol: u8, payload: &[u8]) -> Vec<u8> {
    frame::<V6>(C1_SIDE, &packet_of(chain, protocol, payload))
}

fn parse(frame: &[u8]) -> Result<Packet<V6>, Malformed> {
    V6::parse(frame, arrival(C1_SIDE, frame))
}

const SYN: [u8; 20] =
    [0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];

#[test]
fn extension_headers_are_parsed_to_bound() {
    let seen = |bytes| (Payload::Tcp, bytes);
    let bypasses_socket_lookup = |bytes| (Payload::Unparsed, bytes);
    for (what, chain, expected) in [
        ("none", &[][..], seen(0)),
        ("hop-by-hop options", &[HopByHop(8)], seen(8)),
        ("options for the destination", &[Destination(24)], seen(24)),
        ("a routing header with nothing left", &[Routing(24, 0)], seen(24)),
        ("one with a place left", &[Routing(24, 1)], bypasses_socket_lookup(0)),
        (
            "one with a place left behind another",
            &[HopByHop(8), Routing(24, 1)],
            bypasses_socket_lookup(8),
        ),
        ("an atomic fragment", &[Fragment(0, false)], seen(8)),
        (
            "as many as there may be",
            &[HopByHop(8), Destination(8), Routing(8, 0), Destination(8)],
            seen(32),
        ),
        (
            "the fragment's among them",
            &[HopByHop(8), Destination(8), Routing(8, 0), Fragment(0, false)],
            seen(32),
        ),
        (
            "one more",
            &[HopByHop(8), Destination(8), Routing(8, 0), Destination(8), Destination(8)],
            bypasses_socket_lookup(32),
        ),
        (
            "the fragment's for one more",
            &[Destination(8), Destination(8), Destination(8), Destination(8), Fragment(0, false)],
            bypasses_socket_lookup(32),
        ),
        ("as long as one may be", &[Destination(120)], seen(120)),
        ("eight bytes longer", &[Destination(128)], bypasses_socket_lookup(0)),
        ("much longer", &[Destination(2048)], bypasses_socket_lookup(0)),
        ("two as long as they may be", &[HopByHop(64), Destination(56)], seen(120)),
        (
            "eight bytes longer together",
            &[HopByHop(64), Destination(64)],
            bypasses_socket_lookup(64),
        ),
        (
            "with a fragment's as long as they may be",
            &[Destination(112), Fragment(0, false)],
            seen(120),
        ),
        (
            "with a fragment's eight bytes longer",
            &[Destination(120), Fragment(0, false)],
            bypasses_socket_lookup(120),
        ),
        (
            "one behind the fragment's",
            &[Fragment(0, false), Destination(8)],
            bypasses_socket_lookup(8),
        ),
        (
            "a fragment's behind a fragment's",
            &[Fragment(0, false), Fragment(0, false)],
            bypasses_socket_lookup(8),
        ),
    ] {
        let frame = frame_of(chain, protocol::TCP, &SYN);
        let watched = Watched::new(&frame);
        let packet = V6::parse(&watched, arrival(C1_SIDE, &frame)).unwrap();
        assert!(watched.reach() <= V6::LONGEST, "{what}");
        assert_eq!(
            (packet.payload, packet.payload_at),
            (expected.0, ETHERNET + 40 + expected.1),
            "{what}"
        );
        let seen = expected.0 == Payload::Tcp;
        assert_eq!((packet.has_ports(), packet.begins()), (seen, seen), "{what}");
        assert_eq!(packet.tuple.source_port.get(), if seen { 4000 } else { 0 }, "{what}");
        // The usual way is the same or leaves it to this one.
        let usual = V6::parse_usual(&frame[..], arrival(C1_SIDE, &frame));
        assert_eq!(usual, if chain.is_empty() { Ok(packet) } else { Err(Malformed) }, "{what}");
    }
}

#[test]
fn other_headers_are_payload() {
    // Authentication, ESP, mobility, no next header, an unassigned number.
    for number in [51, 50, 135, 59, 253] {
        for chain in [&[Other(number)][..], &[Destination(8), Other(number)]] {
            let packet = parse(&frame_of(chain, protocol::TCP, &SYN)).unwrap();
            assert_eq!(
                (packet.payload, packet.tuple.protocol),
                (Payload::Other, number),
                "{chain:?}"
            );
        }
    }
}

#[test]
fn fragments_are_told_by_header() {
    let id = u32::from_ne_bytes(ID);
    for (what, chain, payload, first) in [
        ("first", &[Fragment(0, true)][..], Payload::Tcp, true),
        (
            "first, behind others",
            &[HopByHop(8), Destination(40), Fragment(0, true)],
            Payload::Tcp,
            true,
        ),
        ("later", &[Fragment(1, true)], Payload::Fragment, false),
        ("last", &[Fragment(181, false)], Payload::Fragment, false),
        ("last, behind others", &[HopByHop(8), Fragment(181, false)], Payload::Fragment, false),
        ("atomic", &[Fragment(0, false)], Payload::Tcp, false),
        ("first of what is hidden", &[Fragment(0, true), Destination(8)], Payload::Unparsed, true),
        // Its upper-layer header is in the first fragment, and not needed here.
        ("later of what is hidden", &[Fragment(1, true), Destination(8)], Payload::Fragment, false),
    ] {
        let frame = frame_of(chain, protocol::TCP, &SYN);
        let packet = parse(&frame).unwrap();
        assert_eq!((packet.payload, packet.first_fragment), (payload, first), "{what}");
        assert_eq!(packet.is_fragment(), what != "atomic", "{what}");
        assert_eq!(packet.id, if what == "atomic" { 0 } else { id }, "{what}");
        assert_eq!(
            packet.tuple.source_port.get(),
            if payload == Payload::Tcp { 4000 } else { 0 },
            "{what}"
        );
        if packet.is_fragment() {
            let mut changed = frame.clone();
            V6::rewrite_id(&mut changed[..], &packet, 0x0102_0304_u32.to_be()).unwrap();
            let at = changed
                .windows(4)
                .position(|bytes| bytes == [1, 2, 3, 4])
                .expect("another identification");
            assert_eq!(frame[at..at + 4], ID, "{what}");
            changed[at..at + 4].copy_from_slice(&ID);
            assert_eq!(changed, frame, "{what}: nothing else has changed");
        }
    }
    // Reserved bits are none of it.
    let mut frame = frame_of(&[Fragment(0, false)], protocol::TCP, &SYN);
    frame[ETHERNET + 43] |= 0b110;
    assert!(!parse(&frame).unwrap().is_fragment());
}

#[test]
fn contradicting_headers_are_malformed() {
    let whole = frame_of(&[], protocol::TCP, &SYN);
    let behind = frame_of(&[Destination(24)], protocol::TCP, &SYN);
    for (what, frame, at, value) in [
        ("version 4", &whole, 14, 0x45),
        ("longer than the frame", &whole, 19, 21),
        ("no payload", &whole, 19, 0),
        ("no room for TCP", &whole, 19, 19),
        ("a TCP header of four words", &whole, 66, 0x40),
        ("longer than the frame, with options", &behind, 19, 45),
        ("shorter than its options", &behind, 19, 23),
        ("no room for TCP behind options", &behind, 19, 43),
        ("options that reach into TCP", &behind, 55, 3),
        ("options that reach to the frame's end", &behind, 55, 4),
    ] {
        assert!(parse(frame).is_ok());
        let mut frame = frame.clone();
        frame[at] = value;
        assert_eq!(parse(&frame), Err(Malformed), "{what}");
    }
}

#[test]
fn truncated_chain_is_not_overread() {
    let chain = [HopByHop(8), Destination(16), Routing(8, 0), Fragment(0, true)];
    let frame = frame_of(&chain, protocol::TCP, &SYN);
    for length in 0..frame.len() {
        assert_eq!(parse(&frame[..length]), Err(Malformed), "{length} bytes");
        // Of TCP's header the last six bytes are not looked at.
        let within = V6::parse(&frame[..length], arrival(C1_SIDE, &frame));
        assert_eq!(within.is_ok(), length >= frame.len() - 6, "{length} bytes in reach");
    }
}

#[test]
fn big_tcp_is_found_behind_hop_by_hop() {
    for chain in [&[][..], &[HopByHop(8)]] {
        let mut frame = frame_of(chain, protocol::TCP, &SYN);
        frame[ETHERNET + 4..][..2].fill(0);
        let arrival = |gso_size| Arrival { length: 200_000, gso_size, ..arrival(C1_SIDE, &frame) };
        let packet = V6::parse(&frame[..], arrival(1400)).unwrap();
        assert_eq!((packet.payload, packet.length), (Payload::Tcp, 200_000 - 14));
        // The option is the kernel's own, which takes it out again.
        assert_eq!(packet.segment as usize, 40 + 20 + 1400);
        assert_eq!(V6::parse(&frame[..], arrival(0)), Err(Malformed), "a jumbogram on a wire");
    }
}

#[test]
fn ipv4_mapped_address_is_malformed() {
    let mapped = V6::v4_mapped(V4::C1);
    let tcp = |source, destination| {
        frame::<V6>(C1_SIDE, &V6::ip(protocol::TCP, source, destination, &SYN))
    };
    for (source, destination, whole) in [
        (V6::C1, V6::WORLD, true),
        (mapped, V6::WORLD, false),
        (V6::C1, mapped, false),
        (mapped, mapped, false),
    ] {
        let frame = tcp(source, destination);
        assert_eq!(parse(&frame).is_ok(), whole, "{source:?} {destination:?}");
        assert_eq!(V6::parse_usual(&frame[..], arrival(UPLINK, &frame)).is_ok(), whole);
    }
}

#[test]
fn quote_is_found_behind_extension_headers() {
    let quoted = |chain: &[Header], protocol, payload: &[u8]| {
        let packet = packet_of(chain, protocol, payload);
        [&[0; 62][..], &packet].concat()
    };
    let echo = |kind| [kind, 0, 0, 0, 0, 77, 0, 1];
    for (what, chain, protocol, payload, found) in [
        ("TCP", &[][..], protocol::TCP, &SYN[..8], Some(0)),
        ("UDP", &[], protocol::UDP, &SYN[..8], Some(0)),
        ("SCTP", &[], protocol::SCTP, &SYN[..8], Some(0)),
        ("four bytes of it", &[], protocol::UDP, &SYN[..4], Some(0)),
        ("three bytes of it", &[], protocol::UDP, &SYN[..3], None),
        ("an echo request", &[], protocol::ICMPV6, &echo(128), Some(0)),
        ("an echo reply", &[], protocol::ICMPV6, &echo(129), Some(0)),
        ("an error", &[], protocol::ICMPV6, &echo(3), None),
        ("IPv4's ICMP", &[], protocol::ICMP, &echo(8), None),
        ("another protocol", &[], 47, &SYN[..8], None),
        ("options", &[HopByHop(8), Destination(112)], protocol::UDP, &SYN[..8], Some(120)),
        ("more than are walked", &[Destination(128)], protocol::UDP, &SYN[..8], None),
        ("an atomic fragment", &[Fragment(0, false)], protocol::UDP, &SYN[..8], Some(8)),
        ("a first fragment", &[Fragment(0, true)], protocol::UDP, &SYN[..8], Some(8)),
        ("a later fragment", &[Fragment(1, true)], protocol::UDP, &SYN[..8], None),
        ("what has a place to visit", &[Routing(24, 1)], protocol::UDP, &SYN[..8], None),
    ] {
        let frame = quoted(chain, protocol, payload);
        let watched = Watched::new(&frame);
        let quote = V6::parse_quote(&watched, 62, Side::CONTAINER);
        assert!(watched.reach() <= crate::wire::quote::HEADERS, "{what}");
        assert_eq!(
            quote.map(|quote| quote.payload_at),
            found.map(|bytes| 62 + 40 + bytes),
            "{what}"
        );
        if let Some(Quote { tuple, header_at, .. }) = quote {
            assert_eq!(
                (tuple.source, tuple.destination, header_at),
                (V6::C1, V6::WORLD, 62),
                "{what}"
            );
            let ports = (tuple.source_port.get(), tuple.destination_port.get(), tuple.echo);
            let expected = match payload[0] {
                128 => (77, 0, Echo::REQUEST),
                129 => (0, 77, Echo::REPLY),
                _ => (4000, 80, Echo::NONE),
            };
            assert_eq!(ports, expected, "{what}");
        }
        let mut other = frame;
        other[62] = 0x45;
        assert_eq!(
            V6::parse_quote(&other[..], 62, Side::CONTAINER),
            None,
            "{what}, of another version"
        );
    }
}

#[test]
fn icmp_payload_follows_type() {
    for (kinds, payload) in [
        (1..=4, Payload::Error),
        (128..=129, Payload::Echo),
        // Listener discovery, routers, neighbours, redirects.
        (130..=137, Payload::Link),
        (143..=143, Payload::Link),
        (5..=127, Payload::Other),
        (138..=142, Payload::Other),
        (144..=150, Payload::Other),
        (151..=153, Payload::Link),
        (154..=255, Payload::Other),
        (0..=0, Payload::Other),
    ] {
        for kind in kinds {
            assert_eq!(V6::of_icmp(kind), payload, "type {kind}");
        }
    }
}

#[test]
fn rewrite_keeps_other_fields() {
    let mut header = Ipv6(Ipv6Hdr {
        vcf: [0x6a, 0xbc, 0xde, 0xf1],
        payload_len: 20_u16.to_be_bytes(),
        next_hdr: 6,
        hop_limit: 64,
        src_addr: V6::C1.octets(),
        dst_addr: V6::WORLD.octets(),
    });
    let mut translation: Translation<V6> = bytemuck::Zeroable::zeroed();
    translation.tuple.source = V6::HOST;
    translation.tuple.destination = V6::OTHER;
    V6::rewrite(&mut header, &translation);
    let Ipv6(Ipv6Hdr { vcf, payload_len, next_hdr, hop_limit, .. }) = header;
    assert_eq!((vcf, payload_len, next_hdr), ([0x6a, 0xbc, 0xde, 0xf1], 20_u16.to_be_bytes(), 6));
    let addresses = (header.source(), header.destination());
    assert_eq!((hop_limit, addresses), (63, (V6::HOST, V6::OTHER)));
    V6::rewrite_quoted(
        &mut header,
        &Tuple { source: V6::C2, destination: V6::C1, ..translation.tuple },
        0,
    );
    assert_eq!(
        (header.0.hop_limit, header.source(), header.destination()),
        (63, V6::C2, V6::C1),
        "no hop"
    );
}
