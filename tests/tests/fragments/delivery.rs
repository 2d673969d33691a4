//! Delivery of fragmented datagrams, in any order and direction.

use std::{
    net::{IpAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use causeway_netlink::{Netns, sysctl};
use causeway_tests::{
    effort::many,
    families,
    family::{Family, V4},
    lab::Lab,
    ping,
    raw::{Packet, Raw},
    snmp, udp,
    wait::{self, DEADLINE, SILENCE},
};

families! {
    masqueraded_datagrams_are_answered,
    published_datagrams_are_answered,
    local_and_hairpin_datagrams_arrive,
    host_datagrams_pass_untouched,
    long_pings_are_answered_everywhere,
    masqueraded_fragments_arrive_in_any_order,
    published_fragments_arrive_in_any_order,
    host_fragments_arrive_in_any_order,
    reply_fragments_arrive_in_any_order,
    one_id_of_two_containers_does_not_mix,
    one_id_of_two_clients_does_not_mix,
    duplicate_fragment_is_harmless,
    overlapping_fragments_deliver_nothing_false,
    fragment_without_first_is_not_delivered,
    flood_without_firsts_stops_no_exchange,
}

/// Six fragments at the usual MTU.
const LONG: usize = 8000;

/// The payload of a datagram, different for each number.
fn data(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|place| (place as u8).wrapping_mul(31) ^ (place >> 8) as u8 ^ seed).collect()
}

#[track_caller]
fn answers(socket: &UdpSocket, to: (IpAddr, u16), question: &[u8]) {
    udp::ask(socket, to, question, DEADLINE)
        .unwrap_or_else(|error| panic!("{} bytes to {to:?}: {error}", question.len()));
}

/// Receives a datagram.
#[track_caller]
fn received(socket: &UdpSocket) -> Vec<u8> {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut buffer = vec![0; 65536];
    let (length, _) = socket
        .recv_from(&mut buffer)
        .unwrap_or_else(|error| panic!("no datagram arrives: {error}"));
    buffer[..length].to_vec()
}

#[track_caller]
fn receives_nothing(socket: &UdpSocket) {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let mut buffer = vec![0; 65536];
    let got = socket.recv_from(&mut buffer);
    assert!(
        got.is_err(),
        "{} bytes arrive from {}",
        got.as_ref().unwrap().0,
        got.as_ref().unwrap().1
    );
}

fn masqueraded_datagrams_are_answered(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let echo = udp::Echo::start(&lab.world, (family.far(), 7), "");
    let client = udp::client(&c1.netns, family);
    for length in [family.data_of(1500) + 1, LONG, family.longest_datagram()] {
        answers(&client, (family.far(), 7), &data(1, length));
    }
    assert!(echo.peers().iter().all(|peer| peer.ip() == family.host()), "{:?}", echo.peers());
}

fn published_datagrams_are_answered(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let echo = udp::Echo::start(&c1.netns, c1.at(7), "");
    let client = udp::bind(&lab.world, (family.far(), 0));
    for length in [family.data_of(1500) + 1, LONG, family.longest_datagram()] {
        answers(&client, (family.host(), 5000), &data(2, length));
    }
    assert!(echo.peers().iter().all(|peer| peer.ip() == family.far()), "{:?}", echo.peers());
}

fn local_and_hairpin_datagrams_arrive(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &["-p", "5000:7/udp"]), lab.container("c2", &[]));
    let _echo = udp::Echo::start(&c1.netns, c1.at(7), "");
    answers(&udp::client(&c2.netns, family), (c1.address, 7), &data(3, LONG));
    for address in [family.host(), family.gateway()] {
        answers(&udp::client(&c2.netns, family), (address, 5000), &data(3, LONG));
    }
    answers(&udp::client(&c1.netns, family), (family.host(), 5000), &data(3, LONG));
}

fn host_datagrams_pass_untouched(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let _inside = udp::Echo::start(&c1.netns, c1.at(7), "");
    let _far = udp::Echo::start(&lab.world, (family.far(), 7), "");
    let _own = udp::Echo::start(&lab.host, (family.host(), 9), "");
    answers(&udp::client(&lab.host, family), (family.far(), 7), &data(4, LONG));
    answers(&udp::client(&lab.world, family), (family.host(), 9), &data(4, LONG));
    answers(&udp::client(&c1.netns, family), (family.host(), 9), &data(4, LONG));
    answers(&udp::client(&lab.host, family), (family.loopback(), 5000), &data(4, LONG));
    ping::ping(&lab.host, family.far(), 4, LONG);
    ping::ping(&lab.world, family.host(), 4, LONG);
}

fn long_pings_are_answered_everywhere(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    for to in [family.far(), c2.address, family.gateway(), family.host()] {
        ping::ping(&c1.netns, to, 5, LONG);
    }
    ping::ping(&lab.host, c1.address, 5, LONG);
}

