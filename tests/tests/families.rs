//! What both families share in the datapath: the slot of an endpoint with several addresses, and that of a publish.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use causeway::{
    datapath::{EndpointEntry, Entry, Interface, PublishEntry},
    net::mac::Mac,
};
use causeway_tests::{
    bench::{BRIDGE_MAC, Bench, Place, publish_entry, with_bench},
    packet::{Ipv4Frame, Payload},
};

const CONTAINER: [u8; 4] = [172, 18, 0, 2];
const HOST: [u8; 4] = [10, 0, 2, 15];
const WORLD: [u8; 4] = [203, 0, 113, 10];
const PLACE: Place = Place { address: CONTAINER, host_side: "h1", bridge: "cwa", closed: false, masquerade: true };

/// The container's further addresses: its own, its link-local one, and that of its IPv4 in the other family.
const FURTHER: [(&str, &str, &str); 3] = [
    ("2001:db8:18::2", "2001:db8:18::1", "2001:db8:18::/64"),
    ("fe80::42:acff:fe12:2", "2001:db8:18::1", "2001:db8:18::/64"),
    ("::ffff:172.18.0.2", "::ffff:172.18.0.1", "::ffff:172.18.0.0/112"),
];

fn further() -> [IpAddr; 3] {
    FURTHER.map(|(address, ..)| address.parse().expect("an address"))
}

/// Puts the container with its addresses of both families.
fn put_container(bench: &mut Bench) {
    bench.put_container(PLACE);
    let host_side = Interface { index: bench.index(PLACE.host_side), name: PLACE.host_side.to_owned() };
    for (address, gateway, subnet) in FURTHER {
        let entry = EndpointEntry {
            address: address.parse().expect("an address"),
            gateway: gateway.parse().expect("an address"),
            subnet: subnet.parse().expect("a subnet"),
            mac: Mac::from_ipv4(CONTAINER.into()),
            bridge_mac: Mac(BRIDGE_MAC),
            host_side: host_side.index,
            bridge: bench.index(PLACE.bridge),
            masquerade: true,
            internal: false,
            icc: true,
            mtu: 1500,
        };
        bench.datapath.put_endpoint(&entry, &host_side).expect("another address");
    }
}

/// Led to the container's IPv4 address and to another one.
fn dual(publish: &str, v6: &str) -> PublishEntry {
    PublishEntry { container_v6: Some(v6.parse().expect("an address")), ..publish_entry(CONTAINER, publish, &[]) }
}

fn begin_flow(bench: &Bench) {
    let frame = Ipv4Frame {
        macs: (BRIDGE_MAC, Mac::from_ipv4(CONTAINER.into()).0),
        source: CONTAINER.into(),
        destination: WORLD.into(),
        ttl: 64,
        options: Vec::new(),
        id: 1,
        fragment: 0,
        payload: Payload::Udp(4000, 53, vec![]),
    };
    assert_eq!(bench.kernel(Entry::HostSide, "h1", &frame.bytes()).action, 7);
    assert_eq!(flows(bench), 1);
}

fn flows(bench: &Bench) -> usize {
    bench.datapath.flows().expect("the flows").len()
}

/// A publish at a port that nothing has had before shows which slot is the next.
fn slot_of(bench: &mut Bench, entry: &PublishEntry) -> u32 {
    bench.datapath.put_publish(entry).expect("a publish");
    bench.datapath.publish_slot(entry).expect("it was put")
}

#[test]
fn the_addresses_at_a_host_side_are_one_endpoint() {
    with_bench(|bench| {
        bench.put_host();
        put_container(bench);
        assert_eq!(slot_of(bench, &dual("5000:80", FURTHER[0].0)), 2, "one slot was taken before");
        // Another agent takes over, and finds the addresses.
        bench.restart();
        bench.put_host();
        put_container(bench);
        bench.datapath.settle().expect("it settles");
        assert_eq!(slot_of(bench, &dual("5001:81", FURTHER[0].0)), 3, "none was taken since");
    });
}

#[test]
fn an_endpoint_lives_until_its_last_address_goes() {
    with_bench(|bench| {
        bench.put_host();
        for last in 0..=FURTHER.len() {
            put_container(bench);
            begin_flow(bench);
            let mut addresses = further().to_vec();
            addresses.push(IpAddr::from(CONTAINER));
            let last = addresses.remove(last);
            for address in addresses {
                bench.datapath.remove_endpoint(address).expect("it goes");
                assert_eq!(flows(bench), 1, "{address} was not the last");
            }
            bench.datapath.remove_endpoint(last).expect("it goes");
            assert_eq!(flows(bench), 0, "{last} was the last");
        }
    });
}

#[test]
fn an_address_that_is_not_put_again_is_forgotten_though_its_endpoint_is_not() {
    with_bench(|bench| {
        bench.put_host();
        put_container(bench);
        begin_flow(bench);
        bench.restart();
        bench.put_host();
        bench.put_container(PLACE);
        bench.datapath.settle().expect("it settles");
        assert_eq!(flows(bench), 1, "the endpoint's slot is the same");
        bench.datapath.remove_endpoint(CONTAINER.into()).expect("it goes");
        assert_eq!(flows(bench), 0, "none of the others holds it");
    });
}

