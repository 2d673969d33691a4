//! `causeway_netlink` against the kernel.

use std::{fs, net::Ipv6Addr, path::Path, process::Command};

use causeway_api::types::device::Device;
use causeway_netlink::{Netlink, Netns, bridge::PortSpec, netns, pair::PairSpec, sysctl, watch};
use causeway_tests::{
    family::V6,
    place::{self, block_on},
    report, udp, undo,
    wait::{DEADLINE, SILENCE},
};
use ipnet::IpNet;

/// Namespaces that are removed with the test.
struct Namespaces(Vec<String>);

impl Namespaces {
    fn make<const N: usize>(test: u32) -> (Self, [Netns; N]) {
        undo::sweep();
        let names: Vec<_> =
            (0..N).map(|number| format!("{}-net{number}", undo::unique_name(test))).collect();
        let made = names
            .iter()
            .map(|name| Netns::create(name).unwrap())
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        (Self(names), made)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.0 {
            if let Err(error) = Netns::remove(name) {
                eprintln!("{error:#}");
            }
        }
    }
}

fn message(result: Result<impl std::fmt::Debug, anyhow::Error>) -> String {
    format!("{:#}", result.unwrap_err())
}

#[test]
fn new_namespace_is_named_and_has_lo_up() {
    let (names, [netns]) = Namespaces::make(1001);
    assert_eq!(netns.path(), netns::named(&names.0[0]));
    let lo =
        block_on(async { Netlink::open(&netns).await.unwrap().link("lo").await }).unwrap().unwrap();
    assert!(lo.up);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(4) == Some(netns::FOLDER)).unwrap();
    assert!(line.contains(" shared:"), "other mount namespaces would not see it: {line}");
}

#[test]
fn taken_namespace_name_is_refused() {
    let (names, [netns]) = Namespaces::make(1002);
    let error = message(Netns::create(&names.0[0]));
    assert!(error.contains(&format!("'{}' exists already", names.0[0])), "{error}");
    assert_eq!(Netns::open(netns.path()).unwrap().id().unwrap(), netns.id().unwrap());
}

#[test]
fn namespace_removal_is_idempotent() {
    let (names, [netns]) = Namespaces::make(1003);
    Netns::remove(&names.0[0]).unwrap();
    assert!(!netns.path().exists());
    Netns::remove(&names.0[0]).unwrap();
}

#[test]
fn namespaces_differ_in_id_and_cookie() {
    let (_names, [one, other]) = Namespaces::make(1004);
    assert_ne!(one.id().unwrap(), other.id().unwrap());
    assert_ne!(one.cookie().unwrap(), other.cookie().unwrap());
    assert_eq!(one.cookie().unwrap(), Netns::open(one.path()).unwrap().cookie().unwrap());
    assert_eq!(one.run(|| Netns::current().unwrap().id().unwrap()).unwrap(), one.id().unwrap());
}

#[test]
fn other_kind_of_namespace_is_refused() {
    let error = message(Netns::open(Path::new("/proc/self/ns/uts")));
    assert!(error.contains("not a network namespace"), "{error}");
}

#[test]
fn veth_pair_is_created_across_namespaces() {
    is_born_with_its_far_end_in_the_container(Device::Veth, 1005);
}

#[test]
fn netkit_pair_is_created_across_namespaces() {
    if !report::lacks_netkit("netkit_pair_is_created_across_namespaces") {
        is_born_with_its_far_end_in_the_container(Device::Netkit, 1011);
    }
}

