//! Fragments pass whole or not at all: in whatever order they come, whoever sends them.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use causeway::net::{netns::Netns, sysctl};
use causeway_tests::{
    lab::{FAR, GATEWAY, HOST, Lab},
    ping, place,
    raw::{Ipv4, Raw},
    udp,
    wait::{self, DEADLINE, SILENCE},
};

/// Six fragments at the usual MTU.
const LONG: usize = 8000;

/// A datagram's data, which tells each from any other.
fn data(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|place| (place as u8).wrapping_mul(31) ^ (place >> 8) as u8 ^ seed).collect()
}

#[track_caller]
fn answers(socket: &UdpSocket, to: (Ipv4Addr, u16), question: &[u8]) {
    udp::ask(socket, to, question, DEADLINE)
        .unwrap_or_else(|error| panic!("{} bytes to {to:?}: {error}", question.len()));
}

/// A datagram as it arrives.
#[track_caller]
fn received(socket: &UdpSocket) -> Vec<u8> {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut buffer = vec![0; 65536];
    let (length, _) = socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("no datagram arrives: {error}"));
    buffer[..length].to_vec()
}

#[track_caller]
fn receives_nothing(socket: &UdpSocket) {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let mut buffer = vec![0; 65536];
    let got = socket.recv_from(&mut buffer);
    assert!(got.is_err(), "{} bytes arrive from {}", got.as_ref().unwrap().0, got.as_ref().unwrap().1);
}

#[test]
fn long_datagrams_go_to_the_world_and_are_answered() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let echo = udp::Echo::start(&lab.world, (FAR, 7), "");
    let client = udp::client(&c1.netns);
    for length in [1473, LONG, 65507] {
        answers(&client, (FAR, 7), &data(1, length));
    }
    assert!(echo.peers().iter().all(|peer| peer.ip() == HOST), "{:?}", echo.peers());
}

#[test]
fn long_datagrams_come_to_a_published_port_and_are_answered() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let echo = udp::Echo::start(&c1.netns, c1.at(7), "");
    let client = udp::bind(&lab.world, (FAR, 0));
    for length in [1473, LONG, 65507] {
        answers(&client, (HOST, 5000), &data(2, length));
    }
    assert!(echo.peers().iter().all(|peer| peer.ip() == FAR), "{:?}", echo.peers());
}

#[test]
fn long_datagrams_pass_between_containers_and_through_the_hairpin() {
    let lab = Lab::new();
    let (c1, c2) = (lab.container("c1", &["-p", "5000:7/udp"]), lab.container("c2", &[]));
    let _echo = udp::Echo::start(&c1.netns, c1.at(7), "");
    answers(&udp::client(&c2.netns), (c1.address, 7), &data(3, LONG));
    for address in [HOST, GATEWAY] {
        answers(&udp::client(&c2.netns), (address, 5000), &data(3, LONG));
    }
    answers(&udp::client(&c1.netns), (HOST, 5000), &data(3, LONG));
}

#[test]
fn long_datagrams_of_the_host_itself_pass_untouched() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let _inside = udp::Echo::start(&c1.netns, c1.at(7), "");
    let _far = udp::Echo::start(&lab.world, (FAR, 7), "");
    let _own = udp::Echo::start(&lab.host, (HOST, 9), "");
    answers(&udp::client(&lab.host), (FAR, 7), &data(4, LONG));
    answers(&udp::client(&lab.world), (HOST, 9), &data(4, LONG));
    answers(&udp::client(&c1.netns), (HOST, 9), &data(4, LONG));
    answers(&udp::client(&lab.host), (Ipv4Addr::LOCALHOST, 5000), &data(4, LONG));
    ping::ping(&lab.host, FAR, 4, LONG);
    ping::ping(&lab.world, HOST, 4, LONG);
}

#[test]
fn long_pings_go_everywhere_and_are_answered() {
    let lab = Lab::new();
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    for to in [FAR, c2.address, GATEWAY, HOST] {
        ping::ping(&c1.netns, to, 5, LONG);
    }
    ping::ping(&lab.host, c1.address, 5, LONG);
}

