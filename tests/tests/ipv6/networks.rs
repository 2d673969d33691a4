//! IPv6 networks, and changes of the host's own IPv6 addresses and settings.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    sync::atomic::{AtomicU16, Ordering},
};

use causeway_netlink::{Netlink, Netns, address::InterfaceAddress, route::Route, sysctl};
use causeway_tests::{
    family::{Family, V4, V6},
    lab::{Container, HOST, Lab, UPLINK},
    ping, place,
    raw::{Packet, Raw},
    snapshot::Snapshot,
    udp, wait,
};
use serde_json::{Value, json};

const SIX: [&str; 5] = ["network", "create", "six", "--subnet", "2001:db8:19::/64"];
const DUAL: [&str; 7] =
    ["network", "create", "dual", "--subnet", "2001:db8:18::/64", "--subnet", "172.27.0.0/16"];

fn addresses(netns: &Netns) -> Vec<InterfaceAddress> {
    place::block_on(async { Netlink::open(netns).await?.addresses().await }).unwrap()
}

fn routes(netns: &Netns) -> Vec<Route> {
    place::block_on(async { Netlink::open(netns).await?.routes().await }).unwrap()
}

/// `ipv6/conf/INTERFACE/NAME`.
#[track_caller]
fn setting(netns: &Netns, interface: &str, name: &str) -> String {
    sysctl::get(netns, &format!("ipv6/conf/{interface}/{name}")).unwrap().unwrap()
}

fn set(netns: &Netns, interface: &str, name: &str, value: &str) {
    sysctl::set(netns, &format!("ipv6/conf/{interface}/{name}"), value).unwrap();
}

/// The source address of a new flow as the world sees it.
fn seen_from(lab: &Lab, container: &Container, family: Family) -> IpAddr {
    static IDENTIFIER: AtomicU16 = AtomicU16::new(1);
    let listener = ping::Listener::start(&lab.world, family);
    ping::ping(&container.netns, family.far(), IDENTIFIER.fetch_add(1, Ordering::Relaxed), 56);
    listener.next().0
}

