//! The fragment queue: what is queued, reinjected, counted and passed on.

use std::net::{TcpListener, UdpSocket};

use causeway_tests::{
    families,
    family::Family,
    lab::{Container, Lab},
    place,
    raw::{Packet, Raw, flag},
    snmp, udp,
    wait::{self, DEADLINE, SILENCE},
};

families! {
    datagrams_arrive_whole_in_any_order,
    interleaved_datagrams_of_one_id_arrive_whole,
    duplicate_first_fragment_splits_nothing,
    host_gets_each_fragment_once,
    pings_and_tcp_pass_in_any_order,
    overflow_is_dropped_and_counted,
    flood_without_firsts_is_bounded,
}

fn data(seed: u16, length: usize) -> Vec<u8> {
    (0..length)
        .map(|place| (place as u8).wrapping_mul(31) ^ (place >> 8) as u8 ^ seed as u8)
        .collect()
}

fn cut(whole: &Packet) -> Vec<Packet> {
    let piece = whole.family().piece();
    whole.cut(&(piece..whole.payload.len()).step_by(piece).collect::<Vec<_>>())
}

/// Shuffles by a seed.
fn shuffle<T>(items: &mut [T], seed: u16) {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for last in (1..items.len()).rev() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(last, usize::try_from(state >> 33).unwrap() % (last + 1));
    }
}

#[track_caller]
fn receives(socket: &UdpSocket, sent: &[u8], what: &str) {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut buffer = vec![0; 65536];
    let (length, _) = socket
        .recv_from(&mut buffer)
        .unwrap_or_else(|error| panic!("{what}: nothing arrives: {error}"));
    assert!(buffer[..length] == *sent, "{what}: another datagram arrives, of {length} bytes");
}

fn server(container: &Container) -> UdpSocket {
    udp::bind(&container.netns, container.at(7))
}

