//! A full flow table: flows in use go on, and new flows start as soon as half-open or expired ones
//! can be evicted.

use std::{
    net::{IpAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use causeway_netlink::Netns;
use causeway_tests::{
    effort::many,
    families,
    family::{Family, V4, V6},
    lab::{Container, Lab},
    raw::{Packet, Raw, flag},
    tcp, udp,
    wait::{self, DEADLINE, SILENCE},
};
use nix::errno::Errno;

families! {
    half_open_flood_breaks_no_flow_in_use,
    new_flows_start_during_a_flood,
    full_table_refuses_new_flow_at_once,
    container_quota_is_enforced,
    one_container_cannot_fill_the_table,
}

const FLOOD: u32 = 500_000;
fn server(family: Family) -> (IpAddr, u16) {
    (family.far(), 7)
}

/// Makes a network without a quota, whose containers may fill the table.
fn without_quota(lab: &Lab, more: &[&str]) {
    lab.network("crowd", 29, &[&["--max-flows", "16777216"], more].concat());
}

/// The error of a socket after administratively prohibited.
fn prohibited(family: Family) -> Errno {
    match family {
        V4 => Errno::EHOSTUNREACH,
        V6 => Errno::EACCES,
    }
}

fn flows(lab: &Lab) -> usize {
    lab.json(&["flows", "ls"]).as_array().unwrap().len()
}

/// A unique outside address and port that no host answers for.
fn stranger(family: Family, number: u32) -> (IpAddr, u16) {
    (family.stranger(number), 1024 + (number >> 4) as u16 % 60_000)
}

/// Sends the packets that `packet` makes of numbers, and counts them in `sent`.
fn flood((netns, family): (&Netns, Family), sent: &AtomicU32, packet: impl Fn(u32) -> Packet) {
    let raw = Raw::sender(netns, family);
    for number in 0..many(FLOOD) {
        // A packet is lost if the sender's buffer is full or an ICMP error has arrived.
        let _ = raw.try_send(&packet(number));
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// Flows in use, which must never lose an answer.
struct InUse {
    family: Family,
    tcp: Vec<TcpStream>,
    udp: Vec<UdpSocket>,
}

impl InUse {
    /// Opens half of them to the world, half from it.
    fn begin(lab: &Lab, container: &Container, each: usize) -> Self {
        let family = lab.family;
        Self {
            family,
            tcp: (0..each).map(|_| tcp::exchange(&lab.world, (family.host(), 5001))).collect(),
            udp: (0..each)
                .map(|_| {
                    let socket = udp::client(&container.netns, family);
                    udp::answer(&socket, server(family));
                    socket
                })
                .collect(),
        }
    }

    #[track_caller]
    fn go_on(&mut self) {
        let to = server(self.family);
        for stream in &mut self.tcp {
            tcp::echoes(stream)
                .unwrap_or_else(|error| panic!("a connection in use ended: {error}"));
        }
        for socket in &self.udp {
            udp::answer(socket, to);
        }
    }
}

/// Repeats `work` until two floods have ended. Returns the number of rounds.
fn under_flood(lab: &Lab, [served, flooding]: [&Container; 2], mut work: impl FnMut()) -> u32 {
    let family = lab.family;
    let _inside = tcp::Echo::start(&served.netns, served.at(7));
    let sent = [AtomicU32::new(0), AtomicU32::new(0)];
    let mut rounds = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            flood((&lab.world, family), &sent[0], |number| {
                Packet::tcp(stranger(family, number), (family.host(), 5000), flag::SYN, number, 0)
            });
        });
        scope.spawn(|| {
            let from = (flooding.address, 2000);
            flood((&flooding.netns, family), &sent[1], |number| {
                Packet::udp(from, stranger(family, number), b"question")
            });
        });
        while sent.iter().any(|sent| sent.load(Ordering::Relaxed) < many(FLOOD)) {
            work();
            rounds += 1;
        }
    });
    rounds
}

fn half_open_flood_breaks_no_flow_in_use(family: Family) {
    let lab = Lab::with_room(2048).of_family(family);
    without_quota(&lab, &["--timeout", "tcp-transitory=4", "--timeout", "udp=4"]);
    let c1 = lab.container("c1", &["--network", "crowd", "-p", "5000:7", "-p", "5001:8"]);
    let c2 = lab.container("c2", &["--network", "crowd"]);
    let _inside = tcp::Echo::start(&c1.netns, c1.at(8));
    let (_far, _far_tcp) = (
        udp::Echo::start(&lab.world, server(family), ""),
        tcp::Echo::start(&lab.world, server(family)),
    );
    let mut in_use = InUse::begin(&lab, &c1, 250);
    under_flood(&lab, [&c1, &c2], || in_use.go_on());
    in_use.go_on();
    assert!(lab.counted("table-full") > 0, "the flood did not fill the table");
    wait::until("the table has recovered", || (flows(&lab) <= 500).then_some(()));
    in_use.go_on();
    tcp::exchange(&c2.netns, server(family));
    udp::answer(&udp::client(&c1.netns, family), server(family));
}

