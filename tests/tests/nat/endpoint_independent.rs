//! Mapping and filtering of RFC 4787: `symmetric` (address- and port-dependent) and `full-cone`
//! (endpoint-independent).

use std::net::{SocketAddr, UdpSocket};

use causeway_tests::{
    families,
    family::Family,
    lab::{Container, Lab},
    shared::Shared,
    tcp, udp,
    wait::{DEADLINE, SILENCE},
};

families! {
    udp_keeps_one_port_for_all_destinations,
    mapped_port_admits_any_sender,
    mapped_port_admits_other_containers,
    tcp_keeps_one_port_for_all_destinations,
    unmapped_port_stays_closed,
    publishes_and_host_services_keep_their_ports,
    default_is_symmetric_and_admits_only_the_peer,
}

fn network(family: Family, mapping: &[&str]) -> (Shared, [Container; 2]) {
    let lab = Lab::shared_wide(family);
    lab.network("games", 29, mapping);
    let containers = ["c1", "c2"].map(|short| lab.container(short, &["--network", "games"]));
    (lab, containers)
}

const FULL_CONE: [&str; 2] = ["--mapping", "full-cone"];

fn socket(container: &Container, port: u16) -> UdpSocket {
    udp::bind(&container.netns, (Family::of(container.address).any(), port))
}

/// The only peer of an echo server.
#[track_caller]
fn only_peer(echo: &udp::Echo) -> SocketAddr {
    let peers = echo.peers();
    assert_eq!(peers.len(), 1, "{peers:?}");
    peers.into_iter().next().unwrap()
}

#[track_caller]
fn hears(socket: &UdpSocket, from: &UdpSocket, to: SocketAddr) {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    from.send_to(b"unasked", to).unwrap();
    let (length, peer) = socket
        .recv_from(&mut [0; 64])
        .unwrap_or_else(|error| panic!("nothing comes by {to}: {error}"));
    assert_eq!((length, peer), (7, from.local_addr().unwrap()));
}

#[track_caller]
fn does_not_hear(socket: &UdpSocket, from: &UdpSocket, to: SocketAddr) {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    from.send_to(b"unasked", to).unwrap();
    assert!(socket.recv_from(&mut [0; 64]).is_err(), "it comes from {from:?} by {to}");
}

fn udp_keeps_one_port_for_all_destinations(family: Family) {
    let (lab, [c1, c2]) = network(family, &FULL_CONE);
    let wide = lab.wide();
    let (far, other) = (
        udp::Echo::start(&lab.world, (family.far(), 7), ""),
        udp::Echo::start(&wide.other, (family.other(), 9), ""),
    );
    // The second container must get another port than its own, and keep it.
    for socket in [socket(&c1, 41000), socket(&c2, 41000)] {
        udp::answer(&socket, (family.far(), 7));
        udp::answer(&socket, (family.other(), 9));
    }
    assert_eq!(far.peers(), other.peers(), "the same two ports at both");
    assert_eq!(far.peers().len(), 2, "{:?}", far.peers());
}

fn mapped_port_admits_any_sender(family: Family) {
    let (lab, [c1, _]) = network(family, &FULL_CONE);
    let wide = lab.wide();
    let far = udp::Echo::start(&lab.world, (family.far(), 7), "");
    let client = socket(&c1, 41001);
    udp::answer(&client, (family.far(), 7));
    let mapped = only_peer(&far);
    let stranger = udp::bind(&wide.other, (family.other(), 5555));
    hears(&client, &stranger, mapped);
    hears(&client, &udp::bind(&lab.world, (family.far(), 5556)), mapped);
    // The answer comes from the same port.
    stranger.set_read_timeout(Some(DEADLINE)).unwrap();
    client.send_to(b"answer", (family.other(), 5555)).unwrap();
    assert_eq!(stranger.recv_from(&mut [0; 64]).unwrap().1, mapped);
}

