//! NAT64 over the model: flows between IPv6 clients and a container that has IPv4 only, and their
//! packets.

use crate::{
    abi::{
        drop_reason::DropReason,
        endpoint::Endpoint,
        owner::Owner,
        translation::{Deliver, Translation},
        uplink::Uplink,
    },
    flow::egress::Egress,
    nat::{
        nat64::{mapped_packet, to_ipv4, to_ipv6, unmapped_tuple},
        nat64_error::{error_to_ipv4, error_to_ipv6, rewrite_quote},
    },
    testing::{
        fixture::{
            C1_SIDE, C2_SIDE, C2_SLOT, Fixture, Head as Sent, PUBLISH_SLOT, UPLINK, arrival, frame,
            icmp, left, model, packet, sum_of, sums_up, udp,
        },
        model::Model,
        steps::{Decision, decide, decide_nat64},
    },
    wire::{
        address::{Port, V4, V6},
        checksum,
        headers::Head,
        ipv4::Ipv4,
        ipv6::Ipv6,
        packet::{Arrival, Packet, Payload},
        parse::Parse as _,
        protocol, tcp,
        tuple::{Side, Tuple},
    },
};
use std::vec::Vec;

/// The container that has IPv4 only, and its network's gateway, as IPv4-mapped addresses.
const C1: V6 = V6::v4_mapped(V4::C1);
const GATEWAY: V6 = V6::v4_mapped(V4::GATEWAY);

/// Models of both families: the first container has IPv4 only, the second one IPv6 too.
fn models() -> (Model<V4>, Model<V6>) {
    let (four, mut six) = (model::<V4>(), model::<V6>());
    let own = six.endpoints.remove(&V6::C1).unwrap();
    six.endpoints
        .insert(C1, Endpoint { subnet: V6::v4_mapped(V4::SUBNET), gateway: GATEWAY, ..own });
    six.publishes.get_mut(&PUBLISH_SLOT).unwrap().container = C1;
    (four, six)
}

/// A reply to a packet that went into the container.
fn answer4(translation: &Translation<V6>, flags: u8) -> Packet<V4> {
    let tuple = unmapped_tuple(&translation.tuple.reversed()).unwrap();
    Packet {
        tuple,
        input: translation.output,
        ..packet(0, (tuple.source, 0), (tuple.destination, 0), tuple.protocol, flags)
    }
}

/// Outcome of a packet of the container.
fn left4(models: &(Model<V4>, Model<V6>), packet: &Packet<V4>) -> Option<Decision<V6>> {
    decide_nat64(&[][..], packet, &models.0, &models.1).err()
}

/// Translation of a packet of the container, which must leave.
#[track_caller]
fn leaves4(models: &(Model<V4>, Model<V6>), packet: &Packet<V4>) -> Translation<V6> {
    match left4(models, packet) {
        Some(Decision::Forward(translation)) => translation,
        other => panic!("{other:?}"),
    }
}

fn from_world(protocol: u8, flags: u8) -> Packet<V6> {
    packet(UPLINK, (V6::WORLD, 40_000), (V6::HOST, 5000), protocol, flags)
}

#[test]
fn gateway_stands_for_client() {
    for number in [protocol::TCP, protocol::UDP, protocol::SCTP] {
        for (input, client) in [(UPLINK, V6::WORLD), (C2_SIDE, V6::C2)] {
            for host in [V6::HOST, V6::GATEWAY] {
                if input == UPLINK && host == V6::GATEWAY {
                    continue;
                }
                let models = models();
                let sent = packet(input, (client, 40_000), (host, 5000), number, tcp::SYN);
                let there = left(&models.1, &sent).unwrap();
                assert_eq!((there.deliver, there.output), (Deliver::CONTAINER_NAT64, C1_SIDE));
                let Tuple { source, destination, source_port, destination_port, .. } = there.tuple;
                assert_eq!((source, destination, destination_port.get()), (GATEWAY, C1, 80));
                if number == protocol::SCTP {
                    assert_eq!(source_port.get(), 40_000, "its checksum covers the ports");
                } else {
                    assert!(
                        source_port.get() < 32_768,
                        "the host's own sockets begin there: {source_port:?}"
                    );
                }
                let mut back = answer4(&there, tcp::SYN | tcp::ACK);
                back.ttl = 9;
                let here = leaves4(&models, &back);
                assert_eq!(here.tuple, Tuple { side: sent.tuple.side, ..sent.tuple.reversed() });
                assert_eq!(
                    (here.deliver, here.output),
                    if input == UPLINK {
                        (Deliver::UPLINK, UPLINK)
                    } else {
                        (Deliver::CONTAINER, C2_SIDE)
                    }
                );
                // A second packet goes the same way.
                assert_eq!(left(&models.1, &sent).unwrap().tuple, there.tuple);
            }
        }
    }
}

