//! Fragments that come in no order: what is held of them, put back, counted, and left alone.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, UdpSocket},
};

use causeway::net::netns::Netns;
use causeway_tests::{
    lab::{Container, FAR, GATEWAY, HOST, Lab},
    packet::checksum,
    place,
    raw::{Ipv4, Raw, flag},
    udp,
    wait::{self, DEADLINE, SILENCE},
};

/// What fits the usual MTU.
const PIECE: usize = 1480;

fn data(seed: u16, length: usize) -> Vec<u8> {
    (0..length).map(|place| (place as u8).wrapping_mul(31) ^ (place >> 8) as u8 ^ seed as u8).collect()
}

fn cut(whole: &Ipv4) -> Vec<Ipv4> {
    whole.cut(&(PIECE..whole.payload.len()).step_by(PIECE).collect::<Vec<_>>())
}

/// In another order, a different one for each seed.
fn shuffle<T>(items: &mut [T], seed: u16) {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for last in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(last, usize::try_from(state >> 33).unwrap() % (last + 1));
    }
}

#[track_caller]
fn receives(socket: &UdpSocket, sent: &[u8], what: &str) {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut buffer = vec![0; 65536];
    let (length, _) = socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{what}: nothing arrives: {error}"));
    assert!(buffer[..length] == *sent, "{what}: another datagram arrives, of {length} bytes");
}

/// A number out of a namespace's `/proc/net/snmp`.
fn ip_counter(netns: &Netns, name: &str) -> u64 {
    let table = place::run(netns, || fs::read_to_string("/proc/thread-self/net/snmp")).unwrap();
    let rows: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("Ip: ")).collect();
    let column = rows[0].split(' ').position(|column| column == name).unwrap();
    rows[1].split(' ').nth(column).unwrap().parse().unwrap()
}

fn reason(lab: &Lab, name: &str) -> u64 {
    lab.json(&["stats"])["reasons"][name].as_u64().unwrap_or(0)
}

fn server(container: &Container) -> UdpSocket {
    udp::bind(&container.netns, container.at(7))
}

#[test]
fn long_datagrams_arrive_whole_in_any_order_whichever_way_they_go() {
    let lab = Lab::new();
    let (c1, c2) = (lab.container("c1", &["-p", "5000:7/udp"]), lab.container("c2", &[]));
    let (far, inside) = (udp::bind(&lab.world, (FAR, 7)), server(&c1));
    let client = udp::bind(&c2.netns, c2.at(4000));
    let from_world = udp::bind(&lab.world, (FAR, 4001));
    // The flows that answers are of.
    for (socket, to) in [(&client, (FAR, 7)), (&from_world, (HOST, 5000)), (&client, (HOST, 5000))] {
        socket.send_to(b"begin", to).unwrap();
        receives(if to == (FAR, 7) { &far } else { &inside }, b"begin", "the beginning");
    }
    let at = |container: &Container, port| (container.address, port);
    let ways = [
        ("outwards", &c2.netns, at(&c2, 4000), (FAR, 7), &far),
        ("an answer from outside", &lab.world, (FAR, 7), (HOST, 4000), &client),
        ("to a published port", &lab.world, (FAR, 4001), (HOST, 5000), &inside),
        ("a published port's answer", &c1.netns, at(&c1, 7), (FAR, 4001), &from_world),
        ("hairpin", &c2.netns, at(&c2, 4000), (HOST, 5000), &inside),
        ("a hairpin's answer", &c1.netns, at(&c1, 7), at(&c2, 4000), &client),
        ("to a neighbour", &c2.netns, at(&c2, 4002), at(&c1, 7), &inside),
    ];
    for (way, (what, netns, from, to, socket)) in (0..).zip(ways) {
        let raw = Raw::open(netns, 255);
        for (id, length) in [(1, 3000), (2, 60_000), (3, 60_000), (4, 20_000), (5, 20_000), (6, 5000), (7, 5000)] {
            let sent = data(id, length);
            let mut parts = cut(&Ipv4::udp(from, to, &sent).with_id(way * 10 + id));
            if id == 2 {
                parts.reverse();
            } else {
                shuffle(&mut parts, id);
            }
            for part in &parts {
                raw.send(part);
            }
            receives(socket, &sent, &format!("{what}, {length} bytes"));
        }
    }
    assert!(reason(&lab, "fragment-held") > 0);
    assert_eq!(reason(&lab, "fragment"), 0, "none found no room");
}

