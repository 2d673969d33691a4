//! MSS clamping: where the MTU of the uplink is smaller than the containers', SYNs of both sides
//! are changed.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
    thread,
};

use causeway_netlink::Netns;
use causeway_tests::{
    families,
    family::Family,
    lab::{Container, Lab, WORLD_SIDE},
    offload, place,
    raw::{Raw, flag},
    tcp,
    wait::DEADLINE,
};
use nix::sys::socket::{
    SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt::TcpMaxSeg,
};

families! {
    clamps_both_sides_of_masqueraded_tcp,
    clamps_both_sides_of_published_tcp,
    leaves_local_and_hairpin_tcp_unchanged,
    leaves_tcp_unchanged_on_wide_uplink,
    leaves_smaller_mss_unchanged,
    bulk_crosses_narrow_uplink,
}

const NARROW: u32 = 1400;
const FULL: u32 = 1500;

/// The MSS for an MTU: without the IP and TCP headers.
fn segment(family: Family, packet: u32) -> u16 {
    u16::try_from(packet).unwrap() - u16::try_from(family.header()).unwrap() - 20
}

/// An uplink with MTU 1400, and a container with MTU 1500 whose port 9 is published as 5000.
fn narrow(family: Family) -> (Lab, Container) {
    let lab = Lab::without_agent().of_family(family);
    lab.narrow_uplink(NARROW);
    lab.start_agent(&[]);
    lab.network("wide", 29, &["--mtu", "1500"]);
    let c1 = lab.container("c1", &["--network", "wide", "-p", "5000:9"]);
    (lab, c1)
}

/// The MSS of the next SYN or SYN-ACK that a namespace receives from or at that port.
#[track_caller]
fn announced(listener: &Raw, port: u16, flags: u8) -> u16 {
    listener.wait("a SYN arrives", |packet| {
        let (source, destination) = packet.ports();
        let is_it = (source == port || destination == port)
            && packet.flags() & (flag::SYN | flag::ACK) == flags;
        is_it.then(|| packet.mss().expect("Linux announces one"))
    })
}

/// The MSS that server and client receive from each other.
#[track_caller]
fn seen(server: (&Netns, (IpAddr, u16)), client: (&Netns, (IpAddr, u16))) -> (u16, u16) {
    let family = Family::of(server.1.0);
    let (at_server, at_client) = (Raw::open(server.0, family, 6), Raw::open(client.0, family, 6));
    let _echo = tcp::Echo::start(server.0, server.1);
    tcp::exchange(client.0, client.1);
    (
        announced(&at_server, server.1.1, flag::SYN),
        announced(&at_client, client.1.1, flag::SYN | flag::ACK),
    )
}

fn clamps_both_sides_of_masqueraded_tcp(family: Family) {
    let (lab, c1) = narrow(family);
    assert_eq!(
        seen((&lab.world, (family.far(), 9)), (&c1.netns, (family.far(), 9))),
        (segment(family, NARROW), segment(family, NARROW))
    );
}

fn clamps_both_sides_of_published_tcp(family: Family) {
    let (lab, c1) = narrow(family);
    assert_eq!(
        seen((&c1.netns, (c1.address, 9)), (&lab.world, (family.host(), 5000))),
        (segment(family, NARROW), segment(family, NARROW))
    );
}

fn leaves_local_and_hairpin_tcp_unchanged(family: Family) {
    let (lab, c1) = narrow(family);
    let c2 = lab.container("c2", &["--network", "wide"]);
    assert_eq!(
        seen((&c1.netns, (c1.address, 9)), (&c2.netns, (c1.address, 9))),
        (segment(family, FULL), segment(family, FULL))
    );
    assert_eq!(
        seen((&c1.netns, (c1.address, 9)), (&c2.netns, (family.host(), 5000))),
        (segment(family, FULL), segment(family, FULL))
    );
}

fn leaves_tcp_unchanged_on_wide_uplink(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:9"]);
    assert_eq!(
        seen((&lab.world, (family.far(), 9)), (&c1.netns, (family.far(), 9))),
        (segment(family, FULL), segment(family, FULL))
    );
    assert_eq!(
        seen((&c1.netns, (c1.address, 9)), (&lab.world, (family.host(), 5000))),
        (segment(family, FULL), segment(family, FULL))
    );
}

fn leaves_smaller_mss_unchanged(family: Family) {
    let (lab, c1) = narrow(family);
    let listener = Raw::open(&lab.world, family, 6);
    let _echo = tcp::Echo::start(&lab.world, (family.far(), 9));
    let to = SocketAddr::from((family.far(), 9));
    let made = place::run(&c1.netns, || {
        socket(tcp::domain(to), SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
    });
    let socket = made.unwrap();
    setsockopt(&socket, TcpMaxSeg, &1000).unwrap();
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
    assert_eq!(announced(&listener, 9, flag::SYN), 1000);
}

/// Only the MSS limits the world's segments: longer packets are lost at the uplink without an
/// error.
fn bulk_crosses_narrow_uplink(family: Family) {
    const MANY: usize = 500_000;
    let (lab, c1) = narrow(family);
    // GSO packets would pass a veth pair of any MTU.
    offload::set(&lab.world, WORLD_SIDE, false);
    let ends = [
        ((&lab.world, (family.far(), 9)), (&c1.netns, (family.far(), 9))),
        ((&c1.netns, (c1.address, 9)), (&lab.world, (family.host(), 5000))),
    ];
    for ((server, listen), (client, to)) in ends {
        let listener = tcp::listen(server, listen);
        let mut near = tcp::connect(client, to);
        let (mut far, _) = listener.accept().unwrap();
        far.set_read_timeout(Some(DEADLINE)).unwrap();
        far.set_write_timeout(Some(DEADLINE)).unwrap();
        for back in [false, true] {
            let (from, into) = if back { (&mut far, &mut near) } else { (&mut near, &mut far) };
            let mut received = vec![0; MANY];
            thread::scope(|scope| {
                scope.spawn(|| from.write_all(&vec![7; MANY]));
                into.read_exact(&mut received)
                    .unwrap_or_else(|error| panic!("to {to:?}, back {back}: {error}"));
            });
            assert!(received.iter().all(|byte| *byte == 7));
        }
    }
}