#[test]
fn nat64_flow_counts_like_published_flow() {
    let models = models();
    let there = left(&models.1, &from_world(protocol::UDP, 0)).unwrap();
    leaves4(&models, &answer4(&there, 0));
    let slot = models.1.endpoints[&C1].slot;
    assert_eq!(models.1.counts.borrow()[&Owner::inbound(slot)], 1);
    for (key, entry) in models.1.flows.borrow().iter() {
        assert_eq!((entry.packets, entry.slot), (1, PUBLISH_SLOT), "{key:?}");
    }
    assert!(models.0.flows.borrow().is_empty());
    // A hairpin flow counts for the container that begins it.
    left(&models.1, &udp(C2_SIDE, (V6::C2, 40_000), (V6::HOST, 5000))).unwrap();
    assert_eq!(models.1.counts.borrow()[&Owner::of(C2_SLOT)], 1);
}

#[test]
fn taken_port_of_gateway_is_avoided() {
    let first = {
        let models = models();
        left(&models.1, &from_world(protocol::UDP, 0)).unwrap().tuple
    };
    for taken_by in ["a socket of the host", "a flow of IPv4's own", "another such flow"] {
        let mut models = models();
        match taken_by {
            "a socket of the host" => {
                models.1.sockets.insert(first.reversed());
            }
            "a flow of IPv4's own" => {
                models.1.other_family.insert(first.reversed());
            }
            _ => {
                left(&models.1, &udp(UPLINK, (V6::OTHER, 40_000), (V6::HOST, 5000))).unwrap();
                models.1.random.set(1);
            }
        }
        let tuple = left(&models.1, &from_world(protocol::UDP, 0)).unwrap().tuple;
        assert_ne!(tuple, first, "{taken_by}");
        assert_eq!(Tuple { source_port: first.source_port, ..tuple }, first, "{taken_by}");
    }
}

#[test]
fn ipv4_hairpin_avoids_ports_of_nat64() {
    let (mut four, _) = models();
    let itself = udp(C1_SIDE, (V4::C1, 4000), (V4::HOST, 5000));
    let plain = left(&four, &itself).unwrap().tuple;
    assert_eq!((plain.source, plain.source_port), (V4::GATEWAY, Port::new(4000)));
    four.flows.borrow_mut().clear();
    four.other_family.insert(plain.reversed());
    assert_ne!(left(&four, &itself).unwrap().tuple.source_port, plain.source_port);
}

#[test]
fn other_packets_to_gateway_are_not_nat64() {
    let models = models();
    let there = left(&models.1, &from_world(protocol::UDP, 0)).unwrap();
    let back = answer4(&there, 0);
    let other = |change: fn(&mut Packet<V4>)| {
        let mut packet = back;
        change(&mut packet);
        left4(&models, &packet)
    };
    assert!(other(|_| {}).is_some());
    assert_eq!(other(|packet| packet.tuple.destination_port = Port::new(22)), None);
    assert_eq!(other(|packet| packet.tuple.source_port = Port::new(81)), None);
    assert_eq!(other(|packet| packet.tuple.protocol = protocol::TCP), None);
    assert_eq!(other(|packet| packet.tuple.destination = V4::HOST), None, "that is the uplink's");
    assert_eq!(other(|packet| packet.tuple.side = Side::UPLINK), None);
    assert_eq!(other(|packet| packet.payload = Payload::Other), None);
    // Another container may have the address, but not the interface.
    let spoofed = other(|packet| packet.input = C2_SIDE);
    assert_eq!(spoofed, Some(Decision::Stop(DropReason::SourceAddressSpoofed)));
    assert_eq!(other(|packet| packet.ttl = 1), Some(Decision::Stop(DropReason::TtlExceeded)));
}

