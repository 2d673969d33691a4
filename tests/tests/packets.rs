//! Tables of packets. Each row goes through the pure decisions and through the programs in the kernel, with the same tables: the
//! action, the frame to the last byte and the reason that was counted must be the same, and be what the row says.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use causeway::{
    datapath::{Entry, Interface},
    net::mac::Mac,
};
use causeway_common::{
    abi::{Translation, exit},
    address::V4,
    forward::Decision,
    reason::{Fate, Reason},
};
use causeway_tests::{
    bench::{BRIDGE_MAC, Bench, Place, publish_entry, with_bench},
    packet::{Ipv4Frame, Payload, checksum},
    sctp,
};

const C1: [u8; 4] = [172, 18, 0, 2];
const C2: [u8; 4] = [172, 18, 0, 3];
const C3: [u8; 4] = [172, 19, 0, 2];
const C4: [u8; 4] = [172, 20, 0, 2];
const C5: [u8; 4] = [172, 20, 0, 3];
const GATEWAY: [u8; 4] = [172, 18, 0, 1];
const HOST: [u8; 4] = [10, 0, 2, 15];
const WORLD: [u8; 4] = [203, 0, 113, 10];
const NEAR: [u8; 4] = [10, 0, 2, 2];

const ANOTHER_MACHINE: [u8; 6] = [0x02, 8, 8, 8, 8, 8];

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;

