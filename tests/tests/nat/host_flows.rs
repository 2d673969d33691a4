//! A masqueraded flow and a socket of the host never share a tuple, whichever came first: both
//! exchanges work, and neither receives the other's packets.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
};

use causeway_tests::{
    effort::many,
    families,
    family::Family,
    lab::{Container, Lab, UPLINK},
    ping,
    raw::Raw,
    shared::Shared,
    tcp, udp,
    wait::{DEADLINE, SILENCE},
};

families! {
    earlier_bound_socket_keeps_its_tuple,
    earlier_connected_socket_keeps_its_tuple,
    earlier_device_bound_socket_keeps_its_tuple,
    silent_device_bound_socket_is_answered,
    later_bound_socket_has_its_own_exchange,
    later_unbound_socket_has_its_own_exchange,
    later_device_bound_socket_is_independent,
    later_connected_socket_has_its_own_exchange,
    earlier_tcp_connection_keeps_its_tuple,
    later_tcp_connection_is_independent,
    later_tcp_connection_carries_bulk_and_closes,
    icmp_error_reaches_sender_of_quoted_packet,
    later_fragmented_datagram_is_answered,
    earlier_ping_keeps_its_identifier,
    later_ping_is_answered_to_the_host,
    host_service_keeps_its_port,
}

fn server(family: Family) -> (IpAddr, u16) {
    (family.far(), 7)
}

/// A UDP socket of the host bound to the uplink with `SO_BINDTODEVICE`: a socket lookup without a
/// device does not find it.
fn bound_to_device(lab: &Lab, port: u16) -> UdpSocket {
    udp::bound_to(&lab.host, UPLINK, (lab.family.any(), port))
}

/// Both ask in turn. Each must receive its own answers only, and the world must see two peers.
#[track_caller]
fn both_are_answered(echo: &udp::Echo, contained: &UdpSocket, own: &UdpSocket) {
    let to = server(Family::of(own.local_addr().unwrap().ip()));
    for _ in 0..3 {
        udp::answer(contained, to);
        udp::answer(own, to);
    }
    assert_eq!(echo.peers().len(), 2, "the world cannot tell them apart: {:?}", echo.peers());
    for (whose, socket) in [("the container", contained), ("the host", own)] {
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        assert!(
            socket.recv(&mut [0; 64]).is_err(),
            "{whose} receives an answer to another question"
        );
    }
}

fn container_first(family: Family) -> (Shared, Container, udp::Echo) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let echo = udp::Echo::start(&lab.world, server(family), "far");
    (lab, c1, echo)
}

fn contained(c1: &Container, port: u16) -> UdpSocket {
    udp::bind(&c1.netns, (Family::of(c1.address).any(), port))
}

fn earlier_bound_socket_keeps_its_tuple(family: Family) {
    let (lab, c1, echo) = container_first(family);
    let own = udp::bind(&lab.host, (family.host(), 40101));
    udp::answer(&own, server(family));
    both_are_answered(&echo, &contained(&c1, 40101), &own);
}

fn earlier_connected_socket_keeps_its_tuple(family: Family) {
    let (lab, c1, echo) = container_first(family);
    let own = udp::bind(&lab.host, (family.any(), 40102));
    // The datapath's socket lookup must find a connected socket too.
    own.connect(server(family)).unwrap();
    own.send(b"mine").unwrap();
    own.set_read_timeout(Some(DEADLINE)).unwrap();
    own.recv(&mut [0; 64]).unwrap();
    udp::answer(&contained(&c1, 40102), server(family));
    assert_eq!(echo.peers().len(), 2, "{:?}", echo.peers());
}

fn earlier_device_bound_socket_keeps_its_tuple(family: Family) {
    let (lab, c1, echo) = container_first(family);
    let own = bound_to_device(&lab, 40103);
    udp::answer(&own, server(family));
    both_are_answered(&echo, &contained(&c1, 40103), &own);
}

fn silent_device_bound_socket_is_answered(family: Family) {
    let (lab, c1, echo) = container_first(family);
    let own = bound_to_device(&lab, 40104);
    both_are_answered(&echo, &contained(&c1, 40104), &own);
}

fn later_bound_socket_has_its_own_exchange(family: Family) {
    let (lab, c1, echo) = container_first(family);
    let contained = contained(&c1, 40105);
    udp::answer(&contained, server(family));
    let own = udp::bind(&lab.host, (family.host(), 40105));
    both_are_answered(&echo, &contained, &own);
}

fn later_unbound_socket_has_its_own_exchange(family: Family) {
    let (lab, c1, echo) = container_first(family);
    let contained = contained(&c1, 40106);
    udp::answer(&contained, server(family));
    let own = udp::bind(&lab.host, (family.any(), 40106));
    both_are_answered(&echo, &contained, &own);
}

fn later_device_bound_socket_is_independent(family: Family) {
    let (lab, c1, echo) = container_first(family);
    let contained = contained(&c1, 40107);
    udp::answer(&contained, server(family));
    let own = bound_to_device(&lab, 40107);
    both_are_answered(&echo, &contained, &own);
}

fn later_connected_socket_has_its_own_exchange(family: Family) {
    let (lab, c1, echo) = container_first(family);
    let contained = contained(&c1, 40108);
    udp::answer(&contained, server(family));
    let own = udp::bind(&lab.host, (family.any(), 40108));
    own.connect(server(family)).unwrap();
    own.set_read_timeout(Some(DEADLINE)).unwrap();
    for question in [b"one", b"two"] {
        own.send(question).unwrap();
        let (mut buffer, tag) = ([0; 64], b"far");
        let length = own.recv(&mut buffer).expect("the host is answered");
        assert_eq!(buffer[..length], [&tag[..], question].concat(), "it is the host's own answer");
        udp::answer(&contained, server(family));
    }
    assert_eq!(echo.peers().len(), 2, "{:?}", echo.peers());
}