fn new_flows_start_during_a_flood(family: Family) {
    let lab = Lab::with_room(2048).of_family(family);
    without_quota(&lab, &[]);
    let c1 = lab.container("c1", &["--network", "crowd", "-p", "5000:7", "-p", "5001:8"]);
    let c2 = lab.container("c2", &["--network", "crowd"]);
    let _inside = tcp::Echo::start(&c1.netns, c1.at(8));
    let (_far, _far_tcp) = (
        udp::Echo::start(&lab.world, server(family), ""),
        tcp::Echo::start(&lab.world, server(family)),
    );
    let mut in_use = InUse::begin(&lab, &c1, 250);
    let (mut connections, mut exchanges) = (0, 0);
    let rounds = under_flood(&lab, [&c1, &c2], || {
        // A new flow may be evicted by the flood before it is answered, but not every time.
        let connected = tcp::try_connect(&c2.netns, server(family), Duration::from_secs(2));
        connections += u32::from(connected.is_ok_and(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            tcp::echoes(&mut stream).is_ok()
        }));
        exchanges += u32::from(
            udp::ask(&udp::client(&c1.netns, family), server(family), b"new", SILENCE).is_ok(),
        );
    });
    // The last round may have run after the flood.
    assert!(
        connections > 1 && exchanges > 1,
        "in {rounds} rounds {connections} connections and {exchanges} exchanges began"
    );
    in_use.go_on();
}

fn full_table_refuses_new_flow_at_once(family: Family) {
    const ROOM: usize = 1024;
    let lab = Lab::with_room(1024).of_family(family);
    without_quota(&lab, &[]);
    let c1 = lab.container("c1", &["--network", "crowd"]);
    let _far = udp::Echo::start(&lab.world, server(family), "");
    let mut in_use = Vec::new();
    let refused = loop {
        let socket = udp::client(&c1.netns, family);
        socket.connect(server(family)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.send(b"one more").unwrap();
        match socket.recv(&mut [0; 64]) {
            Ok(_) => in_use.push(socket),
            Err(error) => break error,
        }
        assert!(in_use.len() <= 2 * ROOM, "the table never fills");
    };
    assert!(in_use.len() >= ROOM - 8, "only {} find room", in_use.len());
    assert_eq!(refused.raw_os_error(), Some(prohibited(family) as i32), "it is told: {refused}");
    assert!(lab.counted("table-full") > 0);
    assert!(
        tcp::try_connect(&c1.netns, server(family), DEADLINE)
            .is_err_and(|error| error.raw_os_error().is_some())
    );
    for socket in &in_use {
        socket.send(b"still here").unwrap();
        assert_eq!(socket.recv(&mut [0; 64]).expect("a flow in use ended"), 10);
    }
    // When one ends, another can start.
    lab.json(&["flows", "flush"]);
    udp::answer(&udp::client(&c1.netns, family), server(family));
}

fn container_quota_is_enforced(family: Family) {
    const MOST: usize = 100;
    let lab = Lab::shared(family);
    lab.network("few", 29, &["--max-flows", "100"]);
    let (c1, c2) =
        (lab.container("c1", &["--network", "few"]), lab.container("c2", &["--network", "few"]));
    let _far = udp::Echo::start(&lab.world, server(family), "");
    let in_use: Vec<UdpSocket> = (0..MOST).map(|_| udp::client(&c1.netns, family)).collect();
    for socket in &in_use {
        udp::answer(socket, server(family));
    }
    let before = lab.counted("too-many-flows");
    let next = udp::client(&c1.netns, family);
    next.connect(server(family)).unwrap();
    next.set_read_timeout(Some(DEADLINE)).unwrap();
    next.send(b"one more").unwrap();
    let refused = next.recv(&mut [0; 64]).expect_err("the quota is not enforced");
    assert_eq!(refused.raw_os_error(), Some(prohibited(family) as i32), "it is told: {refused}");
    assert!(lab.counted("too-many-flows") > before);
    for socket in &in_use {
        udp::answer(socket, server(family));
    }
    for _ in 0..MOST {
        udp::answer(&udp::client(&c2.netns, family), server(family));
    }
    // Traffic between containers needs no flow.
    let _echo = udp::Echo::start(&c2.netns, c2.at(7), "c2");
    assert_eq!(udp::answer(&udp::client(&c1.netns, family), c2.at(7)), "c2");
    lab.json(&["flows", "flush"]);
    udp::answer(&next, server(family));
}

/// With default options the flood of one container does not affect others.
fn one_container_cannot_fill_the_table(family: Family) {
    let lab = Lab::with_room(2048).of_family(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let _far = udp::Echo::start(&lab.world, server(family), "");
    let sent = AtomicU32::new(0);
    flood((&c1.netns, family), &sent, |number| {
        Packet::udp((c1.address, 2000), stranger(family, number), b"question")
    });
    let of_c1 = flows(&lab);
    assert!(of_c1 <= 1024 + 8, "{of_c1} flows of one container are more than half of the table");
    let sockets: Vec<UdpSocket> = (0..900).map(|_| udp::client(&c2.netns, family)).collect();
    for _ in 0..2 {
        for socket in &sockets {
            udp::answer(socket, server(family));
        }
    }
}
