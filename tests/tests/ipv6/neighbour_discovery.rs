//! Neighbour discovery of containers works, and spoofed messages are dropped, as with ARP.

use std::{
    net::{IpAddr, Ipv6Addr},
    process::Command,
};

use causeway_api::types::mac::Mac;
use causeway_netlink::{Netns, sysctl};
use causeway_tests::{
    families,
    family::Family,
    lab::{Container, Lab},
    ping, place,
    raw::{Packet, Raw},
    snapshot::Snapshot,
    udp, wait,
};

families! {
    ; V6:
    drops_spoofed_target,
    drops_router_advertisement_and_redirect,
    flushed_neighbours_are_found_again,
    link_local_reaches_only_neighbours,
    new_container_sends_at_once,
}

/// Message types (RFC 4861 section 4).
mod kind {
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub(super) const REDIRECT: u8 = 137;
}

/// The all-nodes multicast address.
const ALL_NODES: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => panic!("{address} is IPv4"),
    }
}

fn mac_of(container: &Container) -> Mac {
    container.made["endpoints"][0]["mac"].as_str().unwrap().parse().unwrap()
}

fn link_local(container: &Container) -> IpAddr {
    mac_of(container).link_local().into()
}

/// A neighbour discovery message: the bytes after the checksum, and a link-layer address option.
fn message(
    source: IpAddr,
    destination: IpAddr,
    kind: u8,
    rest: &[u8],
    (option, mac): (u8, Mac),
) -> Packet {
    let rest = [rest, &[option, 1], &mac.0].concat();
    Packet { ttl: 255, ..Packet::icmp(source, destination, (kind, 0), &rest) }
}

fn solicitation(source: IpAddr, destination: IpAddr, target: IpAddr, mac: Mac) -> Packet {
    let rest = [&[0; 4][..], &octets(target)].concat();
    message(source, destination, kind::NEIGHBOUR_SOLICITATION, &rest, (1, mac))
}

/// A neighbour advertisement with the override flag.
fn advertisement(source: IpAddr, destination: IpAddr, target: IpAddr, mac: Mac) -> Packet {
    let rest = [&[0x20, 0, 0, 0][..], &octets(target)].concat();
    message(source, destination, kind::NEIGHBOUR_ADVERTISEMENT, &rest, (2, mac))
}

/// The MAC in a namespace's neighbour table.
fn known(netns: &Netns, address: IpAddr) -> Option<Mac> {
    let table = place::ip(netns, &format!("-6 neigh show {address}"));
    table.split_once("lladdr ")?.1.split_whitespace().next()?.parse().ok()
}

fn drops_spoofed_target(family: Family) {
    let lab = Lab::shared(family);
    let [thief, peer, victim] = ["c1", "c2", "c3"].map(|short| lab.container(short, &[]));
    let _echo = udp::Echo::start(&victim.netns, victim.at(7), "victim");
    let (neighbour, host) = (udp::client(&peer.netns, family), udp::client(&lab.host, family));
    for client in [&neighbour, &host] {
        assert_eq!(udp::answer(client, victim.at(7)), "victim");
    }
    // They already know the MAC, so that only a spoofed message could change it.
    for to in [peer.address, family.gateway()] {
        ping::ping(&thief.netns, to, 1, 56);
        ping::ping(&victim.netns, to, 1, 56);
    }
    let (own, mac, before) = (thief.address, mac_of(&thief), lab.counted("nd-spoofed"));
    let raw = Raw::sender(&thief.netns, family);
    let mut sent = 0;
    for taken in [victim.address, family.gateway(), link_local(&victim)] {
        for to in [peer.address, family.gateway(), ALL_NODES] {
            // From its own address and from the other's.
            for packet in [
                advertisement(own, to, taken, mac),
                advertisement(taken, to, taken, mac),
                advertisement(taken, to, own, mac),
                solicitation(taken, to, peer.address, mac),
                // Its own address with another's MAC, which would divert its traffic.
                advertisement(own, to, own, mac_of(&victim)),
                solicitation(own, to, peer.address, mac_of(&victim)),
            ] {
                raw.send(&packet);
                sent += 1;
            }
        }
    }
    lab.expect_counted("nd-spoofed", before + sent);
    for (netns, client) in [(&peer.netns, &neighbour), (&lab.host, &host)] {
        assert_eq!(
            known(netns, victim.address),
            Some(mac_of(&victim)),
            "in {}",
            netns.path().display()
        );
        assert_eq!(udp::answer(client, victim.at(7)), "victim");
    }
}

