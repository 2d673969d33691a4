//! Table of packets from outside, at the uplink.

use std::net::IpAddr;

use causeway_common::abi::drop_reason::DropReason;
use causeway_tests::{
    bench::{
        Bench, address, link_local_of,
        rows::{ANOTHER_MACHINE, C1, Expect, Names, Row, check, from, outside, raw, row, set_up},
        with_bench,
    },
    families,
    family::{Family, V4, V6},
    packet::{IpFrame, Payload},
    raw::flag::{ACK, SYN},
};

families!(table);

fn table(family: Family) {
    with_bench(|bench| {
        set_up(bench);
        let mut rows = rows_from_outside(bench, family);
        if family == V4 {
            rows.extend(rows_of_ipv4(bench));
        } else {
            rows.extend(rows_of_ipv6(bench));
        }
        check(bench, family, rows);
    });
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows_from_outside(bench: &Bench, family: Family) -> Vec<Row> {
    use Expect::{Leave, Stop};
    let Names { c1, c2, c3, gateway, group, host, lan, near, world, .. } = Names::of(family);
    let tcp = |source, destination, flags| Payload::Tcp(source, destination, flags);
    let udp = |source, destination| Payload::Udp(source, destination, b"hello".to_vec());
    let arriving = |destination, payload| outside(bench, world, destination, payload);
    let syn = arriving(host, tcp(4000, 5000, SYN));
    let mut for_another = syn.clone();
    for_another.macs.0 = ANOTHER_MACHINE;
    let mut truncated = syn.bytes();
    truncated.truncate(syn.payload_at() + 6);
    let mut arp = syn.bytes();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let masqueraded = || from(c1, world, tcp(4000, 80, SYN));
    vec![
        row("a published port", "up0", syn.clone(), Leave("h1", (world, 4000), (c1, 80))),
        row(
            "the next packet of its flow",
            "up0",
            arriving(host, tcp(4000, 5000, ACK)),
            Leave("h1", (world, 4000), (c1, 80)),
        )
        .after("up0", syn.clone()),
        row(
            "a published UDP port",
            "up0",
            arriving(host, udp(4000, 5001)),
            Leave("h1", (world, 4000), (c1, 53)),
        ),
        row(
            "UDP without checksum",
            "up0",
            arriving(host, Payload::UdpUnsummed(4000, 5001)),
            Leave("h1", (world, 4000), (c1, 53)),
        ),
        row(
            "the first port of a range",
            "up0",
            arriving(host, tcp(4000, 7000, SYN)),
            Leave("h2", (world, 4000), (c2, 8000)),
        ),
        row(
            "a port inside a range",
            "up0",
            arriving(host, tcp(4000, 7003, SYN)),
            Leave("h2", (world, 4000), (c2, 8003)),
        ),
        row(
            "the last port of a range",
            "up0",
            arriving(host, tcp(4000, 7009, SYN)),
            Leave("h2", (world, 4000), (c2, 8009)),
        ),
        row(
            "the port after a range",
            "up0",
            arriving(host, tcp(4000, 7010, SYN)),
            Stop(DropReason::NotOurs),
        ),
        row(
            "a port published on this address",
            "up0",
            arriving(host, tcp(4000, 9000, SYN)),
            Leave("h2", (world, 4000), (c2, 9000)),
        ),
        row(
            "a port published on another address",
            "up0",
            arriving(lan, tcp(4000, 9000, SYN)),
            Stop(DropReason::NotOurs),
        ),
        row(
            "a port published on any address, by another",
            "up0",
            arriving(lan, tcp(4000, 5000, SYN)),
            Leave("h1", (world, 4000), (c1, 80)),
        ),
        row(
            "a published port of the other protocol",
            "up0",
            arriving(host, udp(4000, 5000)),
            Stop(DropReason::NotOurs),
        ),
        row(
            "a published port at an address of another host",
            "up0",
            arriving(address(family, [10, 0, 2, 99]), tcp(4000, 5000, SYN)),
            Stop(DropReason::NotOurs),
        ),
        row(
            "a published port of a loopback address",
            "up0",
            arriving(address(family, [127, 0, 0, 1]), tcp(4000, 5000, SYN)),
            Stop(DropReason::Martian),
        ),
        row(
            "mid-stream to a published port",
            "up0",
            arriving(host, tcp(4000, 5000, ACK)),
            Stop(DropReason::NotOurs),
        ),
        row(
            "an admitted source",
            "up0",
            arriving(host, tcp(4000, 6000, SYN)),
            Leave("h1", (world, 4000), (c1, 80)),
        ),
        row(
            "a source that is not admitted",
            "up0",
            outside(bench, near, host, tcp(4000, 6000, SYN)),
            Stop(DropReason::SourceNotAdmitted),
        ),
        row(
            "to a published port from the host's own address",
            "up0",
            outside(bench, host, host, tcp(4000, 5000, SYN)),
            Stop(DropReason::SourceNotOutside),
        ),
        row(
            "to a published port from another address of the host's",
            "up0",
            outside(bench, gateway, host, tcp(4000, 5000, SYN)),
            Stop(DropReason::SourceNotOutside),
        ),
        row(
            "to a published port from a container's address",
            "up0",
            outside(bench, c2, host, tcp(4000, 5000, SYN)),
            Stop(DropReason::SourceNotOutside),
        ),
        row(
            "to a published port from a free address of a network",
            "up0",
            outside(bench, address(family, [172, 19, 0, 77]), host, tcp(4000, 5000, SYN)),
            Stop(DropReason::SourceNotOutside),
        ),
        row(
            "to a published port from a loopback address",
            "up0",
            outside(bench, address(family, [127, 0, 0, 1]), host, tcp(4000, 5000, SYN)),
            Stop(DropReason::Martian),
        ),
        row(
            "to a published port from the unspecified address",
            "up0",
            outside(bench, address(family, [0; 4]), host, tcp(4000, 5000, SYN)),
            Stop(DropReason::SourceNotOutside),
        ),
        row(
            "to a published port from a multicast address",
            "up0",
            outside(bench, address(family, [224, 0, 0, 1]), host, tcp(4000, 5000, SYN)),
            Stop(DropReason::Martian),
        ),
        row(
            "from loopback to the host",
            "up0",
            outside(bench, address(family, [127, 0, 0, 1]), host, tcp(4000, 22, SYN)),
            Stop(DropReason::Martian),
        ),
        row(
            "to a loopback address",
            "up0",
            arriving(address(family, [127, 0, 0, 1]), tcp(4000, 22, ACK)),
            Stop(DropReason::Martian),
        ),
        row(
            "from the unspecified address to multicast",
            "up0",
            outside(bench, address(family, [0; 4]), group, udp(68, 67)),
            Stop(DropReason::NotOurs),
        ),
        row(
            "an answer from outside",
            "up0",
            arriving(host, tcp(80, 4000, SYN | ACK)),
            Leave("h1", (world, 80), (c1, 4000)),
        )
        .after("h1", masqueraded()),
        row(
            "an answer to a reused port comes from its own peer only",
            "up0",
            outside(bench, near, host, tcp(80, 4000, SYN | ACK)),
            Stop(DropReason::NotOurs),
        )
        .after("h1", masqueraded()),
        row(
            "an answer without masquerade",
            "up0",
            arriving(c3, tcp(80, 4000, SYN | ACK)),
            Leave("h3", (world, 80), (c3, 4000)),
        )
        .after("h3", from(c3, world, tcp(4000, 80, SYN))),
        row(
            "an echo reply",
            "up0",
            arriving(host, Payload::Pong(77)),
            Leave("h1", (world, 0), (c1, 77)),
        )
        .after("h1", from(c1, world, Payload::Ping(77))),
        row(
            "an echo request with a flow's identifier",
            "up0",
            arriving(host, Payload::Ping(77)),
            Stop(DropReason::NotOurs),
        )
        .after("h1", from(c1, world, Payload::Ping(77))),
        row(
            "an unexpected echo reply",
            "up0",
            arriving(host, Payload::Pong(78)),
            Stop(DropReason::NotOurs),
        ),
        row(
            "an echo request to the host",
            "up0",
            arriving(host, Payload::Ping(5000)),
            Stop(DropReason::NotOurs),
        ),
        row(
            "the host's own traffic",
            "up0",
            arriving(host, tcp(443, 40000, ACK)),
            Stop(DropReason::NotOurs),
        ),
        row(
            "straight to a container",
            "up0",
            arriving(c1, tcp(4000, 80, SYN)),
            Stop(DropReason::NotOurs),
        ),
        row(
            "a container's own tuple from outside",
            "up0",
            outside(bench, c1, world, tcp(4000, 80, ACK)),
            Stop(DropReason::NotOurs),
        )
        .after("h1", masqueraded()),
        row(
            "a container's answer from outside",
            "up0",
            outside(bench, c1, world, tcp(80, 4000, ACK)),
            Stop(DropReason::NotOurs),
        )
        .after("up0", syn.clone()),
        row(
            "another protocol",
            "up0",
            arriving(host, Payload::Other(47, vec![0; 8])),
            Stop(DropReason::NotOurs),
        ),
        row("for another machine", "up0", for_another, Stop(DropReason::NotOurs)),
        row("TTL 1", "up0", IpFrame { ttl: 1, ..syn }, Stop(DropReason::TtlExceeded)),
        raw("a truncated packet", "up0", truncated, DropReason::NotOurs),
        raw("ARP", "up0", arp, DropReason::NotOurs),
    ]
}

/// Rows of IPv4 only.
fn rows_of_ipv4(bench: &Bench) -> Vec<Row> {
    use Expect::Stop;
    let Names { host, .. } = Names::of(V4);
    let from =
        |source: [u8; 4], destination, payload| outside(bench, source.into(), destination, payload);
    let tcp = |port| Payload::Tcp(4000, port, SYN);
    vec![
        row(
            "from the broadcast address to a published port",
            "up0",
            from([255; 4], host, tcp(5000)),
            Stop(DropReason::Martian),
        ),
        row(
            "from 240.0.0.0/4",
            "up0",
            from([240, 0, 0, 1], host, tcp(22)),
            Stop(DropReason::NotOurs),
        ),
        row(
            "from the unspecified address to broadcast",
            "up0",
            from([0; 4], [255; 4].into(), Payload::Udp(68, 67, vec![])),
            Stop(DropReason::NotOurs),
        ),
    ]
}

/// Rows of IPv6 only, except extension headers.
fn rows_of_ipv6(bench: &Bench) -> Vec<Row> {
    use Expect::Stop;
    let Names { host, world, c1, .. } = Names::of(V6);
    let [mapped, router, own]: [IpAddr; 3] = ["::ffff:203.0.113.10", "fe80::9", "fe80::15"]
        .map(|address| address.parse().expect("an address"));
    let syn =
        |source, destination| outside(bench, source, destination, Payload::Tcp(4000, 5000, SYN));
    vec![
        row(
            "from a link-local address to a published port",
            "up0",
            syn(router, host),
            Stop(DropReason::SourceNotOutside),
        ),
        row("to a link-local address", "up0", syn(router, own), Stop(DropReason::NotOurs)),
        row(
            "to a container's link-local address",
            "up0",
            syn(router, link_local_of(C1)),
            Stop(DropReason::NotOurs),
        ),
        raw("from a mapped address", "up0", syn(mapped, host).bytes(), DropReason::NotOurs),
        raw("to a mapped address", "up0", syn(world, mapped).bytes(), DropReason::NotOurs),
        row(
            "neighbour discovery",
            "up0",
            outside(bench, router, host, Payload::Icmp(135, vec![0; 20])),
            Stop(DropReason::NotOurs),
        ),
        row(
            "a router's advertisement",
            "up0",
            outside(bench, router, own, Payload::Icmp(134, vec![0; 12])),
            Stop(DropReason::NotOurs),
        ),
        row(
            "a redirect about a container",
            "up0",
            outside(bench, router, c1, Payload::Icmp(137, vec![0; 36])),
            Stop(DropReason::NotOurs),
        ),
    ]
}