/// Sends datagrams of three fragments in each order.
#[track_caller]
fn arrives_in_any_order(from: (&Netns, (IpAddr, u16)), to: (IpAddr, u16), server: &UdpSocket) {
    let family = Family::of(to.0);
    let raw = Raw::sender(from.0, family);
    for (seed, order) in
        [(1, [0, 1, 2]), (2, [2, 1, 0]), (3, [1, 2, 0]), (4, [2, 0, 1]), (5, [1, 0, 2])]
    {
        let sent = data(seed, 4000);
        let parts = Packet::udp(from.1, to, &sent)
            .with_fresh_id()
            .cut(&[family.piece(), 2 * family.piece()]);
        for part in order {
            raw.send(&parts[part]);
        }
        assert!(received(server) == sent, "in the order {order:?} something else arrives");
    }
}

fn masqueraded_fragments_arrive_in_any_order(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let server = udp::bind(&lab.world, (family.far(), 7));
    arrives_in_any_order((&c1.netns, (c1.address, 4000)), (family.far(), 7), &server);
}

fn published_fragments_arrive_in_any_order(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let server = udp::bind(&c1.netns, c1.at(7));
    arrives_in_any_order((&lab.world, (family.far(), 4000)), (family.host(), 5000), &server);
}

fn host_fragments_arrive_in_any_order(family: Family) {
    let lab = Lab::shared(family);
    let _c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let server = udp::bind(&lab.host, (family.host(), 9));
    arrives_in_any_order((&lab.world, (family.far(), 4000)), (family.host(), 9), &server);
}

fn reply_fragments_arrive_in_any_order(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let client = udp::bind(&c1.netns, (family.any(), 4000));
    {
        let _echo = udp::Echo::start(&lab.world, (family.far(), 7), "");
        answers(&client, (family.far(), 7), b"begin");
    }
    arrives_in_any_order((&lab.world, (family.far(), 7)), (family.host(), 4000), &client);
}

fn one_id_of_two_containers_does_not_mix(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let server = udp::bind(&lab.world, (family.far(), 7));
    for (id, order) in [(77, [0, 1]), (78, [1, 0])] {
        let senders = [(1, &c1), (2, &c2)].map(|(seed, container)| {
            let sent = data(seed, 2500);
            let parts = Packet::udp((container.address, 4000), (family.far(), 7), &sent)
                .with_id(id)
                .cut(&[family.piece()]);
            (Raw::sender(&container.netns, family), sent, parts)
        });
        for part in order {
            for (raw, _, parts) in &senders {
                raw.send(&parts[part]);
            }
        }
        let mut got = [received(&server), received(&server)];
        let mut sent = senders.map(|(_, sent, _)| sent);
        got.sort();
        sent.sort();
        assert!(
            got == sent,
            "each datagram arrives as it was sent (fragments in the order {order:?})"
        );
    }
}

fn one_id_of_two_clients_does_not_mix(family: Family) {
    let lab = Lab::shared_wide(family);
    let wide = lab.wide();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let server = udp::bind(&c1.netns, c1.at(7));
    let clients = [(1, &lab.world, family.far()), (2, &wide.other, family.other())];
    let senders = clients.map(|(seed, netns, address)| {
        let sent = data(seed, 2500);
        let parts = Packet::udp((address, 4000), (family.host(), 5000), &sent)
            .with_id(77)
            .cut(&[family.piece()]);
        (Raw::sender(netns, family), sent, parts)
    });
    for part in [0, 1] {
        for (raw, _, parts) in &senders {
            raw.send(&parts[part]);
        }
    }
    let mut got = [received(&server), received(&server)];
    let mut sent = senders.map(|(_, sent, _)| sent);
    got.sort();
    sent.sort();
    assert!(got == sent, "each datagram arrives as it was sent");
}

fn duplicate_fragment_is_harmless(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let (inside, outside) =
        (udp::bind(&c1.netns, c1.at(7)), udp::bind(&lab.world, (family.far(), 7)));
    let cases = [
        (&lab.world, (family.far(), 4000), (family.host(), 5000), &inside),
        (&c1.netns, (c1.address, 4001), (family.far(), 7), &outside),
    ];
    for (netns, from, to, server) in cases {
        let (raw, sent) = (Raw::sender(netns, family), data(6, 4000));
        let parts =
            Packet::udp(from, to, &sent).with_fresh_id().cut(&[family.piece(), 2 * family.piece()]);
        for part in [0, 0, 1, 1, 2] {
            raw.send(&parts[part]);
        }
        assert!(received(server) == sent, "something else arrives at {to:?}");
        receives_nothing(server);
    }
}