/// Sends datagrams of three fragments in every kind of order.
#[track_caller]
fn arrives_in_any_order(from: (&Netns, (Ipv4Addr, u16)), to: (Ipv4Addr, u16), server: &UdpSocket) {
    let raw = Raw::open(from.0, 255);
    for (id, order) in [(1, [0, 1, 2]), (2, [2, 1, 0]), (3, [1, 2, 0]), (4, [2, 0, 1]), (5, [1, 0, 2])] {
        let sent = data(id as u8, 4000);
        let parts = Ipv4::udp(from.1, to, &sent).with_id(id).cut(&[1480, 2960]);
        for part in order {
            raw.send(&parts[part]);
        }
        assert!(received(server) == sent, "in the order {order:?} something else arrives");
    }
}

#[test]
fn fragments_to_the_world_arrive_in_any_order() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let server = udp::bind(&lab.world, (FAR, 7));
    arrives_in_any_order((&c1.netns, (c1.address, 4000)), (FAR, 7), &server);
}

#[test]
fn fragments_to_a_published_port_arrive_in_any_order() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let server = udp::bind(&c1.netns, c1.at(7));
    arrives_in_any_order((&lab.world, (FAR, 4000)), (HOST, 5000), &server);
}

#[test]
fn fragments_to_the_host_itself_arrive_in_any_order() {
    let lab = Lab::new();
    let _c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let server = udp::bind(&lab.host, (HOST, 9));
    arrives_in_any_order((&lab.world, (FAR, 4000)), (HOST, 9), &server);
}

#[test]
fn fragments_of_an_answer_arrive_in_any_order() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let client = udp::bind(&c1.netns, (Ipv4Addr::UNSPECIFIED, 4000));
    {
        let _echo = udp::Echo::start(&lab.world, (FAR, 7), "");
        answers(&client, (FAR, 7), b"begin");
    }
    arrives_in_any_order((&lab.world, (FAR, 7)), (HOST, 4000), &client);
}

