//! Port allocation of masqueraded flows, and exhaustion of the range.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use causeway_tests::{
    families,
    family::Family,
    lab::{Container, Lab},
    ping,
    raw::Told,
    route::{self, Answer, Probe},
    tcp, udp,
    wait::DEADLINE,
};
use nix::errno::Errno;

families! {
    taken_source_port_is_replaced_from_range,
    exhausted_range_refuses_datagram_at_once,
    exhausted_range_refuses_connection_at_once,
    exhausted_identifiers_refuse_ping_at_once,
    port_toward_one_peer_is_never_shared,
}

fn server(family: Family) -> (IpAddr, u16) {
    (family.far(), 7)
}
/// Source ports of both containers, so that the second must get others.
const WANTED: std::ops::Range<u16> = 41000..41010;

/// Two containers on a network with a range of ten ports.
fn ten_ports(lab: &Lab) -> [Container; 2] {
    lab.network("ten", 29, &["--ports", "20000-20009"]);
    ["c1", "c2"].map(|short| lab.container(short, &["--network", "ten"]))
}

fn socket(container: &Container, port: u16) -> UdpSocket {
    udp::bind(&container.netns, (Family::of(container.address).any(), port))
}

/// Refused at once by an ICMP error, not by silence.
#[track_caller]
fn is_refused<T: std::fmt::Debug>(result: io::Result<T>) {
    let error = result.expect_err("there is no port left");
    let refused = [Errno::EHOSTUNREACH, Errno::ENETUNREACH, Errno::ECONNREFUSED, Errno::EACCES];
    assert!(
        refused.map(|errno| Some(errno as i32)).contains(&error.raw_os_error()),
        "it is not told, but: {error}"
    );
}

fn taken_source_port_is_replaced_from_range(family: Family) {
    let lab = Lab::shared(family);
    let [c1, c2] = ten_ports(&lab);
    let echo = udp::Echo::start(&lab.world, server(family), "");
    udp::answer(&socket(&c1, 41000), server(family));
    udp::answer(&socket(&c2, 41000), server(family));
    let ports: Vec<u16> = echo.peers().iter().map(SocketAddr::port).collect();
    assert!(
        ports.contains(&41000) && ports.iter().any(|port| (20000..20010).contains(port)),
        "{ports:?}"
    );
}

fn exhausted_range_refuses_datagram_at_once(family: Family) {
    let lab = Lab::shared_wide(family);
    let wide = lab.wide();
    let [c1, c2] = ten_ports(&lab);
    let echo = udp::Echo::start(&lab.world, server(family), "");
    let kept: Vec<UdpSocket> = (41000..41011).map(|port| socket(&c1, port)).collect();
    for socket in &kept {
        udp::answer(socket, server(family));
    }
    let picked: Vec<UdpSocket> = WANTED.map(|port| socket(&c2, port)).collect();
    for socket in &picked {
        udp::answer(socket, server(family));
    }
    let used: BTreeSet<u16> =
        echo.peers().iter().map(SocketAddr::port).filter(|port| *port < 41000).collect();
    assert_eq!(used, (20000..20010).collect(), "all ten are used");

    let before = lab.counted("ports-exhausted");
    let eleventh = socket(&c2, 41010);
    eleventh.set_read_timeout(Some(DEADLINE)).unwrap();
    eleventh.connect(server(family)).unwrap();
    eleventh.send(b"question").unwrap();
    is_refused(eleventh.recv(&mut [0; 64]));
    assert!(lab.counted("ports-exhausted") > before, "it is counted");

    // Established flows go on.
    for socket in kept.iter().chain(&picked) {
        udp::answer(socket, server(family));
    }
    // The ports are free toward another destination.
    let other = udp::Echo::start(&wide.other, (family.other(), 7), "other");
    assert_eq!(udp::answer(&socket(&c2, 41011), (family.other(), 7)), "other");
    for port in WANTED {
        udp::answer(&socket(&c1, port + 1000), (family.other(), 7));
        udp::answer(&socket(&c2, port + 1000), (family.other(), 7));
    }
    assert!(
        other.peers().iter().any(|peer| (20000..20010).contains(&peer.port())),
        "{:?}",
        other.peers()
    );
}

fn exhausted_range_refuses_connection_at_once(family: Family) {
    let lab = Lab::shared_wide(family);
    let wide = lab.wide();
    let [c1, c2] = ten_ports(&lab);
    let echo = tcp::Echo::start(&lab.world, server(family));
    let connect =
        |container: &Container, port| tcp::connect_from(&container.netns, port, (family.far(), 7));
    let mut kept: Vec<_> = (41000..41011).map(|port| connect(&c1, port).unwrap()).collect();
    let mut picked: Vec<_> = WANTED.map(|port| connect(&c2, port).unwrap()).collect();
    for stream in &mut picked {
        tcp::echoes(stream).unwrap();
    }
    let used: BTreeSet<u16> =
        echo.peers().iter().map(SocketAddr::port).filter(|port| *port < 41000).collect();
    assert_eq!(used, (20000..20010).collect(), "all ten are used");

    let before = lab.counted("ports-exhausted");
    is_refused(connect(&c2, 41010));
    assert!(lab.counted("ports-exhausted") > before, "it is counted");

    for stream in kept.iter_mut().chain(&mut picked) {
        tcp::echoes(stream).unwrap();
    }
    let _other = tcp::Echo::start(&wide.other, (family.other(), 7));
    tcp::exchange(&c2.netns, (family.other(), 7));
}

fn exhausted_identifiers_refuse_ping_at_once(family: Family) {
    let lab = Lab::shared(family);
    let [c1, c2] = ten_ports(&lab);
    for identifier in 0..11 {
        ping::ping(&c1.netns, family.far(), 5000 + identifier, 56);
    }
    for identifier in 0..10 {
        ping::ping(&c2.netns, family.far(), 5000 + identifier, 56);
    }
    let from = (c2.address, 5010);
    let answer = route::probe(&c2.netns, Probe::Echo, from, (family.far(), 0), 64);
    assert!(matches!(answer, Answer::Error(_, Told::Prohibited)), "{answer:?}");
}

/// RFC 4787 REQ-3, RFC 5382 REQ-7, RFC 7857 section 3: a pair of port and peer belongs to one flow.
fn port_toward_one_peer_is_never_shared(family: Family) {
    let lab = Lab::shared(family);
    let containers: Vec<Container> =
        (0..6).map(|number| lab.container(&format!("c{number}"), &[])).collect();
    let echo = udp::Echo::start(&lab.world, server(family), "");
    let sockets: Vec<UdpSocket> = containers
        .iter()
        .flat_map(|container| (42000..42100).map(|port| socket(container, port)))
        .collect();
    for _ in 0..2 {
        for socket in &sockets {
            udp::answer(socket, server(family));
        }
    }
    let peers = echo.peers();
    assert_eq!(peers.len(), sockets.len());
    assert!(
        peers.iter().all(|peer| peer.ip() == family.host() && peer.port() >= 1024),
        "{peers:?}"
    );
}
