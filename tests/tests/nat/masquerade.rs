//! Masquerade: containers reach the world, which sees the address of the host.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use causeway_tests::{
    families,
    family::Family,
    lab::{Lab, WORLD_SIDE},
    ping, place,
    raw::{Packet, Raw},
    tcp, udp,
    wait::{self, SILENCE},
};
use nix::{
    sched::{self, CpuSet},
    sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, sockopt},
    unistd::Pid,
};

families! {
    world_sees_host_address_over_tcp,
    world_sees_host_address_over_udp,
    free_source_port_is_kept,
    pings_of_any_size_are_answered,
    containers_may_use_one_ping_identifier,
    containers_may_use_one_tcp_source_port,
    containers_may_use_one_udp_source_port,
    host_keeps_port_that_a_container_wants,
    two_thousand_connections_stay_open,
    local_traffic_keeps_container_addresses,
    other_protocols_are_dropped,
    flow_follows_router_mac_change,
    flow_begun_on_two_cpus_uses_one_mac_pair,
}

fn world_sees_host_address_over_tcp(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    for server in [family.far(), family.router()] {
        let echo = tcp::Echo::start(&lab.world, (server, 7));
        tcp::exchange(&c1.netns, (server, 7));
        assert!(echo.peers().iter().all(|peer| peer.ip() == family.host()), "{:?}", echo.peers());
    }
}

fn world_sees_host_address_over_udp(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let echo = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    assert_eq!(udp::answer(&udp::client(&c1.netns, family), (family.far(), 7)), "far");
    assert!(echo.peers().iter().all(|peer| peer.ip() == family.host()), "{:?}", echo.peers());
}

fn free_source_port_is_kept(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let echo = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    udp::answer(&udp::bind(&c1.netns, (family.any(), 40001)), (family.far(), 7));
    assert_eq!(echo.peers(), [SocketAddr::from((family.host(), 40001))].into());
}

fn pings_of_any_size_are_answered(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    for size in [0, 1, 56, 57, family.data_of(1500)] {
        ping::ping(&c1.netns, family.far(), 0x1234, size);
    }
}

fn containers_may_use_one_ping_identifier(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let seen = ping::Listener::start(&lab.world, family);
    ping::ping(&c1.netns, family.far(), 7777, 56);
    let (first_source, first) = seen.next();
    ping::ping(&c2.netns, family.far(), 7777, 56);
    let (second_source, second) = seen.next();
    assert_eq!([first_source, second_source], [family.host(); 2]);
    assert_ne!(first, second, "the world has to tell them apart");
    ping::ping(&c1.netns, family.far(), 7777, 56);
    assert_eq!(seen.next(), (family.host(), first), "the first goes on as it began");
}

fn containers_may_use_one_tcp_source_port(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let echo = tcp::Echo::start(&lab.world, (family.far(), 7));
    let connect = |netns| tcp::connect_from(netns, 40002, (family.far(), 7)).unwrap();
    let (mut one, mut other) = (connect(&c1.netns), connect(&c2.netns));
    for _ in 0..3 {
        tcp::echoes(&mut one).unwrap();
        tcp::echoes(&mut other).unwrap();
    }
    let peers = echo.peers();
    assert_eq!(peers.len(), 2, "{peers:?}");
    assert!(peers.iter().all(|peer| peer.ip() == family.host()), "{peers:?}");
}

fn containers_may_use_one_udp_source_port(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let echo = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let bind = |netns| udp::bind(netns, (family.any(), 40003));
    let (one, other) = (bind(&c1.netns), bind(&c2.netns));
    for _ in 0..3 {
        udp::answer(&one, (family.far(), 7));
        udp::answer(&other, (family.far(), 7));
    }
    let peers = echo.peers();
    assert_eq!(peers.len(), 2, "{peers:?}");
    assert!(peers.iter().all(|peer| peer.ip() == family.host()), "{peers:?}");
}

fn host_keeps_port_that_a_container_wants(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let echo = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let own = udp::bind(&lab.host, (family.host(), 40004));
    udp::answer(&own, (family.far(), 7));
    let contained = udp::bind(&c1.netns, (family.any(), 40004));
    udp::answer(&contained, (family.far(), 7));
    udp::answer(&own, (family.far(), 7));
    udp::answer(&contained, (family.far(), 7));
    let peers = echo.peers();
    assert_eq!(peers.len(), 2, "one of them has another's answers: {peers:?}");
}

fn two_thousand_connections_stay_open(family: Family) {
    let lab = Lab::of(family);
    let c1 = lab.container("c1", &[]);
    let echo = tcp::Echo::start(&lab.world, (family.far(), 7));
    let mut streams: Vec<_> =
        (0..2000).map(|_| tcp::exchange(&c1.netns, (family.far(), 7))).collect();
    for stream in &mut streams {
        tcp::echoes(stream).unwrap();
    }
    let peers = echo.peers();
    assert_eq!(peers.len(), 2000);
    assert!(peers.iter().all(|peer| peer.ip() == family.host()));
}

