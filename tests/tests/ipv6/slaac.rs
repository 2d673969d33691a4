//! An uplink with SLAAC (RFC 4862) and temporary addresses (RFC 8981), which change while flows are
//! open.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use causeway_netlink::{Netlink, sysctl};
use causeway_tests::{
    families,
    family::Family,
    lab::{Container, Lab, UPLINK, WORLD_SIDE},
    place,
    raw::{Packet, Raw},
    udp,
    wait::{self, SILENCE},
};

families! {
    ; V6:
    new_flows_use_the_new_prefix,
    temporary_address_change_breaks_nothing,
    uplink_is_used_again_after_link_down,
}

/// A prefix that the router announces: its third word, and its preferred lifetime in seconds.
#[derive(Clone, Copy)]
struct Announced(u16, u32);

impl Announced {
    fn network(self) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 2, self.0, 0, 0, 0, 0)
    }

    /// A prefix information option (RFC 4861 section 4.6.2) with a valid lifetime of one hour.
    fn option(self) -> Vec<u8> {
        let [valid, preferred] = [3600, self.1].map(u32::to_be_bytes);
        [&[3, 4, 64, 0xc0][..], &valid, &preferred, &[0; 4], &self.network().octets()].concat()
    }
}

/// A host with IPv6 addresses from its router only (the world), and a container.
fn unaddressed(family: Family) -> (Lab, Container) {
    let lab = Lab::without_agent().of_family(family);
    place::ip(&lab.host, &format!("address del {}/64 dev {UPLINK}", family.host()));
    place::ip(&lab.host, &format!("-6 route flush default dev {UPLINK}"));
    for network in [0xa, 0xb] {
        place::ip(
            &lab.world,
            &format!("route add {}/64 dev {WORLD_SIDE}", Announced(network, 0).network()),
        );
    }
    sysctl::set(&lab.world, "ipv6/conf/all/forwarding", "1").unwrap();
    lab.start_agent(&[]);
    let c1 = lab.container("c1", &[]);
    (lab, c1)
}

/// The link-local address of an interface.
fn link_local(netns: &causeway_netlink::Netns, interface: &str) -> IpAddr {
    let mac = place::block_on(async { Netlink::open(netns).await?.link(interface).await })
        .unwrap()
        .unwrap()
        .mac;
    mac.expect("it is Ethernet").link_local().into()
}

/// Announces the world as router for 1800 s, with these prefixes.
fn announce(lab: &Lab, prefixes: &[Announced]) {
    let (router, host) = (link_local(&lab.world, WORLD_SIDE), link_local(&lab.host, UPLINK));
    // Hop limit, flags, router lifetime 1800 s, no neighbour timers.
    let mut rest = [&[64, 0, 7, 8][..], &[0; 8]].concat();
    rest.extend(prefixes.iter().flat_map(|prefix| prefix.option()));
    Raw::sender(&lab.world, lab.family)
        .send(&Packet { ttl: 255, ..Packet::icmp(router, host, (134, 0), &rest) });
}

/// The source address of a new flow as the world sees it. `None` without an answer.
fn seen(lab: &Lab, container: &Container) -> Option<IpAddr> {
    let echo = udp::Echo::start(&lab.world, (lab.family.far(), 9), "");
    udp::ask(&udp::client(&container.netns, lab.family), (lab.family.far(), 9), b"who?", SILENCE)
        .ok()?;
    echo.peers().first().map(SocketAddr::ip)
}

/// Repeats the announcement until new flows leave with the host's address of that prefix.
#[track_caller]
fn leaves_with(lab: &Lab, container: &Container, prefixes: &[Announced], used: Announced) {
    let own = made_of(lab, used);
    wait::until(&format!("a new flow leaves with {own}"), || {
        announce(lab, prefixes);
        (seen(lab, container) == Some(own)).then_some(())
    });
}