#[test]
fn two_containers_with_one_identification_are_kept_apart() {
    let lab = Lab::new();
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let server = udp::bind(&lab.world, (FAR, 7));
    for (id, order) in [(77, [0, 1]), (78, [1, 0])] {
        let senders = [&c1, &c2].map(|container| {
            let sent = data(container.address.octets()[3], 2500);
            let parts = Ipv4::udp((container.address, 4000), (FAR, 7), &sent).with_id(id).cut(&[1480]);
            (Raw::open(&container.netns, 255), sent, parts)
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
        assert!(got == sent, "each datagram arrives as it was sent (fragments in the order {order:?})");
    }
}

#[test]
fn two_clients_with_one_identification_are_kept_apart() {
    let lab = Lab::new();
    let wide = lab.widen();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let server = udp::bind(&c1.netns, c1.at(7));
    let clients = [(&lab.world, FAR), (&wide.other, causeway_tests::wide::OTHER)];
    let senders = clients.map(|(netns, address)| {
        let sent = data(address.octets()[3], 2500);
        let parts = Ipv4::udp((address, 4000), (HOST, 5000), &sent).with_id(77).cut(&[1480]);
        (Raw::open(netns, 255), sent, parts)
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

#[test]
fn a_fragment_that_comes_twice_does_no_harm() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let (inside, outside) = (udp::bind(&c1.netns, c1.at(7)), udp::bind(&lab.world, (FAR, 7)));
    let cases = [(&lab.world, (FAR, 4000), (HOST, 5000), &inside), (&c1.netns, (c1.address, 4001), (FAR, 7), &outside)];
    for (netns, from, to, server) in cases {
        let (raw, sent) = (Raw::open(netns, 255), data(6, 4000));
        let parts = Ipv4::udp(from, to, &sent).with_id(6).cut(&[1480, 2960]);
        for part in [0, 0, 1, 1, 2] {
            raw.send(&parts[part]);
        }
        assert!(received(server) == sent, "something else arrives at {to:?}");
        receives_nothing(server);
    }
}

#[test]
fn fragments_that_overlap_bring_nothing_false() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let (inside, outside) = (udp::bind(&c1.netns, c1.at(7)), udp::bind(&lab.world, (FAR, 7)));
    let cases = [(&lab.world, (FAR, 4000), (HOST, 5000), &inside), (&c1.netns, (c1.address, 4001), (FAR, 7), &outside)];
    for (netns, from, to, server) in cases {
        let raw = Raw::open(netns, 255);
        let (one, other) = (Ipv4::udp(from, to, &data(7, 2500)), Ipv4::udp(from, to, &data(8, 2500)));
        let (one, other) = (one.with_id(7).cut(&[1480]), other.with_id(7).cut(&[1400]));
        // The second claims 80 bytes of what the first has said otherwise.
        raw.send(&one[0]);
        raw.send(&other[1]);
        receives_nothing(server);
        let sent = data(9, 2500);
        let next = Ipv4::udp(from, to, &sent).with_id(8).cut(&[1480]);
        for part in &next {
            raw.send(part);
        }
        assert!(received(server) == sent, "the next datagram to {to:?} is another");
    }
}

/// How many fragments a namespace has received.
fn fragments_seen(netns: &Netns) -> u64 {
    let table = place::run(netns, || fs::read_to_string("/proc/thread-self/net/snmp")).unwrap();
    let rows: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("Ip: ")).collect();
    let column = rows[0].split(' ').position(|name| name == "ReasmReqds").unwrap();
    rows[1].split(' ').nth(column).unwrap().parse().unwrap()
}

#[test]
fn a_fragment_without_its_first_arrives_nowhere() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let c2 = lab.container("c2", &[]);
    let _echo = udp::Echo::start(&c1.netns, c1.at(7), "");
    let (far, near) = (Raw::open(&lab.world, 255), Raw::open(&c2.netns, 255));
    // Also of flows that are known.
    let _far = udp::Echo::start(&lab.world, (FAR, 7), "");
    answers(&udp::bind(&lab.world, (FAR, 4000)), (HOST, 5000), b"begin");
    answers(&udp::bind(&c2.netns, (Ipv4Addr::UNSPECIFIED, 4000)), (FAR, 7), b"begin");
    let before = [&c1.netns, &lab.world].map(fragments_seen);
    for id in 1..=50 {
        far.send(&Ipv4::udp((FAR, 4000), (HOST, 5000), &data(1, 2500)).with_id(id).cut(&[1480])[1]);
        near.send(&Ipv4::udp((c2.address, 4000), (FAR, 7), &data(1, 2500)).with_id(id).cut(&[1480])[1]);
    }
    // What was sent before has arrived with the answer to what was sent after.
    answers(&udp::bind(&lab.world, (FAR, 4000)), (HOST, 5000), b"after");
    answers(&udp::bind(&c2.netns, (Ipv4Addr::UNSPECIFIED, 4000)), (FAR, 7), b"after");
    assert_eq!([&c1.netns, &lab.world].map(fragments_seen), before, "in the container and in the world");
}

/// RFC 4787 REQ-14a: what a flood of fragments costs, it costs other fragments.
#[test]
fn a_flood_of_fragments_without_a_first_stops_no_exchange_and_no_other_fragments() {
    const FLOOD: u32 = 200_000;
    let lab = Lab::new();
    // What is for the host itself the host's stack keeps, for half a minute if nobody says otherwise.
    sysctl::set(&lab.host, "ipv4/ipfrag_time", "2").unwrap();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let c2 = lab.container("c2", &[]);
    let _inside = udp::Echo::start(&c1.netns, c1.at(7), "");
    let _far = udp::Echo::start(&lab.world, (FAR, 7), "");
    let _own = udp::Echo::start(&lab.host, (HOST, 9), "");
    let chatters = [
        udp::Chatter::start(udp::client(&c1.netns), (FAR, 7)),
        udp::Chatter::start(udp::client(&lab.world), (HOST, 5000)),
        udp::Chatter::start(udp::client(&lab.host), (FAR, 7)),
        udp::Chatter::start(udp::client(&lab.world), (HOST, 9)),
    ];
    let done = AtomicBool::new(false);
    let floods = [(&lab.world, FAR, HOST, 5000), (&c2.netns, c2.address, FAR, 7)];
    thread::scope(|scope| {
        for (netns, from, to, port) in floods {
            let done = &done;
            scope.spawn(move || {
                let raw = Raw::open(netns, 255);
                for number in 0..FLOOD {
                    let whole = Ipv4::udp((from, 4000), (to, port), &[0; 64]).with_id(number as u16 | 1);
                    // Where the sender's own buffer is full, that one is lost as any other can be.
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
    // What was kept of the flood may have cost others their fragments until then: now it goes on.
    for (netns, to) in
        [(&c1.netns, (FAR, 7)), (&lab.world, (HOST, 5000)), (&lab.host, (FAR, 7)), (&lab.world, (HOST, 9))]
    {
        wait::until(&format!("long datagrams reach {to:?} after the flood"), || {
            udp::ask(&udp::client(netns), to, &data(1, LONG), SILENCE).ok()
        });
    }
}