#[test]
fn nat64_flow_ends_with_publish() {
    let mut models = models();
    let there = left(&models.1, &from_world(protocol::UDP, 0)).unwrap();
    models.1.epochs.insert(PUBLISH_SLOT, 1);
    assert_eq!(left4(&models, &answer4(&there, 0)), None);
    assert!(models.1.flows.borrow().is_empty());
}

#[test]
fn reported_mtu_fits_both_sides() {
    // MTU of the container's network and of the uplink, and the longest packets of client and
    // container.
    for (inside, outside, client, container) in [
        (1500, 1500, 1520, 1480),
        (1480, 1500, 1500, 1480),
        (9000, 1500, 9020, 1480),
        (1500, 9000, 1520, 8980),
        (1400, 1280, 1420, 1260),
        // An IPv6 client can always send 1280 bytes.
        (1000, 1500, 1280, 1480),
        (65_535, 65_535, 65_535, 65_515),
    ] {
        let mut models = models();
        models.1.endpoints.get_mut(&C1).unwrap().mtu = inside;
        models.1.uplinks.insert(UPLINK, Uplink { address: V6::HOST, mtu: outside });
        let long =
            |bytes| Packet { length: bytes, segment: bytes, ..from_world(protocol::TCP, tcp::SYN) };
        let there = left(&models.1, &long(client)).unwrap();
        let decision = decide(&[][..], &long(client + 1), &models.1);
        if client < 65_535 {
            assert_eq!(
                decision,
                Decision::TooLong(u16::try_from(client).unwrap()),
                "{inside} {outside}"
            );
        }
        for dont_fragment in [true, false] {
            let back = |bytes| Packet {
                length: bytes,
                segment: bytes,
                dont_fragment,
                ..answer4(&there, tcp::ACK)
            };
            leaves4(&models, &back(container));
            let too_long = left4(&models, &back(container + 1));
            assert_eq!(
                too_long,
                Some(Decision::TooLong(u16::try_from(container).unwrap())),
                "{inside} {outside}"
            );
        }
    }
}

#[test]
fn mss_fits_both_sides() {
    for (inside, outside, most) in [
        (1500, 1500, Some(1440)),
        (1480, 1500, None),
        (1400, 1500, Some(1360)),
        (9000, 1500, Some(1440)),
    ] {
        let mut models = models();
        models.1.endpoints.get_mut(&C1).unwrap().mtu = inside;
        models.1.uplinks.insert(UPLINK, Uplink { address: V6::HOST, mtu: outside });
        let syn = from_world(protocol::TCP, tcp::SYN);
        let there = left(&models.1, &syn).unwrap();
        assert_eq!(crate::nat::mss::limit(&syn, &there, &models.1), most, "{inside} {outside}");
        let back = answer4(&there, tcp::SYN | tcp::ACK);
        let here = leaves4(&models, &back);
        assert_eq!(
            crate::nat::mss::limit(&mapped_packet(&back), &here, &models.1),
            most,
            "{inside} {outside}"
        );
    }
}

#[test]
fn fragments_are_not_translated() {
    let models = models();
    let whole = from_world(protocol::UDP, 0);
    let there = left(&models.1, &whole).unwrap();
    let first = Packet { first_fragment: true, id: 7, ..whole };
    assert_eq!(left(&models.1, &first), Err(DropReason::Fragment));
    let mut later = Packet { payload: Payload::Fragment, ..first };
    later.tuple = Tuple { source_port: Port::ZERO, destination_port: Port::ZERO, ..later.tuple };
    assert_eq!(
        left(&models.1, &Packet { first_fragment: false, ..later }),
        Err(DropReason::Fragment)
    );
    let back = Packet { first_fragment: true, id: 7, ..answer4(&there, 0) };
    assert_eq!(left4(&models, &back), Some(Decision::Stop(DropReason::Fragment)));
    let mut others = back;
    others.tuple.destination_port = Port::new(53);
    assert_eq!(left4(&models, &others), None, "the host puts its own together");
}

/// Headers of a packet from the world into the container, and of one back.
fn crossed(sent: &[u8]) -> (Ipv4, Packet<V6>) {
    let sent = frame::<V6>(UPLINK, sent);
    let packet = V6::parse(&sent[..], arrival(UPLINK, &sent)).unwrap();
    let to = Tuple { source: GATEWAY, destination: C1, ..packet.tuple };
    let mut head = Head::none();
    to_ipv4(&sent[..], &packet, &to, 0x1234, &mut head).unwrap();
    (head.outer, packet)
}

