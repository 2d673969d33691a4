//! Table of packets from containers.

use std::net::IpAddr;

use causeway_common::abi::drop_reason::DropReason;
use causeway_tests::{
    bench::{
        BRIDGE_MAC, Bench, address, mac_of,
        rows::{C1, C2, Expect, Names, Row, check, from, outside, raw, row, set_up},
        with_bench,
    },
    families,
    family::{Family, V4, V6},
    packet::{Fragment, IpFrame, Options, Payload, Told},
    raw::flag::{ACK, RST, SYN},
};

families!(table);

fn table(family: Family) {
    with_bench(|bench| {
        set_up(bench);
        let mut rows = rows_of_containers(bench, family);
        rows.extend(rows_of_damage(family));
        rows.extend(if family == V4 { rows_of_ipv4() } else { rows_of_ipv6() });
        check(bench, family, rows);
    });
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows_of_containers(bench: &Bench, family: Family) -> Vec<Row> {
    use Expect::{Leave, Stop};
    let Names { c1, c2, c3, c4, c5, gateway, unused, group, host, world, .. } = Names::of(family);
    let tcp = |source, destination, flags| Payload::Tcp(source, destination, flags);
    let udp = |source, destination| Payload::Udp(source, destination, b"hello".to_vec());
    let syn = from(c1, world, tcp(4000, 80, SYN));
    vec![
        row("a SYN is masqueraded", "h1", syn.clone(), Leave("up0", (host, 4000), (world, 80))),
        row(
            "UDP is masqueraded",
            "h1",
            from(c1, world, udp(4000, 53)),
            Leave("up0", (host, 4000), (world, 53)),
        ),
        row(
            "UDP without checksum keeps none",
            "h1",
            from(c1, world, Payload::UdpUnsummed(4000, 53)),
            Leave("up0", (host, 4000), (world, 53)),
        ),
        row(
            "a checksum that comes out as zero is sent as 0xffff",
            "h1",
            sums_to_zero(family),
            Leave("up0", (host, 4000), (world, 53)),
        ),
        row(
            "an echo request is masqueraded",
            "h1",
            from(c1, world, Payload::Ping(77)),
            Leave("up0", (host, 77), (world, 0)),
        ),
        row(
            "IP options do not hide the ports",
            "h1",
            IpFrame { options: Options::Units(10), ..syn.clone() },
            Leave("up0", (host, 4000), (world, 80)),
        ),
        row(
            "the next packet of a flow",
            "h1",
            from(c1, world, tcp(4000, 80, ACK)),
            Leave("up0", (host, 4000), (world, 80)),
        )
        .after("h1", syn.clone()),
        row(
            "without masquerade the source stays",
            "h3",
            from(c3, world, tcp(4000, 80, SYN)),
            Leave("up0", (c3, 4000), (world, 80)),
        ),
        row(
            "TCP in mid-stream creates no flow",
            "h1",
            from(c1, world, tcp(4000, 80, ACK)),
            Stop(DropReason::NoFlow),
        ),
        row(
            "SYN and ACK create no flow",
            "h1",
            from(c1, world, tcp(4000, 80, SYN | ACK)),
            Stop(DropReason::NoFlow),
        ),
        row(
            "SYN and RST create no flow",
            "h1",
            from(c1, world, tcp(4000, 80, SYN | RST)),
            Stop(DropReason::NoFlow),
        ),
        row(
            "an echo reply creates no flow",
            "h1",
            from(c1, world, Payload::Pong(77)),
            Stop(DropReason::NoFlow),
        ),
        row(
            "an unused source address",
            "h1",
            from(unused, world, tcp(4000, 80, SYN)),
            Stop(DropReason::SourceAddressSpoofed),
        ),
        row(
            "a neighbour's source",
            "h1",
            from(c2, world, tcp(4000, 80, SYN)),
            Stop(DropReason::SourceAddressSpoofed),
        ),
        row(
            "a neighbour's flow",
            "h1",
            from(c2, world, tcp(4000, 80, ACK)),
            Stop(DropReason::SourceAddressSpoofed),
        )
        .after("h2", from(c2, world, tcp(4000, 80, SYN))),
        row(
            "the host's source",
            "h1",
            from(host, world, tcp(4000, 80, SYN)),
            Stop(DropReason::SourceAddressSpoofed),
        ),
        row(
            "a neighbour's MAC",
            "h1",
            IpFrame { macs: (BRIDGE_MAC, mac_of(C2)), ..syn.clone() },
            Stop(DropReason::SourceMacSpoofed),
        ),
        row(
            "don't fragment is no fragment",
            "h1",
            IpFrame { fragment: Fragment::Dont, ..from(c1, world, udp(4000, 53)) },
            Leave("up0", (host, 4000), (world, 53)),
        ),
        row(
            "a protocol without ports",
            "h1",
            from(c1, world, Payload::Other(47, vec![0; 8])),
            Stop(DropReason::ProtocolNotTranslated),
        ),
        row(
            "an ICMP error that quotes nothing",
            "h1",
            from(c1, world, Payload::Icmp(Told::NoRoute.head(family)[0], vec![0; 12])),
            Stop(DropReason::ErrorOfNoFlow),
        ),
        row("to the gateway", "h1", from(c1, gateway, Payload::Ping(77)), Stop(DropReason::ToHost)),
        row(
            "to the host's uplink address",
            "h1",
            from(c1, host, tcp(4000, 22, SYN)),
            Stop(DropReason::ToHost),
        ),
        row(
            "an answer to the host from a published port's number",
            "h1",
            from(c1, host, tcp(4000, 5000, ACK)),
            Stop(DropReason::ToHost),
        ),
        row("multicast", "h1", from(c1, group, udp(5353, 5353)), Stop(DropReason::ToBridge)),
        row(
            "an unknown neighbour",
            "h1",
            from(c1, unused, tcp(4000, 80, SYN)),
            Stop(DropReason::ToBridge),
        ),
        row(
            "to a neighbour",
            "h1",
            from(c1, c2, tcp(4000, 80, SYN)),
            Leave("h2", (c1, 4000), (c2, 80)),
        ),
        row(
            "to a neighbour in mid-stream",
            "h1",
            from(c1, c2, tcp(4000, 80, ACK)),
            Leave("h2", (c1, 4000), (c2, 80)),
        ),
        row(
            "to a neighbour with TTL 1",
            "h1",
            IpFrame { ttl: 1, ..from(c1, c2, Payload::Ping(77)) },
            Leave("h2", (c1, 77), (c2, 0)),
        ),
        row(
            "to a neighbour's own port of a published number",
            "h2",
            from(c2, c1, tcp(4000, 5000, SYN)),
            Leave("h1", (c2, 4000), (c1, 5000)),
        ),
        row(
            "any protocol to a neighbour",
            "h1",
            from(c1, c2, Payload::Other(47, vec![0; 8])),
            Leave("h2", (c1, 0), (c2, 0)),
        ),
        row(
            "to another network",
            "h1",
            from(c1, c3, tcp(4000, 80, SYN)),
            Stop(DropReason::OtherNetwork),
        ),
        row(
            "to a neighbour kept apart",
            "h4",
            from(c4, c5, tcp(4000, 80, SYN)),
            Stop(DropReason::IccOff),
        ),
        row(
            "outwards from an internal network",
            "h4",
            from(c4, world, tcp(4000, 80, SYN)),
            Stop(DropReason::InternalNetwork),
        ),
        row(
            "from an internal network to a published port",
            "h4",
            from(c4, host, tcp(4000, 5000, SYN)),
            Stop(DropReason::InternalNetwork),
        ),
        row(
            "through an interface that is no uplink",
            "h1",
            from(c1, address(family, [192, 168, 9, 7]), tcp(4000, 80, SYN)),
            Stop(DropReason::NotAnUplink),
        ),
        row(
            "hairpin to a neighbour",
            "h2",
            from(c2, host, tcp(4000, 5000, SYN)),
            Leave("h1", (c2, 4000), (c1, 80)),
        ),
        row(
            "hairpin by the gateway's address",
            "h2",
            from(c2, gateway, tcp(4000, 5000, SYN)),
            Leave("h1", (c2, 4000), (c1, 80)),
        ),
        row(
            "hairpin from another network",
            "h3",
            from(c3, host, tcp(4000, 5000, SYN)),
            Leave("h1", (c3, 4000), (c1, 80)),
        ),
        row(
            "hairpin to itself",
            "h1",
            from(c1, host, tcp(4000, 5000, SYN)),
            Leave("h1", (gateway, 4000), (c1, 80)),
        ),
        row(
            "hairpin answer",
            "h1",
            from(c1, c2, tcp(80, 4000, SYN | ACK)),
            Leave("h2", (host, 5000), (c2, 4000)),
        )
        .after("h2", from(c2, host, tcp(4000, 5000, SYN))),
        row(
            "hairpin answer to itself",
            "h1",
            from(c1, gateway, tcp(80, 4000, SYN | ACK)),
            Leave("h1", (host, 5000), (c1, 4000)),
        )
        .after("h1", from(c1, host, tcp(4000, 5000, SYN))),
        row(
            "hairpin of UDP",
            "h2",
            from(c2, host, udp(4000, 5001)),
            Leave("h1", (c2, 4000), (c1, 53)),
        ),
        row(
            "a publish that admits others only",
            "h2",
            from(c2, host, tcp(4000, 6000, SYN)),
            Stop(DropReason::SourceNotAdmitted),
        ),
        row(
            "longer than the uplink's MTU",
            "h1",
            IpFrame {
                fragment: Fragment::Dont,
                ..from(c1, world, Payload::Udp(4000, 53, vec![0; family.data_of(1501)]))
            },
            Stop(DropReason::TooLong),
        ),
        row(
            "longer than the uplink's MTU, and to be fragmented",
            "h1",
            from(c1, world, Payload::Udp(4000, 53, vec![0; family.data_of(1501)])),
            Stop(DropReason::TooLong),
        ),
        row(
            "as long as the uplink's MTU",
            "h1",
            from(c1, world, Payload::Udp(4000, 53, vec![0; family.data_of(1500)])),
            Leave("up0", (host, 4000), (world, 53)),
        ),
        row(
            "to a neighbour, longer than the uplink's MTU",
            "h1",
            from(c1, c2, Payload::Udp(4000, 53, vec![0; family.data_of(1501)])),
            Leave("h2", (c1, 4000), (c2, 53)),
        ),
        row(
            "TTL 1 outwards",
            "h1",
            IpFrame { ttl: 1, ..syn.clone() },
            Stop(DropReason::TtlExceeded),
        ),
        row(
            "TTL 1 outwards, of a flow, with a neighbour's MAC",
            "h1",
            IpFrame {
                ttl: 1,
                macs: (BRIDGE_MAC, mac_of(C2)),
                ..from(c1, world, Payload::Tcp(4000, 80, ACK))
            },
            Stop(DropReason::TtlExceeded),
        )
        .after("h1", syn.clone()),
        row(
            "a flow's packet to a neighbour gets the true source MAC",
            "h1",
            IpFrame {
                macs: (BRIDGE_MAC, [2, 6, 6, 6, 6, 6]),
                ..from(c1, c2, Payload::Tcp(4000, 80, ACK))
            },
            Leave("h2", (c1, 4000), (c2, 80)),
        )
        .after("h1", from(c1, c2, Payload::Tcp(4000, 80, SYN))),
        row(
            "TTL 1 outwards, of a flow",
            "h1",
            IpFrame { ttl: 1, ..from(c1, world, tcp(4000, 80, ACK)) },
            Stop(DropReason::TtlExceeded),
        )
        .after("h1", syn),
        row(
            "TTL 1 in a hairpin",
            "h2",
            IpFrame { ttl: 1, ..from(c2, host, tcp(4000, 5000, SYN)) },
            Stop(DropReason::TtlExceeded),
        ),
        row(
            "an answer to a published client",
            "h1",
            from(c1, world, tcp(80, 4000, SYN | ACK)),
            Leave("up0", (host, 5000), (world, 4000)),
        )
        .after("up0", outside(bench, world, host, tcp(4000, 5000, SYN))),
    ]
}

/// Malformed frames. `BPF_PROG_TEST_RUN` refuses frames that end before their IP header does:
/// `common` has those rows.
fn rows_of_damage(family: Family) -> Vec<Row> {
    let Names { c1, world, .. } = Names::of(family);
    let syn = from(c1, world, Payload::Tcp(4000, 80, SYN));
    let (whole, at) = (syn.bytes(), syn.payload_at());
    let short = |bytes: usize| whole[..bytes].to_vec();
    let broken = |at: usize, value: u8| {
        let mut frame = whole.clone();
        frame[at] = value;
        frame
    };
    let ether_type = |value: [u8; 2]| [&whole[..12], &value, &whole[14..]].concat();
    let (other_type, other_version) =
        if family == V4 { ([0x86, 0xdd], 0x65) } else { ([0x08, 0x00], 0x45) };
    vec![
        raw("ARP that is a packet", "h1", ether_type([0x08, 0x06]), DropReason::NotIp),
        raw("behind the other family's type", "h1", ether_type(other_type), DropReason::Malformed),
        raw("neither IP nor ARP", "h1", ether_type([0x88, 0xcc]), DropReason::NotIp),
        raw("a tag inside a tag", "h1", ether_type([0x88, 0xa8]), DropReason::NotIp),
        raw("the other family's version", "h1", broken(14, other_version), DropReason::Malformed),
        raw("nothing after the IP header", "h1", short(at), DropReason::Malformed),
        raw("a packet longer than its frame", "h1", short(at + 16), DropReason::Malformed),
        raw("a TCP header of four words", "h1", broken(at + 12, 0x40), DropReason::Malformed),
    ]
}

/// Rows of IPv4 only.
fn rows_of_ipv4() -> Vec<Row> {
    use Expect::Stop;
    let Names { c1, world, .. } = Names::of(V4);
    let own = mac_of(C1);
    // An ARP probe for the container's own address. The target address does not matter otherwise.
    let arp = |frame_mac: [u8; 6], sender_mac: [u8; 6], sender: [u8; 4]| {
        let head = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1];
        [&[0xff; 6][..], &frame_mac, &head, &sender_mac, &sender, &[0; 6], &C1].concat()
    };
    let broken = |at: usize, value: u8| {
        let mut frame = from(c1, world, Payload::Tcp(4000, 80, SYN)).bytes();
        frame[at] = value;
        frame
    };
    let udp = |destination: [u8; 4]| {
        from(c1, destination.into(), Payload::Udp(4000, 67, b"hello".to_vec()))
    };
    vec![
        row("limited broadcast", "h1", udp([255; 4]), Stop(DropReason::ToBridge)),
        row("the subnet's broadcast", "h1", udp([172, 18, 255, 255]), Stop(DropReason::ToBridge)),
        raw("ARP", "h1", arp(own, own, C1), DropReason::Arp),
        raw("an ARP probe for its own address", "h1", arp(own, own, [0; 4]), DropReason::Arp),
        raw("ARP in a neighbour's name", "h1", arp(own, own, C2), DropReason::ArpSpoofed),
        raw(
            "ARP in the gateway's name",
            "h1",
            arp(own, own, [172, 18, 0, 1]),
            DropReason::ArpSpoofed,
        ),
        raw("ARP with a neighbour's MAC", "h1", arp(own, mac_of(C2), C1), DropReason::ArpSpoofed),
        raw(
            "ARP in a frame with a neighbour's MAC",
            "h1",
            arp(mac_of(C2), own, C1),
            DropReason::ArpSpoofed,
        ),
        raw("ARP cut short", "h1", arp(own, own, C1)[..41].to_vec(), DropReason::Malformed),
        raw("a header of four words", "h1", broken(14, 0x44), DropReason::Malformed),
        raw("a header longer than its packet", "h1", broken(14, 0x4f), DropReason::Malformed),
        raw("a total length shorter than the header", "h1", broken(17, 19), DropReason::Malformed),
        raw("a total length without room for TCP", "h1", broken(17, 39), DropReason::Malformed),
    ]
}

