//! Fairness: a flood of one sender leaves flows, ports and ICMP errors for others.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use causeway_tests::{
    families,
    family::{Family, V4, V6},
    lab::{Lab, UPLINK},
    raw::{Packet, Raw, Told, flag},
    tcp, udp, wait,
};

families! {
    half_open_flows_spare_published_container,
    flood_of_one_family_spares_the_other,
    full_cone_container_leaves_ports_for_others,
    host_service_clients_spare_containers,
    mtu_errors_bypass_the_rate_limit,
    flush_spares_host_flows,
}

/// An outside address that no host answers for.
fn stranger(family: Family, number: u32) -> (IpAddr, u16) {
    (family.stranger(number), 1024 + (number >> 4) as u16 % 60_000)
}

/// From outside and from the container itself.
fn flood_of_one_family_spares_the_other(family: Family) {
    let other = if family == V4 { V6 } else { V4 };
    let lab = Lab::with_room(1024).of_family(V6);
    let c1 = lab.container("c1", &["-p", "5000:7"]);
    let _inside = [V4, V6].map(|family| tcp::Echo::start(&c1.netns, (c1.address_of(family), 7)));
    let _far = udp::Echo::start(&lab.world, (other.far(), 7), "far");
    let (world, inside) = (Raw::sender(&lab.world, family), Raw::sender(&c1.netns, family));
    for number in 0..2000 {
        world.send(&Packet::tcp(
            stranger(family, number),
            (family.host(), 5000),
            flag::SYN,
            number,
            0,
        ));
        inside.send(&Packet::udp((c1.address_of(family), 2000), stranger(family, number), b"x"));
    }
    tcp::exchange(&lab.world, (other.host(), 5000));
    let said = udp::ask(&udp::client(&c1.netns, other), (other.far(), 7), b"?", wait::DEADLINE);
    assert!(said.is_ok(), "{said:?}");
}

fn half_open_flows_spare_published_container(family: Family) {
    let lab = Lab::with_room(4096).of_family(family);
    let c1 = lab.container("c1", &["-p", "5000:7"]);
    let _inside = tcp::Echo::start(&c1.netns, c1.at(7));
    let _far = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let raw = Raw::sender(&lab.world, family);
    for number in 0..3000 {
        raw.send(&Packet::tcp(
            stranger(family, number),
            (family.host(), 5000),
            flag::SYN,
            number,
            0,
        ));
    }
    tcp::exchange(&lab.world, (family.host(), 5000));
    udp::answer(&udp::client(&c1.netns, family), (family.far(), 7));
}

fn full_cone_container_leaves_ports_for_others(family: Family) {
    let lab = Lab::of(family);
    lab.network("games", 29, &["--mapping", "full-cone"]);
    let c1 = lab.container("c1", &["--network", "games"]);
    let (c2, c3) = (lab.container("c2", &[]), lab.container("c3", &["--network", "games"]));
    let _far = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let raw = Raw::sender(&c1.netns, family);
    for port in 1..=u16::MAX {
        raw.send(&Packet::udp((c1.address, port), (family.far(), 9), b"x"));
    }
    wait::until("the quota is reached", || (lab.counted("too-many-flows") > 0).then_some(()));
    for container in [&c2, &c3] {
        udp::answer(&udp::client(&container.netns, family), (family.far(), 7));
    }
}

fn host_service_clients_spare_containers(family: Family) {
    let lab = Lab::with_room(1024).of_family(family);
    let c1 = lab.container("c1", &[]);
    let _far = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let server = udp::bound_to(&lab.host, UPLINK, (family.any(), 53));
    // Each is answered twice, so that no flow is half-open.
    let mut buffer = [0; 16];
    for _ in 0..1500 {
        let client = udp::client(&lab.world, family);
        for _ in 0..2 {
            client.send_to(b"x", (family.host(), 53)).unwrap();
            let (length, peer) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..length], peer).unwrap();
        }
    }
    udp::answer(&udp::client(&c1.netns, family), (family.far(), 7));
}

fn mtu_errors_bypass_the_rate_limit(family: Family) {
    let lab = Lab::without_agent().of_family(family);
    lab.narrow_uplink(1400);
    lab.start_agent(&[]);
    lab.network("big", 28, &["--mtu", "9000"]);
    let c1 = lab.container("c1", &["--network", "big", "-p", "5000:7/udp"]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let raw = Raw::sender(&lab.world, family);
            while !stop.load(Ordering::Relaxed) {
                let _ = raw.try_send(&Packet {
                    ttl: 1,
                    ..Packet::udp((family.far(), 7000), (family.host(), 5000), b"x")
                });
            }
        });
        wait::until("the rate limit of ICMP errors is reached", || {
            (lab.counted("ttl-exceeded") > 5_000).then_some(())
        });
        let told = |port| {
            let (listener, raw) = (Raw::icmp(&c1.netns, family), Raw::sender(&c1.netns, family));
            raw.send(&Packet {
                dont_fragment: true,
                ..Packet::udp((c1.address, port), (family.far(), 9), &[7; 1450])
            });
            let answer = listener.find(wait::DEADLINE, |answer| {
                let (Told::TooLong(_), quote) = answer.error()? else { return None };
                (quote.ports().0 == port).then_some(())
            });
            answer.is_some()
        };
        let all = (4000..4020).all(told);
        stop.store(true, Ordering::Relaxed);
        assert!(all, "an MTU error is missing");
    });
}

fn flush_spares_host_flows(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let _far = tcp::Echo::start(&lab.world, (family.far(), 7));
    let _first = tcp::connect_from(&c1.netns, 41000, (family.far(), 7)).unwrap();
    let mut later = tcp::connect_from(&lab.host, 41000, (family.far(), 7)).unwrap();
    tcp::echoes(&mut later).unwrap();
    lab.json(&["flows", "flush"]);
    tcp::echoes(&mut later).unwrap();
}