#[test]
fn ipv4_header_keeps_fields_of_ipv6() {
    for options in [0, 1, Sent::OPTIONS] {
        for (data, hops, class) in
            [(0, 64, 0), (1231, 2, 0xb8), (1232, 255, 3), (1233, 64, 0xff), (8000, 64, 1)]
        {
            let mut sent = V6::ip_of(
                Sent { hops, options },
                protocol::UDP,
                V6::WORLD,
                V6::HOST,
                &std::vec![7; 8 + data],
            );
            sent[..2].copy_from_slice(&[0x60 | class >> 4, class << 4 | 0xf]);
            let (header, _) = crossed(&sent);
            assert_eq!(
                (header.0.vihl, header.0.tos, header.0.ttl, header.0.proto),
                (0x45, class, hops - 1, 17)
            );
            let total = 20 + 8 + data;
            assert_eq!(usize::from(u16::from_be_bytes(header.0.tot_len)), total);
            assert_eq!((header.source(), header.destination()), (V4::GATEWAY, V4::C1));
            // RFC 7915 section 5.1.
            let wanted = if total <= 1260 {
                (0x1234_u16.to_ne_bytes(), [0; 2])
            } else {
                ([0; 2], [0x40, 0])
            };
            assert_eq!((header.0.id, header.0.frags), wanted, "{total} bytes");
            assert_eq!(checksum::sum(bytemuck::bytes_of(&header)), 0xffff);
        }
    }
}

#[test]
fn ipv6_header_keeps_fields_of_ipv4() {
    for options in [0, 1, Sent::OPTIONS] {
        for (data, hops, class) in [(0, 64, 0), (1232, 255, 0xb8), (1233, 2, 0xff)] {
            let mut sent = V4::ip_of(
                Sent { hops, options },
                protocol::UDP,
                V4::C1,
                V4::GATEWAY,
                &std::vec![7; 8 + data],
            );
            sent[1] = class;
            let sent = frame::<V4>(C1_SIDE, &sent);
            let packet = mapped_packet(&V4::parse(&sent[..], arrival(C1_SIDE, &sent)).unwrap());
            let to = Tuple { source: V6::HOST, destination: V6::WORLD, ..packet.tuple };
            let mut head = Head::none();
            to_ipv6(&sent[..], &packet, &to, &mut head).unwrap();
            let header = head.outer;
            assert_eq!(header.0.vcf, [0x60 | class >> 4, class << 4, 0, 0], "no flow label");
            assert_eq!((header.0.next_hdr, header.0.hop_limit), (17, hops - 1));
            assert_eq!(usize::from(u16::from_be_bytes(header.0.payload_len)), 8 + data);
            assert_eq!((header.source(), header.destination()), (V6::HOST, V6::WORLD));
        }
    }
}

/// BIG TCP: longer than the length field can say.
#[test]
fn length_of_zero_stays_zero() {
    let mut sent = V6::ip(protocol::TCP, V6::WORLD, V6::HOST, &[0x50; 20]);
    sent[4..6].fill(0);
    let sent = frame::<V6>(UPLINK, &sent);
    let packet =
        V6::parse(&sent[..], Arrival { gso_size: 1000, ..arrival(UPLINK, &sent) }).unwrap();
    let mut head = Head::none();
    to_ipv4(&sent[..], &packet, &packet.tuple, 7, &mut head).unwrap();
    assert_eq!((head.outer.0.tot_len, head.outer.0.frags), ([0; 2], 0x4000_u16.to_be_bytes()));
    let mut sent = V4::ip(protocol::TCP, V4::C1, V4::GATEWAY, &[0x50; 20]);
    sent[2..4].fill(0);
    let sent = frame::<V4>(C1_SIDE, &sent);
    let packet = V4::parse(&sent[..], arrival(C1_SIDE, &sent)).unwrap();
    let mut head = Head::none();
    to_ipv6(&sent[..], &mapped_packet(&packet), &mapped_packet(&packet).tuple, &mut head).unwrap();
    assert_eq!(head.outer.0.payload_len, [0; 2]);
}