fn is_born_with_its_far_end_in_the_container(device: Device, number: u32) {
    let (_names, [host, container]) = Namespaces::make(number);
    block_on(async {
        let netlink = Netlink::open(&host).await.unwrap();
        let bridge =
            netlink.create_bridge("cw0", "02:63:00:00:00:01".parse().unwrap(), 9000).await.unwrap();
        let spec = PairSpec {
            device,
            host_side: "cwh1",
            container_side: "eth0",
            container: &container,
            mac: "02:63:ac:12:00:02".parse().unwrap(),
            mtu: 9000,
            alias: "c1",
        };
        let index = netlink.create_pair(&spec).await.unwrap();
        let near = netlink.link("cwh1").await.unwrap().unwrap();
        assert_eq!((near.controller, near.up), (None, false), "nothing passes yet");
        let port = PortSpec { index, controller: bridge, isolated: true, mac: spec.mac };
        for _again in 0..2 {
            netlink.join_bridge(&port).await.unwrap();
        }
        let shown = |arguments: &str| {
            let output = place::output(&host, Command::new("bridge").args(arguments.split(' ')));
            output.expect("this needs 'bridge' (the package iproute2)")
        };
        let options = shown("-d link show dev cwh1");
        for option in
            ["isolated on", "learning off", " flood off", "mcast_flood on", "bcast_flood on"]
        {
            assert!(options.contains(option), "{options}");
        }
        let macs = shown("fdb show dev cwh1");
        let entry =
            macs.lines().find(|line| line.starts_with("02:63:ac:12:00:02 ")).unwrap_or_default();
        // iproute2 changes the order of these words.
        assert!(
            ["sticky", "static", "master cw0"].iter().all(|word| entry.contains(word)),
            "{macs}"
        );

        let near = netlink.link("cwh1").await.unwrap().unwrap();
        assert_eq!(
            (near.index, near.controller, near.mtu, near.up),
            (index, Some(bridge), 9000, true)
        );
        assert_eq!(
            (near.alias.as_deref(), near.kind.as_deref()),
            (Some("c1"), Some(device.name()))
        );
        let inside = Netlink::open(&container).await.unwrap();
        let far = inside.link("eth0").await.unwrap().unwrap();
        assert_eq!((far.mac, far.mtu, far.up), (Some(spec.mac), 9000, true));
        let isolated =
            host.run(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
        assert!(isolated.contains("cwh1"));

        netlink.delete_link(index).await.unwrap();
        netlink.delete_link(index).await.unwrap();
        assert_eq!(inside.link("eth0").await.unwrap(), None);
        let bridge = netlink.link("cw0").await.unwrap().unwrap();
        assert_eq!(
            (bridge.mtu, bridge.mac),
            (9000, Some("02:63:00:00:00:01".parse().unwrap())),
            "as it was made"
        );
    });
}

#[test]
fn link_removal_spares_other_links() {
    let (_names, [host, container]) = Namespaces::make(1010);
    block_on(async {
        let netlink = Netlink::open(&host).await.unwrap();
        let inside = Netlink::open(&container).await.unwrap();
        let mut indexes = Vec::new();
        for name in ["one", "two", "three", "four"] {
            indexes.push(netlink.create_veth_between(name, name, &container).await.unwrap());
        }
        // The first group number is taken.
        let grouped = place::output(
            &host,
            Command::new("ip").args(["link", "set", "dev", "four", "group", "1"]),
        );
        grouped.expect("iproute2 is installed");
        netlink.delete_link(indexes[1]).await.unwrap();
        netlink.delete_links(&indexes[..3]).await.unwrap();
        netlink.delete_links(&indexes[..3]).await.unwrap();
        netlink.delete_links(&[]).await.unwrap();
        for there in [netlink.links().await.unwrap(), inside.links().await.unwrap()] {
            let mut names: Vec<_> = there.into_iter().map(|link| link.name).collect();
            names.retain(|name| name != "lo");
            assert_eq!(names, ["four"]);
        }
        // An interface that cannot be removed is reported.
        let lo = netlink.link("lo").await.unwrap().unwrap().index;
        assert!(message(netlink.delete_links(&[lo]).await).contains("at once"));
    });
}

#[test]
fn taken_interface_name_is_reported_with_side() {
    let (_names, [host, container]) = Namespaces::make(1006);
    block_on(async {
        let netlink = Netlink::open(&host).await.unwrap();
        netlink.create_veth_between("one", "eth0", &container).await.unwrap();
        let error = message(netlink.create_veth_between("one", "eth1", &container).await);
        assert!(error.ends_with("an interface named 'one' exists already"), "{error}");
        let error = message(netlink.create_veth_between("two", "eth0", &container).await);
        assert!(error.ends_with("that namespace has an interface named 'eth0' already"), "{error}");
        let error =
            message(netlink.create_bridge("one", "02:63:00:00:00:01".parse().unwrap(), 1500).await);
        assert!(error.ends_with("an interface of that name exists already"), "{error}");
        assert_eq!(netlink.links().await.unwrap().len(), 2, "lo and one");
    });
}

#[test]
fn addresses_and_routes_read_back() {
    let (_names, [one, other]) = Namespaces::make(1007);
    block_on(async {
        let netlink = Netlink::open(&one).await.unwrap();
        let index = netlink.create_veth_between("eth0", "eth0", &other).await.unwrap();
        for address in ["172.18.0.2/16", "2001:db8::2/64"] {
            netlink.add_address(index, address.parse().unwrap()).await.unwrap();
            netlink.add_address(index, address.parse().unwrap()).await.unwrap();
            let addresses = netlink.addresses().await.unwrap();
            let found =
                addresses.iter().find(|found| found.address == address.parse().unwrap()).unwrap();
            assert!(found.index == index && !found.tentative, "it can be used at once: {found:?}");
        }
        for (gateway, all) in [("172.18.0.1", "0.0.0.0/0"), ("2001:db8::1", "::/0")] {
            netlink.add_default_route(gateway.parse().unwrap(), index).await.unwrap();
            let routes = netlink.routes().await.unwrap();
            let found =
                routes.iter().find(|route| route.destination == all.parse().unwrap()).unwrap();
            assert_eq!(
                (found.gateway, found.output),
                (Some(gateway.parse().unwrap()), Some(index))
            );
        }
        let error = message(netlink.add_default_route("172.18.0.1".parse().unwrap(), index).await);
        assert!(error.contains("there is a route to that destination already"), "{error}");
        let error = message(
            netlink.add_route("10.0.0.0/8".parse().unwrap(), "192.0.2.1".parse().unwrap()).await,
        );
        assert!(
            error.contains("no interface reaches that gateway") || error.contains("unreachable"),
            "{error}"
        );
    });
}

/// The kernel routes an IPv6 address a moment after it has acknowledged it, and would lose packets.
#[test]
fn ipv6_address_receives_at_once() {
    let (_names, [here, other]) = Namespaces::make(1011);
    let socket = udp::bind(&here, (V6.any(), 7));
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    block_on(async {
        let netlink = Netlink::open(&here).await.unwrap();
        let index = netlink.create_veth_between("eth0", "eth0", &other).await.unwrap();
        for number in 1..=300 {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number);
            netlink.add_address(index, IpNet::new(address.into(), 64).unwrap()).await.unwrap();
            socket.send_to(b"hello", (address, 7)).unwrap();
            socket.recv(&mut [0; 16]).unwrap_or_else(|error| panic!("{address}: {error}"));
        }
    });
}