#[test]
fn an_endpoints_addresses_are_of_one_family_each() {
    with_bench(|bench| {
        bench.put_host();
        let host_side = Interface { index: bench.index("h1"), name: "h1".to_owned() };
        let entry = EndpointEntry {
            address: further()[0],
            gateway: Ipv4Addr::new(172, 18, 0, 1).into(),
            subnet: "172.18.0.0/16".parse().expect("a subnet"),
            mac: Mac::from_ipv4(CONTAINER.into()),
            bridge_mac: Mac(BRIDGE_MAC),
            host_side: host_side.index,
            bridge: bench.index("cwa"),
            masquerade: true,
            internal: false,
            icc: true,
            mtu: 1500,
        };
        let error = bench.datapath.put_endpoint(&entry, &host_side).unwrap_err().to_string();
        assert!(error.contains("172.18.0.0 is not of the family of the endpoint 2001:db8:18::2"), "{error}");
        assert_eq!(slot_of(bench, &publish_entry(CONTAINER, "5000:80", &[])), 2, "its slot is free, and rests");
    });
}

#[test]
fn a_publish_keeps_its_slot_while_it_is_the_same_in_both_families() {
    let (own, mapped) = (FURTHER[0].0, FURTHER[2].0);
    let v4 = |publish| publish_entry(CONTAINER, publish, &[]);
    // What the earlier agent had, what the next one puts, and whether that is the same as far as both have it.
    let table = [
        ("both families", dual("5000-5002:80-82", own), dual("5000-5002:80-82", own), true),
        ("one family more", v4("5010-5012:80-82"), dual("5010-5012:80-82", mapped), true),
        ("one family less", dual("5020-5022:80-82", own), v4("5020-5022:80-82"), true),
        ("another address", dual("5030-5032:80-82", own), dual("5030-5032:80-82", mapped), false),
        ("another address in one family", dual("5040:80", own), publish_entry(WORLD, "5040:80", &[]), false),
        ("one port more", dual("5050-5051:80-81", own), dual("5050-5052:80-82", own), false),
        ("a host address", dual("[2001:db8:2::15]:5060:80", own), dual("[2001:db8:2::15]:5060:80", own), true),
        ("a host address's", dual("[2001:db8:2::15]:5070:80", own), dual("[2001:db8:2::15]:5070:80", mapped), false),
        ("no host address any more", dual("[2001:db8:2::15]:5080:80", own), dual("5080:80", own), false),
    ];
    with_bench(|bench| {
        bench.put_host();
        let kept: Vec<u32> = table.iter().map(|(_, before, ..)| slot_of(bench, before)).collect();
        bench.restart();
        let put: Vec<u32> = table.iter().map(|(_, _, after, _)| slot_of(bench, after)).collect();
        for ((what, .., same), (kept, put)) in table.iter().zip(kept.iter().zip(&put)) {
            assert_eq!(kept == put, *same, "{what}");
        }
        bench.datapath.settle().expect("it settles");
        // What was settled is what the one after that finds.
        bench.restart();
        let found: Vec<u32> = table.iter().map(|(_, _, after, _)| slot_of(bench, after)).collect();
        assert_eq!(found, put);
    });
}

#[test]
fn what_a_publish_no_longer_serves_is_free_for_another() {
    with_bench(|bench| {
        bench.put_host();
        let (v4, v6) = (publish_entry(CONTAINER, "5000:80", &[]), dual("5000:80", FURTHER[0].0));
        let slot = slot_of(bench, &v6);
        bench.restart();
        assert_eq!(slot_of(bench, &v4), slot);
        bench.datapath.settle().expect("it settles");
        // In IPv6 nothing of it is left to be taken for the same.
        let v6_alone = PublishEntry { container_v4: None, ..v6 };
        bench.restart();
        assert_ne!(slot_of(bench, &v6_alone), slot);
    });
}

#[test]
fn a_publish_that_no_family_serves_is_refused() {
    with_bench(|bench| {
        bench.put_host();
        let v6_at_v4 = PublishEntry { container_v4: None, ..dual("10.0.2.15:5000:80", FURTHER[0].0) };
        let v4_at_v6 = publish_entry(CONTAINER, "[2001:db8:2::15]:5000:80", &[]);
        let nowhere = PublishEntry { container_v4: None, ..publish_entry(CONTAINER, "5000:80", &[]) };
        for entry in [v6_at_v4, v4_at_v6, nowhere] {
            let error = bench.datapath.put_publish(&entry).unwrap_err().to_string();
            assert!(error.contains("no address of the family"), "{error}");
            assert_eq!(bench.datapath.publish_slot(&entry), None);
        }
    });
}

#[test]
fn addresses_that_the_host_lost_are_told_the_next_agent_too() {
    with_bench(|bench| {
        bench.put_host();
        let [six, seven]: [IpAddr; 2] =
            ["2001:db8:2::15", "2001:db8:2::16"].map(|address| address.parse().expect("one"));
        let of = |addresses: &[IpAddr]| addresses.iter().copied().collect::<BTreeSet<_>>();
        bench.datapath.set_local_addresses(&of(&[HOST.into(), six, seven])).expect("the host's addresses");
        let lost = bench.datapath.set_local_addresses(&of(&[HOST.into(), six])).expect("one less");
        assert_eq!(lost, of(&[seven]));
        bench.restart();
        let lost = bench.datapath.set_local_addresses(&of(&[seven])).expect("another one");
        assert_eq!(lost, of(&[HOST.into(), six]));
    });
}

#[test]
fn a_lost_address_ends_the_flows_that_have_it_and_no_other() {
    with_bench(|bench| {
        bench.put_host();
        put_container(bench);
        let mut ended = |addresses: &[IpAddr]| {
            begin_flow(bench);
            let count = bench.datapath.end_flows_of_addresses(&addresses.iter().copied().collect());
            (count.expect("flows end"), flows(bench))
        };
        assert_eq!(ended(&["2001:db8:2::15".parse().expect("an address"), [10, 0, 2, 16].into()]), (0, 1));
        assert_eq!(ended(&[HOST.into()]), (1, 0), "translated to it");
        assert_eq!(ended(&[WORLD.into()]), (1, 0), "addressed to it");
    });
}