/// A TCP segment with a correct checksum.
fn segment<A: Fixture>(
    number: u8,
    (source, from): (A, u16),
    (destination, to): (A, u16),
    data: &[u8],
) -> Vec<u8> {
    let mut segment = [&from.to_be_bytes()[..], &to.to_be_bytes(), &[0; 16], data].concat();
    if number == protocol::UDP {
        let length = u16::try_from(segment.len()).unwrap();
        segment[4..6].copy_from_slice(&length.to_be_bytes());
    }
    let at = if number == protocol::UDP { 6 } else { 16 };
    let sum = sum_of(number, source, destination, &segment);
    segment[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
    segment
}

/// An ICMPv6 error about a reply of the container, as it arrives: kind, code, rest of the header, a
/// wrong checksum, its sender, and the length of its quote.
struct Error {
    head: [u8; 8],
    wrong: u16,
    options: usize,
    number: u8,
    quoted: usize,
}

/// Runs a flow and the error about its last packet. Returns the error as it leaves: source,
/// destination, and ICMP message.
fn error_to_four(error: &Error) -> Option<(Ipv4, Vec<u8>)> {
    let models = models();
    let there = left(&models.1, &from_world(error.number, tcp::SYN)).unwrap();
    leaves4(&models, &answer4(&there, tcp::SYN | tcp::ACK));
    let quote = segment(error.number, (V6::HOST, 5000), (V6::WORLD, 40_000), b"what it said");
    let quote = V6::ip(error.number, V6::HOST, V6::WORLD, &quote);
    let message = icmp(
        V6::ROUTER,
        V6::HOST,
        error.head,
        &quote[..error.quoted.min(quote.len())],
        error.wrong,
    );
    let sent = Sent { hops: 9, options: error.options };
    let mut sent =
        frame::<V6>(UPLINK, &V6::ip_of(sent, protocol::ICMPV6, V6::ROUTER, V6::HOST, &message));
    let packet = V6::parse(&sent[..], arrival(UPLINK, &sent)).unwrap();
    let Decision::ForwardError(translated) = decide(&sent[..], &packet, &models.1) else {
        panic!("it is of the flow");
    };
    assert_eq!(
        (translated.outer.deliver, translated.outer.output),
        (Deliver::CONTAINER_NAT64, C1_SIDE)
    );
    let mut head = Head::none();
    error_to_ipv4(&sent[..], &packet, &translated, 7, &mut head)?;
    let before: u32 = sent[translated.quote.payload_at..].chunks(2).map(word).sum();
    rewrite_quote(&mut sent[..], &translated, &mut head)?;
    let payload = &sent[translated.quote.payload_at..];
    let after: u32 = payload.chunks(2).map(word).sum();
    assert_eq!(checksum::delta(before, after), checksum::delta(0, head.payload_delta.into()));
    let message =
        [bytemuck::bytes_of(&head.icmp), bytemuck::bytes_of(&head.quoted), payload].concat();
    assert_eq!((head.quoted.source(), head.quoted.destination()), (V4::C1, V4::GATEWAY));
    assert_eq!(checksum::sum(bytemuck::bytes_of(&head.quoted)), 0xffff);
    // The quoted packet is what the container sent.
    let ports = [80, there.tuple.source_port.get()].map(u16::to_be_bytes).concat();
    assert_eq!(payload[..4], ports);
    if error.quoted >= quote.len() {
        assert!(sums_up(error.number, V4::C1, V4::GATEWAY, payload));
    }
    Some((head.outer, message))
}

fn word(pair: &[u8]) -> u32 {
    u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]).into()
}

const ALL: usize = usize::MAX;

#[test]
fn icmpv6_error_becomes_icmp() {
    for number in [protocol::TCP, protocol::UDP] {
        for (quoted, options) in [(ALL, 0), (48, 0), (ALL, 2), (56, Sent::OPTIONS)] {
            let (outer, message) = error_to_four(&Error {
                head: [1, 4, 0, 0, 0, 0, 0, 0],
                wrong: 0,
                options,
                number,
                quoted,
            })
            .unwrap();
            assert_eq!(
                (outer.source(), outer.destination()),
                (V4::GATEWAY, V4::C1),
                "no router of IPv6 has an address there"
            );
            assert_eq!((outer.0.proto, outer.0.ttl), (protocol::ICMP, 8));
            assert_eq!(usize::from(u16::from_be_bytes(outer.0.tot_len)), 20 + message.len());
            assert_eq!(checksum::sum(bytemuck::bytes_of(&outer)), 0xffff);
            assert!(
                sums_up(protocol::ICMP, V4::GATEWAY, V4::C1, &message),
                "{number} {quoted} {options}"
            );
            assert_eq!(message[..2], [3, 3]);
        }
    }
    let wrong = Error {
        head: [1, 4, 0, 0, 0, 0, 0, 0],
        wrong: 0x0100,
        options: 0,
        number: protocol::UDP,
        quoted: ALL,
    };
    let (_, message) = error_to_four(&wrong).unwrap();
    assert!(!sums_up(protocol::ICMP, V4::GATEWAY, V4::C1, &message), "what is wrong stays wrong");
}

