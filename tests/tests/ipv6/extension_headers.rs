//! IPv6 packets with extension headers: translated up to a bound. Beyond it they are dropped, since
//! they could hide anything.

use std::net::IpAddr;

use causeway_tests::{
    families,
    family::Family,
    lab::{Container, Lab},
    raw::{Packet, Raw, flag, header},
    shared::Shared,
    tcp, udp,
    wait::{DEADLINE, SILENCE},
};

families! {
    ; V6:
    masqueraded_packets_are_answered,
    published_port_answers,
    tcp_connection_is_carried,
    fragments_arrive_in_any_order,
    packets_beyond_the_bound_are_dropped,
}

type Headers = Vec<(u8, Vec<u8>)>;

/// The body of an 8-byte options header with padding.
fn padding(kind: u8) -> (u8, Vec<u8>) {
    (kind, vec![0, 1, 4, 0, 0, 0, 0])
}

/// A destination options header of that length, with an unknown option to be skipped.
fn long(bytes: u8) -> (u8, Vec<u8>) {
    (
        header::DESTINATION,
        [&[bytes / 8 - 1, 0x1e, bytes - 4][..], &vec![0; usize::from(bytes) - 4]].concat(),
    )
}

/// A routing header of an unknown type, with so many segments left.
fn routing(left: u8) -> (u8, Vec<u8>) {
    (header::ROUTING, vec![0, 253, left, 0, 0, 0, 0])
}

/// An atomic fragment (RFC 6946).
fn atomic(id: u8) -> (u8, Vec<u8>) {
    (header::FRAGMENT, vec![0, 0, 0, 0, 0, 0, id])
}

/// Header chains within the bound.
fn within_the_bound() -> Vec<(&'static str, Headers)> {
    vec![
        ("hop-by-hop options", vec![padding(header::HOP_BY_HOP)]),
        ("destination options", vec![padding(header::DESTINATION)]),
        ("a routing header with no segments left", vec![routing(0)]),
        ("an atomic fragment", vec![atomic(1)]),
        ("long options", vec![long(112)]),
        (
            "four options headers",
            vec![
                padding(header::HOP_BY_HOP),
                padding(header::DESTINATION),
                routing(0),
                padding(header::DESTINATION),
            ],
        ),
        (
            "a fragment behind three",
            vec![padding(header::HOP_BY_HOP), padding(header::DESTINATION), routing(0), atomic(2)],
        ),
    ]
}

fn beyond_the_bound() -> Vec<(&'static str, Headers)> {
    let five = [padding(header::HOP_BY_HOP)]
        .into_iter()
        .chain((0..4).map(|_| padding(header::DESTINATION)));
    vec![
        ("five options headers", five.collect()),
        ("more bytes than are walked", vec![long(64), long(64)]),
        ("a routing header with segments left", vec![routing(1)]),
    ]
}

/// A container with a published server.
fn served(family: Family) -> (Shared, Container, udp::Echo) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let echo = udp::Echo::start(&c1.netns, c1.at(7), "c1");
    (lab, c1, echo)
}

fn datagram(extensions: &Headers, from: (IpAddr, u16), to: (IpAddr, u16)) -> Packet {
    Packet { extensions: extensions.clone(), ..Packet::udp(from, to, b"behind headers") }
}

/// The datagram that arrives at a port, with a valid checksum.
#[track_caller]
fn arrives(listener: &Raw, what: &str, ports: (u16, u16)) -> Packet {
    let packet = listener.wait(what, |packet| (packet.ports() == ports).then(|| packet.clone()));
    assert!(packet.sums_up() && packet.payload[8..] == *b"behind headers", "{what}: {packet:?}");
    packet
}

fn masqueraded_packets_are_answered(family: Family) {
    let (lab, c1, _echo) = served(family);
    let _far = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let (world, inside) = (Raw::open(&lab.world, family, 17), Raw::open(&c1.netns, family, 17));
    for (port, (what, headers)) in (41000..).zip(within_the_bound()) {
        inside.send(&datagram(&headers, (c1.address, port), (family.far(), 7)));
        let seen = arrives(&world, what, (port, 7));
        assert_eq!((seen.source, seen.ttl), (family.host(), 63), "{what}");
        // The checksum is left to the hardware, which a veth pair does not have.
        let answer =
            inside.wait(what, |packet| (packet.ports() == (7, port)).then(|| packet.clone()));
        assert_eq!(answer.source, family.far(), "{what}");
    }
}

