//! Tables of packets for the XDP program. Each packet goes through the program in the kernel and
//! through the pure decisions. What is left to tc must be unchanged and not counted.

use std::net::IpAddr;

use causeway::datapath::{Action, Entry, Interface};
use causeway_api::types::mac::Mac;
use causeway_common::{abi::drop_reason::DropReason, xdp::XdpVerdict};
use causeway_tests::{
    bench::{
        BRIDGE_MAC, Bench, HOST, address, mac_of,
        rows::{ANOTHER_MACHINE, C1, C2, End, Names, from, outside, set_up},
        with_bench,
    },
    families,
    family::{Family, V4},
    packet::{Fragment, IpFrame, Options, Payload, Told, checksum},
    raw::flag::{ACK, SYN},
    report,
};

families!(table, follows_uplink_mac_change);

#[derive(Debug)]
enum Expect {
    Pass,
    Drop(DropReason),
    /// Redirected into the container, with that source and destination.
    Forward(End, End),
}

struct Row {
    what: &'static str,
    /// Frames sent before, with answers so that the flow is on the fast path.
    history: Vec<(Entry, &'static str, IpFrame)>,
    packet: IpFrame,
    /// The bytes of the packet, perhaps changed.
    frame: Vec<u8>,
    expect: Expect,
}

fn row(what: &'static str, packet: &IpFrame, expect: Expect) -> Row {
    Row { what, history: Vec::new(), packet: packet.clone(), frame: packet.bytes(), expect }
}

impl Row {
    fn after_sent(mut self, frame: &IpFrame) -> Self {
        self.history.push((Entry::HostSide, "h1", frame.clone()));
        self
    }

    fn after_received(mut self, frame: &IpFrame) -> Self {
        self.history.push((Entry::Uplink, "up0", frame.clone()));
        self
    }