fn mapped_port_admits_other_containers(family: Family) {
    let (lab, [c1, c2]) = network(family, &FULL_CONE);
    let far = udp::Echo::start(&lab.world, (family.far(), 7), "");
    let (one, other) = (socket(&c1, 41002), socket(&c2, 41003));
    udp::answer(&one, (family.far(), 7));
    udp::answer(&other, (family.far(), 7));
    // RFC 4787 REQ-9a: each sees the other's mapped port, as peers do that met through an outside
    // server.
    let mapped =
        |port| *far.peers().iter().find(|peer| peer.port() == port).expect("the port is kept");
    one.set_read_timeout(Some(DEADLINE)).unwrap();
    other.send_to(b"hello", mapped(41002)).unwrap();
    let (_, peer) = one.recv_from(&mut [0; 64]).expect("the hairpin leads there");
    other.set_read_timeout(Some(DEADLINE)).unwrap();
    one.send_to(b"hello", peer).unwrap();
    assert_eq!(other.recv_from(&mut [0; 64]).expect("and back").1, mapped(41002));
}

fn tcp_keeps_one_port_for_all_destinations(family: Family) {
    let (lab, [c1, _]) = network(family, &FULL_CONE);
    let wide = lab.wide();
    let (far, other) = (
        tcp::Echo::start(&lab.world, (family.far(), 7)),
        tcp::Echo::start(&wide.other, (family.other(), 7)),
    );
    for server in [family.far(), family.other()] {
        let mut stream = tcp::connect_from(&c1.netns, 41004, (server, 7)).unwrap();
        tcp::echoes(&mut stream).unwrap();
    }
    assert_eq!(far.peers(), other.peers());
    assert_eq!(far.peers().len(), 1, "{:?}", far.peers());
}

fn unmapped_port_stays_closed(family: Family) {
    let (lab, [c1, c2]) = network(family, &FULL_CONE);
    let wide = lab.wide();
    let far = udp::Echo::start(&lab.world, (family.far(), 7), "");
    let (client, silent) = (socket(&c1, 41005), socket(&c2, 41006));
    udp::answer(&client, (family.far(), 7));
    let mapped = only_peer(&far);
    let stranger = udp::bind(&wide.other, (family.other(), 5555));
    does_not_hear(&silent, &stranger, (family.host(), 41006).into());
    does_not_hear(&client, &stranger, (family.host(), mapped.port() + 1).into());
    lab.json(&["container", "rm", &c1.name]);
    stranger.send_to(b"unasked", mapped).unwrap();
    assert!(udp::is_silent(&stranger, mapped), "the container is gone");
}

fn publishes_and_host_services_keep_their_ports(family: Family) {
    let (lab, [c1, c2]) = network(family, &FULL_CONE);
    let wide = lab.wide();
    lab.json(&["publish", "add", &c2.name, "41007:7/udp"]);
    let _published = udp::Echo::start(&c2.netns, c2.at(7), "published");
    let _service = udp::Echo::start(&lab.host, (family.host(), 41008), "host");
    let far = udp::Echo::start(&lab.world, (family.far(), 7), "");
    for port in [41007, 41008] {
        udp::answer(&socket(&c1, port), (family.far(), 7));
    }
    assert!(
        far.peers().iter().all(|peer| ![41007, 41008].contains(&peer.port())),
        "{:?}",
        far.peers()
    );
    let stranger = udp::bind(&wide.other, (family.other(), 0));
    assert_eq!(udp::answer(&stranger, (family.host(), 41007)), "published");
    assert_eq!(udp::answer(&stranger, (family.host(), 41008)), "host");
}

fn default_is_symmetric_and_admits_only_the_peer(family: Family) {
    for mapping in [&[][..], &["--mapping", "symmetric"]] {
        let (lab, [c1, _]) = network(family, mapping);
        let wide = lab.wide();
        let far = udp::Echo::start(&lab.world, (family.far(), 7), "");
        let client = socket(&c1, 41009);
        udp::answer(&client, (family.far(), 7));
        let mapped = only_peer(&far);
        does_not_hear(&client, &udp::bind(&wide.other, (family.other(), 7)), mapped);
        does_not_hear(&client, &udp::bind(&lab.world, (family.far(), 9)), mapped);
    }
}