#[test]
fn icmpv6_kinds_map_to_icmp() {
    let mtu = |mtu: u32| {
        let [a, b, c, d] = mtu.to_be_bytes();
        [2, 0, 0, 0, a, b, c, d]
    };
    let plain = |kind, code| [kind, code, 0, 0, 0, 0, 0, 0];
    for (head, like) in [
        (plain(1, 0), Some((3, 1, 0))),
        (plain(1, 1), Some((3, 10, 0))),
        (plain(1, 2), Some((3, 1, 0))),
        (plain(1, 3), Some((3, 1, 0))),
        (plain(1, 4), Some((3, 3, 0))),
        (plain(1, 5), None),
        (plain(1, 6), None),
        (mtu(1500), Some((3, 4, 1480))),
        (mtu(1280), Some((3, 4, 1260))),
        (mtu(0), Some((3, 4, 1260))),
        (mtu(576), Some((3, 4, 1260))),
        (mtu(65_536), Some((3, 4, 65_515))),
        (mtu(u32::MAX), Some((3, 4, 65_515))),
        (plain(3, 0), Some((11, 0, 0))),
        (plain(3, 1), Some((11, 1, 0))),
        ([4, 1, 0, 0, 0, 0, 0, 6], Some((3, 2, 0))),
        (plain(4, 0), None),
        (plain(4, 2), None),
    ] {
        let error = Error { head, wrong: 0, options: 0, number: protocol::UDP, quoted: ALL };
        let seen = error_to_four(&error).map(|(_, message)| {
            assert!(sums_up(protocol::ICMP, V4::GATEWAY, V4::C1, &message), "{head:?}");
            assert_eq!(message[4..6], [0, 0]);
            (message[0], message[1], u16::from_be_bytes([message[6], message[7]]))
        });
        assert_eq!(seen, like, "{head:?}");
    }
}

/// The reverse: an error of the container about a packet that it got. Returns the error as it
/// leaves.
fn error_to_six(error: &Error) -> Option<(Ipv6, Vec<u8>)> {
    let models = models();
    let there = left(&models.1, &from_world(error.number, tcp::SYN)).unwrap();
    let port = there.tuple.source_port.get();
    let quote = segment(error.number, (V4::GATEWAY, port), (V4::C1, 80), b"what they said");
    let quote = V4::ip(error.number, V4::GATEWAY, V4::C1, &quote);
    let message =
        icmp(V4::C1, V4::GATEWAY, error.head, &quote[..error.quoted.min(quote.len())], error.wrong);
    let sent = Sent { hops: 9, options: error.options };
    let mut sent =
        frame::<V4>(C1_SIDE, &V4::ip_of(sent, protocol::ICMP, V4::C1, V4::GATEWAY, &message));
    let packet = V4::parse(&sent[..], arrival(C1_SIDE, &sent)).unwrap();
    let Err(Decision::ForwardError(translated)) =
        decide_nat64(&sent[..], &packet, &models.0, &models.1)
    else {
        panic!("it is of the flow");
    };
    assert_eq!((translated.outer.deliver, translated.outer.output), (Deliver::UPLINK, UPLINK));
    let packet = mapped_packet(&packet);
    let mut head = Head::none();
    error_to_ipv6(&sent[..], &packet, &translated, &mut head)?;
    rewrite_quote(&mut sent[..], &translated, &mut head)?;
    let payload = &sent[translated.quote.payload_at..];
    assert_eq!((head.quoted.source(), head.quoted.destination()), (V6::WORLD, V6::HOST));
    assert_eq!(payload[..4], [40_000, 5000_u16].map(u16::to_be_bytes).concat());
    if error.quoted >= quote.len() {
        assert!(sums_up(error.number, V6::WORLD, V6::HOST, payload));
        assert_eq!(usize::from(u16::from_be_bytes(head.quoted.0.payload_len)), payload.len());
    }
    let message =
        [bytemuck::bytes_of(&head.icmp), bytemuck::bytes_of(&head.quoted), payload].concat();
    Some((head.outer, message))
}

