//! One case per path of a packet.

use std::net::{IpAddr, SocketAddr};

use causeway_tests::{families, family::Family, lab::Lab, ping, tcp, udp};

families! {
    containers_reach_world_and_each_other,
    world_reaches_published_port,
    containers_reach_published_port_by_hairpin,
    host_reaches_published_port,
    closed_port_is_reported_to_sender,
}

fn containers_reach_world_and_each_other(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let (tcp_echo, udp_echo) = (
        tcp::Echo::start(&lab.world, (family.far(), 7)),
        udp::Echo::start(&lab.world, (family.far(), 7), "far"),
    );
    let _beside = udp::Echo::start(&c2.netns, c2.at(7), "c2");
    tcp::exchange(&c1.netns, (family.far(), 7));
    let client = udp::client(&c1.netns, family);
    assert_eq!(udp::answer(&client, (family.far(), 7)), "far");
    assert_eq!(udp::answer(&client, c2.at(7)), "c2");
    for to in [family.far(), c2.address, family.gateway()] {
        ping::ping(&c1.netns, to, 0x5000, 56);
    }
    let seen: Vec<IpAddr> = tcp_echo.peers().union(&udp_echo.peers()).map(SocketAddr::ip).collect();
    assert!(
        seen.iter().all(|address| *address == family.host()),
        "the world sees the host: {seen:?}"
    );
}

fn world_reaches_published_port(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", PUBLISHES);
    let (tcp_echo, udp_echo) =
        (tcp::Echo::start(&c1.netns, c1.at(7)), udp::Echo::start(&c1.netns, c1.at(7), "c1"));
    tcp::exchange(&lab.world, (family.host(), 5000));
    assert_eq!(udp::answer(&udp::client(&lab.world, family), (family.host(), 5000)), "c1");
    let seen: Vec<IpAddr> = tcp_echo.peers().union(&udp_echo.peers()).map(SocketAddr::ip).collect();
    assert!(seen.iter().all(|address| *address == family.router()), "its own address: {seen:?}");
}

fn containers_reach_published_port_by_hairpin(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", PUBLISHES), lab.container("c2", &[]));
    let (_tcp, _udp) =
        (tcp::Echo::start(&c1.netns, c1.at(7)), udp::Echo::start(&c1.netns, c1.at(7), "c1"));
    for from in [&c1, &c2] {
        tcp::exchange(&from.netns, (family.host(), 5000));
        assert_eq!(
            udp::answer(&udp::client(&from.netns, family), (family.host(), 5000)),
            "c1",
            "{from}"
        );
    }
}

fn host_reaches_published_port(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", PUBLISHES);
    let (_tcp, _udp) =
        (tcp::Echo::start(&c1.netns, c1.at(7)), udp::Echo::start(&c1.netns, c1.at(7), "c1"));
    for address in [family.host(), family.loopback(), family.gateway()] {
        tcp::exchange(&lab.host, (address, 5000));
        assert_eq!(
            udp::answer(&udp::client(&lab.host, family), (address, 5000)),
            "c1",
            "{address}"
        );
    }
}

fn closed_port_is_reported_to_sender(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", PUBLISHES);
    udp::expect_refused(&udp::client(&c1.netns, family), (family.far(), 9));
    udp::expect_refused(&udp::client(&lab.world, family), (family.host(), 5000));
}

const PUBLISHES: &[&str] = &["-p", "5000:7", "-p", "5000:7/udp"];