fn datagrams_arrive_whole_in_any_order(family: Family) {
    let lab = Lab::shared(family);
    let (held, refused) = (lab.counted("fragment-held"), lab.counted("fragment"));
    let (c1, c2) = (lab.container("c1", &["-p", "5000:7/udp"]), lab.container("c2", &[]));
    let (far, inside) = (udp::bind(&lab.world, (family.far(), 7)), server(&c1));
    let client = udp::bind(&c2.netns, c2.at(4000));
    let from_world = udp::bind(&lab.world, (family.far(), 4001));
    // Creates the flows for replies.
    for (socket, to) in [
        (&client, (family.far(), 7)),
        (&from_world, (family.host(), 5000)),
        (&client, (family.host(), 5000)),
    ] {
        socket.send_to(b"begin", to).unwrap();
        receives(if to == (family.far(), 7) { &far } else { &inside }, b"begin", "the beginning");
    }
    let at = |container: &Container, port| (container.address, port);
    let ways = [
        ("outwards", &c2.netns, at(&c2, 4000), (family.far(), 7), &far),
        ("an answer from outside", &lab.world, (family.far(), 7), (family.host(), 4000), &client),
        ("to a published port", &lab.world, (family.far(), 4001), (family.host(), 5000), &inside),
        ("a published port's answer", &c1.netns, at(&c1, 7), (family.far(), 4001), &from_world),
        ("hairpin", &c2.netns, at(&c2, 4000), (family.host(), 5000), &inside),
        ("a hairpin's answer", &c1.netns, at(&c1, 7), at(&c2, 4000), &client),
        ("to a neighbour", &c2.netns, at(&c2, 4002), at(&c1, 7), &inside),
    ];
    for (what, netns, from, to, socket) in ways {
        let raw = Raw::sender(netns, family);
        for (id, length) in
            [(1, 3000), (2, 60_000), (3, 60_000), (4, 20_000), (5, 20_000), (6, 5000), (7, 5000)]
        {
            let sent = data(id, length);
            let mut parts = cut(&Packet::udp(from, to, &sent).with_fresh_id());
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
    assert!(lab.counted("fragment-held") > held);
    assert_eq!(lab.counted("fragment"), refused, "the queue overflowed");
}

fn interleaved_datagrams_of_one_id_arrive_whole(family: Family) {
    let lab = Lab::shared(family);
    let containers = ["c1", "c2", "c3"].map(|name| lab.container(name, &[]));
    let server = udp::bind(&lab.world, (family.far(), 7));
    for id in 1..=20 {
        let mut parts = Vec::new();
        let mut sent = Vec::new();
        for (seed, container) in (0..).zip(&containers) {
            let raw = Raw::sender(&container.netns, family);
            let bytes = data(id * 3 + seed, 4000);
            let whole = Packet::udp((container.address, 4000), (family.far(), 7), &bytes)
                .with_id(id.into());
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
    let (length, _) =
        socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("nothing arrives: {error}"));
    buffer[..length].to_vec()
}

fn duplicate_first_fragment_splits_nothing(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let server = udp::bind(&lab.world, (family.far(), 7));
    let raw = Raw::sender(&c1.netns, family);
    for (id, order) in [(1, [0, 1, 0, 2]), (2, [2, 0, 0, 1]), (3, [0, 2, 1, 0])] {
        let sent = data(id, 4000);
        let parts =
            cut(&Packet::udp((c1.address, 4000), (family.far(), 7), &sent).with_id(id.into()));
        for part in &order {
            raw.send(&parts[*part]);
        }
        receives(&server, &sent, &format!("{order:?}"));
    }
}

fn host_gets_each_fragment_once(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let server = udp::bind(&lab.host, (family.any(), 9));
    let (before, failed) =
        (snmp::ip(&lab.host, family, "ReasmReqds"), snmp::ip(&lab.host, family, "ReasmFails"));
    let mut sent = 0;
    for (netns, from, to) in
        [(&lab.world, family.far(), family.host()), (&c1.netns, c1.address, family.gateway())]
    {
        let raw = Raw::sender(netns, family);
        for id in 1..=10 {
            let bytes = data(id, 8000);
            let mut parts = cut(&Packet::udp((from, 4000), (to, 9), &bytes).with_fresh_id());
            shuffle(&mut parts, id);
            for part in &parts {
                raw.send(part);
            }
            sent += parts.len() as u64;
            receives(&server, &bytes, &format!("the host's own, {id}"));
        }
    }
    assert_eq!(
        snmp::ip(&lab.host, family, "ReasmReqds"),
        before + sent,
        "a fragment is reinjected twice"
    );
    assert_eq!(snmp::ip(&lab.host, family, "ReasmFails"), failed);
}

fn pings_and_tcp_pass_in_any_order(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let raw = Raw::sender(&c1.netns, family);
    let answers = Raw::icmp(&c1.netns, family);
    let echo = Packet::echo(c1.address, family.far(), 0x1234, &data(1, 4000)).with_id(1);
    let mut parts = cut(&echo);
    parts.reverse();
    for part in &parts {
        raw.send(part);
    }
    answers.wait("the ping is answered with what it carried", |packet| {
        let is_it =
            packet.kind() == Some((family.echo().1, 0)) && packet.payload[4..] == echo.payload[4..];
        (is_it && packet.sums_up()).then_some(())
    });

    let _listener = place::run(&lab.world, || TcpListener::bind((family.far(), 80)))
        .expect("the world listens");
    let segments = Raw::open(&c1.netns, family, 6);
    // 8 bytes of options, the last ones in a fragment of their own.
    let mut syn = Packet::tcp((c1.address, 4000), (family.far(), 80), flag::SYN, 1000, 0);
    syn.payload[12] = 0x70;
    syn.payload.extend([1; 8]);
    syn.sum_up();
    for part in syn.with_id(2).cut(&[24]).iter().rev() {
        raw.send(part);
    }
    segments.wait("the connection is accepted", |packet| {
        (packet.ports() == (80, 4000)
            && packet.flags() == flag::SYN | flag::ACK
            && packet.long(8) == 1001)
            .then_some(())
    });
}

fn overflow_is_dropped_and_counted(family: Family) {
    let lab = Lab::of(family);
    let c1 = lab.container("c1", &[]);
    let server = udp::bind(&lab.world, (family.far(), 7));
    let raw = Raw::sender(&c1.netns, family);
    // A hundred short fragments of one datagram.
    let sent = data(1, 8000 - 8);
    let places: Vec<_> = (1..100).map(|part| part * 80).collect();
    let parts = Packet::udp((c1.address, 4000), (family.far(), 7), &sent).with_id(1).cut(&places);
    for part in parts.iter().rev() {
        raw.send(part);
    }
    server.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(server.recv_from(&mut vec![0; 65536]).is_err(), "a datagram with a hole arrives");
    lab.expect_counted("fragment-held", 64);
    lab.expect_counted("fragment", 35);
    let parts = Packet::udp((c1.address, 4000), (family.far(), 7), &sent).with_id(2).cut(&places);
    for part in &parts {
        raw.send(part);
    }
    receives(&server, &sent, "in order any number of fragments passes");
}

fn flood_without_firsts_is_bounded(family: Family) {
    let lab = Lab::of(family);
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let (inside, far) = (server(&c1), udp::bind(&lab.world, (family.far(), 7)));
    let floods =
        [(&lab.world, family.far(), family.host(), 5000), (&c1.netns, c1.address, family.far(), 7)];
    let raws = floods.map(|(netns, ..)| Raw::sender(netns, family));
    // More datagrams than there are records, and far more fragments than the queue holds.
    for number in 0..20_000_u32 {
        for ((_, from, to, port), raw) in floods.iter().zip(&raws) {
            let whole =
                Packet::udp((*from, 4000), (*to, *port), &[0; 64]).with_id(number & 0xffff | 1);
            // A packet is lost if the sender's buffer is full.
            let _ = raw.try_send(&whole.cut(&[8 + (number % 7) as usize * 8])[1]);
        }
    }
    for (((_, from, to, port), raw), socket) in floods.iter().zip(&raws).zip([&inside, &far]) {
        let sent = data(9, 20_000);
        // Packets of the flood may still be in queues.
        wait::until("a datagram arrives after the flood", || {
            let mut parts = cut(&Packet::udp((*from, 4000), (*to, *port), &sent).with_id(60_000));
            parts.reverse();
            for part in &parts {
                raw.send(part);
            }
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            let mut buffer = vec![0; 65536];
            socket
                .recv_from(&mut buffer)
                .is_ok_and(|(length, _)| buffer[..length] == sent)
                .then_some(())
        });
    }
}