#[test]
fn icmp_error_becomes_icmpv6() {
    for number in [protocol::TCP, protocol::UDP] {
        for (quoted, options) in [(ALL, 0), (28, 0), (ALL, 5), (36, Sent::OPTIONS)] {
            let (outer, message) = error_to_six(&Error {
                head: [3, 3, 0, 0, 0, 0, 0, 0],
                wrong: 0,
                options,
                number,
                quoted,
            })
            .unwrap();
            assert_eq!((outer.source(), outer.destination()), (V6::HOST, V6::WORLD));
            assert_eq!((outer.0.next_hdr, outer.0.hop_limit), (protocol::ICMPV6, 8));
            assert_eq!(usize::from(u16::from_be_bytes(outer.0.payload_len)), message.len());
            assert!(
                sums_up(protocol::ICMPV6, V6::HOST, V6::WORLD, &message),
                "{number} {quoted} {options}"
            );
            assert_eq!(message[..2], [1, 4]);
        }
    }
    let wrong = Error {
        head: [3, 3, 0, 0, 0, 0, 0, 0],
        wrong: 0x0100,
        options: 0,
        number: protocol::UDP,
        quoted: ALL,
    };
    let (_, message) = error_to_six(&wrong).unwrap();
    assert!(!sums_up(protocol::ICMPV6, V6::HOST, V6::WORLD, &message), "what is wrong stays wrong");
}

#[test]
fn icmp_kinds_map_to_icmpv6() {
    let mtu = |mtu: u16| {
        let [a, b] = mtu.to_be_bytes();
        [3, 4, 0, 0, 0, 0, a, b]
    };
    let plain = |kind, code| [kind, code, 0, 0, 0, 0, 0, 0];
    for (head, like) in [
        (plain(3, 0), Some((1, 0, 0))),
        (plain(3, 1), Some((1, 0, 0))),
        (plain(3, 2), Some((4, 1, 6))),
        (plain(3, 3), Some((1, 4, 0))),
        (mtu(1400), Some((2, 0, 1420))),
        (mtu(1260), Some((2, 0, 1280))),
        (mtu(576), Some((2, 0, 1280))),
        (mtu(0), Some((2, 0, 1280))),
        (mtu(65_535), Some((2, 0, 65_535))),
        (plain(3, 5), Some((1, 0, 0))),
        (plain(3, 8), Some((1, 0, 0))),
        (plain(3, 9), Some((1, 1, 0))),
        (plain(3, 10), Some((1, 1, 0))),
        (plain(3, 11), Some((1, 0, 0))),
        (plain(3, 12), Some((1, 0, 0))),
        (plain(3, 13), Some((1, 1, 0))),
        (plain(3, 14), None),
        (plain(3, 15), Some((1, 1, 0))),
        (plain(11, 0), Some((3, 0, 0))),
        (plain(11, 1), Some((3, 1, 0))),
        (plain(12, 0), None),
    ] {
        let error = Error { head, wrong: 0, options: 0, number: protocol::UDP, quoted: ALL };
        let seen = error_to_six(&error).map(|(_, message)| {
            assert!(sums_up(protocol::ICMPV6, V6::HOST, V6::WORLD, &message), "{head:?}");
            let rest = message[4..8].try_into().unwrap();
            (message[0], message[1], u32::from_be_bytes(rest))
        });
        assert_eq!(seen, like, "{head:?}");
    }
}

#[test]
fn nat64_egress_mtu_is_at_least_1280() {
    let (_, six) = models();
    let endpoint = |mtu| Endpoint { mtu, ..six.endpoints[&C1] };
    for (mtu, egress) in
        [(68, 1280), (1260, 1280), (1261, 1281), (65_515, 65_535), (65_535, 65_535)]
    {
        assert_eq!(Egress::container_nat64(&endpoint(mtu)).mtu, egress);
    }
}
