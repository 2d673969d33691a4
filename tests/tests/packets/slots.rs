//! Slots, which both families share: of endpoints with several addresses, and of publishes.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use causeway::datapath::{Action, EndpointEntry, Entry, Interface, PublishTarget};
use causeway_tests::{
    bench::{BRIDGE_MAC, Bench, Place, PublishEntry, mac_of, publish_entry, with_bench},
    packet::{IpFrame, Payload},
    wait,
};

const CONTAINER: [u8; 4] = [172, 18, 0, 2];
const HOST: [u8; 4] = [10, 0, 2, 15];
const WORLD: [u8; 4] = [203, 0, 113, 10];
const PLACE: Place =
    Place { address: CONTAINER, host_side: "h1", bridge: "cwa", closed: false, masquerade: true };

/// Further addresses of the container: IPv6, link-local, and IPv4-mapped.
const FURTHER: [(&str, &str, &str); 3] = [
    ("2001:db8:18::2", "2001:db8:18::1", "2001:db8:18::/64"),
    ("fe80::42:acff:fe12:2", "2001:db8:18::1", "2001:db8:18::/64"),
    ("::ffff:172.18.0.2", "::ffff:172.18.0.1", "::ffff:172.18.0.0/112"),
];

fn further() -> [IpAddr; 3] {
    FURTHER.map(|(address, ..)| address.parse().expect("an address"))
}

/// Adds the container with its addresses of both families.
fn put_container(bench: &mut Bench) {
    bench.put_container(PLACE);
    for (address, gateway, subnet) in FURTHER {
        bench.put_address(PLACE, address, gateway, subnet);
    }
}

/// A publish to the container's IPv4 address and to an IPv6 one.
fn dual(publish: &str, v6: &str) -> PublishEntry {
    let entry = publish_entry(CONTAINER, publish, &[]);
    let v6 = Some(v6.parse().expect("an address"));
    PublishEntry { target: PublishTarget { v6, ..entry.target }, ..entry }
}

/// A publish without the container's IPv4 address.
fn without_v4(entry: PublishEntry) -> PublishEntry {
    PublishEntry { target: PublishTarget { v4: None, ..entry.target }, ..entry }
}

/// A packet of the container.
fn packet(source: impl Into<IpAddr>, destination: impl Into<IpAddr>, payload: Payload) -> IpFrame {
    IpFrame::new((BRIDGE_MAC, mac_of(CONTAINER)), source.into(), destination.into(), payload)
}

fn begin_flow(bench: &Bench) {
    let frame = packet(CONTAINER, WORLD, Payload::Udp(4000, 53, vec![])).bytes();
    assert_eq!(bench.kernel(Entry::HostSide, "h1", &frame).action, Action::Redirect);
    assert_eq!(flows(bench), 1);
}

fn flows(bench: &Bench) -> usize {
    bench.datapath.flows().expect("the flows").len()
}

/// One of two dual-stack containers on one network.
struct Neighbour {
    v4: [u8; 4],
    v6: Ipv6Addr,
}

fn put_neighbours(bench: &mut Bench) -> [Neighbour; 2] {
    [("h1", 2), ("h2", 3)].map(|(host_side, last)| {
        let v4 = [172, 18, 0, last];
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0x18, 0, 0, 0, 0, last.into());
        let place = Place { address: v4, host_side, ..PLACE };
        bench.put_container(place);
        bench.put_address(place, &v6.to_string(), "2001:db8:18::1", "2001:db8:18::/64");
        Neighbour { v4, v6 }
    })
}

/// Adds the publish, and returns its slot.
fn slot_of(bench: &mut Bench, entry: &PublishEntry) -> u32 {
    bench.publish(entry);
    bench.datapath.publish_slot(&entry.spec.ports).expect("it was put")
}

#[test]
fn addresses_of_a_host_side_share_an_endpoint() {
    with_bench(|bench| {
        // An endpoint without IPv4 address has another slot.
        let alone = Place { host_side: "h2", ..PLACE };
        bench.put_host();
        let before = slot_of(bench, &publish_entry(CONTAINER, "5000:80", &[]));
        put_container(bench);
        bench.put_address(alone, "2001:db8:18::3", "2001:db8:18::1", "2001:db8:18::/64");
        let next = slot_of(bench, &publish_entry(CONTAINER, "5001:80", &[]));
        assert_eq!(next, before + 3, "two slots were assigned in between");
        // The next agent finds the addresses.
        bench.restart();
        bench.put_host();
        put_container(bench);
        bench.put_address(alone, "2001:db8:18::3", "2001:db8:18::1", "2001:db8:18::/64");
        bench.datapath.settle().expect("it settles");
        let last = slot_of(bench, &publish_entry(CONTAINER, "5002:80", &[]));
        assert_eq!(last, next + 1, "no slot was assigned since");
    });
}