#[test]
fn datagrams_with_one_identification_that_are_mixed_arrive_whole() {
    let lab = Lab::new();
    let containers = ["c1", "c2", "c3"].map(|name| lab.container(name, &[]));
    let server = udp::bind(&lab.world, (FAR, 7));
    for id in 1..=20 {
        let mut parts = Vec::new();
        let mut sent = Vec::new();
        for (seed, container) in (0..).zip(&containers) {
            let raw = Raw::open(&container.netns, 255);
            let bytes = data(id * 3 + seed, 4000);
            let whole = Ipv4::udp((container.address, 4000), (FAR, 7), &bytes).with_id(id);
            parts.extend(cut(&whole).into_iter().map(|part| (seed, part)));
            sent.push((raw, bytes));
        }
        shuffle(&mut parts, id);
        for (sender, part) in &parts {
            sent[usize::from(*sender)].0.send(part);
        }
        let mut got: Vec<_> = sent.iter().map(|_| received(&server)).collect();
        let mut sent: Vec<_> = sent.into_iter().map(|(_, bytes)| bytes).collect();
        got.sort();
        sent.sort();
        assert!(got == sent, "each arrives as it was sent, in the order of {id}");
    }
}

#[track_caller]
fn received(socket: &UdpSocket) -> Vec<u8> {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut buffer = vec![0; 65536];
    let (length, _) = socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("nothing arrives: {error}"));
    buffer[..length].to_vec()
}

#[test]
fn a_first_fragment_that_comes_again_does_not_part_the_others() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let server = udp::bind(&lab.world, (FAR, 7));
    let raw = Raw::open(&c1.netns, 255);
    for (id, order) in [(1, [0, 1, 0, 2]), (2, [2, 0, 0, 1]), (3, [0, 2, 1, 0])] {
        let sent = data(id, 4000);
        let parts = cut(&Ipv4::udp((c1.address, 4000), (FAR, 7), &sent).with_id(id));
        for part in &order {
            raw.send(&parts[*part]);
        }
        receives(&server, &sent, &format!("{order:?}"));
    }
}

#[test]
fn the_host_gets_each_fragment_of_its_own_once_whatever_comes_first() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let server = udp::bind(&lab.host, (Ipv4Addr::UNSPECIFIED, 9));
    let (before, failed) = (ip_counter(&lab.host, "ReasmReqds"), ip_counter(&lab.host, "ReasmFails"));
    let mut sent = 0;
    for (netns, from, to) in [(&lab.world, FAR, HOST), (&c1.netns, c1.address, GATEWAY)] {
        let raw = Raw::open(netns, 255);
        for id in 1..=10 {
            let bytes = data(id, 8000);
            let mut parts = cut(&Ipv4::udp((from, 4000), (to, 9), &bytes).with_id(id));
            shuffle(&mut parts, id);
            for part in &parts {
                raw.send(part);
            }
            sent += parts.len() as u64;
            receives(&server, &bytes, &format!("the host's own, {id}"));
        }
    }
    assert_eq!(ip_counter(&lab.host, "ReasmReqds"), before + sent, "none is put back that went on already");
    assert_eq!(ip_counter(&lab.host, "ReasmFails"), failed);
}