/// The stable address that the host makes of a prefix (RFC 4291 appendix A).
fn made_of(lab: &Lab, prefix: Announced) -> IpAddr {
    let IpAddr::V6(link_local) = link_local(&lab.host, UPLINK) else { panic!("it is IPv6") };
    (prefix.network() | Ipv6Addr::from_bits(link_local.to_bits() & u128::from(u64::MAX))).into()
}

/// The temporary addresses of the host.
fn invented(lab: &Lab) -> Vec<String> {
    let shown = place::ip(&lab.host, &format!("-6 -o address show dev {UPLINK} temporary"));
    shown
        .lines()
        .filter_map(|line| Some(line.split_once("inet6 ")?.1.split(' ').next()?.to_owned()))
        .collect()
}

fn new_flows_use_the_new_prefix(family: Family) {
    let (lab, c1) = unaddressed(family);
    assert_eq!(seen(&lab, &c1), None, "the uplink has no global address");
    let (old, new) = (Announced(0xa, 1800), Announced(0xb, 1800));
    leaves_with(&lab, &c1, &[old], old);
    let _far = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let chatter = udp::Chatter::start(udp::client(&c1.netns, family), (family.far(), 7));
    // The old prefix becomes deprecated.
    leaves_with(&lab, &c1, &[Announced(0xa, 0), new], new);
    let answered = chatter.answered();
    wait::until("the earlier flow goes on", || (chatter.answered() > answered + 2).then_some(()));
    // The old address disappears at once, as with a faulty router. Flows of the new one go on.
    let later = udp::Chatter::start(udp::client(&c1.netns, family), (family.far(), 7));
    chatter.finish();
    place::ip(&lab.host, &format!("address del {}/64 dev {UPLINK}", made_of(&lab, old)));
    leaves_with(&lab, &c1, &[new], new);
    let of_old = format!("[{}]", made_of(&lab, old));
    wait::until("the flows of the address that went have ended", || {
        let flows = lab.json(&["flows", "ls"]);
        let has_it = |flow: &serde_json::Value| {
            flow["reply"]["destination"].as_str().unwrap().starts_with(&of_old)
        };
        (!flows.as_array().unwrap().iter().any(has_it)).then_some(())
    });
    assert!(later.finish() > 0);
}

fn temporary_address_change_breaks_nothing(family: Family) {
    let (lab, c1) = unaddressed(family);
    sysctl::set(&lab.host, &format!("ipv6/conf/{UPLINK}/use_tempaddr"), "2").unwrap();
    let prefix = Announced(0xa, 1800);
    leaves_with(&lab, &c1, &[prefix], prefix);
    let _far = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let chatter = udp::Chatter::start(udp::client(&c1.netns, family), (family.far(), 7));
    for _ in 0..3 {
        wait::until("the host makes a temporary address", || {
            announce(&lab, &[prefix]);
            (!invented(&lab).is_empty()).then_some(())
        });
        assert_eq!(seen(&lab, &c1), Some(made_of(&lab, prefix)), "the stable address is used");
        for address in invented(&lab) {
            place::ip(&lab.host, &format!("address del {address} dev {UPLINK}"));
        }
        assert_eq!(seen(&lab, &c1), Some(made_of(&lab, prefix)));
        // The host then makes another temporary address.
        for value in ["0", "2"] {
            sysctl::set(&lab.host, &format!("ipv6/conf/{UPLINK}/use_tempaddr"), value).unwrap();
        }
    }
    assert!(chatter.finish() > 0);
}

fn uplink_is_used_again_after_link_down(family: Family) {
    let (lab, c1) = unaddressed(family);
    let (old, new) = (Announced(0xa, 1800), Announced(0xb, 1800));
    leaves_with(&lab, &c1, &[old], old);
    place::ip(&lab.host, &format!("link set {UPLINK} down"));
    wait::until("nothing leaves", || seen(&lab, &c1).is_none().then_some(()));
    place::ip(&lab.host, &format!("link set {UPLINK} up"));
    // On another network, as a laptop that was moved.
    leaves_with(&lab, &c1, &[new], new);
}