#[test]
fn endpoint_lives_until_its_last_address_goes() {
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
fn unrestored_address_is_removed_alone() {
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
fn mixed_families_are_refused() {
    with_bench(|bench| {
        bench.put_host();
        let host_side = Interface { index: bench.index("h1"), name: "h1".to_owned() };
        let entry = EndpointEntry { address: further()[0], ..bench.endpoint_entry(PLACE) };
        let error = bench.datapath.put_endpoint(&entry, &host_side).unwrap_err().to_string();
        assert!(
            error.contains("172.18.0.0 is not of the family of the endpoint 2001:db8:18::2"),
            "{error}"
        );
    });
}

#[test]
fn unchanged_publish_keeps_its_slot() {
    let (own, mapped) = (FURTHER[0].0, FURTHER[2].0);
    let v4 = |publish| publish_entry(CONTAINER, publish, &[]);
    // Publish of the earlier agent, publish of the next one, and whether they agree in the families
    // that both have.
    let table = [
        ("both families", dual("5000-5002:80-82", own), dual("5000-5002:80-82", own), true),
        ("one family more", v4("5010-5012:80-82"), dual("5010-5012:80-82", mapped), true),
        ("one family less", dual("5020-5022:80-82", own), v4("5020-5022:80-82"), true),
        ("another address", dual("5030-5032:80-82", own), dual("5030-5032:80-82", mapped), false),
        (
            "another address in one family",
            dual("5040:80", own),
            publish_entry(WORLD, "5040:80", &[]),
            false,
        ),
        ("one port more", dual("5050-5051:80-81", own), dual("5050-5052:80-82", own), false),
        (
            "a host address",
            dual("[2001:db8:2::15]:5060:80", own),
            dual("[2001:db8:2::15]:5060:80", own),
            true,
        ),
        (
            "a host address's",
            dual("[2001:db8:2::15]:5070:80", own),
            dual("[2001:db8:2::15]:5070:80", mapped),
            false,
        ),
        (
            "no host address any more",
            dual("[2001:db8:2::15]:5080:80", own),
            dual("5080:80", own),
            false,
        ),
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
        // The agent after that finds what was settled.
        bench.restart();
        let found: Vec<u32> = table.iter().map(|(_, _, after, _)| slot_of(bench, after)).collect();
        assert_eq!(found, put);
    });
}

#[test]
fn unserved_port_is_free_for_another_publish() {
    with_bench(|bench| {
        bench.put_host();
        let (v4, v6) = (publish_entry(CONTAINER, "5000:80", &[]), dual("5000:80", FURTHER[0].0));
        let slot = slot_of(bench, &v6);
        bench.restart();
        assert_eq!(slot_of(bench, &v4), slot);
        bench.datapath.settle().expect("it settles");
        // No IPv6 entry is left that could be taken for the same publish.
        let v6_alone = without_v4(v6);
        bench.restart();
        assert_ne!(slot_of(bench, &v6_alone), slot);
    });
}

#[test]
fn publish_without_a_family_is_refused() {
    with_bench(|bench| {
        bench.put_host();
        let v6_at_v4 = without_v4(dual("10.0.2.15:5000:80", FURTHER[0].0));
        let v4_at_v6 = publish_entry(CONTAINER, "[2001:db8:2::15]:5000:80", &[]);
        let nowhere = without_v4(publish_entry(CONTAINER, "5000:80", &[]));
        for entry in [v6_at_v4, v4_at_v6, nowhere] {
            let error =
                bench.datapath.put_publish(&entry.spec, entry.target).unwrap_err().to_string();
            assert!(error.contains("no address of the family"), "{error}");
            assert_eq!(bench.datapath.publish_slot(&entry.spec.ports), None);
        }
    });
}

#[test]
fn next_agent_learns_lost_host_addresses() {
    with_bench(|bench| {
        bench.put_host();
        let [six, seven]: [IpAddr; 2] =
            ["2001:db8:2::15", "2001:db8:2::16"].map(|address| address.parse().expect("one"));
        let of = |addresses: &[IpAddr]| addresses.iter().copied().collect::<BTreeSet<_>>();
        bench
            .datapath
            .set_local_addresses(&of(&[HOST.into(), six, seven]))
            .expect("the host's addresses");
        let lost = bench.datapath.set_local_addresses(&of(&[HOST.into(), six])).expect("one less");
        assert_eq!(lost, of(&[seven]));
        bench.restart();
        let lost = bench.datapath.set_local_addresses(&of(&[seven])).expect("another one");
        assert_eq!(lost, of(&[HOST.into(), six]));
    });
}

#[test]
fn lost_host_address_ends_only_its_flows() {
    with_bench(|bench| {
        bench.put_host();
        put_container(bench);
        let mut ended = |addresses: &[IpAddr]| {
            begin_flow(bench);
            let count = bench.datapath.end_flows_of_addresses(&addresses.iter().copied().collect());
            (count.expect("flows end"), flows(bench))
        };
        assert_eq!(
            ended(&["2001:db8:2::15".parse().expect("an address"), [10, 0, 2, 16].into()]),
            (0, 1)
        );
        assert_eq!(ended(&[HOST.into()]), (1, 0), "translated to it");
        assert_eq!(ended(&[WORLD.into()]), (1, 0), "addressed to it");
    });
}

#[test]
fn flows_of_both_families_share_a_table() {
    with_bench(|bench| {
        bench.put_host();
        let [one, two] = put_neighbours(bench);
        let there = |payload| packet(one.v6, two.v6, payload).bytes();
        let send = |bench: &Bench, frame: &[u8]| {
            assert_eq!(bench.kernel(Entry::HostSide, "h1", frame).action, Action::Redirect);
        };
        let begin = |bench: &Bench| {
            begin_flow(bench);
            send(bench, &there(Payload::Udp(4000, 53, vec![])));
            send(bench, &there(Payload::Ping(77)));
        };
        begin(bench);
        let listed = bench.datapath.flows().expect("the flows");
        let listed: Vec<_> =
            listed.iter().map(|flow| (flow.container, flow.protocol, flow.forward)).collect();
        let [from, to] =
            [one.v6, two.v6].map(|address| move |port: u16| SocketAddr::from((address, port)));
        let v4 = (SocketAddr::from((CONTAINER, 4000)), SocketAddr::from((WORLD, 53)));
        let container = IpAddr::from(two.v6);
        assert_eq!(
            listed,
            [
                (IpAddr::from(CONTAINER), 17, v4),
                (container, 17, (from(4000), to(53))),
                (container, 58, (from(77), to(77)))
            ]
        );
        let ended = bench.datapath.end_flows(|flow| flow.protocol == 17).expect("two end");
        assert_eq!((ended, flows(bench)), (2, 1));
        assert_eq!(bench.datapath.flush_flows().expect("all end"), 1);
        begin(bench);
        assert_eq!(bench.datapath.flush_flows().expect("all end"), 3);
        begin(bench);
        let gone = BTreeSet::from([IpAddr::from(two.v6)]);
        let ended = bench.datapath.end_flows_of_addresses(&gone).expect("some end");
        assert_eq!((ended, flows(bench)), (2, 1), "those of the other family stay");
        begin_again(bench, &there(Payload::Udp(4000, 53, vec![])));
        bench.datapath.remove_endpoint(one.v6.into()).expect("it goes");
        assert_eq!(flows(bench), 2, "the endpoint is there still");
        bench.datapath.remove_endpoint(one.v4.into()).expect("it goes");
        assert_eq!(flows(bench), 0, "what came in by its host side ended, in both families");
    });
}

fn begin_again(bench: &Bench, frame: &[u8]) {
    assert_eq!(bench.kernel(Entry::HostSide, "h1", frame).action, Action::Redirect);
    assert_eq!(flows(bench), 2);
}

#[test]
fn flow_gc_removes_ended_flows() {
    with_bench(|bench| {
        bench.put_host();
        put_neighbours(bench);
        let [host, world]: [Ipv6Addr; 2] = ["2001:db8:2::15", "2001:db8:113::10"]
            .map(|address| address.parse().expect("an address"));
        let uplink = Interface { index: bench.index("up0"), name: "up0".to_owned() };
        bench
            .datapath
            .put_uplink(&uplink, Some(HOST.into()), Some(host), 1500)
            .expect("an uplink of both families");
        let local = BTreeSet::from([HOST.into(), host.into()]);
        bench.datapath.set_local_addresses(&local).expect("the host's addresses");
        let macs = (bench.mac("up0"), [0x02, 9, 9, 9, 9, 9]);
        let begin = |bench: &Bench, port| {
            let udp = Payload::Udp(port, 5001, vec![]);
            for frame in [packet(WORLD, HOST, udp.clone()), packet(world, host, udp)] {
                let frame = IpFrame { macs, ..frame }.bytes();
                assert_eq!(bench.kernel(Entry::Uplink, "up0", &frame).action, Action::Redirect);
            }
        };
        let ending = dual("5001:53/udp", FURTHER[0].0);
        bench.publish(&ending);
        // More than one run of flow_gc handles.
        (2000..2150).for_each(|port| begin(bench, port));
        bench.datapath.remove_publish(&ending.spec.ports).expect("its flows end");
        assert_eq!(
            (bench.entries("FLOWS4"), bench.entries("FLOWS6")),
            (300, 300),
            "they have their entries still"
        );
        bench.publish(&dual("5001:53/udp", FURTHER[0].0));
        begin(bench, 3000);
        bench.datapath.collect().expect("flow_gc wakes up");
        wait::until("the ended ones are gone", || {
            ((bench.entries("FLOWS4"), bench.entries("FLOWS6")) == (2, 2)).then_some(())
        });
        assert_eq!(flows(bench), 2, "the live ones are not");
    });
}