/// Rows of IPv6 only, except extension headers and link-local traffic.
fn rows_of_ipv6() -> Vec<Row> {
    let Names { c1, world, .. } = Names::of(V6);
    let mapped: IpAddr = "::ffff:172.18.0.2".parse().expect("an address");
    let syn = |source, destination| IpFrame {
        macs: (BRIDGE_MAC, mac_of(C1)),
        ..from(source, destination, Payload::Tcp(4000, 80, SYN))
    };
    let length = |bytes: u8| {
        let mut frame = syn(c1, world).bytes();
        frame[19] = bytes;
        frame
    };
    vec![
        raw("a mapped source", "h1", syn(mapped, world).bytes(), DropReason::Malformed),
        raw("a mapped destination", "h1", syn(c1, mapped).bytes(), DropReason::Malformed),
        raw("no payload", "h1", length(0), DropReason::Malformed),
        raw("a payload without room for TCP", "h1", length(19), DropReason::Malformed),
        raw("a payload longer than the frame", "h1", length(21), DropReason::Malformed),
    ]
}

/// A UDP packet whose checksum is zero after masquerade.
fn sums_to_zero(family: Family) -> IpFrame {
    let Names { c1, host, world, .. } = Names::of(family);
    let frame = |data: u16| from(c1, world, Payload::Udp(4000, 53, data.to_be_bytes().to_vec()));
    (0..=u16::MAX)
        .map(frame)
        .find(|frame| IpFrame { source: host, ..frame.clone() }.segment()[6..8] == [0xff, 0xff])
        .expect("one of all data words")
}