fn drops_router_advertisement_and_redirect(family: Family) {
    let lab = Lab::shared(family);
    let [would_be, peer] = ["c1", "c2"].map(|short| lab.container(short, &[]));
    // A container that accepts router advertisements and redirects.
    for key in ["accept_ra", "accept_redirects"] {
        sysctl::set(&peer.netns, &format!("ipv6/conf/{}/{key}", peer.interface()), "1").unwrap();
    }
    ping::ping(&peer.netns, family.far(), 1, 56);
    let (inside, on_host) = (Snapshot::of_links(&peer.netns), Snapshot::of_links(&lab.host));
    let (mac, before) = (mac_of(&would_be), lab.counted("router-advertisement"));
    let raw = Raw::sender(&would_be.netns, family);
    // Hop limit, flags, router lifetime 1800 s, no timers; a prefix with infinite lifetimes.
    let prefix = "2001:db8:bad::".parse::<Ipv6Addr>().unwrap().octets();
    let option = [&[3, 4, 64, 0xc0][..], &[0xff; 8], &[0; 4], &prefix].concat();
    let router = [&[64, 0, 7, 8][..], &[0; 8], &option].concat();
    let redirect = [&[0; 4][..], &octets(link_local(&would_be)), &octets(family.far())].concat();
    let source = link_local(&would_be);
    for to in [peer.address, link_local(&peer), ALL_NODES, family.gateway()] {
        raw.send(&message(source, to, kind::ROUTER_ADVERTISEMENT, &router, (1, mac)));
        // Hosts accept redirects from their router only (RFC 4861 section 8.1).
        raw.send(&message(family.gateway(), to, kind::REDIRECT, &redirect, (2, mac)));
    }
    // All eight are counted.
    lab.expect_counted("router-advertisement", before + 8);
    for (netns, before) in [(&peer.netns, inside), (&lab.host, on_host)] {
        let differences = before.differences(&Snapshot::of_links(netns));
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
    ping::ping(&peer.netns, family.far(), 1, 56);
}

fn flushed_neighbours_are_found_again(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let before = lab.counted("nd-spoofed");
    for _ in 0..2 {
        for (netns, to) in [
            (&c1.netns, c2.address),
            (&c1.netns, family.gateway()),
            (&lab.host, c1.address),
            (&c2.netns, c1.address),
            (&c1.netns, family.far()),
        ] {
            ping::ping(netns, to, 1, 56);
        }
        for netns in [&c1.netns, &c2.netns, &lab.host] {
            place::ip(netns, "-6 neigh flush all");
        }
    }
    assert_eq!(lab.counted("nd-spoofed"), before, "a valid message counts as spoofed");
}

/// Link-local addresses reach neighbours and the gateway.
fn link_local_reaches_only_neighbours(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let bridge =
        lab.json(&["network", "inspect", family.network()])["bridge"].as_str().unwrap().to_owned();
    let of_bridge = place::ip(&lab.host, &format!("-6 -o address show dev {bridge} scope link"));
    let of_bridge = of_bridge.split_once("inet6 ").unwrap().1.split('/').next().unwrap().to_owned();
    let pings = |netns: &Netns, to: &str, interface: &str| {
        let mut ping = Command::new("ping");
        ping.args(["-n", "-c", "1", "-W", "10", &format!("{to}%{interface}")]);
        let output = place::run(netns, || ping.output()).expect("ping runs");
        assert!(output.status.success(), "{to}: {}", String::from_utf8_lossy(&output.stdout));
    };
    pings(&c1.netns, &link_local(&c2).to_string(), c1.interface());
    pings(&c1.netns, &of_bridge, c1.interface());
    pings(&lab.host, &link_local(&c1).to_string(), &bridge);
    // Outside it could not be answered.
    let far = Raw::open(&lab.world, family, 17);
    Raw::sender(&c1.netns, family).send(&Packet::udp(
        (link_local(&c1), 4000),
        (family.far(), 7),
        b"hello",
    ));
    assert_eq!(
        far.find(wait::SILENCE, |packet| (packet.ports() == (4000, 7)).then_some(packet.source)),
        None
    );
}

/// Duplicate address detection delays nothing.
fn new_container_sends_at_once(family: Family) {
    let lab = Lab::shared(family);
    let far = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    for round in 0..5 {
        let container = lab.container(&format!("c{round}"), &[]);
        // Only the very first datagram: a tentative address has no route and cannot be a source.
        let client = udp::client(&container.netns, family);
        udp::ask(&client, (family.far(), 7), b"first", wait::DEADLINE)
            .expect("its first datagram is answered");
        let waiting = place::ip(&container.netns, "-6 address show tentative");
        assert_eq!(waiting.trim(), "", "no address is tentative");
    }
    assert!(far.peers().iter().all(|peer| peer.ip() == family.host()), "{:?}", far.peers());
}
