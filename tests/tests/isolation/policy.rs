//! The default policy: only published ports are reachable, networks are isolated, and containers
//! send with their own addresses only.

use std::{net::IpAddr, time::Duration};

use causeway_netlink::sysctl;
use causeway_tests::{
    families,
    family::{Family, V4, V6},
    lab::Lab,
    ping, place, tcp, udp,
};

families! {
    unpublished_port_is_closed_to_outside,
    route_to_subnet_gives_no_access,
    spoofed_source_address_is_dropped,
    networks_are_isolated,
    internal_network_reaches_itself_and_host,
    no_icc_network_reaches_only_the_world,
    no_masquerade_keeps_container_addresses,
}

fn unpublished_port_is_closed_to_outside(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let (_published, _other) =
        (tcp::Echo::start(&c1.netns, c1.at(80)), tcp::Echo::start(&c1.netns, c1.at(81)));
    let _udp = udp::Echo::start(&c1.netns, c1.at(80), "c1");
    tcp::exchange(&lab.world, (family.host(), 8080));
    for port in [80, 81, 8081] {
        assert!(tcp::is_unreachable(&lab.world, (family.host(), port)), "{port}");
    }
    assert!(
        udp::is_silent(&udp::client(&lab.world, family), (family.host(), 8080)),
        "published for TCP alone"
    );
}

fn route_to_subnet_gives_no_access(family: Family) {
    let lab = Lab::of(family);
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
    let (tcp_echo, udp_echo) =
        (tcp::Echo::start(&c1.netns, c1.at(80)), udp::Echo::start(&c1.netns, c1.at(80), "c1"));
    place::add_route(&lab.world, family.subnet(), family.host());
    if family == V6 {
        // The agent does not turn the host into an IPv6 router. This host already is one.
        sysctl::set(&lab.host, "ipv6/conf/all/forwarding", "1").unwrap();
    }
    let before = lab.counted("not-published");
    assert!(tcp::is_unreachable(&lab.world, c1.at(80)));
    assert!(udp::is_silent(&udp::client(&lab.world, family), c1.at(80)));
    assert!(ping::try_ping(&lab.world, c1.address, 1, 56, Duration::from_millis(500)).is_err());
    assert!(tcp_echo.peers().is_empty() && udp_echo.peers().is_empty(), "a packet has passed");
    assert!(lab.counted("not-published") > before, "{}", lab.json(&["stats"]));
    // The published port still works.
    tcp::exchange(&lab.world, (family.host(), 8080));
}

fn spoofed_source_address_is_dropped(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let far = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let near = udp::Echo::start(&c2.netns, c2.at(7), "c2");
    let own = udp::Echo::start(&lab.host, (family.gateway(), 7), "host");
    let before = lab.counted("source-address-spoofed");
    // An unused address of the network, and two outside addresses.
    let false_addresses: [IpAddr; 3] = match family {
        V4 => ["172.18.0.99", "198.51.100.1", "203.0.113.77"],
        V6 => ["2001:db8:18::99", "2001:db8:51::1", "2001:db8:113::77"],
    }
    .map(|address| address.parse().unwrap());
    for address in false_addresses {
        place::add_address(&c1.netns, c1.interface(), address, family.whole());
        let spoofing = udp::bind(&c1.netns, (address, 0));
        for to in [(family.far(), 7), (c2.address, 7), (family.gateway(), 7)] {
            spoofing.send_to(b"from elsewhere", to).unwrap();
        }
    }
    // Sent last: whatever was sent before would have arrived before.
    let honest = udp::bind(&c1.netns, (c1.address, 0));
    for (echo, to) in
        [(&far, (family.far(), 7)), (&near, (c2.address, 7)), (&own, (family.gateway(), 7))]
    {
        udp::answer(&honest, to);
        assert_eq!(echo.peers().len(), 1, "{to:?} has heard from {:?}", echo.peers());
    }
    assert!(lab.counted("source-address-spoofed") >= before + 9, "{}", lab.json(&["stats"]));
}

fn networks_are_isolated(family: Family) {
    let lab = Lab::shared(family);
    lab.network("other", 30, &[]);
    let c1 = lab.container("c1", &[]);
    let c2 = lab.container("c2", &["--network", "other"]);
    let (_one, _two) =
        (udp::Echo::start(&c1.netns, c1.at(7), ""), udp::Echo::start(&c2.netns, c2.at(7), ""));
    assert!(udp::is_silent(&udp::client(&c1.netns, family), c2.at(7)));
    assert!(udp::is_silent(&udp::client(&c2.netns, family), c1.at(7)));
    assert!(ping::try_ping(&c1.netns, c2.address, 1, 56, Duration::from_millis(500)).is_err());
    ping::ping(&c2.netns, family.far(), 1, 56);
}

fn internal_network_reaches_itself_and_host(family: Family) {
    let lab = Lab::shared(family);
    lab.network("inner", 30, &["--internal"]);
    let (c1, c2) = (
        lab.container("c1", &["--network", "inner"]),
        lab.container("c2", &["--network", "inner"]),
    );
    let far = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    assert!(udp::is_silent(&udp::client(&c1.netns, family), (family.far(), 7)));
    assert!(far.peers().is_empty());
    ping::ping(&c1.netns, c2.address, 1, 56);
    ping::ping(&lab.host, c1.address, 1, 56);
}

fn no_icc_network_reaches_only_the_world(family: Family) {
    let lab = Lab::shared(family);
    lab.network("apart", 30, &["--no-icc"]);
    let (c1, c2) = (
        lab.container("c1", &["--network", "apart"]),
        lab.container("c2", &["--network", "apart"]),
    );
    let _echo = udp::Echo::start(&c2.netns, c2.at(7), "c2");
    assert!(udp::is_silent(&udp::client(&c1.netns, family), c2.at(7)));
    assert!(ping::try_ping(&c1.netns, c2.address, 1, 56, Duration::from_millis(500)).is_err());
    ping::ping(&c1.netns, family.far(), 1, 56);
}

fn no_masquerade_keeps_container_addresses(family: Family) {
    let lab = Lab::of(family);
    lab.network("plain", 30, &["--no-masquerade"]);
    let c1 = lab.container("c1", &["--network", "plain"]);
    place::add_route(&lab.world, &family.subnet_of(30), family.host());
    let far = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    udp::answer(&udp::client(&c1.netns, family), (family.far(), 7));
    assert!(far.peers().iter().all(|peer| peer.ip() == c1.address), "{:?}", far.peers());
}