fn published_port_answers(family: Family) {
    let (lab, c1, echo) = served(family);
    let (world, inside) = (Raw::open(&lab.world, family, 17), Raw::open(&c1.netns, family, 17));
    for (port, (what, headers)) in (42000..).zip(within_the_bound()) {
        world.send(&datagram(&headers, (family.far(), port), (family.host(), 5000)));
        let seen = arrives(&inside, what, (port, 7));
        assert_eq!((seen.source, seen.destination), (family.far(), c1.address), "{what}");
        let answer =
            world.wait(what, |packet| (packet.ports() == (5000, port)).then(|| packet.clone()));
        assert_eq!(answer.source, family.host(), "{what}");
    }
    assert!(echo.peers().iter().all(|peer| peer.ip() == family.far()), "{:?}", echo.peers());
}

fn tcp_connection_is_carried(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let _far = tcp::listen(&lab.world, (family.far(), 80));
    let inside = Raw::open(&c1.netns, family, 6);
    for (port, (what, extensions)) in (43000..).zip(within_the_bound()) {
        let segment = |flags, sequence, acknowledgment| Packet {
            extensions: extensions.clone(),
            ..Packet::tcp((c1.address, port), (family.far(), 80), flags, sequence, acknowledgment)
        };
        inside.send(&segment(flag::SYN, 1000, 0));
        let accepted = flag::SYN | flag::ACK;
        let answer = inside.wait(what, |packet| {
            (packet.ports() == (80, port) && packet.flags() == accepted).then(|| packet.clone())
        });
        assert_eq!(answer.long(8), 1001, "{what}");
        inside.send(&segment(flag::RST, 1001, 0));
    }
}

fn fragments_arrive_in_any_order(family: Family) {
    let (lab, c1, _echo) = served(family);
    let server = udp::bind(&lab.world, (family.far(), 9));
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let raw = Raw::sender(&c1.netns, family);
    let sent: Vec<u8> = (0..4000_u32).map(|place| (place % 251) as u8).collect();
    for (id, order) in [(1, [0, 1, 2]), (2, [2, 1, 0])] {
        let extensions = vec![padding(header::HOP_BY_HOP), padding(header::DESTINATION)];
        let whole =
            Packet { extensions, ..Packet::udp((c1.address, 4000), (family.far(), 9), &sent) };
        let parts = whole.with_id(id).cut(&[1400, 2800]);
        for part in order {
            raw.send(&parts[part]);
        }
        let mut buffer = vec![0; 8000];
        let (length, peer) = server.recv_from(&mut buffer).expect("the datagram arrives");
        assert!(
            buffer[..length] == sent && peer.ip() == family.host(),
            "from {peer} in the order {order:?}"
        );
    }
}

fn packets_beyond_the_bound_are_dropped(family: Family) {
    let (lab, c1, echo) = served(family);
    let c2 = lab.container("c2", &[]);
    let _far = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let (world, inside) = (Raw::open(&lab.world, family, 17), Raw::sender(&c2.netns, family));
    let before = lab.counted("extension-headers");
    for (port, (what, headers)) in (44000..).zip(beyond_the_bound()) {
        for to in
            [(family.far(), 7), (c1.address, 7), (family.host(), 5000), (family.gateway(), 5000)]
        {
            inside.send(&datagram(&headers, (c2.address, port), to));
        }
        // From outside it is passed to the host's stack, where the port is closed.
        world.send(&datagram(&headers, (family.far(), port), (family.host(), 5000)));
        let heard =
            world.find(SILENCE, |packet| (packet.ports().0 == port).then(|| packet.clone()));
        assert_eq!(heard, None, "{what}");
    }
    lab.expect_counted("extension-headers", before + 12);
    assert!(echo.peers().is_empty(), "{:?}", echo.peers());
}