#[test]
fn pings_and_connections_in_fragments_pass_in_any_order() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let raw = Raw::open(&c1.netns, 255);
    let answers = Raw::open(&c1.netns, 1);
    let mut echo = [&[8, 0, 0, 0, 0x12, 0x34, 0, 1][..], &data(1, 4000)].concat();
    let sum = checksum(&echo);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut parts = cut(&Ipv4::new(c1.address, FAR, 1, echo.clone()).with_id(1));
    parts.reverse();
    for part in &parts {
        raw.send(part);
    }
    answers.wait("the ping is answered with what it carried", |packet| {
        (packet.payload[0] == 0 && packet.payload[4..] == echo[4..] && checksum(&packet.payload) == 0).then_some(())
    });

    let _listener = place::run(&lab.world, || TcpListener::bind((FAR, 80))).expect("the world listens");
    let segments = Raw::open(&c1.netns, 6);
    // Options of eight bytes, the last of them in a fragment of their own.
    let mut syn = Ipv4::tcp((c1.address, 4000), (FAR, 80), flag::SYN, 1000, 0);
    syn.payload[12] = 0x70;
    syn.payload.extend([1; 8]);
    syn.payload[16..18].fill(0);
    let head = [&c1.address.octets()[..], &FAR.octets(), &[0, 6, 0, 28]].concat();
    let sum = checksum(&[head, syn.payload.clone()].concat());
    syn.payload[16..18].copy_from_slice(&sum.to_be_bytes());
    for part in syn.with_id(2).cut(&[24]).iter().rev() {
        raw.send(part);
    }
    segments.wait("the connection is accepted", |packet| {
        (packet.ports() == (80, 4000) && packet.flags() == flag::SYN | flag::ACK && packet.long(8) == 1001)
            .then_some(())
    });
}

#[test]
fn more_fragments_than_can_be_held_are_dropped_and_counted() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let server = udp::bind(&lab.world, (FAR, 7));
    let raw = Raw::open(&c1.netns, 255);
    // Short ones: a hundred of an ordinary datagram.
    let sent = data(1, 8000 - 8);
    let places: Vec<_> = (1..100).map(|part| part * 80).collect();
    let parts = Ipv4::udp((c1.address, 4000), (FAR, 7), &sent).with_id(1).cut(&places);
    for part in parts.iter().rev() {
        raw.send(part);
    }
    server.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(server.recv_from(&mut vec![0; 65536]).is_err(), "a datagram with a hole arrives");
    assert_eq!((reason(&lab, "fragment-held"), reason(&lab, "fragment")), (64, 35));
    let parts = Ipv4::udp((c1.address, 4000), (FAR, 7), &sent).with_id(2).cut(&places);
    for part in &parts {
        raw.send(part);
    }
    receives(&server, &sent, "in order there may be any number");
}

#[test]
fn a_flood_without_first_fragments_holds_no_more_than_there_is_room_for() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let (inside, far) = (server(&c1), udp::bind(&lab.world, (FAR, 7)));
    let floods = [(&lab.world, FAR, HOST, 5000), (&c1.netns, c1.address, FAR, 7)];
    let raws = floods.map(|(netns, ..)| Raw::open(netns, 255));
    // More than there are records, and far more than can be held.
    for number in 0..20_000_u32 {
        for ((_, from, to, port), raw) in floods.iter().zip(&raws) {
            let whole = Ipv4::udp((*from, 4000), (*to, *port), &[0; 64]).with_id(number as u16 | 1);
            // Where the sender's own buffer is full, that one is lost as any other can be.
            let _ = raw.try_send(&whole.cut(&[8 + (number % 7) as usize * 8])[1]);
        }
    }
    for (((_, from, to, port), raw), socket) in floods.iter().zip(&raws).zip([&inside, &far]) {
        let sent = data(9, 20_000);
        // The last may be held up by what the flood has left on its way.
        wait::until("a datagram arrives after the flood", || {
            let mut parts = cut(&Ipv4::udp((*from, 4000), (*to, *port), &sent).with_id(60_000));
            parts.reverse();
            for part in &parts {
                raw.send(part);
            }
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            let mut buffer = vec![0; 65536];
            socket.recv_from(&mut buffer).is_ok_and(|(length, _)| buffer[..length] == sent).then_some(())
        });
    }
}
