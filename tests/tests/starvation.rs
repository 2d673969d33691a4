//! What one sender takes, others do not lack: floods of one kind leave room, ports and answers for those of another.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use causeway_tests::{
    lab::{FAR, HOST, Lab, UPLINK},
    place,
    raw::{Ipv4, Raw, flag},
    tcp, udp, wait,
};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt::BindToDevice,
};

/// One of many outside, nobody answers for whom.
fn somebody(number: u32) -> (Ipv4Addr, u16) {
    (Ipv4Addr::from(0xc612_0000 | number & 0x1_ffff), 1024 + (number >> 4) as u16 % 60_000)
}

#[test]
fn half_open_flows_to_a_publish_leave_its_container_room() {
    let lab = Lab::with_room(4096);
    let c1 = lab.container("c1", &["-p", "5000:7"]);
    let _inside = tcp::Echo::start(&c1.netns, c1.at(7));
    let _far = udp::Echo::start(&lab.world, (FAR, 7), "far");
    let raw = Raw::open(&lab.world, 255);
    for number in 0..3000 {
        raw.send(&Ipv4::tcp(somebody(number), (HOST, 5000), flag::SYN, number, 0));
    }
    tcp::exchange(&lab.world, (HOST, 5000));
    udp::answer(&udp::client(&c1.netns), (FAR, 7));
}

#[test]
fn a_container_that_maps_every_port_leaves_others_some() {
    let lab = Lab::new();
    lab.json(&["network", "create", "games", "--subnet", "172.29.0.0/16", "--mapping", "full-cone"]);
    let c1 = lab.container("c1", &["--network", "games"]);
    let (c2, c3) = (lab.container("c2", &[]), lab.container("c3", &["--network", "games"]));
    let _far = udp::Echo::start(&lab.world, (FAR, 7), "far");
    let raw = Raw::open(&c1.netns, 255);
    for port in 1..=u16::MAX {
        raw.send(&Ipv4::udp((c1.address, port), (FAR, 9), b"x"));
    }
    wait::until("it has no more of them", || {
        let refused = lab.json(&["stats"])["reasons"]["too-many-flows"].as_u64();
        (refused > Some(0)).then_some(())
    });
    for container in [&c2, &c3] {
        udp::answer(&udp::client(&container.netns), (FAR, 7));
    }
}

#[test]
fn clients_of_a_service_of_the_hosts_leave_containers_room() {
    let lab = Lab::with_room(1024);
    let c1 = lab.container("c1", &[]);
    let _far = udp::Echo::start(&lab.world, (FAR, 7), "far");
    let server = place::run(&lab.host, || {
        let server = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&server, BindToDevice, &UPLINK.into()).unwrap();
        bind(server.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 53))).unwrap();
        UdpSocket::from(server)
    });
    // Each of them is answered twice, so that nothing about it is half open.
    let mut buffer = [0; 16];
    for _ in 0..1500 {
        let client = udp::client(&lab.world);
        for _ in 0..2 {
            client.send_to(b"x", (HOST, 53)).unwrap();
            let (length, peer) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..length], peer).unwrap();
        }
    }
    udp::answer(&udp::client(&c1.netns), (FAR, 7));
}

#[test]
fn who_is_told_of_an_mtu_is_told_whoever_else_is_told_what() {
    let lab = Lab::without_agent();
    lab.narrow_uplink(1400);
    lab.start_agent(&[]);
    lab.json(&["network", "create", "big", "--subnet", "172.28.0.0/16", "--mtu", "9000"]);
    let c1 = lab.container("c1", &["--network", "big", "-p", "5000:7/udp"]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let raw = Raw::open(&lab.world, 255);
            while !stop.load(Ordering::Relaxed) {
                let _ = raw.try_send(&Ipv4 { ttl: 1, ..Ipv4::udp((FAR, 7000), (HOST, 5000), b"x") });
            }
        });
        wait::until("the host answers no more of them", || {
            let refused = lab.json(&["stats"])["reasons"]["ttl-exceeded"].as_u64();
            (refused > Some(5_000)).then_some(())
        });
        let told = |port| {
            let (listener, raw) = (Raw::open(&c1.netns, 1), Raw::open(&c1.netns, 255));
            raw.send(&Ipv4 { dont_fragment: true, ..Ipv4::udp((c1.address, port), (FAR, 9), &[7; 1450]) });
            let answer = listener.find(Duration::from_secs(2), |answer| {
                let ((3, 4), quote) = answer.error()? else { return None };
                (quote.ports().0 == port).then_some(())
            });
            answer.is_some()
        };
        let all = (4000..4020).all(told);
        stop.store(true, Ordering::Relaxed);
        assert!(all, "one was not told");
    });
}

#[test]
fn flushing_flows_leaves_the_hosts_own_alone() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let _far = tcp::Echo::start(&lab.world, (FAR, 7));
    let _first = tcp::connect_from(&c1.netns, 41000, SocketAddrV4::new(FAR, 7)).unwrap();
    let mut later = tcp::connect_from(&lab.host, 41000, SocketAddrV4::new(FAR, 7)).unwrap();
    tcp::echoes(&mut later).unwrap();
    lab.json(&["flows", "flush"]);
    tcp::echoes(&mut later).unwrap();
}