#[test]
fn sysctl_is_set_in_its_namespace_only() {
    let (_names, [one, other]) = Namespaces::make(1008);
    let key = "ipv4/ip_default_ttl";
    let before = sysctl::get(&other, key).unwrap();
    assert_eq!(sysctl::set(&one, key, "77").unwrap(), before);
    assert_eq!(sysctl::set(&one, key, "77").unwrap(), None);
    assert_eq!(sysctl::get(&one, key).unwrap().as_deref(), Some("77"));
    assert_eq!(sysctl::get(&other, key).unwrap(), before);
    assert_eq!(sysctl::get(&one, "ipv4/no_such_key").unwrap(), None);
    let error = message(sysctl::set(&one, "ipv4/no_such_key", "1"));
    assert!(error.contains("no such sysctl"), "{error}");
    let error = message(sysctl::set(&one, key, "100000"));
    assert!(error.contains("it is '77'"), "{error}");
}

#[test]
fn change_burst_is_one_message() {
    let (_names, [one, other]) = Namespaces::make(1009);
    block_on(async {
        let mut changes = watch::changes(&one).await.unwrap();
        let netlink = Netlink::open(&one).await.unwrap();
        let index = netlink.create_veth_between("eth0", "eth0", &other).await.unwrap();
        netlink.add_address(index, "192.0.2.1/24".parse().unwrap()).await.unwrap();
        tokio::time::timeout(DEADLINE, changes.recv())
            .await
            .expect("a message comes")
            .expect("the watch goes on");
        // IPv6 causes further messages for a moment.
        while tokio::time::timeout(std::time::Duration::from_secs(3), changes.recv()).await.is_ok()
        {
        }
        netlink.delete_link(index).await.unwrap();
        tokio::time::timeout(DEADLINE, changes.recv())
            .await
            .expect("a message comes")
            .expect("the watch goes on");
    });
}
