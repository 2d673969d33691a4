//! Full-cone networks: endpoint-independent mapping and filtering.

use causeway::datapath::{Action, Entry};
use causeway_api::types::flow::FlowState;
use causeway_common::abi::drop_reason::DropReason;
use causeway_tests::{
    bench::{
        Bench, Place, dual_entry,
        rows::{C1, Expect, Names, Row, check, from, outside, row, set_up},
        with_bench,
    },
    families,
    family::Family,
    packet::{IpFrame, Payload, Told},
    raw::{
        Packet,
        flag::{ACK, SYN},
    },
};

families!(mapped_port_admits_any_sender, mapping_owns_its_port, next_agent_knows_mappings_at_once,);

fn mapped_port_admits_any_sender(family: Family) {
    with_bench(|bench| {
        set_up(bench);
        bench.put_full_cone("cwa");
        let rows = rows_of_full_cone(bench, family);
        check(bench, family, rows);
    });
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows_of_full_cone(bench: &Bench, family: Family) -> Vec<Row> {
    use Expect::{Leave, LeaveError, Stop};
    let Names { c1, c2, c3, gateway, host, near, world, .. } = Names::of(family);
    let tcp = |source, destination, flags| Payload::Tcp(source, destination, flags);
    let udp = |source, destination| Payload::Udp(source, destination, b"hello".to_vec());
    let sent = || from(c1, world, udp(4000, 53));
    let syn = || from(c1, world, tcp(4000, 80, SYN));
    let quoted = || Box::new(IpFrame { ttl: 7, ..from(host, near, udp(4000, 9)) });
    vec![
        row("the first", "h1", sent(), Leave("up0", (host, 4000), (world, 53))),
        row(
            "to another destination",
            "h1",
            from(c1, near, udp(4000, 9)),
            Leave("up0", (host, 4000), (near, 9)),
        )
        .after("h1", sent()),
        row(
            "from another host",
            "up0",
            outside(bench, near, host, udp(9, 4000)),
            Leave("h1", (near, 9), (c1, 4000)),
        )
        .after("h1", sent()),
        row(
            "an answer to it",
            "h1",
            from(c1, near, udp(4000, 9)),
            Leave("up0", (host, 4000), (near, 9)),
        )
        .after("h1", sent())
        .after("up0", outside(bench, near, host, udp(9, 4000))),
        row(
            "a SYN from another host",
            "up0",
            outside(bench, near, host, tcp(9, 4000, SYN)),
            Leave("h1", (near, 9), (c1, 4000)),
        )
        .after("h1", syn()),
        row(
            "mid-stream from another host",
            "up0",
            outside(bench, near, host, tcp(9, 4000, ACK)),
            Stop(DropReason::NotOurs),
        )
        .after("h1", syn()),
        row(
            "of the other protocol",
            "up0",
            outside(bench, near, host, tcp(9, 4000, SYN)),
            Stop(DropReason::NotOurs),
        )
        .after("h1", sent()),
        row(
            "before there is a mapping",
            "up0",
            outside(bench, near, host, udp(9, 4000)),
            Stop(DropReason::NotOurs),
        ),
        row(
            "to another port",
            "up0",
            outside(bench, near, host, udp(9, 4001)),
            Stop(DropReason::NotOurs),
        )
        .after("h1", sent()),
        row(
            "with a neighbour's address",
            "up0",
            outside(bench, c2, host, udp(9, 4000)),
            Stop(DropReason::SourceNotOutside),
        )
        .after("h1", sent()),
        row(
            "with the mapping's own key",
            "up0",
            outside(bench, host, host, udp(0, 4000)),
            Stop(DropReason::SourceNotOutside),
        )
        .after("h1", sent()),
        row(
            "an error about a packet of the mapping",
            "up0",
            outside(
                bench,
                near,
                host,
                Payload::Error(Told::PortClosed, quoted(), family.header() + 8),
            ),
            LeaveError("h1", near, c1, (c1, 4000), (near, 9)),
        )
        .after("h1", sent())
        .after("h1", from(c1, near, udp(4000, 9))),
        row("hairpin", "h2", from(c2, host, udp(9, 4000)), Leave("h1", (c2, 9), (c1, 4000)))
            .after("h1", sent()),
        row("hairpin answer", "h1", from(c1, c2, udp(4000, 9)), Leave("h2", (host, 4000), (c2, 9)))
            .after("h1", sent())
            .after("h2", from(c2, host, udp(9, 4000))),
        row(
            "hairpin from another network",
            "h3",
            from(c3, host, udp(9, 4000)),
            Leave("h1", (c3, 9), (c1, 4000)),
        )
        .after("h1", sent()),
        row(
            "hairpin to itself",
            "h1",
            from(c1, host, udp(9, 4000)),
            Leave("h1", (gateway, 9), (c1, 4000)),
        )
        .after("h1", sent()),
        row(
            "to an unmapped port of the host",
            "h2",
            from(c2, host, udp(9, 4001)),
            Stop(DropReason::ToHost),
        )
        .after("h1", sent()),
        row(
            "an echo request has no mapping",
            "h1",
            from(c1, world, Payload::Ping(77)),
            Leave("up0", (host, 77), (world, 0)),
        ),
        row(
            "to a published port",
            "h2",
            from(c2, host, tcp(4000, 5000, SYN)),
            Leave("h1", (c2, 4000), (c1, 80)),
        ),
        row("to a neighbour", "h1", from(c1, c2, udp(4000, 53)), Leave("h2", (c1, 4000), (c2, 53))),
    ]
}

fn mapping_owns_its_port(family: Family) {
    let Names { c1, c2, host, near, world, .. } = Names::of(family);
    with_bench(|bench| {
        set_up(bench);
        bench.put_full_cone("cwa");
        let port = |bench: &Bench, host_side, source, to, destination| {
            let sent = from(source, to, Payload::Udp(destination, 53, vec![]));
            let trial = bench.kernel(Entry::HostSide, host_side, &sent.bytes());
            assert_eq!(trial.action, Action::Redirect);
            Packet::parse(&trial.frame[14..]).expect("a packet").ports().0
        };
        assert_eq!(port(bench, "h1", c1, world, 4000), 4000);
        let other = port(bench, "h2", c2, near, 4000);
        assert_ne!(other, 4000, "toward whomever");
        assert_eq!(port(bench, "h2", c2, world, 4000), other, "it has a mapping of its own");
        assert_ne!(port(bench, "h1", c1, world, 5001), 5001, "the port is published");
        let (mappings, flows): (Vec<_>, Vec<_>) = bench
            .datapath
            .flows()
            .expect("the flows")
            .into_iter()
            .partition(|flow| flow.state == FlowState::Mapping);
        assert_eq!((mappings.len(), flows.len()), (3, 4));
        // The mapping ends with its endpoint.
        bench.datapath.remove_publish(&dual_entry(C1, "5000:80", &[]).spec.ports).expect("it goes");
        bench.remove_endpoint(C1);
        let arriving = outside(bench, near, host, Payload::Udp(9, 4000, vec![])).bytes();
        assert_eq!(bench.kernel(Entry::Uplink, "up0", &arriving).action, Action::Pass);
        assert_eq!(port(bench, "h2", c2, world, 4000), other, "the neighbour's mapping stays");
    });
}

fn next_agent_knows_mappings_at_once(family: Family) {
    let Names { c1, host, near, world, .. } = Names::of(family);
    with_bench(|bench| {
        set_up(bench);
        bench.put_full_cone("cwa");
        let sent = from(c1, world, Payload::Udp(4000, 53, vec![])).bytes();
        assert_eq!(bench.kernel(Entry::HostSide, "h1", &sent).action, Action::Redirect);
        let arriving = |port| outside(bench, near, host, Payload::Udp(port, 4000, vec![])).bytes();
        let frames = [arriving(9), arriving(10), arriving(11)];
        assert_eq!(bench.kernel(Entry::Uplink, "up0", &frames[0]).action, Action::Redirect);
        bench.restart();
        assert_eq!(bench.kernel(Entry::Uplink, "up0", &frames[1]).action, Action::Redirect);
        // The network is updated without mappings.
        bench.put_host();
        bench.put_dual(Place {
            address: C1,
            host_side: "h1",
            bridge: "cwa",
            closed: false,
            masquerade: true,
        });
        bench.datapath.settle().expect("it settles");
        assert_eq!(bench.kernel(Entry::Uplink, "up0", &frames[2]).action, Action::Pass);
    });
}
