//! Map entries that the agent adds and removes.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use causeway::datapath::{Action, Entry, Interface};
use causeway_common::abi::drop_reason::DropReason;
use causeway_tests::{
    bench::{
        Bench, HOST, LAN, Place, address, dual_entry,
        rows::{C1, Names, from, outside, read, set_up},
        with_bench,
    },
    families,
    family::{Family, V6, bracketed},
    packet::Payload,
    raw::flag::SYN,
};

families!(
    bridge_accepts_only_host_packets,
    publish_removal_spares_other_addresses,
    next_agent_drops_unrestored_entries,
    unrestored_uplink_is_removed,
    uplink_address_change_ends_its_flows,
    endpoint_removal_ends_its_flows,
);

const PLACE: Place =
    Place { address: C1, host_side: "h1", bridge: "cwa", closed: false, masquerade: true };

fn bridge_accepts_only_host_packets(family: Family) {
    let Names { c1, world, .. } = Names::of(family);
    with_bench(|bench| {
        set_up(bench);
        let frame = outside(bench, world, c1, Payload::Tcp(4000, 80, SYN)).bytes();
        let index = bench.index("cwa");
        for (came_by, action, reason) in [
            (0, Action::Pass, DropReason::FromHost),
            (bench.index("up0"), Action::Drop, DropReason::NotPublished),
            (bench.index("cwb"), Action::Drop, DropReason::NotPublished),
        ] {
            let before = bench.datapath.counters().reasons().expect("the counts")[reason.name()];
            let trial = bench
                .datapath
                .try_frame(Entry::Bridge, index, came_by, &frame)
                .expect("the frame runs");
            assert_eq!(trial.action, action, "from interface {came_by}");
            assert_eq!(
                bench.datapath.counters().reasons().expect("the counts")[reason.name()],
                before + 1
            );
        }
    });
}

/// Whether a SYN from outside to that port is admitted.
fn is_published(bench: &Bench, address: IpAddr, port: u16) -> bool {
    let Names { world, .. } = Names::of(Family::of(address));
    let syn = outside(bench, world, address, Payload::Tcp(4000, port, SYN));
    bench.kernel(Entry::Uplink, "up0", &syn.bytes()).action == Action::Redirect
}

fn publish_removal_spares_other_addresses(family: Family) {
    let Names { host, lan, .. } = Names::of(family);
    with_bench(|bench| {
        set_up(bench);
        let of = |address| dual_entry(C1, &format!("{}:9500-9502:80-82", bracketed(address)), &[]);
        for address in [host, lan] {
            bench.publish(&of(address));
        }
        assert!(is_published(bench, host, 9501) && is_published(bench, lan, 9501));
        bench.datapath.remove_publish(&of(host).spec.ports).expect("it goes");
        assert!(!is_published(bench, host, 9501));
        assert!(is_published(bench, lan, 9501), "the other address's stays");
        bench.datapath.remove_publish(&of(lan).spec.ports).expect("it goes");
        assert!(!is_published(bench, lan, 9501));
    });
}

fn next_agent_drops_unrestored_entries(family: Family) {
    let Names { c2, host, world, .. } = Names::of(family);
    with_bench(|bench| {
        set_up(bench);
        assert!(
            is_published(bench, host, 7003)
                && is_published(bench, host, 9000)
                && is_published(bench, host, 5000)
        );
        bench.restart();
        assert!(
            is_published(bench, host, 7003) && is_published(bench, host, 9000),
            "nothing is lost meanwhile"
        );
        bench.put_host();
        bench.put_dual(PLACE);
        bench.put_publish(C1, "5000:80", &[]);
        bench.datapath.settle().expect("it settles");
        assert!(is_published(bench, host, 5000), "restored entries stay");
        assert!(
            !is_published(bench, host, 7003) && !is_published(bench, host, 9000),
            "all others are removed"
        );
        let of_c2 = from(c2, world, Payload::Tcp(4000, 80, SYN)).bytes();
        assert_ne!(
            bench.kernel(Entry::HostSide, "h2", &of_c2).action,
            Action::Redirect,
            "its endpoint is removed"
        );
    });
}

/// Makes an interface an uplink with that IPv4 address and the corresponding IPv6 one.
fn put_uplink(bench: &mut Bench, name: &str, own: [u8; 4]) {
    let IpAddr::V6(v6) = address(V6, own) else { unreachable!("it was asked for") };
    let interface = Interface { index: bench.index(name), name: name.to_owned() };
    bench.datapath.put_uplink(&interface, Some(own.into()), Some(v6), 1500).expect("an uplink");
}

fn unrestored_uplink_is_removed(family: Family) {
    let Names { c1, .. } = Names::of(family);
    with_bench(|bench| {
        set_up(bench);
        put_uplink(bench, "lan0", LAN);
        let syn = from(c1, address(family, [192, 168, 9, 7]), Payload::Tcp(4000, 80, SYN)).bytes();
        assert_eq!(bench.kernel(Entry::HostSide, "h1", &syn).action, Action::Redirect);
        bench.restart();
        bench.put_host();
        bench.put_dual(PLACE);
        bench.datapath.settle().expect("it settles");
        bench.flush();
        assert_eq!(
            bench.kernel(Entry::HostSide, "h1", &syn).action,
            Action::Drop,
            "nothing leaves by it"
        );
    });
}

fn uplink_address_change_ends_its_flows(family: Family) {
    const ANOTHER: [u8; 4] = [10, 0, 2, 16];
    let Names { c1, host, world, .. } = Names::of(family);
    with_bench(|bench| {
        set_up(bench);
        let datagram = from(c1, world, Payload::Udp(4000, 53, vec![])).bytes();
        let source =
            |bench: &Bench| read(&bench.kernel(Entry::HostSide, "h1", &datagram).frame).source;
        assert_eq!(source(bench), host);
        put_uplink(bench, "up0", ANOTHER);
        assert_eq!(source(bench), host, "the old address may still be the host's");
        let of_both = Family::ALL.map(|family| address(family, HOST));
        bench.datapath.end_flows_of_addresses(&BTreeSet::from(of_both)).expect("it is not");
        assert_eq!(source(bench), address(family, ANOTHER));
    });
}

fn endpoint_removal_ends_its_flows(family: Family) {
    let Names { c1, c2, .. } = Names::of(family);
    with_bench(|bench| {
        set_up(bench);
        let there = from(c1, c2, Payload::Udp(4000, 53, vec![])).bytes();
        let back = from(c2, c1, Payload::Udp(53, 4000, vec![])).bytes();
        assert_eq!(bench.kernel(Entry::HostSide, "h1", &there).action, Action::Redirect);
        assert_eq!(bench.kernel(Entry::HostSide, "h2", &back).action, Action::Redirect);
        bench.datapath.remove_publish(&dual_entry(C1, "5000:80", &[]).spec.ports).expect("it goes");
        bench.remove_endpoint(C1);
        // Added again with another host side, it is reached there.
        bench.put_dual(Place { host_side: "h3", ..PLACE });
        bench.kernel(Entry::HostSide, "h2", &back);
        let flows = bench.datapath.flows().expect("the flows");
        assert_eq!(
            flows.len(),
            1,
            "the old flow is gone, a new one leads to the new host side: {flows:?}"
        );
        assert_eq!(flows[0].forward.0, SocketAddr::from((c2, 53)));
    });
}
