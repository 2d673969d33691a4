//! Arbitrary bytes at every hook: they are parsed or refused, nothing is read beyond their end, and
//! no decision panics.

use causeway_common::wire::{
    ethernet::ETHERNET,
    ipv6,
    packet::{Arrival, Payload},
    quote,
    tuple::Side,
};

use crate::{
    both,
    fixture::{self, Fixture, Scenery},
    history::check_outcome,
    programs::{Hook, run as run_program},
    traffic::Arriving,
};

/// Runs a case. Byte 0 selects the family, byte 1 the hook and how much of the frame is readable,
/// bytes 2 and 3 are the GSO size (little-endian); the rest is the frame.
///
/// # Panics
///
/// If an invariant does not hold.
pub fn run(data: &[u8]) {
    both!(run_family, data);
}

fn run_family<A: Scenery>(data: &[u8]) {
    let [place, gso_low, gso_high, frame @ ..] = data else { return };
    let Ok(length) = u32::try_from(frame.len()) else { return };
    let fixture = Fixture::MODEL;
    let (hook, input, side) = match place % 7 {
        5 => (Hook::Uplink, fixture.uplink, Side::UPLINK),
        6 => (Hook::UplinkOut, fixture.uplink, Side::HOST),
        container => (Hook::HostSide, fixture.sides[usize::from(container)], Side::CONTAINER),
    };
    // The readable part of a frame may be shorter than the frame.
    let length = length + u32::from(place / 7) * 64;
    let gso_size = u32::from(u16::from_le_bytes([*gso_low, *gso_high]));
    let arrival = Arrival { side, input, length, gso_size };
    let least = size_of::<A::Header>();
    // IPv4's options, or IPv6's extension headers.
    let longest = if A::PREFIX == 16 { 60 } else { ipv6::LONGEST };
    let usual = A::parse_usual(frame, arrival);
    let whole = A::parse(frame, arrival);
    assert!(usual.is_err() || usual == whole, "the parsers differ: {usual:?}, {whole:?}");
    if let Ok(packet) = whole {
        assert!((ETHERNET + least..=ETHERNET + longest).contains(&packet.payload_at));
        assert!(packet.payload_at <= A::PAYLOAD_MASK);
        let in_reach = packet.payload_at <= frame.len();
        let unread =
            matches!(packet.payload, Payload::Fragment | Payload::Unparsed | Payload::Other);
        assert!(in_reach || unread);
        assert_eq!(packet.length, length - 14);
        assert!(!packet.begins() || packet.has_ports());
        assert!(!packet.tuple.source.is_v4_mapped() && !packet.tuple.destination.is_v4_mapped());
        if matches!(packet.payload, Payload::Tcp | Payload::Udp | Payload::Sctp) {
            let ports = [packet.tuple.source_port.word(), packet.tuple.destination_port.word()]
                .map(u16::to_ne_bytes);
            assert_eq!(ports.concat(), frame[packet.payload_at..][..4]);
        }
        for at in [packet.payload_at, packet.payload_at + 8] {
            if let Some(quote) = A::parse_quote(frame, at, side) {
                assert!(
                    quote.header_at == at
                        && (at + least..=at + longest).contains(&quote.payload_at)
                );
                // Within the masks that the kernel's program applies.
                assert!(
                    quote.header_at <= quote::HEADER_MASK
                        && quote.payload_at <= quote::PAYLOAD_MASK
                );
                assert!(quote.payload_at + 4 <= frame.len());
            }
        }
    }
    let model = fixture::model::<A>();
    let arriving = Arriving { hook, input, frame: frame.to_vec() };
    // The second time the flow is known, if the frame began one.
    for _ in 0..2 {
        if arriving.frame.len() >= 14 {
            let outcome = run_program(hook, &arriving.frame, input, true, &model);
            check_outcome(&arriving, &outcome, &model);
        }
    }
}