fn earlier_tcp_connection_keeps_its_tuple(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let echo = tcp::Echo::start(&lab.world, server(family));
    let connect = |netns| tcp::connect_from(netns, 40110, (family.far(), 7)).unwrap();
    let mut own = connect(&lab.host);
    tcp::echoes(&mut own).unwrap();
    let mut contained = connect(&c1.netns);
    for _ in 0..3 {
        tcp::echoes(&mut contained).unwrap();
        tcp::echoes(&mut own).unwrap();
    }
    assert_eq!(echo.peers().len(), 2, "{:?}", echo.peers());
}

fn later_tcp_connection_is_independent(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let echo = tcp::Echo::start(&lab.world, server(family));
    let connect = |netns| tcp::connect_from(netns, 40111, (family.far(), 7));
    let mut contained = connect(&c1.netns).unwrap();
    tcp::echoes(&mut contained).unwrap();
    let mut own = connect(&lab.host).expect("the host connects");
    for _ in 0..3 {
        tcp::echoes(&mut contained).unwrap();
        tcp::echoes(&mut own).unwrap();
    }
    assert_eq!(echo.peers().len(), 2, "{:?}", echo.peers());
}

fn later_tcp_connection_carries_bulk_and_closes(family: Family) {
    let length = many(20_000_000) as usize;
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let listener = tcp::listen(&lab.world, server(family));
    let connect = |netns| tcp::connect_from(netns, 40112, (family.far(), 7)).expect("it connects");
    let contained = connect(&c1.netns);
    let (kept, _) = listener.accept().unwrap();
    let mut own = connect(&lab.host);
    let (mut far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(DEADLINE)).unwrap();
    far.set_write_timeout(Some(DEADLINE)).unwrap();
    for back in [false, true] {
        let (from, to) = if back { (&mut far, &mut own) } else { (&mut own, &mut far) };
        let mut received = vec![0; length];
        thread::scope(|scope| {
            scope.spawn(|| from.write_all(&vec![7; length]));
            to.read_exact(&mut received).unwrap_or_else(|error| panic!("back {back}: {error}"));
        });
        assert!(received.iter().all(|byte| *byte == 7));
    }
    drop(far);
    assert_eq!(own.read(&mut [0; 8]).unwrap(), 0, "the host hears of the end");
    drop((contained, kept));
}

fn icmp_error_reaches_sender_of_quoted_packet(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let closed = (family.far(), 9);
    let (contained, own) = (contained(&c1, 40113), udp::bind(&lab.host, (family.host(), 40113)));
    for socket in [&contained, &own] {
        socket.connect(closed).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
    }
    for (whose, asking, other) in [("container", &contained, &own), ("host", &own, &contained)] {
        asking.send(b"question").unwrap();
        let error = asking.recv(&mut [0; 8]).expect_err("the port is closed");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "the {whose} is told");
        assert!(other.take_error().unwrap().is_none(), "the other is told what is the {whose}'s");
    }
}

fn later_fragmented_datagram_is_answered(family: Family) {
    let (lab, c1, echo) = container_first(family);
    let contained = contained(&c1, 40114);
    udp::answer(&contained, server(family));
    let own = udp::bind(&lab.host, (family.host(), 40114));
    let long: Vec<u8> = (0..8000_u32).map(|place| (place % 251) as u8).collect();
    assert_eq!(
        udp::ask(&own, server(family), &long, DEADLINE).expect("the host is answered"),
        "far"
    );
    both_are_answered(&echo, &contained, &own);
}

/// One of both keeps the identifier, the other gets a new one. The host must see its own answers
/// only.
#[track_caller]
fn pings_are_kept_apart(lab: &Lab, c1: &Container, identifier: u16) {
    let family = lab.family;
    let seen = Raw::icmp(&lab.host, family);
    // The payload size tells them apart.
    for _ in 0..2 {
        ping::ping(&c1.netns, family.far(), identifier, 100);
        ping::ping(&lab.host, family.far(), identifier, 200);
    }
    let mut own = 0;
    seen.find(SILENCE, |packet| {
        if packet.kind() == Some((family.echo().1, 0)) {
            assert_eq!(
                (packet.word(4), packet.payload.len()),
                (identifier, 208),
                "the host sees the container's answer"
            );
            own += 1;
        }
        None::<()>
    });
    assert_eq!(own, 2, "the host receives its own answers");
}

fn earlier_ping_keeps_its_identifier(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    ping::ping(&lab.host, family.far(), 7777, 200);
    pings_are_kept_apart(&lab, &c1, 7777);
}

fn later_ping_is_answered_to_the_host(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    ping::ping(&c1.netns, family.far(), 7778, 100);
    pings_are_kept_apart(&lab, &c1, 7778);
}

/// An outside peer of a host service is also the peer of a container's flow.
fn host_service_keeps_its_port(family: Family) {
    let (lab, c1, echo) = container_first(family);
    let _service = udp::Echo::start(&lab.host, (family.host(), 40109), "host");
    let contained = contained(&c1, 40109);
    udp::answer(&contained, server(family));
    assert!(
        !echo.peers().contains(&SocketAddr::from((family.host(), 40109))),
        "the service's port: {:?}",
        echo.peers()
    );
    drop(echo);
    assert_eq!(udp::answer(&udp::bind(&lab.world, server(family)), (family.host(), 40109)), "host");
}
