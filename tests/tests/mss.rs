//! TCP's segments are no longer than what goes through, though neither side's own link shows it.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use causeway::net::netns::Netns;
use causeway_tests::{
    lab::{FAR, HOST, Lab},
    place, tcp, transfer,
    wide::NARROW,
};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

/// Bytes to be carried each way: full segments, many of them.
const SIZE: u64 = 2_000_000;

/// The longest that IPv4 and TCP leave room for on the narrow link.
const MOST: u32 = NARROW - 40;

/// Makes a lab whose uplink carries less than its other end and the containers' network do. What is too long for it is lost, and nobody says so:
/// it is the link that drops it.
fn narrow() -> Lab {
    let lab = Lab::without_agent();
    lab.narrow_uplink(NARROW);
    lab.start_agent(&[]);
    lab.json(&["network", "create", "wide", "--subnet", "172.28.0.0/16", "--mtu", "1500"]);
    lab
}

/// What the far end of a connection takes its peer to have asked for.
fn asked(server: &Netns, listen: (Ipv4Addr, u16), client: &Netns, to: (Ipv4Addr, u16)) -> [u32; 2] {
    let listener = tcp::listen(server, listen);
    let near = tcp::connect(client, to);
    let (far, _) = listener.accept().expect("the client is connected");
    [&near, &far].map(longest_segment)
}

fn longest_segment(stream: &TcpStream) -> u32 {
    getsockopt(stream, sockopt::TcpMaxSeg).expect("TCP says how long its segments are")
}

#[test]
fn a_connection_to_the_world_over_a_narrow_uplink_carries_many_bytes_both_ways() {
    let lab = narrow();
    let c1 = lab.container("c1", &["--network", "wide"]);
    // TCP's timestamps take twelve bytes of each segment.
    for longest in asked(&lab.world, (FAR, 9), &c1.netns, (FAR, 9)) {
        assert!((MOST - 12..=MOST).contains(&longest), "{longest}");
    }
    transfer::both_ways(&lab.world, (FAR, 9), &c1.netns, (FAR, 9), SIZE);
}

#[test]
fn a_connection_to_a_published_port_over_a_narrow_uplink_carries_many_bytes_both_ways() {
    let lab = narrow();
    let c1 = lab.container("c1", &["--network", "wide", "-p", "9000:9"]);
    for longest in asked(&c1.netns, (c1.address, 9), &lab.world, (HOST, 9000)) {
        assert!((MOST - 12..=MOST).contains(&longest), "{longest}");
    }
    transfer::both_ways(&c1.netns, c1.at(9), &lab.world, (HOST, 9000), SIZE);
}

#[test]
fn who_asks_for_less_gets_less() {
    let lab = narrow();
    let c1 = lab.container("c1", &["--network", "wide"]);
    let listener = tcp::listen(&lab.world, (FAR, 9));
    setsockopt(&listener, sockopt::TcpMaxSeg, &536).expect("TCP may ask for less");
    let near = place::run(&c1.netns, || TcpStream::connect(SocketAddr::from((FAR, 9)))).expect("a connection");
    assert!(longest_segment(&near) <= 536, "{}", longest_segment(&near));
}