    /// Replaces bytes of the frame.
    fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.frame[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
}

fn udp(source: u16, destination: u16) -> Payload {
    Payload::Udp(source, destination, b"hello".to_vec())
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows(bench: &Bench, family: Family) -> Vec<Row> {
    use Expect::{Drop, Forward, Pass};
    let Names { c1, group, host, world, .. } = Names::of(family);
    let [loopback, unspecified] = [[127, 0, 0, 1], [0; 4]].map(|v4| address(family, v4));
    let sent = |payload| from(c1, world, payload);
    let received = |payload| outside(bench, world, host, payload);
    let asked = sent(udp(4000, 53));
    let answer = received(udp(53, 4000));
    let settled = |row: Row| row.after_sent(&asked).after_received(&answer);
    let to_publish = received(udp(4000, 5001));
    let (pinged, pong) = (sent(Payload::Ping(77)), received(Payload::Pong(77)));
    let into_c1 = || Forward((world, 53), (c1, 4000));
    let unsummed = received(Payload::UdpUnsummed(53, 4000));
    let long = |packet| received(Payload::Udp(53, 4000, vec![0; family.data_of(packet)]));
    let at = answer.payload_at();
    // The checksum covers the pseudo header only, as on a virtual link (CHECKSUM_PARTIAL).
    let pseudo = !checksum(&answer.pseudo_header(8 + b"hello".len()));
    let martian =
        |source, destination| outside(bench, source, destination, Payload::Tcp(4000, 22, ACK));
    let elsewhere = |frame: &IpFrame, mac| IpFrame { macs: (mac, frame.macs.1), ..frame.clone() };
    let length_at = if family == V4 { 16 } else { 18 };
    let mut tagged = answer.bytes();
    tagged.splice(12..12, [0x81, 0, 0, 100]);
    let mut rows = vec![
        settled(row("an answer", &answer, into_c1())),
        settled(row("an answer without checksum keeps none", &unsummed, into_c1())),
        settled(row("as long as the MTU", &long(1500), into_c1())),
        settled(row("longer than the MTU", &long(1501), Pass)),
        settled(
            row("shorter than its length field", &long(100), Pass).with(length_at, &[0x05, 0xdc]),
        ),
        settled(
            row("a checksum left to the hardware", &answer, Pass)
                .with(at + 6, &pseudo.to_be_bytes()),
        ),
        settled(row("TTL 1", &IpFrame { ttl: 1, ..answer.clone() }, Pass)),
        settled(row("TTL 2", &IpFrame { ttl: 2, ..answer.clone() }, into_c1())),
        settled(row(
            "a first fragment",
            &IpFrame { fragment: Fragment::First, ..answer.clone() },
            Pass,
        )),
        settled(row(
            "a later fragment",
            &IpFrame { fragment: Fragment::Later, ..answer.clone() },
            Pass,
        )),
        settled(row(
            "with options",
            &IpFrame { options: Options::Units(1), ..answer.clone() },
            Pass,
        )),
        settled(row("for another machine", &elsewhere(&answer, ANOTHER_MACHINE), Pass)),
        settled(row("to the broadcast MAC", &elsewhere(&answer, [0xff; 6]), Pass)),
        settled(Row { frame: tagged, ..row("with a VLAN tag", &answer, Pass) }),
        settled(row("from another port", &received(udp(54, 4000)), Pass)),
        row("an answer that changes the flow's state", &answer, Pass).after_sent(&asked),
        row("without a flow", &answer, Pass),
        row("the first packet to a published port", &to_publish, Pass),
        row("the next packet to a published port", &to_publish, Forward((world, 4000), (c1, 53)))
            .after_received(&to_publish),
        row("an echo reply", &pong, Forward((world, 0), (c1, 77)))
            .after_sent(&pinged)
            .after_received(&pong),
        row("the first echo reply", &pong, Pass).after_sent(&pinged),
        row("an echo request", &received(Payload::Ping(77)), Pass)
            .after_sent(&pinged)
            .after_received(&pong),
        row("TCP", &received(Payload::Tcp(80, 4001, ACK)), Pass)
            .after_sent(&sent(Payload::Tcp(4001, 80, SYN))),
        row(
            "an ICMP error",
            &received(Payload::Error(
                Told::PortClosed,
                Box::new(asked.clone()),
                family.header() + 8,
            )),
            Pass,
        ),
        row("into a container that accepts no redirected frames", &received(udp(4000, 5004)), Pass)
            .after_received(&received(udp(4000, 5004))),
        row("loopback's", &martian(loopback, host), Drop(DropReason::Martian)),
        row("from a multicast address", &martian(group, host), Drop(DropReason::Martian)),
        row("to loopback", &martian(world, loopback), Drop(DropReason::Martian)),
        row(
            "a martian for another machine",
            &elsewhere(&martian(loopback, host), ANOTHER_MACHINE),
            Pass,
        ),
        row("from the unspecified address", &martian(unspecified, group), Pass),
        row("to many", &martian(world, group), Pass),
        Row { frame: answer.bytes()[..20].to_vec(), ..row("cut short", &answer, Pass) },
        Row {
            frame: [&bench.mac("up0")[..], &[2; 6], &[8, 6], &[0; 28]].concat(),
            ..row("ARP", &answer, Pass)
        },
    ];
    if family == V4 {
        let of = |source: [u8; 4], destination: [u8; 4]| martian(source.into(), destination.into());
        rows.extend([
            row("from the broadcast address", &of([255; 4], HOST), Drop(DropReason::Martian)),
            row("of loopback's network", &of([127, 255, 0, 9], HOST), Drop(DropReason::Martian)),
            row("from the unspecified address to broadcast", &of([0; 4], [255; 4]), Pass),
            row("from 240.0.0.0/4", &of([240, 0, 0, 1], HOST), Pass),
        ]);
    } else {
        let [mapped, router]: [IpAddr; 2] =
            ["::ffff:203.0.113.10", "fe80::9"].map(|address| address.parse().expect("an address"));
        rows.extend([
            row("from a mapped address", &martian(mapped, host), Pass),
            row("from a link-local address", &martian(router, host), Pass),
            settled(row(
                "an atomic fragment",
                &IpFrame { fragment: Fragment::Atomic, ..answer.clone() },
                Pass,
            )),
            row(
                "neighbour discovery",
                &outside(bench, router, host, Payload::Icmp(135, vec![0; 20])),
                Pass,
            ),
        ]);
    }
    rows
}

fn table(family: Family) {
    with_bench(|bench| {
        set_up(bench);
        bench.put_publish(C2, "5004:53/udp", &[]);
        bench.put_xdp(&["h1"]);
        let rows = rows(bench, family);
        for row in &rows {
            check(bench, row);
            bench.flush();
        }
        report::rows(family, rows.len());
    });
}

fn check(bench: &Bench, row: &Row) {
    for (entry, input, frame) in &row.history {
        let trial = bench.kernel(*entry, input, &frame.bytes());
        assert_eq!(trial.action, Action::Redirect, "{}: the frame before did not leave", row.what);
        let _ = bench.pure(*entry, input, &frame.bytes());
    }
    let before = counts(bench);
    let trial = bench.kernel(Entry::UplinkXdp, "up0", &row.frame);
    let after = counts(bench);
    let pure = bench.early("up0", &row.frame);
    match row.expect {
        Expect::Pass => {
            assert_eq!((trial.action, &trial.frame), (Action::Pass, &row.frame), "{}", row.what);
            assert_eq!(after, before, "{}: it is counted", row.what);
            assert!(matches!(pure, XdpVerdict::Pass), "{}: by the decisions {pure:?}", row.what);
        }
        Expect::Drop(reason) => {
            assert_eq!(trial.action, Action::Drop, "{}", row.what);
            assert_eq!(
                after.reasons[reason.name()],
                before.reasons[reason.name()] + 1,
                "{}",
                row.what
            );
            assert!(
                matches!(pure, XdpVerdict::Drop(why) if why == reason),
                "{}: by the decisions {pure:?}",
                row.what
            );
        }
        Expect::Forward(source, destination) => {
            assert_eq!(trial.action, Action::Redirect, "{}", row.what);
            assert_eq!(
                (after.packets, &after.reasons),
                (before.packets + 1, &before.reasons),
                "{}",
                row.what
            );
            let XdpVerdict::Forward(frame) = pure else {
                panic!("{}: by the decisions {pure:?}", row.what)
            };
            assert_eq!(trial.frame, frame, "{}: by the decisions", row.what);
            assert_arrives(row, &trial.frame, source, destination);
        }
    }
}

/// Checks that the frame is what a router would send, with every checksum computed in full.
fn assert_arrives(row: &Row, frame: &[u8], source: End, destination: End) {
    let Row { packet, .. } = row;
    let expected = IpFrame {
        macs: (mac_of(C1), BRIDGE_MAC),
        source: source.0,
        destination: destination.0,
        ttl: packet.ttl - 1,
        payload: packet.payload.with_ports(source.1, destination.1),
        ..packet.clone()
    };
    assert_eq!(frame, expected.bytes(), "{}", row.what);
}

#[derive(Debug, PartialEq)]
struct Counts {
    reasons: std::collections::BTreeMap<&'static str, u64>,
    packets: u64,
}

fn counts(bench: &Bench) -> Counts {
    let flows = bench.datapath.flows().expect("the flows");
    Counts {
        reasons: bench.datapath.counters().reasons().expect("the counts"),
        packets: flows.iter().map(|flow| flow.packets).sum(),
    }
}

/// The program uses the new MAC after the uplink's MAC has changed.
fn follows_uplink_mac_change(family: Family) {
    let [loopback, host] = [[127, 0, 0, 1], HOST].map(|v4| address(family, v4));
    with_bench(|bench| {
        bench.put_host();
        bench.put_xdp(&[]);
        let martian = outside(bench, loopback, host, udp(1, 2));
        assert_eq!(bench.kernel(Entry::UplinkXdp, "up0", &martian.bytes()).action, Action::Drop);
        let other = IpFrame { macs: (ANOTHER_MACHINE, martian.macs.1), ..martian.clone() };
        assert_eq!(bench.kernel(Entry::UplinkXdp, "up0", &other.bytes()).action, Action::Pass);
        let uplink = Interface { index: bench.index("up0"), name: "up0".to_owned() };
        bench.datapath.put_xdp(&uplink, Mac(ANOTHER_MACHINE)).expect("an update");
        assert_eq!(bench.kernel(Entry::UplinkXdp, "up0", &martian.bytes()).action, Action::Pass);
        assert_eq!(bench.kernel(Entry::UplinkXdp, "up0", &other.bytes()).action, Action::Drop);
    });
}