#[test]
fn down_leaves_no_trace() {
    let lab = Lab::without_agent();
    let existing = format!("{}-existing", lab.instance);
    lab.undo().namespaces.push(existing.clone());
    let attached = Netns::create(&existing).unwrap();
    // Values other than the kernel's defaults are restored too.
    set(&lab.host, "default", "disable_ipv6", "1");
    let before = [Snapshot::of(&lab.host), Snapshot::of(&attached)];

    lab.start_agent(&[]);
    lab.json(&SIX);
    lab.json(&DUAL);
    let routed = [
        "network",
        "create",
        "routed",
        "--no-masquerade=ipv6",
        "--subnet",
        "2001:db8:20::/64",
        "--subnet",
    ];
    assert_eq!(lab.json(&[&routed[..], &["172.26.0.0/16"]].concat())["masquerade"], json!("ipv4"));
    let six = lab.container("six", &["--network", "six", "-p", "8080:80"]);
    let dual = lab.container(
        "dual",
        &["--network", "dual", "-p", "[2001:db8:2::15]:8081:80", "-p", "10.0.2.15:8081:81"],
    );
    let path = attached.path().display().to_string();
    let third = lab.name_of("third");
    lab.json(&[
        "container",
        "attach",
        &third,
        "--netns",
        &path,
        "--network",
        "routed",
        "-p",
        "8082:80",
    ]);
    for netns in [&six.netns, &dual.netns] {
        ping::ping(netns, V6.far(), 1, 56);
    }
    assert_eq!(lab.json(&["publish", "ls"]).as_array().unwrap().len(), 4);

    lab.json(&["down"]);
    lab.wait_for_agent();
    for (before, after) in before.iter().zip([Snapshot::of(&lab.host), Snapshot::of(&attached)]) {
        let differences = before.differences(&after);
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

#[test]
fn interfaces_have_usable_addresses_at_once() {
    let lab = Lab::new();
    // A host with other defaults.
    for (name, value) in
        [("accept_dad", "1"), ("accept_ra", "2"), ("addr_gen_mode", "3"), ("disable_ipv6", "1")]
    {
        set(&lab.host, "default", name, value);
    }
    let bridges: BTreeMap<&str, String> = [("six", lab.json(&SIX)), ("dual", lab.json(&DUAL))]
        .map(|(name, made)| (name, made["bridge"].as_str().unwrap().to_owned()))
        .into();
    for network in ["six", "dual"] {
        let container = lab.container(network, &["--network", network]);
        // First of all, while the container is new.
        let (own, default) = (addresses(&container.netns), routes(&container.netns));
        let own: Vec<_> = own
            .iter()
            .filter(|own| own.address.addr().is_ipv6() && !own.address.addr().is_loopback())
            .collect();
        assert!(
            own.len() == 2 && own.iter().all(|own| !own.tentative),
            "a global one and a link-local one: {own:?}"
        );
        assert!(default.iter().any(|route| route.destination.to_string() == "::/0"), "{default:?}");
        let bridge = &bridges[network];
        let of_bridge = lab.json(&["network", "inspect", network])["gateways"].clone();
        let gateway: IpAddr =
            of_bridge.as_array().unwrap().last().unwrap().as_str().unwrap().parse().unwrap();
        let given =
            addresses(&lab.host).into_iter().find(|given| given.address.addr() == gateway).unwrap();
        assert!(!given.tentative);
        ping::ping(&container.netns, V6.far(), 1, 56);
        ping::ping(&container.netns, gateway, 1, 56);
        for (netns, interface, name, value) in [
            (&container.netns, container.interface(), "disable_ipv6", "0"),
            (&container.netns, container.interface(), "accept_ra", "0"),
            (&container.netns, container.interface(), "accept_dad", "0"),
            (&lab.host, bridge, "disable_ipv6", "0"),
            (&lab.host, bridge, "accept_ra", "0"),
            (&lab.host, bridge, "forwarding", "1"),
            (&lab.host, container.host_side(), "disable_ipv6", "1"),
            (&lab.host, container.host_side(), "forwarding", "0"),
            (&lab.host, "default", "forwarding", "0"),
            (&lab.host, "all", "forwarding", "0"),
            (&lab.host, UPLINK, "forwarding", "0"),
        ] {
            assert_eq!(setting(netns, interface, name), value, "{network}: {name} of {interface}");
        }
        // IPv4 addresses survive a link that goes down and up, and IPv6 ones must too.
        for (netns, interface) in
            [(&lab.host, bridge.as_str()), (&container.netns, container.interface())]
        {
            for state in ["down", "up"] {
                place::ip(netns, &format!("link set {interface} {state}"));
            }
        }
        let own = container.address_of(V6);
        wait::until("the host reaches it again", || {
            ping::try_ping(&lab.host, own, 1, 56, wait::SILENCE).ok()
        });
    }
    let four = lab.container("four", &[]);
    for (netns, interface) in
        [(&four.netns, four.interface()), (&lab.host, four.host_side()), (&lab.host, "cw0")]
    {
        assert_eq!(setting(netns, interface, "disable_ipv6"), "1", "{interface}");
    }
}

/// The kernel removes routes learned from routers when `forwarding` of an interface is written.
#[test]
fn router_advertised_default_route_stays() {
    let lab = Lab::new();
    let router: IpAddr = "fe80::2".parse().unwrap();
    // Hop limit, flags, router lifetime 1800 s, no neighbour timers (RFC 4861 section 4.2).
    let lifetime = [&[64, 0][..], &1800_u16.to_be_bytes(), &[0; 8]].concat();
    let advertisement = Packet { ttl: 255, ..Packet::icmp(router, V6.host(), (134, 0), &lifetime) };
    Raw::sender(&lab.world, V6).send(&advertisement);
    let learned = || routes(&lab.host).into_iter().find(|route| route.gateway == Some(router));
    let route = wait::until("the host has a route from its router", learned);
    lab.json(&SIX);
    assert_eq!(learned().as_ref(), Some(&route));
    // Nor does the agent give up the route to restore forwarding that was switched off by hand.
    // Without the route it does restore it.
    set(&lab.host, "all", "forwarding", "0");
    set(&lab.host, "cw1", "forwarding", "0");
    lab.kill_agent();
    lab.start_agent(&[]);
    assert_eq!(
        (learned().as_ref(), setting(&lab.host, "cw1", "forwarding")),
        (Some(&route), "0".to_owned())
    );
    place::ip(&lab.host, "-6 route del default via fe80::2 dev uplink0");
    wait::until("the bridge forwards again", || {
        (setting(&lab.host, "cw1", "forwarding") == "1").then_some(())
    });
    let c1 = lab.container("c1", &["--network", "six"]);
    ping::ping(&c1.netns, V6.far(), 1, 56);
}

#[test]
fn next_agent_restores_forwarding() {
    let lab = Lab::new();
    lab.json(&SIX);
    lab.kill_agent();
    set(&lab.host, "cw1", "forwarding", "0");
    lab.start_agent(&[]);
    assert_eq!(setting(&lab.host, "cw1", "forwarding"), "1");
}

/// `disable_ipv6` removes every address; enabling IPv6 again adds link-local ones everywhere.
#[test]
fn disable_ipv6_off_and_on_restores_state() {
    let lab = Lab::new();
    lab.json(&SIX);
    let (six, four) = (lab.container("six", &["--network", "six"]), lab.container("four", &[]));
    ping::ping(&six.netns, "2001:db8:19::1".parse::<IpAddr>().unwrap(), 1, 56);
    set(&lab.host, "all", "disable_ipv6", "1");
    wait::until("the addresses are gone", || {
        (!addresses(&lab.host).iter().any(|ours| ours.address.addr().is_ipv6())).then_some(())
    });
    set(&lab.host, "all", "disable_ipv6", "0");
    let without = [six.host_side(), four.host_side(), "cw0"];
    wait::until("interfaces without IPv6 have none again", || {
        without.iter().all(|name| setting(&lab.host, name, "disable_ipv6") == "1").then_some(())
    });
    wait::until("the bridge has its address again", || {
        let gateway: IpAddr = "2001:db8:19::1".parse().unwrap();
        addresses(&lab.host).iter().any(|ours| ours.address.addr() == gateway).then_some(())
    });
    ping::ping(&six.netns, "2001:db8:19::1".parse::<IpAddr>().unwrap(), 2, 56);
    ping::ping(&lab.host, six.address_of(V6), 3, 56);
}

#[test]
fn next_agent_restores_temporary_sysctls() {
    let lab = Lab::new();
    lab.kill_agent();
    let path = format!("/run/causeway/{}.json", lab.instance);
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let before = json!({"key": "ipv6/conf/default/forwarding", "value": "0"});
    state["host"]["sysctls"].as_array_mut().unwrap().push(before.clone());
    fs::write(&path, state.to_string()).unwrap();
    set(&lab.host, "default", "forwarding", "1");
    lab.start_agent(&[]);
    assert_eq!(setting(&lab.host, "default", "forwarding"), "0");
    let state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(!state["host"]["sysctls"].as_array().unwrap().contains(&before), "{state}");
}

#[test]
fn new_flows_avoid_deprecated_addresses() {
    let lab = Lab::new();
    lab.json(&DUAL);
    let c1 = lab.container("c1", &["--network", "dual"]).of(V6);
    let _far = udp::Echo::start(&lab.world, (V6.far(), 7), "far");
    let change = |change: &str| place::ip(&lab.host, &format!("address {change} dev {UPLINK}"));
    let is_seen = |expected: &str, what: &str| {
        let expected: IpAddr = expected.parse().unwrap();
        wait::until(what, || (seen_from(&lab, &c1, V6) == expected).then_some(()));
    };
    assert_eq!(seen_from(&lab, &c1, V6), V6.host());
    let chatter = udp::Chatter::start(udp::client(&c1.netns, V6), (V6.far(), 7));
    // An equal address changes nothing, a better one is used.
    change("add 2001:db8:2::20/64 nodad");
    change("change 2001:db8:2::15/64 preferred_lft 0");
    is_seen("2001:db8:2::20", "the deprecated address is avoided");
    change("add 2001:db8:2::21/64 nodad");
    change("del 2001:db8:2::20/64");
    is_seen("2001:db8:2::21", "the removed address is replaced");
    let answered = chatter.answered();
    wait::until("the earlier flow goes on", || (chatter.answered() > answered + 2).then_some(()));
    assert!(!chatter.has_lost());
    change("del 2001:db8:2::21/64");
    is_seen("2001:db8:2::15", "the deprecated address is used if it is the only one");
    chatter.finish();
    // Its flows end with the address.
    let begun_with_it = |flow: &Value| {
        flow["reply"]["destination"].as_str().unwrap().starts_with("[2001:db8:2::15]")
    };
    let flows = lab.json(&["flows"]);
    assert!(flows.as_array().unwrap().iter().any(begun_with_it), "{flows}");
    change("del 2001:db8:2::15/64");
    wait::until("its flows end with the address", || {
        (!lab.json(&["flows"]).as_array().unwrap().iter().any(begun_with_it)).then_some(())
    });
}

#[test]
fn uplink_may_be_ipv6_only() {
    let lab = Lab::without_agent();
    place::ip(&lab.host, &format!("-4 address flush dev {UPLINK}"));
    lab.start_agent(&[]);
    lab.json(&SIX);
    let c1 = lab.container("c1", &["--network", "six", "-p", "8080:80/udp"]).of(V6);
    assert_eq!(seen_from(&lab, &c1, V6), V6.host());
    let _inside = udp::Echo::start(&c1.netns, c1.at(80), "c1");
    assert_eq!(udp::answer(&udp::client(&lab.world, V6), (V6.host(), 8080)), "c1");
    // IPv4 is added later.
    let four = lab.container("four", &[]);
    place::add_address(&lab.host, UPLINK, HOST, 24);
    place::ip(&lab.host, "route add default via 10.0.2.2");
    wait::until("IPv4 works too", || {
        ping::try_ping(&four.netns, V4.far(), 1, 56, wait::SILENCE).is_ok().then_some(())
    });
    assert_eq!(seen_from(&lab, &c1, V6), V6.host());
}

#[test]
fn host_without_ipv6_has_ipv4_networks() {
    let lab = Lab::without_agent();
    set(&lab.host, "all", "disable_ipv6", "1");
    lab.start_agent(&[]);
    for network in [&SIX[..], &DUAL[..]] {
        let output = lab.causeway(network);
        assert_eq!((output.status, output.stderr.lines().count()), (Some(1), 1), "{output}");
        for word in [
            "IPv6 is disabled on the host",
            "sysctl net.ipv6.conf.all.disable_ipv6=0",
            "leave the IPv6 subnet out",
        ] {
            assert!(output.stderr.contains(word), "{output}");
        }
    }
    let c1 = lab.container("c1", &["-p", "8080:80/udp"]);
    let _inside = udp::Echo::start(&c1.netns, c1.at(80), "c1");
    assert_eq!(udp::answer(&udp::client(&lab.world, V4), (V4.host(), 8080)), "c1");
    ping::ping(&c1.netns, V4.far(), 1, 56);
}

#[test]
fn next_agent_knows_every_address() {
    let lab = Lab::new();
    lab.json(&SIX);
    lab.json(&DUAL);
    let c1 = lab
        .container("c1", &["--network", "dual", "--ip", "2001:db8:18::9", "-p", "8080:80/udp"])
        .of(V6);
    assert_eq!(c1.made["endpoints"][0]["addresses"], json!(["172.27.0.2/16", "2001:db8:18::9/64"]));
    let lists =
        || [["network", "ls"], ["container", "ls"], ["publish", "ls"]].map(|verb| lab.json(&verb));
    let before = lists();
    let _far = udp::Echo::start(&lab.world, (V6.far(), 7), "far");
    let chatter = udp::Chatter::start(udp::client(&c1.netns, V6), (V6.far(), 7));
    lab.kill_agent();
    lab.start_agent(&[]);
    assert_eq!(lists(), before);
    let answered = chatter.answered();
    wait::until("a flow goes on", || (chatter.answered() > answered).then_some(()));
    chatter.finish();
    // Neighbours are resolved again, from the addresses that the programs know.
    for netns in [&lab.host, &c1.netns] {
        place::ip(netns, "-6 neigh flush all");
    }
    ping::ping(&c1.netns, V6.far(), 1, 56);
    ping::ping(&lab.host, c1.address, 1, 56);
    let _inside = udp::Echo::start(&c1.netns, c1.at(80), "c1");
    assert_eq!(udp::answer(&udp::client(&lab.world, V6), (V6.host(), 8080)), "c1");
    // Addresses are allocated in turn for each family. Requested ones do not count.
    let given = |short: &str, arguments: &[&str]| {
        lab.container(short, arguments).made["endpoints"][0]["addresses"].clone()
    };
    assert_eq!(given("c2", &["--network", "dual"]), json!(["172.27.0.3/16", "2001:db8:18::2/64"]));
    lab.json(&["container", "rm", &lab.name_of("c2")]);
    assert_eq!(given("c3", &["--network", "dual"]), json!(["172.27.0.4/16", "2001:db8:18::3/64"]));
    assert_eq!(given("c4", &["--network", "six"]), json!(["2001:db8:19::2/64"]));
    lab.json(&["container", "rm", &c1.name]);
    assert_eq!(
        given("c5", &["--network", "dual", "--ip", "2001:db8:18::9"]),
        json!(["172.27.0.5/16", "2001:db8:18::9/64"])
    );
}