fn overlapping_fragments_deliver_nothing_false(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let (inside, outside) =
        (udp::bind(&c1.netns, c1.at(7)), udp::bind(&lab.world, (family.far(), 7)));
    let cases = [
        (&lab.world, (family.far(), 4000), (family.host(), 5000), &inside),
        (&c1.netns, (c1.address, 4001), (family.far(), 7), &outside),
    ];
    for (netns, from, to, server) in cases {
        let raw = Raw::sender(netns, family);
        let (one, other) =
            (Packet::udp(from, to, &data(7, 2500)), Packet::udp(from, to, &data(8, 2500)));
        let one = one.with_fresh_id();
        let other = other.with_id(one.id);
        let (one, other) = (one.cut(&[family.piece()]), other.cut(&[family.piece() - 80]));
        // The second fragment overlaps 80 bytes of the first with other data.
        raw.send(&one[0]);
        raw.send(&other[1]);
        receives_nothing(server);
        let sent = data(9, 2500);
        let next = Packet::udp(from, to, &sent).with_fresh_id().cut(&[family.piece()]);
        for part in &next {
            raw.send(part);
        }
        assert!(received(server) == sent, "the next datagram to {to:?} is another");
    }
}

fn fragment_without_first_is_not_delivered(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let c2 = lab.container("c2", &[]);
    let _echo = udp::Echo::start(&c1.netns, c1.at(7), "");
    let (far, near) = (Raw::sender(&lab.world, family), Raw::sender(&c2.netns, family));
    // Also for known flows.
    let _far = udp::Echo::start(&lab.world, (family.far(), 7), "");
    answers(&udp::bind(&lab.world, (family.far(), 4000)), (family.host(), 5000), b"begin");
    answers(&udp::bind(&c2.netns, (family.any(), 4000)), (family.far(), 7), b"begin");
    let fragments_seen = |netns| snmp::ip(netns, family, "ReasmReqds");
    let before = [&c1.netns, &lab.world].map(fragments_seen);
    for _ in 1..=50 {
        for (raw, from, to) in [
            (&far, (family.far(), 4000), (family.host(), 5000)),
            (&near, (c2.address, 4000), (family.far(), 7)),
        ] {
            raw.send(
                &Packet::udp(from, to, &data(1, 2500)).with_fresh_id().cut(&[family.piece()])[1],
            );
        }
    }
    // Whatever was sent before has arrived by now.
    answers(&udp::bind(&lab.world, (family.far(), 4000)), (family.host(), 5000), b"after");
    answers(&udp::bind(&c2.netns, (family.any(), 4000)), (family.far(), 7), b"after");
    assert_eq!(
        [&c1.netns, &lab.world].map(fragments_seen),
        before,
        "in the container and in the world"
    );
}

/// RFC 4787 REQ-14a: a flood of fragments costs at most other fragments.
fn flood_without_firsts_stops_no_exchange(family: Family) {
    const FLOOD: u32 = 200_000;
    let lab = Lab::of(family);
    // The host's stack keeps fragments to the host itself for 30 s by default.
    let patience = if family == V4 { "ipv4/ipfrag_time" } else { "ipv6/ip6frag_time" };
    sysctl::set(&lab.host, patience, "2").unwrap();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let c2 = lab.container("c2", &[]);
    let _inside = udp::Echo::start(&c1.netns, c1.at(7), "");
    let _far = udp::Echo::start(&lab.world, (family.far(), 7), "");
    let _own = udp::Echo::start(&lab.host, (family.host(), 9), "");
    let chatters = [
        udp::Chatter::start(udp::client(&c1.netns, family), (family.far(), 7)),
        udp::Chatter::start(udp::client(&lab.world, family), (family.host(), 5000)),
        udp::Chatter::start(udp::client(&lab.host, family), (family.far(), 7)),
        udp::Chatter::start(udp::client(&lab.world, family), (family.host(), 9)),
    ];
    let done = AtomicBool::new(false);
    let floods =
        [(&lab.world, family.far(), family.host(), 5000), (&c2.netns, c2.address, family.far(), 7)];
    thread::scope(|scope| {
        for (netns, from, to, port) in floods {
            let done = &done;
            scope.spawn(move || {
                let raw = Raw::sender(netns, family);
                for number in 0..many(FLOOD) {
                    let whole = Packet::udp((from, 4000), (to, port), &[0; 64])
                        .with_id(number & 0xffff | 1);
                    // A packet is lost if the sender's buffer is full.
                    let _ = raw.try_send(&whole.cut(&[8 + (number % 7) as usize * 8])[1]);
                }
                done.store(true, Ordering::Relaxed);
            });
        }
        while !done.load(Ordering::Relaxed) {
            assert!(!chatters.iter().any(udp::Chatter::has_lost), "an exchange has lost something");
            thread::sleep(Duration::from_millis(10));
        }
    });
    for chatter in chatters {
        assert!(chatter.finish() > 0);
    }
    // Leftovers of the flood may still cost other fragments for a while.
    for (netns, to) in [
        (&c1.netns, (family.far(), 7)),
        (&lab.world, (family.host(), 5000)),
        (&lab.host, (family.far(), 7)),
        (&lab.world, (family.host(), 9)),
    ] {
        wait::until(&format!("long datagrams reach {to:?} after the flood"), || {
            udp::ask(&udp::client(netns, family), to, &data(1, LONG), SILENCE).ok()
        });
    }
}
