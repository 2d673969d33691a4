//! What is not published, or not a container's own, does not pass.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use causeway::net::{netlink::Netlink, netns::Netns};
use causeway_tests::{
    lab::{FAR, GATEWAY, HOST, Lab},
    ping, place, tcp, udp,
};

fn add_route(netns: &Netns, destination: &str, gateway: Ipv4Addr) {
    let route = async {
        let netlink = Netlink::open(netns).await?;
        netlink.add_route(destination.parse()?, IpAddr::V4(gateway)).await
    };
    place::block_on(route).unwrap();
}

fn add_address(netns: &Netns, interface: &str, address: &str) {
    let add = async {
        let netlink = Netlink::open(netns).await?;
        let index = netlink.link(interface).await?.unwrap().index;
        netlink.add_address(index, address.parse()?).await
    };
    place::block_on(add).unwrap();
}

fn reason(lab: &Lab, name: &str) -> u64 {
    lab.json(&["stats"])["reasons"][name].as_u64().unwrap_or(0)
}

#[test]
fn a_port_that_is_not_published_is_not_reached_from_outside() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let (_published, _other) = (tcp::Echo::start(&c1.netns, c1.at(80)), tcp::Echo::start(&c1.netns, c1.at(81)));
    let _udp = udp::Echo::start(&c1.netns, c1.at(80), "c1");
    tcp::exchange(&lab.world, (HOST, 8080));
    for port in [80, 81, 8081] {
        assert!(tcp::is_unreachable(&lab.world, (HOST, port)), "{port}");
    }
    assert!(udp::is_silent(&udp::client(&lab.world), (HOST, 8080)), "published for TCP alone");
}

#[test]
fn a_route_to_the_containers_leads_nobody_to_them() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
    let (tcp_echo, udp_echo) = (tcp::Echo::start(&c1.netns, c1.at(80)), udp::Echo::start(&c1.netns, c1.at(80), "c1"));
    add_route(&lab.world, "172.18.0.0/16", HOST);
    let before = reason(&lab, "not-published");
    assert!(tcp::is_unreachable(&lab.world, c1.at(80)));
    assert!(udp::is_silent(&udp::client(&lab.world), c1.at(80)));
    assert!(ping::try_ping(&lab.world, c1.address, 1, 56, Duration::from_millis(500)).is_err());
    assert!(tcp_echo.peers().is_empty() && udp_echo.peers().is_empty(), "something has come through");
    assert!(reason(&lab, "not-published") > before, "{}", lab.json(&["stats"]));
    // The published way works all the same.
    tcp::exchange(&lab.world, (HOST, 8080));
}

#[test]
fn a_container_cannot_send_from_an_address_that_is_not_its_own() {
    let lab = Lab::new();
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let far = udp::Echo::start(&lab.world, (FAR, 7), "far");
    let near = udp::Echo::start(&c2.netns, c2.at(7), "c2");
    let own = udp::Echo::start(&lab.host, (GATEWAY, 7), "host");
    let before = reason(&lab, "source-address-spoofed");
    for false_address in ["172.18.0.99/32", "198.51.100.1/32", "203.0.113.77/32"] {
        add_address(&c1.netns, c1.interface(), false_address);
        let address: Ipv4Addr = false_address.split('/').next().unwrap().parse().unwrap();
        let spoofing = udp::bind(&c1.netns, (address, 0));
        for to in [(FAR, 7), (c2.address, 7), (GATEWAY, 7)] {
            spoofing.send_to(b"from elsewhere", to).unwrap();
        }
    }
    // Sent later, so that what was sent before would have come before.
    let honest = udp::bind(&c1.netns, (c1.address, 0));
    for (echo, to) in [(&far, (FAR, 7)), (&near, (c2.address, 7)), (&own, (GATEWAY, 7))] {
        udp::answer(&honest, to);
        assert_eq!(echo.peers().len(), 1, "{to:?} has heard from {:?}", echo.peers());
    }
    assert!(reason(&lab, "source-address-spoofed") >= before + 9, "{}", lab.json(&["stats"]));
}

#[test]
fn networks_do_not_reach_each_other() {
    let lab = Lab::new();
    lab.json(&["network", "create", "other", "--subnet", "172.30.0.0/24"]);
    let c1 = lab.container("c1", &[]);
    let c2 = lab.container("c2", &["--network", "other"]);
    let (_one, _two) = (udp::Echo::start(&c1.netns, c1.at(7), ""), udp::Echo::start(&c2.netns, c2.at(7), ""));
    assert!(udp::is_silent(&udp::client(&c1.netns), c2.at(7)));
    assert!(udp::is_silent(&udp::client(&c2.netns), c1.at(7)));
    assert!(ping::try_ping(&c1.netns, c2.address, 1, 56, Duration::from_millis(500)).is_err());
    ping::ping(&c2.netns, FAR, 1, 56);
}

#[test]
fn an_internal_network_does_not_reach_the_world_but_itself_and_the_host() {
    let lab = Lab::new();
    lab.json(&["network", "create", "inner", "--subnet", "172.30.0.0/24", "--internal"]);
    let (c1, c2) = (lab.container("c1", &["--network", "inner"]), lab.container("c2", &["--network", "inner"]));
    let far = udp::Echo::start(&lab.world, (FAR, 7), "far");
    assert!(udp::is_silent(&udp::client(&c1.netns), (FAR, 7)));
    assert!(far.peers().is_empty());
    ping::ping(&c1.netns, c2.address, 1, 56);
    ping::ping(&lab.host, c1.address, 1, 56);
}

#[test]
fn containers_of_a_network_without_icc_reach_the_world_but_not_each_other() {
    let lab = Lab::new();
    lab.json(&["network", "create", "apart", "--subnet", "172.30.0.0/24", "--no-icc"]);
    let (c1, c2) = (lab.container("c1", &["--network", "apart"]), lab.container("c2", &["--network", "apart"]));
    let _echo = udp::Echo::start(&c2.netns, c2.at(7), "c2");
    assert!(udp::is_silent(&udp::client(&c1.netns), c2.at(7)));
    assert!(ping::try_ping(&c1.netns, c2.address, 1, 56, Duration::from_millis(500)).is_err());
    ping::ping(&c1.netns, FAR, 1, 56);
}

#[test]
fn a_network_without_masquerade_sends_with_the_containers_own_addresses() {
    let lab = Lab::new();
    lab.json(&["network", "create", "plain", "--subnet", "172.30.0.0/24", "--no-masquerade"]);
    let c1 = lab.container("c1", &["--network", "plain"]);
    add_route(&lab.world, "172.30.0.0/24", HOST);
    let far = udp::Echo::start(&lab.world, (FAR, 7), "far");
    udp::answer(&udp::client(&c1.netns), (FAR, 7));
    assert!(far.peers().iter().all(|peer| peer.ip() == IpAddr::V4(c1.address)), "{:?}", far.peers());
}