/// What is to become of a frame.
#[derive(Debug)]
enum Expect {
    Stop(Reason),
    /// It leaves through that interface, from there to there.
    Leave(&'static str, ([u8; 4], u16), ([u8; 4], u16)),
    /// An ICMP error leaves through that interface, from there to there, and quotes a packet from there to there.
    LeaveError(&'static str, [u8; 4], [u8; 4], ([u8; 4], u16), ([u8; 4], u16)),
    /// A fragment that comes again, with those that were held for it.
    PutBack,
}

struct Row {
    what: &'static str,
    /// What came before it.
    history: Vec<(Entry, &'static str, Ipv4Frame)>,
    entry: Entry,
    input: &'static str,
    frame: Frame,
    expect: Expect,
}

enum Frame {
    Ipv4(Ipv4Frame),
    Raw(Vec<u8>),
}

fn row(what: &'static str, input: &'static str, frame: Ipv4Frame, expect: Expect) -> Row {
    let entry = if input == "up0" { Entry::Uplink } else { Entry::HostSide };
    Row { what, history: Vec::new(), entry, input, frame: Frame::Ipv4(frame), expect }
}

fn raw(what: &'static str, input: &'static str, frame: Vec<u8>, reason: Reason) -> Row {
    Row {
        frame: Frame::Raw(frame),
        ..row(what, input, from(C1, WORLD, Payload::Other(0, vec![])), Expect::Stop(reason))
    }
}

impl Row {
    fn after(mut self, input: &'static str, frame: Ipv4Frame) -> Self {
        let entry = if input == "up0" { Entry::Uplink } else { Entry::HostSide };
        self.history.push((entry, input, frame));
        self
    }
}

/// A frame of a container.
fn from(source: [u8; 4], destination: [u8; 4], payload: Payload) -> Ipv4Frame {
    Ipv4Frame {
        macs: (BRIDGE_MAC, Mac::from_ipv4(source.into()).0),
        source: source.into(),
        destination: destination.into(),
        ttl: 64,
        options: Vec::new(),
        id: 0x1234,
        fragment: 0,
        payload,
    }
}

/// A frame from outside.
fn outside(bench: &Bench, source: [u8; 4], destination: [u8; 4], payload: Payload) -> Ipv4Frame {
    Ipv4Frame { macs: (bench.mac("up0"), [0x02, 9, 9, 9, 9, 9]), ..from(source, destination, payload) }
}

fn set_up(bench: &mut Bench) {
    bench.put_host();
    let open = |address, host_side, bridge| Place { address, host_side, bridge, closed: false, masquerade: true };
    bench.put_container(open(C1, "h1", "cwa"));
    bench.put_container(open(C2, "h2", "cwa"));
    bench.put_container(Place { masquerade: false, ..open(C3, "h3", "cwb") });
    bench.put_container(Place { closed: true, ..open(C4, "h4", "cwc") });
    bench.put_container(Place { closed: true, ..open(C5, "h5", "cwc") });
    bench.put_publish(C1, "5000:80", &[]);
    bench.put_publish(C1, "5001:53/udp", &[]);
    bench.put_publish(C2, "7000-7009:8000-8009", &[]);
    bench.put_publish(C2, "10.0.2.15:9000:9000", &[]);
    bench.put_publish(C1, "5002-5003:5002-5003/sctp", &[]);
    bench.put_publish(C1, "6000:80", &["203.0.113.0/28"]);
}

#[test]
fn what_containers_send() {
    with_bench(|bench| {
        set_up(bench);
        let rows = rows_of_containers(bench);
        check(bench, rows);
    });
}

#[test]
fn what_comes_from_outside() {
    with_bench(|bench| {
        set_up(bench);
        let rows = rows_from_outside(bench);
        check(bench, rows);
    });
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows_of_containers(bench: &Bench) -> Vec<Row> {
    use Expect::{Leave, Stop};
    let tcp = |source, destination, flags| Payload::Tcp(source, destination, flags);
    let udp = |source, destination| Payload::Udp(source, destination, b"hello".to_vec());
    let short = |bytes: usize| {
        let mut frame = from(C1, WORLD, tcp(4000, 80, SYN)).bytes();
        frame.truncate(bytes);
        frame
    };
    let broken = |at: usize, value: u8| {
        let mut frame = from(C1, WORLD, tcp(4000, 80, SYN)).bytes();
        frame[at] = value;
        frame
    };
    let ether_type = |value: [u8; 2]| {
        let mut frame = from(C1, WORLD, tcp(4000, 80, SYN)).bytes();
        frame[12..14].copy_from_slice(&value);
        frame
    };
    let own = Mac::from_ipv4(C1.into()).0;
    // A request for the address of the container itself, as a probe is; whom it asks for does not matter otherwise.
    let arp = |frame_mac: [u8; 6], sender_mac: [u8; 6], sender: [u8; 4]| {
        let head = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1];
        [&[0xff; 6][..], &frame_mac, &head, &sender_mac, &sender, &[0; 6], &C1].concat()
    };
    let syn = from(C1, WORLD, tcp(4000, 80, SYN));
    vec![
        row("a SYN is masqueraded", "h1", syn.clone(), Leave("up0", (HOST, 4000), (WORLD, 80))),
        row("UDP is masqueraded", "h1", from(C1, WORLD, udp(4000, 53)), Leave("up0", (HOST, 4000), (WORLD, 53))),
        row(
            "UDP without checksum stays without",
            "h1",
            from(C1, WORLD, Payload::UdpUnsummed(4000, 53)),
            Leave("up0", (HOST, 4000), (WORLD, 53)),
        ),
        row(
            "a checksum that comes out as zero is sent as 0xffff",
            "h1",
            sums_to_zero(),
            Leave("up0", (HOST, 4000), (WORLD, 53)),
        ),
        row(
            "an echo request is masqueraded",
            "h1",
            from(C1, WORLD, Payload::Echo(8, 77)),
            Leave("up0", (HOST, 77), (WORLD, 0)),
        ),
        row(
            "IP options do not hide the ports",
            "h1",
            Ipv4Frame { options: vec![1; 40], ..syn.clone() },
            Leave("up0", (HOST, 4000), (WORLD, 80)),
        ),
        row(
            "the next packet of a flow",
            "h1",
            from(C1, WORLD, tcp(4000, 80, ACK)),
            Leave("up0", (HOST, 4000), (WORLD, 80)),
        )
        .after("h1", syn.clone()),
        row(
            "without masquerade the source stays",
            "h3",
            from(C3, WORLD, tcp(4000, 80, SYN)),
            Leave("up0", (C3, 4000), (WORLD, 80)),
        ),
        row("TCP in mid-stream begins nothing", "h1", from(C1, WORLD, tcp(4000, 80, ACK)), Stop(Reason::NoFlow)),
        row("SYN and ACK begin nothing", "h1", from(C1, WORLD, tcp(4000, 80, SYN | ACK)), Stop(Reason::NoFlow)),
        row("SYN and RST begin nothing", "h1", from(C1, WORLD, tcp(4000, 80, SYN | RST)), Stop(Reason::NoFlow)),
        row("an echo reply begins nothing", "h1", from(C1, WORLD, Payload::Echo(0, 77)), Stop(Reason::NoFlow)),
        row(
            "a source of nobody's",
            "h1",
            from([172, 18, 9, 9], WORLD, tcp(4000, 80, SYN)),
            Stop(Reason::SourceAddressSpoofed),
        ),
        row("a neighbour's source", "h1", from(C2, WORLD, tcp(4000, 80, SYN)), Stop(Reason::SourceAddressSpoofed)),
        row("a neighbour's flow", "h1", from(C2, WORLD, tcp(4000, 80, ACK)), Stop(Reason::SourceAddressSpoofed))
            .after("h2", from(C2, WORLD, tcp(4000, 80, SYN))),
        row("the host's source", "h1", from(HOST, WORLD, tcp(4000, 80, SYN)), Stop(Reason::SourceAddressSpoofed)),
        row(
            "a neighbour's MAC",
            "h1",
            Ipv4Frame { macs: (BRIDGE_MAC, Mac::from_ipv4(C2.into()).0), ..syn.clone() },
            Stop(Reason::SourceMacSpoofed),
        ),
        row(
            "don't fragment is no fragment",
            "h1",
            Ipv4Frame { fragment: 0x4000, ..from(C1, WORLD, udp(4000, 53)) },
            Leave("up0", (HOST, 4000), (WORLD, 53)),
        ),
        row(
            "a protocol without ports",
            "h1",
            from(C1, WORLD, Payload::Other(47, vec![0; 8])),
            Stop(Reason::ProtocolNotTranslated),
        ),
        row(
            "an ICMP error that quotes nothing",
            "h1",
            from(C1, WORLD, Payload::Echo(3, 0)),
            Stop(Reason::ErrorOfNoFlow),
        ),
        row("to the gateway", "h1", from(C1, GATEWAY, Payload::Echo(8, 77)), Stop(Reason::ToHost)),
        row("to the host's uplink address", "h1", from(C1, HOST, tcp(4000, 22, SYN)), Stop(Reason::ToHost)),
        row(
            "an answer to the host from a published port's number",
            "h1",
            from(C1, HOST, tcp(4000, 5000, ACK)),
            Stop(Reason::ToHost),
        ),
        row("multicast", "h1", from(C1, [224, 0, 0, 251], udp(5353, 5353)), Stop(Reason::ToBridge)),
        row("limited broadcast", "h1", from(C1, [255; 4], udp(4000, 67)), Stop(Reason::ToBridge)),
        row("the subnet's broadcast", "h1", from(C1, [172, 18, 255, 255], udp(4000, 67)), Stop(Reason::ToBridge)),
        row("an unknown neighbour", "h1", from(C1, [172, 18, 7, 7], tcp(4000, 80, SYN)), Stop(Reason::ToBridge)),
        row("to a neighbour", "h1", from(C1, C2, tcp(4000, 80, SYN)), Leave("h2", (C1, 4000), (C2, 80))),
        row("to a neighbour in mid-stream", "h1", from(C1, C2, tcp(4000, 80, ACK)), Leave("h2", (C1, 4000), (C2, 80))),
        row(
            "to a neighbour with the last hop",
            "h1",
            Ipv4Frame { ttl: 1, ..from(C1, C2, Payload::Echo(8, 77)) },
            Leave("h2", (C1, 77), (C2, 0)),
        ),
        row(
            "to a neighbour's own port of a published number",
            "h2",
            from(C2, C1, tcp(4000, 5000, SYN)),
            Leave("h1", (C2, 4000), (C1, 5000)),
        ),
        row(
            "any protocol to a neighbour",
            "h1",
            from(C1, C2, Payload::Other(47, vec![0; 8])),
            Leave("h2", (C1, 0), (C2, 0)),
        ),
        row("to another network", "h1", from(C1, C3, tcp(4000, 80, SYN)), Stop(Reason::OtherNetwork)),
        row("to a neighbour kept apart", "h4", from(C4, C5, tcp(4000, 80, SYN)), Stop(Reason::IccOff)),
        row(
            "outwards from an internal network",
            "h4",
            from(C4, WORLD, tcp(4000, 80, SYN)),
            Stop(Reason::InternalNetwork),
        ),
        row(
            "from an internal network to a published port",
            "h4",
            from(C4, HOST, tcp(4000, 5000, SYN)),
            Stop(Reason::InternalNetwork),
        ),
        row(
            "through an interface that is no uplink",
            "h1",
            from(C1, [192, 168, 9, 7], tcp(4000, 80, SYN)),
            Stop(Reason::NotAnUplink),
        ),
        row("hairpin to a neighbour", "h2", from(C2, HOST, tcp(4000, 5000, SYN)), Leave("h1", (C2, 4000), (C1, 80))),
        row(
            "hairpin by the gateway's address",
            "h2",
            from(C2, GATEWAY, tcp(4000, 5000, SYN)),
            Leave("h1", (C2, 4000), (C1, 80)),
        ),
        row(
            "hairpin from another network",
            "h3",
            from(C3, HOST, tcp(4000, 5000, SYN)),
            Leave("h1", (C3, 4000), (C1, 80)),
        ),
        row("hairpin to itself", "h1", from(C1, HOST, tcp(4000, 5000, SYN)), Leave("h1", (GATEWAY, 4000), (C1, 80))),
        row("hairpin answer", "h1", from(C1, C2, tcp(80, 4000, SYN | ACK)), Leave("h2", (HOST, 5000), (C2, 4000)))
            .after("h2", from(C2, HOST, tcp(4000, 5000, SYN))),
        row(
            "hairpin answer to itself",
            "h1",
            from(C1, GATEWAY, tcp(80, 4000, SYN | ACK)),
            Leave("h1", (HOST, 5000), (C1, 4000)),
        )
        .after("h1", from(C1, HOST, tcp(4000, 5000, SYN))),
        row("hairpin of UDP", "h2", from(C2, HOST, udp(4000, 5001)), Leave("h1", (C2, 4000), (C1, 53))),
        row(
            "a publish that admits others only",
            "h2",
            from(C2, HOST, tcp(4000, 6000, SYN)),
            Stop(Reason::SourceNotAdmitted),
        ),
        row(
            "longer than the uplink's MTU",
            "h1",
            Ipv4Frame { fragment: 0x4000, ..from(C1, WORLD, Payload::Udp(4000, 53, vec![0; 1473])) },
            Stop(Reason::TooLong),
        ),
        row(
            "longer than the uplink's MTU, and to be fragmented",
            "h1",
            from(C1, WORLD, Payload::Udp(4000, 53, vec![0; 1473])),
            Stop(Reason::TooLong),
        ),
        row(
            "as long as the uplink's MTU",
            "h1",
            from(C1, WORLD, Payload::Udp(4000, 53, vec![0; 1472])),
            Leave("up0", (HOST, 4000), (WORLD, 53)),
        ),
        row(
            "to a neighbour, longer than the uplink's MTU",
            "h1",
            from(C1, C2, Payload::Udp(4000, 53, vec![0; 1473])),
            Leave("h2", (C1, 4000), (C2, 53)),
        ),
        row("the last hop outwards", "h1", Ipv4Frame { ttl: 1, ..syn.clone() }, Stop(Reason::TtlExceeded)),
        row(
            "the last hop outwards, of a flow, with a neighbour's MAC",
            "h1",
            Ipv4Frame {
                ttl: 1,
                macs: (BRIDGE_MAC, Mac::from_ipv4(C2.into()).0),
                ..from(C1, WORLD, Payload::Tcp(4000, 80, ACK))
            },
            Stop(Reason::TtlExceeded),
        )
        .after("h1", syn.clone()),
        row(
            "a flow's packet to a neighbour shows the true MAC, whatever it had",
            "h1",
            Ipv4Frame { macs: (BRIDGE_MAC, [2, 6, 6, 6, 6, 6]), ..from(C1, C2, Payload::Tcp(4000, 80, ACK)) },
            Leave("h2", (C1, 4000), (C2, 80)),
        )
        .after("h1", from(C1, C2, Payload::Tcp(4000, 80, SYN))),
        row(
            "the last hop outwards, of a flow",
            "h1",
            Ipv4Frame { ttl: 1, ..from(C1, WORLD, tcp(4000, 80, ACK)) },
            Stop(Reason::TtlExceeded),
        )
        .after("h1", syn),
        row(
            "the last hop in a hairpin",
            "h2",
            Ipv4Frame { ttl: 1, ..from(C2, HOST, tcp(4000, 5000, SYN)) },
            Stop(Reason::TtlExceeded),
        ),
        row(
            "an answer to a published client",
            "h1",
            from(C1, WORLD, tcp(80, 4000, SYN | ACK)),
            Leave("up0", (HOST, 5000), (WORLD, 4000)),
        )
        .after("up0", outside(bench, WORLD, HOST, tcp(4000, 5000, SYN))),
        raw("ARP", "h1", arp(own, own, C1), Reason::Arp),
        raw("an ARP probe for its own address", "h1", arp(own, own, [0; 4]), Reason::Arp),
        raw("ARP in a neighbour's name", "h1", arp(own, own, C2), Reason::ArpSpoofed),
        raw("ARP in the gateway's name", "h1", arp(own, own, GATEWAY), Reason::ArpSpoofed),
        raw("ARP with a neighbour's MAC", "h1", arp(own, Mac::from_ipv4(C2.into()).0, C1), Reason::ArpSpoofed),
        raw(
            "ARP in a frame with a neighbour's MAC",
            "h1",
            arp(Mac::from_ipv4(C2.into()).0, own, C1),
            Reason::ArpSpoofed,
        ),
        raw("ARP cut short", "h1", arp(own, own, C1)[..41].to_vec(), Reason::Malformed),
        raw("ARP of another protocol", "h1", ether_type([0x08, 0x06]), Reason::NotIp),
        raw("IPv4 behind IPv6's type", "h1", ether_type([0x86, 0xdd]), Reason::Malformed),
        raw("neither IP nor ARP", "h1", ether_type([0x88, 0xcc]), Reason::NotIp),
        raw("a tag inside a tag", "h1", ether_type([0x88, 0xa8]), Reason::NotIp),
        // BPF_PROG_TEST_RUN takes no frame that ends before its IP header does: `common` has those rows.
        raw("nothing after the IP header", "h1", short(34), Reason::Malformed),
        raw("a packet longer than its frame", "h1", short(50), Reason::Malformed),
        raw("version 6 behind IPv4's type", "h1", broken(14, 0x65), Reason::Malformed),
        raw("a header of four words", "h1", broken(14, 0x44), Reason::Malformed),
        raw("a header longer than its packet", "h1", broken(14, 0x4f), Reason::Malformed),
        raw("a total length shorter than the header", "h1", broken(17, 19), Reason::Malformed),
        raw("a total length without room for TCP", "h1", broken(17, 39), Reason::Malformed),
        raw("a TCP header of four words", "h1", broken(46, 0x40), Reason::Malformed),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows_from_outside(bench: &Bench) -> Vec<Row> {
    use Expect::{Leave, Stop};
    let tcp = |source, destination, flags| Payload::Tcp(source, destination, flags);
    let udp = |source, destination| Payload::Udp(source, destination, b"hello".to_vec());
    let world = |destination, payload| outside(bench, WORLD, destination, payload);
    let syn = world(HOST, tcp(4000, 5000, SYN));
    let mut for_another = syn.clone();
    for_another.macs.0 = ANOTHER_MACHINE;
    let mut truncated = syn.bytes();
    truncated.truncate(40);
    let mut arp = syn.bytes();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let masqueraded = || from(C1, WORLD, tcp(4000, 80, SYN));
    vec![
        row("a published port", "up0", syn.clone(), Leave("h1", (WORLD, 4000), (C1, 80))),
        row(
            "the next packet of its flow",
            "up0",
            world(HOST, tcp(4000, 5000, ACK)),
            Leave("h1", (WORLD, 4000), (C1, 80)),
        )
        .after("up0", syn.clone()),
        row("a published UDP port", "up0", world(HOST, udp(4000, 5001)), Leave("h1", (WORLD, 4000), (C1, 53))),
        row(
            "UDP without checksum",
            "up0",
            world(HOST, Payload::UdpUnsummed(4000, 5001)),
            Leave("h1", (WORLD, 4000), (C1, 53)),
        ),
        row(
            "the first port of a range",
            "up0",
            world(HOST, tcp(4000, 7000, SYN)),
            Leave("h2", (WORLD, 4000), (C2, 8000)),
        ),
        row("a port inside a range", "up0", world(HOST, tcp(4000, 7003, SYN)), Leave("h2", (WORLD, 4000), (C2, 8003))),
        row(
            "the last port of a range",
            "up0",
            world(HOST, tcp(4000, 7009, SYN)),
            Leave("h2", (WORLD, 4000), (C2, 8009)),
        ),
        row("the port after a range", "up0", world(HOST, tcp(4000, 7010, SYN)), Stop(Reason::NotOurs)),
        row(
            "a port published on this address",
            "up0",
            world(HOST, tcp(4000, 9000, SYN)),
            Leave("h2", (WORLD, 4000), (C2, 9000)),
        ),
        row(
            "a port published on another address",
            "up0",
            world([192, 168, 9, 1], tcp(4000, 9000, SYN)),
            Stop(Reason::NotOurs),
        ),
        row(
            "a port published on any address, by another",
            "up0",
            world([192, 168, 9, 1], tcp(4000, 5000, SYN)),
            Leave("h1", (WORLD, 4000), (C1, 80)),
        ),
        row("a published port of the other protocol", "up0", world(HOST, udp(4000, 5000)), Stop(Reason::NotOurs)),
        row(
            "a published port of somebody else's address",
            "up0",
            world([10, 0, 2, 99], tcp(4000, 5000, SYN)),
            Stop(Reason::NotOurs),
        ),
        row(
            "a published port of a loopback address",
            "up0",
            world([127, 0, 0, 1], tcp(4000, 5000, SYN)),
            Stop(Reason::Martian),
        ),
        row("mid-stream to a published port", "up0", world(HOST, tcp(4000, 5000, ACK)), Stop(Reason::NotOurs)),
        row("an admitted source", "up0", world(HOST, tcp(4000, 6000, SYN)), Leave("h1", (WORLD, 4000), (C1, 80))),
        row(
            "a source that is not admitted",
            "up0",
            outside(bench, NEAR, HOST, tcp(4000, 6000, SYN)),
            Stop(Reason::SourceNotAdmitted),
        ),
        row(
            "to a published port from the host's own address",
            "up0",
            outside(bench, HOST, HOST, tcp(4000, 5000, SYN)),
            Stop(Reason::SourceNotOutside),
        ),
        row(
            "to a published port from another address of the host's",
            "up0",
            outside(bench, GATEWAY, HOST, tcp(4000, 5000, SYN)),
            Stop(Reason::SourceNotOutside),
        ),
        row(
            "to a published port from a container's address",
            "up0",
            outside(bench, C2, HOST, tcp(4000, 5000, SYN)),
            Stop(Reason::SourceNotOutside),
        ),
        row(
            "to a published port from a free address of a network",
            "up0",
            outside(bench, [172, 19, 0, 77], HOST, tcp(4000, 5000, SYN)),
            Stop(Reason::SourceNotOutside),
        ),
        row(
            "to a published port from a loopback address",
            "up0",
            outside(bench, [127, 0, 0, 1], HOST, tcp(4000, 5000, SYN)),
            Stop(Reason::Martian),
        ),
        row(
            "to a published port from no address",
            "up0",
            outside(bench, [0; 4], HOST, tcp(4000, 5000, SYN)),
            Stop(Reason::SourceNotOutside),
        ),
        row(
            "to a published port from a multicast address",
            "up0",
            outside(bench, [224, 0, 0, 1], HOST, tcp(4000, 5000, SYN)),
            Stop(Reason::Martian),
        ),
        row(
            "loopback's, to the host itself",
            "up0",
            outside(bench, [127, 0, 0, 1], HOST, tcp(4000, 22, SYN)),
            Stop(Reason::Martian),
        ),
        row(
            "to a loopback address",
            "up0",
            outside(bench, WORLD, [127, 0, 0, 1], tcp(4000, 22, ACK)),
            Stop(Reason::Martian),
        ),
        row("from no address to all", "up0", outside(bench, [0; 4], [255; 4], udp(68, 67)), Stop(Reason::NotOurs)),
        row("from 240.0.0.0/4", "up0", outside(bench, [240, 0, 0, 1], HOST, tcp(4000, 22, SYN)), Stop(Reason::NotOurs)),
        row(
            "to a published port from the broadcast address",
            "up0",
            outside(bench, [255; 4], HOST, tcp(4000, 5000, SYN)),
            Stop(Reason::Martian),
        ),
        row(
            "an answer from outside",
            "up0",
            world(HOST, tcp(80, 4000, SYN | ACK)),
            Leave("h1", (WORLD, 80), (C1, 4000)),
        )
        .after("h1", masqueraded()),
        row(
            "an answer to a reused port comes from its own peer only",
            "up0",
            outside(bench, NEAR, HOST, tcp(80, 4000, SYN | ACK)),
            Stop(Reason::NotOurs),
        )
        .after("h1", masqueraded()),
        row(
            "an answer without masquerade",
            "up0",
            world(C3, tcp(80, 4000, SYN | ACK)),
            Leave("h3", (WORLD, 80), (C3, 4000)),
        )
        .after("h3", from(C3, WORLD, tcp(4000, 80, SYN))),
        row("an echo reply", "up0", world(HOST, Payload::Echo(0, 77)), Leave("h1", (WORLD, 0), (C1, 77)))
            .after("h1", from(C1, WORLD, Payload::Echo(8, 77))),
        row(
            "an echo request with a flow's identifier",
            "up0",
            world(HOST, Payload::Echo(8, 77)),
            Stop(Reason::NotOurs),
        )
        .after("h1", from(C1, WORLD, Payload::Echo(8, 77))),
        row("an echo reply nobody waits for", "up0", world(HOST, Payload::Echo(0, 78)), Stop(Reason::NotOurs)),
        row("an echo request to the host", "up0", world(HOST, Payload::Echo(8, 5000)), Stop(Reason::NotOurs)),
        row("the host's own traffic", "up0", world(HOST, tcp(443, 40000, ACK)), Stop(Reason::NotOurs)),
        row("straight to a container", "up0", world(C1, tcp(4000, 80, SYN)), Stop(Reason::NotOurs)),
        row(
            "a container's own tuple from outside",
            "up0",
            outside(bench, C1, WORLD, tcp(4000, 80, ACK)),
            Stop(Reason::NotOurs),
        )
        .after("h1", masqueraded()),
        row(
            "a container's answer from outside",
            "up0",
            outside(bench, C1, WORLD, tcp(80, 4000, ACK)),
            Stop(Reason::NotOurs),
        )
        .after("up0", syn.clone()),
        row("another protocol", "up0", world(HOST, Payload::Other(47, vec![0; 8])), Stop(Reason::NotOurs)),
        row("for another machine", "up0", for_another, Stop(Reason::NotOurs)),
        row("the last hop", "up0", Ipv4Frame { ttl: 1, ..syn }, Stop(Reason::TtlExceeded)),
        raw("a truncated packet", "up0", truncated, Reason::NotOurs),
        raw("ARP", "up0", arp, Reason::NotOurs),
    ]
}

/// A UDP packet whose checksum, once masqueraded, comes out as zero.
fn sums_to_zero() -> Ipv4Frame {
    let frame = |data: u16| from(C1, WORLD, Payload::Udp(4000, 53, data.to_be_bytes().to_vec()));
    (0..=u16::MAX)
        .map(frame)
        .find(|frame| {
            let translated = Ipv4Frame { source: HOST.into(), ..frame.clone() }.bytes();
            translated[40..42] == [0xff, 0xff]
        })
        .expect("one of all data words")
}

fn check(bench: &mut Bench, rows: Vec<Row>) {
    let mut failures = Vec::new();
    let count = rows.len();
    for row in rows {
        bench.flush();
        for (entry, input, frame) in &row.history {
            let bytes = frame.bytes();
            let action = bench.kernel(*entry, input, &bytes).action;
            assert!(action == 7 || frame.fragment != 0, "{}: what comes before it", row.what);
            let _ = bench.pure(*entry, input, &bytes);
        }
        if let Err(failure) = check_row(bench, &row) {
            failures.push(format!("{}: {failure}", row.what));
        }
    }
    assert!(failures.is_empty(), "{} of {count} rows failed:\n{}", failures.len(), failures.join("\n"));
}

/// The error that a row's sender gets: by the gateway of its network, or by the host.
#[expect(clippy::wildcard_enum_match_arm, reason = "most are nobody's business")]
fn answered(row: &Row, reason: Reason) -> Option<Vec<u8>> {
    let Frame::Ipv4(frame) = &row.frame else { return None };
    let (kind, code, mtu) = match reason {
        Reason::TtlExceeded => (11, 0, 0),
        Reason::TooLong => (3, 4, 1500),
        Reason::PortsExhausted | Reason::SctpPortTaken | Reason::TableFull | Reason::TooManyFlows => (3, 13, 0),
        Reason::NoRoute => (3, 0, 0),
        _ => return None,
    };
    if matches!(frame.payload, Payload::Error(..)) || frame.fragment & 0x1fff != 0 {
        return None;
    }
    let [a, b, ..] = frame.source.octets();
    let speaker = if row.entry == Entry::HostSide { [a, b, 0, 1] } else { HOST };
    let bytes = frame.bytes();
    let quote = &bytes[14..(bytes.len() & !1).min(14 + 96)];
    let mut segment = vec![kind, code, 0, 0, 0, 0];
    segment.extend(u16::to_be_bytes(mtu));
    segment.extend(quote);
    let sum = checksum(&segment);
    segment[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut header = vec![0x45, 0xc0];
    header.extend(u16::try_from(20 + segment.len()).expect("a short packet").to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, 1, 0, 0]);
    header.extend(speaker);
    header.extend(frame.source.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Some([&frame.macs.1[..], &frame.macs.0, &[8, 0], &header, &segment].concat())
}

#[expect(clippy::too_many_lines, reason = "one arm for each thing that a row can expect")]
fn check_row(bench: &Bench, row: &Row) -> Result<(), String> {
    let bytes = match &row.frame {
        Frame::Ipv4(frame) => frame.bytes(),
        Frame::Raw(bytes) => bytes.clone(),
    };
    let before = bench.datapath.reasons().expect("the counts");
    let trial = bench.kernel(row.entry, row.input, &bytes);
    let after = bench.datapath.reasons().expect("the counts");
    let counted: Vec<_> =
        after.iter().filter(|(name, count)| before[*name] != **count).map(|(name, _)| *name).collect();
    // Which types of frames are ours, and which frames are for us, the programs see before the decision.
    let pure = if let Frame::Ipv4(frame) = &row.frame
        && frame.macs.0 != ANOTHER_MACHINE
    {
        bench.pure(row.entry, row.input, &bytes)
    } else {
        None
    };
    match &row.expect {
        Expect::Stop(reason) => {
            let decision = match pure {
                Some(Decision::TooLong(_)) => Some(Decision::Stop(Reason::TooLong)),
                decision => decision,
            };
            if let Some(decision) = decision
                && decision != Decision::Stop(*reason)
            {
                return Err(format!("the pure code says {decision:?}, not {reason:?}"));
            }
            let (action, wanted) = match (reason.fate(), answered(row, *reason)) {
                (Fate::Punt, _) => (-1, bytes),
                (Fate::Drop | Fate::Hold, None) => (2, bytes),
                (Fate::Drop | Fate::Hold, Some(answer)) => (7, answer),
            };
            if counted != [reason.name()] {
                return Err(format!("the kernel counted {counted:?}, not {}", reason.name()));
            }
            if trial.action != action || trial.frame != wanted {
                return Err(format!(
                    "the kernel did {} and left\n {:02x?}, not\n {wanted:02x?}",
                    trial.action, trial.frame
                ));
            }
        }
        Expect::LeaveError(through, source, destination, quoted_source, quoted_destination) => {
            let Some(Decision::ForwardError(translation)) = pure else {
                return Err(format!("the pure code says {pure:?}"));
            };
            let Frame::Ipv4(frame) = &row.frame else { return Err("a raw frame does not leave".to_owned()) };
            let (outer, quoted) = (&translation.outer, &translation.quoted);
            let seen = (
                outer.output,
                outer.tuple.source.octets(),
                outer.tuple.destination.octets(),
                (quoted.source.octets(), quoted.source_port.get()),
                (quoted.destination.octets(), quoted.destination_port.get()),
            );
            if seen != (bench.index(through), *source, *destination, *quoted_source, *quoted_destination) {
                return Err(format!("the pure code lets it leave by {seen:?}"));
            }
            if trial.action != 7 || !counted.is_empty() {
                return Err(format!("the kernel did {} and counted {counted:?}", trial.action));
            }
            let mut wanted = translated(frame, outer);
            if let Payload::Error(kind, code, inner, length) = &frame.payload {
                let inner = Ipv4Frame {
                    source: Ipv4Addr::from(quoted.source.octets()),
                    destination: Ipv4Addr::from(quoted.destination.octets()),
                    payload: inner.payload.with_ports(quoted.source_port.get(), quoted.destination_port.get()),
                    ..(**inner).clone()
                };
                wanted.payload = Payload::Error(*kind, *code, Box::new(inner), *length);
            }
            let wanted = wanted.bytes();
            if trial.frame != wanted {
                return Err(format!("the kernel left\n {:02x?}, not\n {wanted:02x?}", trial.frame));
            }
        }
        Expect::PutBack => {
            if pure != Some(Decision::PutBack) {
                return Err(format!("the pure code says {pure:?}"));
            }
            if trial.action != 2 || !counted.is_empty() {
                return Err(format!("the kernel did {} and counted {counted:?}", trial.action));
            }
        }
        Expect::Leave(through, source, destination) => {
            let Some(Decision::Forward(translation) | Decision::ForwardFragment(translation, _)) = pure else {
                return Err(format!("the pure code says {pure:?}"));
            };
            let Frame::Ipv4(frame) = &row.frame else { return Err("a raw frame does not leave".to_owned()) };
            let tuple = &translation.tuple;
            let seen = (
                translation.output,
                (tuple.source.octets(), tuple.source_port.get()),
                (tuple.destination.octets(), tuple.destination_port.get()),
            );
            if seen != (bench.index(through), *source, *destination) {
                return Err(format!("the pure code lets it leave by {seen:?}"));
            }
            if trial.action != 7 || !counted.is_empty() {
                return Err(format!("the kernel did {} and counted {counted:?}", trial.action));
            }
            let mut wanted = translated(frame, &translation);
            if matches!(pure, Some(Decision::ForwardFragment(..))) && wanted.source != frame.source {
                // The kernel's own choice.
                wanted.id = u16::from_be_bytes([trial.frame[18], trial.frame[19]]);
            }
            let wanted = wanted.bytes();
            if trial.frame != wanted {
                return Err(format!("the kernel left\n {:02x?}, not\n {wanted:02x?}", trial.frame));
            }
        }
    }
    Ok(())
}

/// The frame as it must leave, all its checksums computed anew.
fn translated(frame: &Ipv4Frame, translation: &Translation<V4>) -> Ipv4Frame {
    if translation.exit == exit::BRIDGED {
        // The bench's containers take their MACs from their addresses.
        let mac = |address: V4| Mac::from_ipv4(address.octets().into()).0;
        let macs = (mac(translation.tuple.destination), mac(translation.tuple.source));
        return Ipv4Frame { macs, ..frame.clone() };
    }
    let tuple = &translation.tuple;
    let macs = if translation.exit == exit::PEER { (translation.macs.destination(), BRIDGE_MAC) } else { frame.macs };
    Ipv4Frame {
        macs,
        source: Ipv4Addr::from(tuple.source.octets()),
        destination: Ipv4Addr::from(tuple.destination.octets()),
        ttl: frame.ttl - 1,
        payload: frame.payload.with_ports(tuple.source_port.get(), tuple.destination_port.get()),
        ..frame.clone()
    }
}

#[test]
fn icmp_errors_and_what_they_quote() {
    with_bench(|bench| {
        set_up(bench);
        let rows = rows_of_errors(bench);
        check(bench, rows);
    });
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows_of_errors(bench: &Bench) -> Vec<Row> {
    use Expect::{Leave, LeaveError, Stop};
    let syn = || from(C1, WORLD, Payload::Tcp(4000, 80, SYN));
    let datagram = || from(C1, WORLD, Payload::Udp(4000, 53, b"hello".to_vec()));
    let published = || outside(bench, WORLD, HOST, Payload::Udp(4000, 5001, b"hello".to_vec()));
    // What a packet looked like when it was somewhere: the quote.
    let seen = |source, destination, payload| Ipv4Frame { ttl: 7, ..from(source, destination, payload) };
    let error = |kind, code, quoted: Ipv4Frame| {
        let length = quoted.bytes().len() - 14;
        Payload::Error(kind, code, Box::new(quoted), length)
    };
    let short = |kind, code, quoted: Ipv4Frame| Payload::Error(kind, code, Box::new(quoted), 28);
    let masqueraded = || seen(HOST, WORLD, Payload::Tcp(4000, 80, SYN));
    let masqueraded_udp = || seen(HOST, WORLD, Payload::Udp(4000, 53, b"hello".to_vec()));
    let back_to_c1 = |source| LeaveError("h1", source, C1, (C1, 4000), (WORLD, 80));
    vec![
        row(
            "time exceeded at a router",
            "up0",
            outside(bench, NEAR, HOST, error(11, 0, masqueraded())),
            back_to_c1(NEAR),
        )
        .after("h1", syn()),
        row(
            "a quote of eight bytes, which end before TCP's checksum",
            "up0",
            outside(bench, NEAR, HOST, short(11, 0, masqueraded())),
            back_to_c1(NEAR),
        )
        .after("h1", syn()),
        row(
            "fragmentation needed, quoted with IP options",
            "up0",
            outside(bench, NEAR, HOST, error(3, 4, Ipv4Frame { options: vec![1; 8], ..masqueraded() })),
            back_to_c1(NEAR),
        )
        .after("h1", syn()),
        row(
            "an error that has IP options itself",
            "up0",
            Ipv4Frame { options: vec![1; 40], ..outside(bench, NEAR, HOST, error(3, 4, masqueraded())) },
            back_to_c1(NEAR),
        )
        .after("h1", syn()),
        row(
            "port unreachable by the peer itself",
            "up0",
            outside(bench, WORLD, HOST, error(3, 3, masqueraded_udp())),
            LeaveError("h1", WORLD, C1, (C1, 4000), (WORLD, 53)),
        )
        .after("h1", datagram()),
        row(
            "a quoted datagram without checksum stays without",
            "up0",
            outside(bench, WORLD, HOST, error(3, 3, seen(HOST, WORLD, Payload::UdpUnsummed(4000, 53)))),
            LeaveError("h1", WORLD, C1, (C1, 4000), (WORLD, 53)),
        )
        .after("h1", from(C1, WORLD, Payload::UdpUnsummed(4000, 53))),
        row(
            "time exceeded for an echo request",
            "up0",
            outside(bench, NEAR, HOST, error(11, 0, seen(HOST, WORLD, Payload::Echo(8, 77)))),
            LeaveError("h1", NEAR, C1, (C1, 77), (WORLD, 0)),
        )
        .after("h1", from(C1, WORLD, Payload::Echo(8, 77))),
        row(
            "an error about an answer of a published port",
            "up0",
            outside(bench, NEAR, HOST, error(3, 4, seen(HOST, WORLD, Payload::Udp(5001, 4000, b"hello".to_vec())))),
            LeaveError("h1", NEAR, C1, (C1, 53), (WORLD, 4000)),
        )
        .after("up0", published()),
        row(
            "port unreachable by the container behind a published port",
            "h1",
            from(C1, WORLD, error(3, 3, seen(WORLD, C1, Payload::Udp(4000, 53, b"hello".to_vec())))),
            LeaveError("up0", HOST, WORLD, (WORLD, 4000), (HOST, 5001)),
        )
        .after("up0", published()),
        row(
            "the same by a hairpin",
            "h1",
            from(C1, C2, error(3, 3, seen(C2, C1, Payload::Udp(4000, 53, b"hello".to_vec())))),
            LeaveError("h2", HOST, C2, (C2, 4000), (HOST, 5001)),
        )
        .after("h2", from(C2, HOST, Payload::Udp(4000, 5001, b"hello".to_vec()))),
        row(
            "between neighbours nothing is translated",
            "h1",
            from(C1, C2, error(3, 3, seen(C2, C1, Payload::Udp(4000, 53, b"hello".to_vec())))),
            Leave("h2", (C1, 0), (C2, 0)),
        )
        .after("h2", from(C2, C1, Payload::Udp(4000, 53, b"hello".to_vec()))),
        row(
            "an error in a neighbour's name",
            "h1",
            from(C2, WORLD, error(3, 3, seen(WORLD, C1, Payload::Udp(4000, 53, b"hello".to_vec())))),
            Stop(Reason::SourceAddressSpoofed),
        )
        .after("up0", published()),
        row(
            "an error about another container's flow",
            "h2",
            from(C2, WORLD, error(3, 3, seen(WORLD, C1, Payload::Udp(4000, 53, b"hello".to_vec())))),
            Stop(Reason::ErrorOfNoFlow),
        )
        .after("up0", published()),
        row(
            "an error of no flow",
            "up0",
            outside(bench, NEAR, HOST, error(11, 0, masqueraded())),
            Stop(Reason::NotOurs),
        ),
        row(
            "an error about what was never sent",
            "up0",
            outside(bench, NEAR, HOST, error(11, 0, seen(HOST, WORLD, Payload::Tcp(4001, 80, SYN)))),
            Stop(Reason::NotOurs),
        )
        .after("h1", syn()),
        row(
            "an error about a later fragment",
            "up0",
            outside(bench, NEAR, HOST, error(11, 1, Ipv4Frame { fragment: 0x0010, ..masqueraded() })),
            Stop(Reason::NotOurs),
        )
        .after("h1", syn()),
        row(
            "an error about an error",
            "up0",
            outside(bench, NEAR, HOST, error(11, 0, seen(HOST, WORLD, short(3, 3, masqueraded())))),
            Stop(Reason::NotOurs),
        )
        .after("h1", syn()),
        row(
            "a quote cut short in its ports",
            "up0",
            outside(bench, NEAR, HOST, Payload::Error(11, 0, Box::new(masqueraded()), 22)),
            Stop(Reason::NotOurs),
        )
        .after("h1", syn()),
        row(
            "an error with the last hop",
            "up0",
            Ipv4Frame { ttl: 1, ..outside(bench, NEAR, HOST, error(11, 0, masqueraded())) },
            Stop(Reason::TtlExceeded),
        )
        .after("h1", syn()),
    ]
}

#[test]
fn sctp_keeps_its_ports_and_checksum() {
    with_bench(|bench| {
        set_up(bench);
        let rows = rows_of_sctp(bench);
        check(bench, rows);
    });
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows_of_sctp(bench: &Bench) -> Vec<Row> {
    use Expect::{Leave, LeaveError, Stop};
    let packet = |source, destination, tag, chunk| Payload::Sctp(sctp::Packet { source, destination, tag, chunk });
    let init = |source, destination| packet(source, destination, 0, sctp::init(9));
    let data = |source, destination| packet(source, destination, 7, sctp::data());
    let sent = || from(C1, WORLD, init(4000, 5000));
    let published = || outside(bench, WORLD, HOST, init(4000, 5002));
    let quoted = || Box::new(Ipv4Frame { ttl: 7, ..from(HOST, WORLD, data(4000, 5000)) });
    let mut cut_short = from(C1, WORLD, init(4000, 5000)).bytes();
    // The IP packet ends within the first chunk's header.
    cut_short[17] = 20 + 15;
    vec![
        row("an INIT is masqueraded", "h1", sent(), Leave("up0", (HOST, 4000), (WORLD, 5000))),
        row(
            "data of an association",
            "h1",
            from(C1, WORLD, data(4000, 5000)),
            Leave("up0", (HOST, 4000), (WORLD, 5000)),
        )
        .after("h1", sent()),
        row(
            "an INIT ACK from outside",
            "up0",
            outside(bench, WORLD, HOST, packet(5000, 4000, 9, sctp::init_ack(7))),
            Leave("h1", (WORLD, 5000), (C1, 4000)),
        )
        .after("h1", sent()),
        row(
            "without masquerade the source stays",
            "h3",
            from(C3, WORLD, init(4000, 5000)),
            Leave("up0", (C3, 4000), (WORLD, 5000)),
        ),
        row("mid-stream outwards", "h1", from(C1, WORLD, data(4000, 5000)), Stop(Reason::NoFlow)),
        row(
            "an INIT with a tag begins nothing",
            "h1",
            from(C1, WORLD, packet(4000, 5000, 7, sctp::init(9))),
            Stop(Reason::NoFlow),
        ),
        row(
            "an INIT ACK begins nothing",
            "h1",
            from(C1, WORLD, packet(4000, 5000, 0, sctp::init_ack(9))),
            Stop(Reason::NoFlow),
        ),
        row(
            "SHUTDOWN COMPLETE begins nothing",
            "h1",
            from(C1, WORLD, packet(4000, 5000, 7, sctp::shutdown_complete())),
            Stop(Reason::NoFlow),
        ),
        row(
            "a port that another container's association has",
            "h2",
            from(C2, WORLD, init(4000, 5000)),
            Stop(Reason::SctpPortTaken),
        )
        .after("h1", sent()),
        row(
            "the same port toward another place",
            "h2",
            from(C2, NEAR, init(4000, 5000)),
            Leave("up0", (HOST, 4000), (NEAR, 5000)),
        )
        .after("h1", sent()),
        row("a published port", "up0", published(), Leave("h1", (WORLD, 4000), (C1, 5002))),
        row(
            "an answer to a published client",
            "h1",
            from(C1, WORLD, packet(5002, 4000, 9, sctp::init_ack(7))),
            Leave("up0", (HOST, 5002), (WORLD, 4000)),
        )
        .after("up0", published()),
        row(
            "the last port of a range",
            "up0",
            outside(bench, WORLD, HOST, init(4000, 5003)),
            Leave("h1", (WORLD, 4000), (C1, 5003)),
        ),
        row(
            "mid-stream to a published port",
            "up0",
            outside(bench, WORLD, HOST, data(4000, 5002)),
            Stop(Reason::NotOurs),
        ),
        row("hairpin", "h2", from(C2, HOST, init(4000, 5002)), Leave("h1", (C2, 4000), (C1, 5002))),
        row("hairpin to itself", "h1", from(C1, HOST, init(4000, 5002)), Leave("h1", (GATEWAY, 4000), (C1, 5002))),
        row("to a neighbour", "h1", from(C1, C2, init(4000, 5000)), Leave("h2", (C1, 4000), (C2, 5000))),
        row("to a neighbour in mid-stream", "h1", from(C1, C2, data(4000, 5000)), Leave("h2", (C1, 4000), (C2, 5000))),
        row(
            "an error that quotes eight bytes of it",
            "up0",
            outside(bench, NEAR, HOST, Payload::Error(3, 4, quoted(), 28)),
            LeaveError("h1", NEAR, C1, (C1, 4000), (WORLD, 5000)),
        )
        .after("h1", sent()),
        row(
            "an error that quotes all of it",
            "up0",
            outside(bench, NEAR, HOST, Payload::Error(3, 4, quoted(), 56)),
            LeaveError("h1", NEAR, C1, (C1, 4000), (WORLD, 5000)),
        )
        .after("h1", sent()),
        raw("cut short", "h1", cut_short, Reason::Malformed),
    ]
}

#[test]
fn a_syn_asks_for_no_longer_segments_than_go_through() {
    with_bench(|bench| {
        set_up(bench);
        // The bench's networks have an MTU of 1500.
        let uplink = Interface { index: bench.index("up0"), name: "up0".to_owned() };
        for (mtu, most) in [(1400, 1360), (9000, 1460), (1500, u16::MAX)] {
            bench.datapath.put_uplink(&uplink, Some(HOST.into()), None, mtu).expect("another MTU");
            for (what, before, value_at) in
                [("alone", vec![], 2), ("behind others", vec![4, 2, 3, 3, 7, 1], 8), ("across two words", vec![1], 3)]
            {
                for value in [536, 1360, 1361, 1460, 1461, 8960] {
                    let options = |value: u16| {
                        let mut options = [&before[..], &[2, 4], &value.to_be_bytes()].concat();
                        options.resize(options.len().next_multiple_of(4), 0);
                        assert_eq!(options[value_at..value_at + 2], value.to_be_bytes());
                        options
                    };
                    let what = format!("{value}, {what}, by an uplink of {mtu}");
                    bench.flush();
                    let tcp = |source, destination, flags, value| {
                        Payload::TcpOptions(source, destination, flags, options(value))
                    };
                    let syn = from(C1, WORLD, tcp(4000, 80, SYN, value));
                    let leaves = Ipv4Frame {
                        source: HOST.into(),
                        ttl: 63,
                        payload: tcp(4000, 80, SYN, value.min(most)),
                        ..syn.clone()
                    };
                    // The first, and the next one, of a flow that is known.
                    for _ in 0..2 {
                        assert_eq!(bench.kernel(Entry::HostSide, "h1", &syn.bytes()).frame, leaves.bytes(), "{what}");
                    }
                    let answer = outside(bench, WORLD, HOST, tcp(80, 4000, SYN | ACK, value));
                    let arrives = Ipv4Frame {
                        macs: (Mac::from_ipv4(C1.into()).0, BRIDGE_MAC),
                        destination: C1.into(),
                        ttl: 63,
                        payload: tcp(80, 4000, SYN | ACK, value.min(most)),
                        ..answer.clone()
                    };
                    assert_eq!(bench.kernel(Entry::Uplink, "up0", &answer.bytes()).frame, arrives.bytes(), "{what}");
                    // What is no SYN says nothing.
                    let data = from(C1, WORLD, tcp(4000, 80, ACK, value));
                    let leaves = Ipv4Frame { source: HOST.into(), ttl: 63, ..data.clone() };
                    assert_eq!(bench.kernel(Entry::HostSide, "h1", &data.bytes()).frame, leaves.bytes(), "{what}");
                    // By a publish it is the other side that begins.
                    let published = outside(bench, WORLD, HOST, tcp(4000, 5000, SYN, value));
                    let arrives = Ipv4Frame {
                        macs: (Mac::from_ipv4(C1.into()).0, BRIDGE_MAC),
                        destination: C1.into(),
                        ttl: 63,
                        payload: tcp(4000, 80, SYN, value.min(most)),
                        ..published.clone()
                    };
                    assert_eq!(bench.kernel(Entry::Uplink, "up0", &published.bytes()).frame, arrives.bytes(), "{what}");
                    // Between neighbours no uplink is in the way.
                    let neighbours = from(C1, C2, tcp(4000, 80, SYN, value));
                    let macs = (Mac::from_ipv4(C2.into()).0, Mac::from_ipv4(C1.into()).0);
                    let arrives = Ipv4Frame { macs, ..neighbours.clone() };
                    assert_eq!(
                        bench.kernel(Entry::HostSide, "h1", &neighbours.bytes()).frame,
                        arrives.bytes(),
                        "{what}"
                    );
                }
            }
        }
    });
}

#[test]
fn on_a_full_cone_network_anybody_reaches_a_port_that_the_container_sent_from() {
    with_bench(|bench| {
        set_up(bench);
        bench.put_full_cone("cwa");
        let rows = rows_of_full_cone(bench);
        check(bench, rows);
    });
}

fn rows_of_full_cone(bench: &Bench) -> Vec<Row> {
    use Expect::{Leave, LeaveError, Stop};
    let tcp = |source, destination, flags| Payload::Tcp(source, destination, flags);
    let udp = |source, destination| Payload::Udp(source, destination, b"hello".to_vec());
    let sent = || from(C1, WORLD, udp(4000, 53));
    let syn = || from(C1, WORLD, tcp(4000, 80, SYN));
    let quoted = || Box::new(Ipv4Frame { ttl: 7, ..from(HOST, NEAR, udp(4000, 9)) });
    vec![
        row("the first", "h1", sent(), Leave("up0", (HOST, 4000), (WORLD, 53))),
        row("to another destination", "h1", from(C1, NEAR, udp(4000, 9)), Leave("up0", (HOST, 4000), (NEAR, 9)))
            .after("h1", sent()),
        row("from another host", "up0", outside(bench, NEAR, HOST, udp(9, 4000)), Leave("h1", (NEAR, 9), (C1, 4000)))
            .after("h1", sent()),
        row("an answer to it", "h1", from(C1, NEAR, udp(4000, 9)), Leave("up0", (HOST, 4000), (NEAR, 9)))
            .after("h1", sent())
            .after("up0", outside(bench, NEAR, HOST, udp(9, 4000))),
        row(
            "a SYN from another host",
            "up0",
            outside(bench, NEAR, HOST, tcp(9, 4000, SYN)),
            Leave("h1", (NEAR, 9), (C1, 4000)),
        )
        .after("h1", syn()),
        row(
            "mid-stream from another host",
            "up0",
            outside(bench, NEAR, HOST, tcp(9, 4000, ACK)),
            Stop(Reason::NotOurs),
        )
        .after("h1", syn()),
        row("of the other protocol", "up0", outside(bench, NEAR, HOST, tcp(9, 4000, SYN)), Stop(Reason::NotOurs))
            .after("h1", sent()),
        row("before there is a mapping", "up0", outside(bench, NEAR, HOST, udp(9, 4000)), Stop(Reason::NotOurs)),
        row("to another port", "up0", outside(bench, NEAR, HOST, udp(9, 4001)), Stop(Reason::NotOurs))
            .after("h1", sent()),
        row(
            "with a neighbour's address",
            "up0",
            outside(bench, C2, HOST, udp(9, 4000)),
            Stop(Reason::SourceNotOutside),
        )
        .after("h1", sent()),
        row(
            "with the mapping's own key",
            "up0",
            outside(bench, HOST, HOST, udp(0, 4000)),
            Stop(Reason::SourceNotOutside),
        )
        .after("h1", sent()),
        row(
            "an error about what left by it",
            "up0",
            outside(bench, NEAR, HOST, Payload::Error(3, 3, quoted(), 28)),
            LeaveError("h1", NEAR, C1, (C1, 4000), (NEAR, 9)),
        )
        .after("h1", sent())
        .after("h1", from(C1, NEAR, udp(4000, 9))),
        row("hairpin", "h2", from(C2, HOST, udp(9, 4000)), Leave("h1", (C2, 9), (C1, 4000))).after("h1", sent()),
        row("hairpin answer", "h1", from(C1, C2, udp(4000, 9)), Leave("h2", (HOST, 4000), (C2, 9)))
            .after("h1", sent())
            .after("h2", from(C2, HOST, udp(9, 4000))),
        row("hairpin from another network", "h3", from(C3, HOST, udp(9, 4000)), Leave("h1", (C3, 9), (C1, 4000)))
            .after("h1", sent()),
        row("hairpin to itself", "h1", from(C1, HOST, udp(9, 4000)), Leave("h1", (GATEWAY, 9), (C1, 4000)))
            .after("h1", sent()),
        row("to a port of the host that is no mapping's", "h2", from(C2, HOST, udp(9, 4001)), Stop(Reason::ToHost))
            .after("h1", sent()),
        row(
            "an echo request has no mapping",
            "h1",
            from(C1, WORLD, Payload::Echo(8, 77)),
            Leave("up0", (HOST, 77), (WORLD, 0)),
        ),
        row("to a published port", "h2", from(C2, HOST, tcp(4000, 5000, SYN)), Leave("h1", (C2, 4000), (C1, 80))),
        row("to a neighbour", "h1", from(C1, C2, udp(4000, 53)), Leave("h2", (C1, 4000), (C2, 53))),
    ]
}

#[test]
fn a_mapping_keeps_one_port_and_shares_it_with_nobody() {
    with_bench(|bench| {
        set_up(bench);
        bench.put_full_cone("cwa");
        let port = |bench: &Bench, host_side, source, to, destination| {
            let sent = from(source, to, Payload::Udp(destination, 53, vec![]));
            let trial = bench.kernel(Entry::HostSide, host_side, &sent.bytes());
            assert_eq!(trial.action, 7);
            u16::from_be_bytes(trial.frame[34..36].try_into().expect("two bytes"))
        };
        assert_eq!(port(bench, "h1", C1, WORLD, 4000), 4000);
        let other = port(bench, "h2", C2, NEAR, 4000);
        assert_ne!(other, 4000, "toward whomever");
        assert_eq!(port(bench, "h2", C2, WORLD, 4000), other, "it has one of its own, for all");
        assert_ne!(port(bench, "h1", C1, WORLD, 5001), 5001, "that one is published");
        let (mappings, flows): (Vec<_>, Vec<_>) =
            bench.datapath.flows().expect("the flows").into_iter().partition(|flow| flow.state == "mapping");
        assert_eq!((mappings.len(), flows.len()), (3, 4));
        // It ends with its endpoint.
        bench.datapath.remove_publish(&publish_entry(C1, "5000:80", &[])).expect("it goes");
        bench.datapath.remove_endpoint(IpAddr::from(C1)).expect("it goes");
        let arriving = outside(bench, NEAR, HOST, Payload::Udp(9, 4000, vec![])).bytes();
        assert_eq!(bench.kernel(Entry::Uplink, "up0", &arriving).action, -1);
        assert_eq!(port(bench, "h2", C2, WORLD, 4000), other, "the neighbour's stays");
    });
}

#[test]
fn mappings_are_known_to_the_next_agent_before_it_has_put_anything() {
    with_bench(|bench| {
        set_up(bench);
        bench.put_full_cone("cwa");
        let sent = from(C1, WORLD, Payload::Udp(4000, 53, vec![])).bytes();
        assert_eq!(bench.kernel(Entry::HostSide, "h1", &sent).action, 7);
        let arriving = |port| outside(bench, NEAR, HOST, Payload::Udp(port, 4000, vec![])).bytes();
        let frames = [arriving(9), arriving(10), arriving(11)];
        assert_eq!(bench.kernel(Entry::Uplink, "up0", &frames[0]).action, 7);
        bench.restart();
        assert_eq!(bench.kernel(Entry::Uplink, "up0", &frames[1]).action, 7);
        // The network is put again, without mappings.
        bench.put_host();
        bench.put_container(Place { address: C1, host_side: "h1", bridge: "cwa", closed: false, masquerade: true });
        bench.datapath.settle().expect("it settles");
        assert_eq!(bench.kernel(Entry::Uplink, "up0", &frames[2]).action, -1);
    });
}

#[test]
fn fragments_go_where_their_first_goes() {
    with_bench(|bench| {
        set_up(bench);
        let rows = rows_of_fragments(bench);
        check(bench, rows);
    });
}

/// The first fragment of a packet, with `id`.
fn first(id: u16, whole: Ipv4Frame) -> Ipv4Frame {
    Ipv4Frame { id, fragment: 0x2000, ..whole }
}

/// A later one of the same datagram.
fn later(id: u16, whole: Ipv4Frame) -> Ipv4Frame {
    let payload = Payload::Other(whole.payload.protocol(), b"of no port, and odd".to_vec());
    Ipv4Frame { id, fragment: 0x0010, payload, ..whole }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows_of_fragments(bench: &Bench) -> Vec<Row> {
    use Expect::{Leave, PutBack, Stop};
    let udp = |source, destination| Payload::Udp(source, destination, b"hello".to_vec());
    let out = || from(C1, WORLD, udp(4000, 53));
    let published = || outside(bench, WORLD, HOST, udp(4000, 5001));
    let hairpin = || from(C2, HOST, udp(4000, 5001));
    let hairpin_answer = || from(C1, C2, udp(53, 4000));
    let to_host = || outside(bench, WORLD, HOST, udp(4000, 9));
    let short = |payload: Payload, bytes: usize| {
        let mut frame = first(90, from(C1, WORLD, payload)).bytes();
        frame.truncate(14 + 20 + bytes);
        frame[16..18].copy_from_slice(&u16::try_from(20 + bytes).expect("short").to_be_bytes());
        frame
    };
    vec![
        row("a first one", "h1", first(1, out()), Leave("up0", (HOST, 4000), (WORLD, 53))),
        row("a later one", "h1", later(2, out()), Leave("up0", (HOST, 4000), (WORLD, 53))).after("h1", first(2, out())),
        row(
            "a first one with options",
            "h1",
            Ipv4Frame { options: vec![1; 8], ..first(3, out()) },
            Leave("up0", (HOST, 4000), (WORLD, 53)),
        ),
        row(
            "a first one without checksum",
            "h1",
            first(4, from(C1, WORLD, Payload::UdpUnsummed(4000, 53))),
            Leave("up0", (HOST, 4000), (WORLD, 53)),
        ),
        row(
            "a first one of an echo request",
            "h1",
            first(5, from(C1, WORLD, Payload::Echo(8, 77))),
            Leave("up0", (HOST, 77), (WORLD, 0)),
        ),
        row(
            "a later one of an echo request",
            "h1",
            later(6, from(C1, WORLD, Payload::Echo(8, 77))),
            Leave("up0", (HOST, 77), (WORLD, 0)),
        )
        .after("h1", first(6, from(C1, WORLD, Payload::Echo(8, 77)))),
        row(
            "a first one of TCP",
            "h1",
            first(7, from(C1, WORLD, Payload::Tcp(4000, 80, SYN))),
            Leave("up0", (HOST, 4000), (WORLD, 80)),
        ),
        row(
            "one without masquerade",
            "h3",
            later(8, from(C3, WORLD, udp(4000, 53))),
            Leave("up0", (C3, 4000), (WORLD, 53)),
        )
        .after("h3", first(8, from(C3, WORLD, udp(4000, 53)))),
        row("one that is ahead of its first", "h1", later(9, out()), Stop(Reason::FragmentHeld)),
        row("the first of one that is held", "h1", first(10, out()), PutBack).after("h1", later(10, out())),
        row("the first again", "h1", first(11, out()), Leave("up0", (HOST, 4000), (WORLD, 53)))
            .after("h1", later(11, out()))
            .after("h1", first(11, out())),
        row("one of another's datagram", "h2", later(12, from(C2, WORLD, udp(0, 0))), Stop(Reason::FragmentHeld))
            .after("h1", first(12, out())),
        row("one in another's name", "h2", later(13, out()), Stop(Reason::SourceAddressSpoofed))
            .after("h1", first(13, out())),
        row(
            "one of another protocol",
            "h1",
            later(14, from(C1, WORLD, Payload::Tcp(0, 0, 0))),
            Stop(Reason::FragmentHeld),
        )
        .after("h1", first(14, out())),
        row(
            "a first one of a protocol without ports",
            "h1",
            first(15, from(C1, WORLD, Payload::Other(47, vec![0; 8]))),
            Stop(Reason::ProtocolNotTranslated),
        ),
        row(
            "a later one of a datagram whose first was refused",
            "h1",
            later(16, from(C1, WORLD, Payload::Other(47, vec![0; 8]))),
            Stop(Reason::Fragment),
        )
        .after("h1", first(16, from(C1, WORLD, Payload::Other(47, vec![0; 8])))),
        row(
            "one longer than can be held",
            "h1",
            Ipv4Frame { payload: Payload::Other(17, vec![0; 2100]), ..later(17, out()) },
            Stop(Reason::Fragment),
        ),
        row(
            "one as long as can be held",
            "h1",
            Ipv4Frame { payload: Payload::Other(17, vec![0; 2048 - 34]), ..later(18, out()) },
            Stop(Reason::FragmentHeld),
        ),
        row("a later one with its last hop", "h1", Ipv4Frame { ttl: 1, ..later(19, out()) }, Stop(Reason::TtlExceeded))
            .after("h1", first(19, out())),
        row("to a neighbour", "h1", first(20, from(C1, C2, udp(4000, 53))), Leave("h2", (C1, 4000), (C2, 53))),
        row(
            "a later one to a neighbour",
            "h1",
            later(21, from(C1, C2, udp(4000, 53))),
            Leave("h2", (C1, 4000), (C2, 53)),
        )
        .after("h1", first(21, from(C1, C2, udp(4000, 53)))),
        row(
            "one to a neighbour that is ahead of its first",
            "h1",
            later(22, from(C1, C2, udp(4000, 53))),
            Leave("h2", (C1, 0), (C2, 0)),
        ),
        row(
            "the first of one that a neighbour has already",
            "h1",
            first(23, from(C1, C2, udp(4000, 53))),
            Leave("h2", (C1, 4000), (C2, 53)),
        )
        .after("h1", later(23, from(C1, C2, udp(4000, 53)))),
        row("to the host, ahead of its first", "h1", later(24, from(C1, GATEWAY, udp(0, 0))), Stop(Reason::ToHost)),
        row("to the host", "h1", later(25, from(C1, GATEWAY, udp(1, 2))), Stop(Reason::ToHost))
            .after("h1", first(25, from(C1, GATEWAY, udp(1, 2)))),
        row("to many", "h1", later(26, from(C1, [224, 0, 0, 251], udp(0, 0))), Stop(Reason::ToBridge)),
        row(
            "outwards from an internal network",
            "h4",
            first(27, from(C4, WORLD, udp(4000, 53))),
            Stop(Reason::InternalNetwork),
        ),
        row(
            "a later one outwards from an internal network",
            "h4",
            later(28, from(C4, WORLD, udp(4000, 53))),
            Stop(Reason::InternalNetwork),
        )
        .after("h4", first(28, from(C4, WORLD, udp(4000, 53)))),
        row("to a published port", "up0", first(40, published()), Leave("h1", (WORLD, 4000), (C1, 53))),
        row("a later one to a published port", "up0", later(41, published()), Leave("h1", (WORLD, 4000), (C1, 53)))
            .after("up0", first(41, published())),
        row("one from outside that is ahead of its first", "up0", later(42, published()), Stop(Reason::NotOurs)),
        row("the first of one that the host has too", "up0", first(43, published()), PutBack)
            .after("up0", later(43, published())),
        row("the first of the host's own", "up0", first(44, to_host()), Stop(Reason::NotOurs)),
        row("a later one of the host's own", "up0", later(45, to_host()), Stop(Reason::NotOurs))
            .after("up0", first(45, to_host())),
        row("the first of the host's own, late", "up0", first(46, to_host()), Stop(Reason::NotOurs))
            .after("up0", later(46, to_host())),
        row(
            "an answer",
            "up0",
            later(47, outside(bench, WORLD, HOST, udp(53, 4000))),
            Leave("h1", (WORLD, 53), (C1, 4000)),
        )
        .after("h1", out())
        .after("up0", first(47, outside(bench, WORLD, HOST, udp(53, 4000)))),
        row(
            "a published port's answer",
            "h1",
            later(48, from(C1, WORLD, udp(53, 4000))),
            Leave("up0", (HOST, 5001), (WORLD, 4000)),
        )
        .after("up0", published())
        .after("h1", first(48, from(C1, WORLD, udp(53, 4000)))),
        row("a hairpin", "h2", later(49, hairpin()), Leave("h1", (C2, 4000), (C1, 53)))
            .after("h2", first(49, hairpin())),
        row("a hairpin's answer", "h1", later(50, hairpin_answer()), Leave("h2", (HOST, 5001), (C2, 4000)))
            .after("h2", hairpin())
            .after("h1", first(50, hairpin_answer())),
        row("the first of a hairpin's answer, late", "h1", first(51, hairpin_answer()), PutBack)
            .after("h2", hairpin())
            .after("h1", later(51, hairpin_answer())),
        raw("a first one too short for TCP", "h1", short(Payload::Tcp(4000, 80, SYN), 16), Reason::Malformed),
        raw("a first one too short for its UDP header", "h1", short(udp(4000, 53), 7), Reason::Malformed),
    ]
}

#[test]
fn a_datagrams_fragments_leave_with_one_identification_that_is_its_own() {
    with_bench(|bench| {
        set_up(bench);
        let id = |bench: &Bench, input, frame: Ipv4Frame| {
            let trial = bench.kernel(Entry::HostSide, input, &frame.bytes());
            assert_eq!(trial.action, 7);
            u16::from_be_bytes([trial.frame[18], trial.frame[19]])
        };
        let whole = |source, port| from(source, WORLD, Payload::Udp(port, 53, b"hello".to_vec()));
        let mut seen = Vec::new();
        for number in 0..8 {
            for (input, source) in [("h1", C1), ("h2", C2)] {
                let first_id = id(bench, input, first(number, whole(source, 4000)));
                // A duplicate of the first among them.
                let frames = [
                    later(number, whole(source, 0)),
                    first(number, whole(source, 4000)),
                    later(number, whole(source, 0)),
                ];
                assert!(frames.into_iter().all(|frame| id(bench, input, frame) == first_id));
                seen.push(first_id);
            }
        }
        // Sixteen of 65,536: two alike, now and then.
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() >= 14, "{seen:?}");
        let other = id(bench, "h1", first(0, whole(C1, 4001)));
        assert_eq!(
            id(bench, "h1", later(0, whole(C1, 0))),
            other,
            "another datagram with the same identification replaces it"
        );
    });
}

#[test]
fn into_a_bridge_only_the_host_sends() {
    with_bench(|bench| {
        set_up(bench);
        let frame = outside(bench, WORLD, C1, Payload::Tcp(4000, 80, SYN)).bytes();
        let index = bench.index("cwa");
        for (came_by, action, reason) in [
            (0, -1, Reason::FromHost),
            (bench.index("up0"), 2, Reason::NotPublished),
            (bench.index("cwb"), 2, Reason::NotPublished),
        ] {
            let before = bench.datapath.reasons().expect("the counts")[reason.name()];
            let trial = bench.datapath.try_frame(Entry::Bridge, index, came_by, &frame).expect("the frame runs");
            assert_eq!(trial.action, action, "from interface {came_by}");
            assert_eq!(bench.datapath.reasons().expect("the counts")[reason.name()], before + 1);
        }
    });
}

#[test]
fn two_containers_with_one_source_port_get_two() {
    with_bench(|bench| {
        set_up(bench);
        for payload in [Payload::Tcp(4000, 80, SYN), Payload::Udp(4000, 80, vec![]), Payload::Echo(8, 4000)] {
            bench.flush();
            let first = bench.kernel(Entry::HostSide, "h1", &from(C1, WORLD, payload.clone()).bytes());
            let second = bench.kernel(Entry::HostSide, "h2", &from(C2, WORLD, payload.clone()).bytes());
            // The port, or the identifier.
            let at = if payload.protocol() == 1 { 38..40 } else { 34..36 };
            let port = |frame: &[u8]| u16::from_be_bytes(frame[at.clone()].try_into().expect("two bytes"));
            assert_eq!(port(&first.frame), 4000, "{payload:?}: the first keeps its port");
            let other = port(&second.frame);
            assert!((1024..32768).contains(&other) && other != 4000, "{payload:?}: the second got {other}");
            let translated = Ipv4Frame {
                source: HOST.into(),
                ttl: 63,
                payload: payload.with_ports(other, if payload.protocol() == 1 { 0 } else { 80 }),
                ..from(C2, WORLD, payload.clone())
            };
            assert_eq!(second.frame, translated.bytes(), "{payload:?}: its checksums");
            let answer = outside(
                bench,
                WORLD,
                HOST,
                if payload.protocol() == 1 { Payload::Echo(0, other) } else { payload.with_ports(80, other) },
            );
            let back = bench.kernel(Entry::Uplink, "up0", &answer.bytes());
            assert_eq!(back.action, 7);
            assert_eq!(back.frame[30..34], C2, "{payload:?}: the answer finds the second");
        }
    });
}

/// Begins answered flows, from a source port each, until one finds no room; answers its port.
fn fill(bench: &Bench) -> u16 {
    let begun = |port| {
        let frame = from(C1, WORLD, Payload::Udp(port, 53, vec![])).bytes();
        let answer = outside(bench, WORLD, HOST, Payload::Udp(53, port, vec![])).bytes();
        let trial = bench.kernel(Entry::HostSide, "h1", &frame);
        trial.frame[26..30] == HOST && bench.kernel(Entry::Uplink, "up0", &answer).action == 7
    };
    (2000..4000).find(|port| !begun(*port)).expect("a full table")
}

#[test]
fn a_full_table_refuses_the_new_flow_and_keeps_those_in_use() {
    with_bench(|bench| {
        set_up(bench);
        // The bench's table has room for 512 flows; the kernel gives a hash map some entries more on each CPU.
        assert!(fill(bench) >= 2512);
        assert!(bench.datapath.reasons().expect("the counts")["table-full"] > 0);
        for port in 2000..2512 {
            let frame = from(C1, WORLD, Payload::Udp(port, 53, vec![])).bytes();
            let left = bench.kernel(Entry::HostSide, "h1", &frame).frame;
            assert_eq!(left[26..30], HOST, "the flow of port {port} is kept");
        }
        let flows = bench.datapath.flows().expect("the flows");
        assert!(flows.iter().all(|flow| flow.container == std::net::IpAddr::from(C1)));
    });
}

#[test]
fn half_open_flows_give_way_in_a_full_table() {
    with_bench(|bench| {
        set_up(bench);
        let answered = |port| {
            let frame = from(C1, WORLD, Payload::Udp(port, 53, vec![])).bytes();
            let answer = outside(bench, WORLD, HOST, Payload::Udp(53, port, vec![])).bytes();
            bench.kernel(Entry::HostSide, "h1", &frame);
            assert_eq!(bench.kernel(Entry::Uplink, "up0", &answer).action, 7, "the flow of port {port} is in use");
        };
        (2000..2100).for_each(answered);
        // Ten tables of flows that nobody answers. Those in use are looked at in passing.
        let refused = (10_000..15_000).filter(|port| {
            let syn = from(C2, WORLD, Payload::Tcp(*port, 80, SYN)).bytes();
            bench.kernel(Entry::HostSide, "h2", &syn).frame[26..30] != HOST
        });
        assert!(refused.count() < 50);
        (2000..2100).for_each(answered);
        let flows = bench.datapath.flows().expect("the flows");
        assert!(flows.iter().any(|flow| flow.forward.0.port() == 14_999));
        assert!(flows.iter().all(|flow| flow.forward.0.port() != 10_000), "the oldest one gave way");
    });
}

#[test]
fn the_host_has_its_own_tuple_or_another_one_but_never_a_flows() {
    with_bench(|bench| {
        set_up(bench);
        for payload in [Payload::Tcp(4000, 80, SYN), Payload::Udp(4000, 80, vec![]), Payload::Echo(8, 4000)] {
            bench.flush();
            let icmp = payload.protocol() == 1;
            let at = if icmp { 38..40 } else { 34..36 };
            let port = |frame: &[u8]| u16::from_be_bytes(frame[at.clone()].try_into().expect("two bytes"));
            let host = Ipv4Frame { ttl: 64, ..from(HOST, WORLD, payload.clone()) };
            let alone = bench.kernel(Entry::UplinkOut, "up0", &host.bytes());
            assert_eq!((alone.action, &alone.frame), (-1, &host.bytes()), "{payload:?}: nobody has it");
            bench.flush();

            bench.kernel(Entry::HostSide, "h1", &from(C1, WORLD, payload.clone()).bytes());
            let moved = bench.kernel(Entry::UplinkOut, "up0", &host.bytes());
            let other = port(&moved.frame);
            assert!(moved.action == -1 && other != 4000, "{payload:?}: a container has it, the host got {other}");
            let wanted = Ipv4Frame { payload: payload.with_ports(other, if icmp { 0 } else { 80 }), ..host.clone() };
            assert_eq!(moved.frame, wanted.bytes(), "{payload:?}: its checksums");
            let again = bench.kernel(Entry::UplinkOut, "up0", &host.bytes());
            assert_eq!(port(&again.frame), other, "{payload:?}: it keeps it");

            let answer = |port| if icmp { Payload::Echo(0, port) } else { payload.with_ports(80, port) };
            let to_host = outside(bench, WORLD, HOST, answer(other));
            let back = bench.kernel(Entry::Uplink, "up0", &to_host.bytes());
            let wanted = Ipv4Frame { payload: answer(4000), ..to_host };
            assert_eq!((back.action, back.frame), (-1, wanted.bytes()), "{payload:?}: the answer is the host's");
            let to_container = bench.kernel(Entry::Uplink, "up0", &outside(bench, WORLD, HOST, answer(4000)).bytes());
            assert_eq!((to_container.action, &to_container.frame[30..34]), (7, &C1[..]), "{payload:?}");
        }
        // Forwarded packets are none of the host's own.
        bench.kernel(Entry::HostSide, "h1", &from(C1, WORLD, Payload::Udp(4001, 80, vec![])).bytes());
        let forwarded = from(HOST, WORLD, Payload::Udp(4001, 80, vec![])).bytes();
        let index = bench.index("up0");
        let trial = bench.datapath.try_frame(Entry::UplinkOut, index, bench.index("h1"), &forwarded).expect("it runs");
        assert_eq!((trial.action, trial.frame), (-1, forwarded));
    });
}

/// Whether a SYN from outside to that port is let in.
fn is_published(bench: &Bench, address: [u8; 4], port: u16) -> bool {
    let syn = outside(bench, WORLD, address, Payload::Tcp(4000, port, SYN));
    bench.kernel(Entry::Uplink, "up0", &syn.bytes()).action == 7
}

#[test]
fn a_publish_that_goes_leaves_those_of_other_addresses() {
    with_bench(|bench| {
        set_up(bench);
        let of = |address: &str| publish_entry(C1, &format!("{address}:9500-9502:80-82"), &[]);
        for address in ["10.0.2.15", "192.168.9.1"] {
            bench.publish(&of(address));
        }
        assert!(is_published(bench, HOST, 9501) && is_published(bench, [192, 168, 9, 1], 9501));
        bench.datapath.remove_publish(&of("10.0.2.15")).expect("it goes");
        assert!(!is_published(bench, HOST, 9501));
        assert!(is_published(bench, [192, 168, 9, 1], 9501), "the other address's stays");
        bench.datapath.remove_publish(&of("192.168.9.1")).expect("it goes");
        assert!(!is_published(bench, [192, 168, 9, 1], 9501));
    });
}

#[test]
fn the_next_agent_drops_what_it_does_not_put_again() {
    with_bench(|bench| {
        set_up(bench);
        assert!(is_published(bench, HOST, 7003) && is_published(bench, HOST, 9000) && is_published(bench, HOST, 5000));
        bench.restart();
        assert!(is_published(bench, HOST, 7003) && is_published(bench, HOST, 9000), "nothing is lost meanwhile");
        bench.put_host();
        bench.put_container(Place { address: C1, host_side: "h1", bridge: "cwa", closed: false, masquerade: true });
        bench.put_publish(C1, "5000:80", &[]);
        bench.datapath.settle().expect("it settles");
        assert!(is_published(bench, HOST, 5000), "what was put again stays");
        assert!(!is_published(bench, HOST, 7003) && !is_published(bench, HOST, 9000), "the rest goes");
        let of_c2 = from(C2, WORLD, Payload::Tcp(4000, 80, SYN)).bytes();
        assert_ne!(bench.kernel(Entry::HostSide, "h2", &of_c2).action, 7, "its endpoint is forgotten");
    });
}

#[test]
fn an_uplink_that_is_not_put_again_is_none() {
    with_bench(|bench| {
        set_up(bench);
        let lan = Interface { index: bench.index("lan0"), name: "lan0".to_owned() };
        bench.datapath.put_uplink(&lan, Some([192, 168, 9, 1].into()), None, 1500).expect("a second uplink");
        let syn = from(C1, [192, 168, 9, 7], Payload::Tcp(4000, 80, SYN)).bytes();
        assert_eq!(bench.kernel(Entry::HostSide, "h1", &syn).action, 7);
        bench.restart();
        bench.put_host();
        bench.put_container(Place { address: C1, host_side: "h1", bridge: "cwa", closed: false, masquerade: true });
        bench.datapath.settle().expect("it settles");
        bench.flush();
        assert_eq!(bench.kernel(Entry::HostSide, "h1", &syn).action, 2, "nothing leaves by it");
    });
}

#[test]
fn an_uplink_with_another_address_ends_the_flows_of_the_old_one() {
    with_bench(|bench| {
        set_up(bench);
        let datagram = from(C1, WORLD, Payload::Udp(4000, 53, vec![])).bytes();
        let source = |bench: &Bench| bench.kernel(Entry::HostSide, "h1", &datagram).frame[26..30].to_vec();
        assert_eq!(source(bench), HOST);
        let uplink = Interface { index: bench.index("up0"), name: "up0".to_owned() };
        bench.datapath.put_uplink(&uplink, Some([10, 0, 2, 16].into()), None, 1500).expect("another address");
        assert_eq!(source(bench), HOST, "the old one may be the host's still");
        bench.datapath.end_flows_of_addresses(&BTreeSet::from([IpAddr::from(HOST)])).expect("it is not");
        assert_eq!(source(bench), [10, 0, 2, 16]);
    });
}

#[test]
fn an_endpoint_that_goes_takes_the_flows_it_began_along() {
    with_bench(|bench| {
        set_up(bench);
        let there = from(C1, C2, Payload::Udp(4000, 53, vec![])).bytes();
        let back = from(C2, C1, Payload::Udp(53, 4000, vec![])).bytes();
        assert_eq!(bench.kernel(Entry::HostSide, "h1", &there).action, 7);
        assert_eq!(bench.kernel(Entry::HostSide, "h2", &back).action, 7);
        bench.datapath.remove_publish(&publish_entry(C1, "5000:80", &[])).expect("it goes");
        bench.datapath.remove_endpoint(std::net::IpAddr::from(C1)).expect("it goes");
        // Made again with another host side, it is met there.
        bench.put_container(Place { address: C1, host_side: "h3", bridge: "cwa", closed: false, masquerade: true });
        bench.kernel(Entry::HostSide, "h2", &back);
        let flows = bench.datapath.flows().expect("the flows");
        assert_eq!(flows.len(), 1, "the old flow is gone, a new one leads to the new host side: {flows:?}");
        assert_eq!(flows[0].forward.0, std::net::SocketAddr::from((C2, 53)));
    });
}
