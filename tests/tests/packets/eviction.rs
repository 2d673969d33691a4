//! A full flow table.

use causeway::datapath::{Action, Entry};
use causeway_tests::{
    bench::{
        Bench,
        rows::{Names, from, outside, read, set_up},
        with_bench,
    },
    families,
    family::Family,
    packet::Payload,
    raw::flag::SYN,
};

families!(
    full_table_keeps_flows_in_use,
    half_open_flows_are_evicted_first,
    families_have_separate_room,
);

/// Sends from that port of the first container. Returns whether the packet was masqueraded.
fn send(bench: &Bench, family: Family, port: u16) -> bool {
    let Names { c1, host, world, .. } = Names::of(family);
    let frame = from(c1, world, Payload::Udp(port, 53, vec![])).bytes();
    read(&bench.kernel(Entry::HostSide, "h1", &frame).frame).source == host
}

/// Sends and answers. Returns whether both packets passed.
fn exchange(bench: &Bench, family: Family, port: u16) -> bool {
    let Names { host, world, .. } = Names::of(family);
    let answer = outside(bench, world, host, Payload::Udp(53, port, vec![])).bytes();
    send(bench, family, port)
        && bench.kernel(Entry::Uplink, "up0", &answer).action == Action::Redirect
}

/// Creates answered flows, one per source port, until the table is full. Returns the first port
/// that was refused.
fn fill(bench: &Bench, family: Family) -> u16 {
    (2000..4000).find(|port| !exchange(bench, family, *port)).expect("a full table")
}

fn full_table_keeps_flows_in_use(family: Family) {
    with_bench(|bench| {
        set_up(bench);
        // The table holds 512 flows; the kernel keeps some more elements of a hash map per CPU.
        assert!(fill(bench, family) >= 2512);
        assert!(bench.datapath.counters().reasons().expect("the counts")["table-full"] > 0);
        for port in 2000..2512 {
            assert!(send(bench, family, port), "the flow of port {port} is kept");
        }
        let flows = bench.datapath.flows().expect("the flows");
        assert!(flows.iter().all(|flow| flow.container == Names::of(family).c1));
    });
}

fn half_open_flows_are_evicted_first(family: Family) {
    let Names { c2, host, world, .. } = Names::of(family);
    with_bench(|bench| {
        set_up(bench);
        let answered =
            |port| assert!(exchange(bench, family, port), "the flow of port {port} is in use");
        (2000..2100).for_each(answered);
        // Half-open flows for ten tables. Flows in use are visited now and then.
        let refused = (10_000..15_000).filter(|port| {
            let syn = from(c2, world, Payload::Tcp(*port, 80, SYN)).bytes();
            read(&bench.kernel(Entry::HostSide, "h2", &syn).frame).source != host
        });
        assert!(refused.count() < 50);
        (2000..2100).for_each(answered);
        let flows = bench.datapath.flows().expect("the flows");
        assert!(flows.iter().any(|flow| flow.forward.0.port() == 14_999));
        assert!(
            flows.iter().all(|flow| flow.forward.0.port() != 10_000),
            "the oldest flow is evicted"
        );
    });
}

fn families_have_separate_room(family: Family) {
    with_bench(|bench| {
        set_up(bench);
        let [other] =
            Family::ALL.into_iter().filter(|other| *other != family).collect::<Vec<_>>()[..]
        else {
            panic!("there are two")
        };
        fill(bench, other);
        assert!((2000..2512).all(|port| exchange(bench, family, port)));
    });
}