fn local_traffic_keeps_container_addresses(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let (tcp_echo, udp_echo) =
        (tcp::Echo::start(&c2.netns, c2.at(7)), udp::Echo::start(&c2.netns, c2.at(7), "c2"));
    tcp::exchange(&c1.netns, c2.at(7));
    assert_eq!(udp::answer(&udp::client(&c1.netns, family), c2.at(7)), "c2");
    for peers in [tcp_echo.peers(), udp_echo.peers()] {
        assert!(peers.iter().all(|peer| peer.ip() == c1.address), "{peers:?}");
    }
    let size = family.data_of(1500);
    for to in [c2.address, family.gateway(), family.host()] {
        ping::ping(&c1.netns, to, 1, size);
    }
    ping::ping(&lab.host, c1.address, 1, size);
}

/// Protocols without known ports are dropped and counted.
fn other_protocols_are_dropped(family: Family) {
    const GRE: u8 = 47;
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let (near, far) = (Raw::open(&c1.netns, family, GRE), Raw::open(&lab.world, family, GRE));
    let before = lab.counted("protocol-not-translated");
    near.send(&Packet::new(c1.address, family.far(), GRE, vec![0; 16]));
    assert_eq!(
        far.find(SILENCE, |packet| Some(packet.source)),
        None,
        "the packet reaches the world"
    );
    lab.expect_counted("protocol-not-translated", before + 1);
}

fn flow_follows_router_mac_change(family: Family) {
    let lab = Lab::of(family);
    let c1 = lab.container("c1", &[]);
    let _echo = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let client = udp::client(&c1.netns, family);
    // Longer than the datapath caches the MAC of the next hop.
    let ask_for = |duration: Duration| {
        let begin = Instant::now();
        while begin.elapsed() < duration {
            udp::answer(&client, (family.far(), 7));
        }
    };
    ask_for(Duration::from_secs(3));
    place::ip(&lab.world, &format!("link set {WORLD_SIDE} address 02:00:00:00:99:99"));
    // The new router announces itself, as in a failover.
    place::ip(&lab.world, "neigh flush all");
    ping::ping(&lab.world, family.host(), 9, 56);
    wait::until("the flow goes on", || {
        udp::ask(&client, (family.far(), 7), b"again", SILENCE).ok()
    });
    ask_for(Duration::from_secs(3));
}

/// One CPU caches the next hop's MACs in a flow while another CPU sends with them.
fn flow_begun_on_two_cpus_uses_one_mac_pair(family: Family) {
    const BATCHES: u16 = 50;
    const FLOWS: usize = 400;
    let lab = Lab::of(family);
    let c1 = lab.container("c1", &[]);
    let _echo = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    udp::answer(&udp::client(&c1.netns, family), (family.far(), 7));
    let wire = place::run(&lab.world, || {
        let socket = socket::socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_NONBLOCK,
            SockProtocol::EthAll,
        );
        socket.expect("a socket for frames")
    });
    socket::setsockopt(&wire, sockopt::RcvBufForce, &(64 << 20)).expect("room for frames");
    let cpus = sched::sched_getaffinity(Pid::from_raw(0)).expect("the CPUs");
    let cpus: Vec<_> =
        (0..CpuSet::count()).filter(|cpu| cpus.is_set(*cpu).expect("a CPU")).take(2).collect();
    assert_eq!(cpus.len(), 2, "it takes two");
    let mut seen = BTreeMap::new();
    for batch in 0..BATCHES {
        let sockets: Vec<UdpSocket> = (0..FLOWS).map(|_| udp::client(&c1.netns, family)).collect();
        for socket in &sockets {
            socket.connect((family.far(), 1000 + batch)).expect("a route");
        }
        let at = [AtomicUsize::new(0), AtomicUsize::new(0)];
        thread::scope(|scope| {
            for (me, cpu) in cpus.iter().enumerate() {
                let (sockets, at) = (&sockets, &at);
                scope.spawn(move || {
                    let mut own = CpuSet::new();
                    own.set(*cpu).expect("a CPU");
                    sched::sched_setaffinity(Pid::from_raw(0), &own).expect("a CPU of its own");
                    for (number, socket) in sockets.iter().enumerate() {
                        at[me].store(number + 1, Ordering::SeqCst);
                        while at[1 - me].load(Ordering::SeqCst) <= number {
                            std::hint::spin_loop();
                        }
                        // No server listens, and port-unreachable errors are fine.
                        (0..4).for_each(|_| drop(socket.send(b"x")));
                    }
                });
            }
        });
        let mut frame = [0; 2048];
        while let Ok(length) = socket::recv(wire.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            const UDP: u8 = 17;
            let is_from_host = match family.host() {
                IpAddr::V4(host) => {
                    frame[12..14] == [0x08, 0x00]
                        && frame[23] == UDP
                        && frame[26..30] == host.octets()
                }
                IpAddr::V6(host) => {
                    frame[12..14] == [0x86, 0xdd]
                        && frame[20] == UDP
                        && frame[22..38] == host.octets()
                }
            };
            if length > 38 && is_from_host {
                *seen
                    .entry(<[u8; 12]>::try_from(&frame[..12]).expect("twelve bytes"))
                    .or_insert(0) += 1;
            }
        }
    }
    assert_eq!(seen.len(), 1, "frames by destination and source: {seen:02x?}");
    assert!(seen.values().sum::<u32>() > u32::from(BATCHES) * 400, "{seen:02x?}");
}
