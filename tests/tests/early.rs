//! Tables of packets for the program that an uplink's driver runs: each goes through it in the kernel and through the pure decisions. What it
//! leaves to tc must be as it came, and counted nowhere.

use causeway::{
    datapath::{Entry, Interface},
    net::mac::Mac,
};
use causeway_common::{
    address::V4,
    early::{self, Early},
    packet::{Arrival, Family as _},
    reason::Reason,
    tuple::side,
};
use causeway_tests::{
    bench::{BRIDGE_MAC, Bench, Place, with_bench},
    packet::{Ipv4Frame, Payload, checksum},
};

const C1: [u8; 4] = [172, 18, 0, 2];
const C2: [u8; 4] = [172, 18, 0, 3];
const HOST: [u8; 4] = [10, 0, 2, 15];
const WORLD: [u8; 4] = [203, 0, 113, 10];
const ANOTHER_MACHINE: [u8; 6] = [0x02, 8, 8, 8, 8, 8];

const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const XDP_REDIRECT: i32 = 4;

const ACK: u8 = 0x10;

#[derive(Debug)]
enum Expect {
    Pass,
    Drop(Reason),
    /// Into the container, from there to there.
    Forward(([u8; 4], u16), ([u8; 4], u16)),
}

struct Row {
    what: &'static str,
    /// What the container sends before, and what is answered so that the flow is settled.
    history: Vec<(Entry, &'static str, Ipv4Frame)>,
    frame: Vec<u8>,
    expect: Expect,
}

fn row(what: &'static str, frame: &Ipv4Frame, expect: Expect) -> Row {
    Row { what, history: Vec::new(), frame: frame.bytes(), expect }
}

impl Row {
    fn after_sent(mut self, frame: &Ipv4Frame) -> Self {
        self.history.push((Entry::HostSide, "h1", frame.clone()));
        self
    }

    fn after_received(mut self, frame: &Ipv4Frame) -> Self {
        self.history.push((Entry::Uplink, "up0", frame.clone()));
        self
    }

    /// The same frame with another byte.
    fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.frame[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
}

fn sent(payload: Payload) -> Ipv4Frame {
    Ipv4Frame {
        macs: (BRIDGE_MAC, Mac::from_ipv4(C1.into()).0),
        source: C1.into(),
        destination: WORLD.into(),
        ttl: 64,
        options: Vec::new(),
        id: 0x1234,
        fragment: 0,
        payload,
    }
}

fn received(bench: &Bench, payload: Payload) -> Ipv4Frame {
    Ipv4Frame {
        macs: (bench.mac("up0"), [0x02, 9, 9, 9, 9, 9]),
        source: WORLD.into(),
        destination: HOST.into(),
        ..sent(payload)
    }
}

fn udp(source: u16, destination: u16) -> Payload {
    Payload::Udp(source, destination, b"hello".to_vec())
}

fn rows(bench: &Bench) -> Vec<Row> {
    use Expect::{Drop, Forward, Pass};
    let asked = sent(udp(4000, 53));
    let answer = received(bench, udp(53, 4000));
    let settled = |row: Row| row.after_sent(&asked).after_received(&answer);
    let to_publish = received(bench, udp(4000, 5001));
    let pinged = sent(Payload::Echo(8, 77));
    let pong = received(bench, Payload::Echo(0, 77));
    let into_c1 = || Forward((WORLD, 53), (C1, 4000));
    let unsummed = received(bench, Payload::UdpUnsummed(53, 4000));
    let long = |bytes| received(bench, Payload::Udp(53, 4000, vec![0; bytes]));
    let bytes = answer.bytes();
    // Its own sum is one over the pseudo header, as a virtual link brings it.
    let pseudo = !checksum(&[&bytes[26..34], &[0, 17], &bytes[38..40]].concat());
    let martian = |source: [u8; 4], destination: [u8; 4]| Ipv4Frame {
        source: source.into(),
        destination: destination.into(),
        ..received(bench, Payload::Tcp(4000, 22, ACK))
    };
    let tagged = {
        let mut frame = answer.bytes();
        frame.splice(12..12, [0x81, 0, 0, 100]);
        frame
    };
    vec![
        settled(row("an answer", &answer, into_c1())),
        settled(row("an answer without a sum stays without", &unsummed, into_c1())),
        settled(row("as long as the link is wide", &long(1472), into_c1())),
        settled(row("longer than the link is wide", &long(1473), Pass)),
        settled(row("shorter than it says", &long(8), Pass).with(16, &[0x05, 0xdc])),
        settled(row("a sum that was left to the hardware", &answer, Pass).with(40, &pseudo.to_be_bytes())),
        settled(row("the last hop", &Ipv4Frame { ttl: 1, ..answer.clone() }, Pass)),
        settled(row("the last hop but one", &Ipv4Frame { ttl: 2, ..answer.clone() }, into_c1())),
        settled(row("a first fragment", &Ipv4Frame { fragment: 0x2000, ..answer.clone() }, Pass)),
        settled(row("a later fragment", &Ipv4Frame { fragment: 0x0001, ..answer.clone() }, Pass)),
        settled(row("with IP options", &Ipv4Frame { options: vec![1; 4], ..answer.clone() }, Pass)),
        settled(row(
            "for another machine",
            &Ipv4Frame { macs: (ANOTHER_MACHINE, answer.macs.1), ..answer.clone() },
            Pass,
        )),
        settled(row("for all machines", &Ipv4Frame { macs: ([0xff; 6], answer.macs.1), ..answer.clone() }, Pass)),
        settled(Row { frame: tagged, ..row("with a VLAN tag", &answer, Pass) }),
        settled(row("from another port", &received(bench, udp(54, 4000)), Pass)),
        row("an answer that changes the flow's state", &answer, Pass).after_sent(&asked),
        row("of no flow", &answer, Pass),
        row("a published port's first", &to_publish, Pass),
        row("a published port's next", &to_publish, Forward((WORLD, 4000), (C1, 53))).after_received(&to_publish),
        row("an echo reply", &pong, Forward((WORLD, 0), (C1, 77))).after_sent(&pinged).after_received(&pong),
        row("the first echo reply", &pong, Pass).after_sent(&pinged),
        row("an echo request", &received(bench, Payload::Echo(8, 77)), Pass).after_sent(&pinged).after_received(&pong),
        row("TCP", &received(bench, Payload::Tcp(80, 4001, ACK)), Pass).after_sent(&sent(Payload::Tcp(4001, 80, 2))),
        row("an ICMP error", &received(bench, Payload::Error(3, 3, Box::new(asked.clone()), 28)), Pass),
        row("into a container that takes none", &received(bench, udp(4000, 5002)), Pass)
            .after_received(&received(bench, udp(4000, 5002))),
        row("loopback's", &martian([127, 0, 0, 1], HOST), Drop(Reason::Martian)),
        row("in the name of many", &martian([224, 0, 0, 1], HOST), Drop(Reason::Martian)),
        row("in the name of all", &martian([255; 4], HOST), Drop(Reason::Martian)),
        row("to loopback", &martian(WORLD, [127, 0, 0, 1]), Drop(Reason::Martian)),
        row(
            "a martian for another machine",
            &Ipv4Frame { macs: (ANOTHER_MACHINE, [2; 6]), ..martian([127; 4], HOST) },
            Pass,
        ),
        row("from no address", &martian([0; 4], [255; 4]), Pass),
        row("from 240.0.0.0/4", &martian([240, 0, 0, 1], HOST), Pass),
        row("to many", &martian(WORLD, [224, 0, 0, 251]), Pass),
        Row { frame: answer.bytes()[..20].to_vec(), ..row("cut short", &answer, Pass) },
        Row { frame: [&bench.mac("up0")[..], &[2; 6], &[8, 6], &[0; 28]].concat(), ..row("ARP", &answer, Pass) },
    ]
}

#[test]
fn what_the_driver_brings() {
    with_bench(|bench| {
        bench.put_host();
        for (address, host_side) in [(C1, "h1"), (C2, "h2")] {
            bench.put_container(Place { address, host_side, bridge: "cwa", closed: false, masquerade: true });
        }
        bench.put_publish(C1, "5001:53/udp", &[]);
        bench.put_publish(C2, "5002:53/udp", &[]);
        bench.put_xdp(&["h1"]);
        for row in rows(bench) {
            check(bench, &row);
            bench.flush();
        }
    });
}

fn check(bench: &Bench, row: &Row) {
    for (entry, input, frame) in &row.history {
        let trial = bench.kernel(*entry, input, &frame.bytes());
        assert_eq!(trial.action, 7, "{}: what came before did not leave", row.what);
        let _ = bench.pure(*entry, input, &frame.bytes());
    }
    let before = counts(bench);
    let trial = bench.kernel(Entry::UplinkXdp, "up0", &row.frame);
    let after = counts(bench);
    let pure = pure(bench, &row.frame);
    match row.expect {
        Expect::Pass => {
            assert_eq!((trial.action, &trial.frame), (XDP_PASS, &row.frame), "{}", row.what);
            assert_eq!(after, before, "{}: it is counted", row.what);
            assert!(matches!(pure, Early::Pass), "{}: by the decisions {pure:?}", row.what);
        }
        Expect::Drop(reason) => {
            assert_eq!(trial.action, XDP_DROP, "{}", row.what);
            assert_eq!(after.reasons[reason.name()], before.reasons[reason.name()] + 1, "{}", row.what);
            assert!(matches!(pure, Early::Drop(why) if why == reason), "{}: by the decisions {pure:?}", row.what);
        }
        Expect::Forward(source, destination) => {
            assert_eq!(trial.action, XDP_REDIRECT, "{}", row.what);
            assert_eq!((after.packets, &after.reasons), (before.packets + 1, &before.reasons), "{}", row.what);
            let Early::Forward(frame) = pure else { panic!("{}: by the decisions {pure:?}", row.what) };
            assert_eq!(trial.frame, frame, "{}: by the decisions", row.what);
            assert_arrives(row, &trial.frame, source, destination);
        }
    }
}

/// The frame is what a router would have made of it, every checksum computed in full.
fn assert_arrives(row: &Row, frame: &[u8], source: ([u8; 4], u16), destination: ([u8; 4], u16)) {
    let unsummed = row.frame[23] == 17 && row.frame[40..42] == [0, 0];
    let data = row.frame[42..].to_vec();
    let payload = match row.frame[23] {
        17 if unsummed => Payload::UdpUnsummed(source.1, destination.1),
        17 => Payload::Udp(source.1, destination.1, data),
        _ => Payload::Echo(row.frame[34], source.1 | destination.1),
    };
    let expected = Ipv4Frame {
        macs: (Mac::from_ipv4(C1.into()).0, BRIDGE_MAC),
        source: source.0.into(),
        destination: destination.0.into(),
        ttl: row.frame[22] - 1,
        options: Vec::new(),
        id: 0x1234,
        fragment: 0,
        payload,
    };
    assert_eq!(frame, expected.bytes(), "{}", row.what);
}

/// What the pure code makes of the frame, rewritten if it goes on.
fn pure(bench: &Bench, frame: &[u8]) -> Early<Vec<u8>> {
    let length = u32::try_from(frame.len()).expect("a short frame");
    let arrival = Arrival { side: side::UPLINK, input: bench.index("up0"), length, gso_size: 0 };
    if frame[..6] != bench.mac("up0") || frame[12..14] != [8, 0] {
        return Early::Pass;
    }
    let Ok(packet) = V4::parse_usual(frame, arrival) else { return Early::Pass };
    match early::decide(frame, &packet, &bench.model) {
        Early::Forward(half) => {
            let mut frame = frame.to_vec();
            early::rewrite(&mut frame[..], &packet, &half.translation).expect("it is long enough");
            Early::Forward(frame)
        }
        Early::Drop(reason) => Early::Drop(reason),
        Early::Pass => Early::Pass,
    }
}

#[derive(Debug, PartialEq)]
struct Counts {
    reasons: std::collections::BTreeMap<&'static str, u64>,
    packets: u64,
}

fn counts(bench: &Bench) -> Counts {
    let flows = bench.datapath.flows().expect("the flows");
    Counts {
        reasons: bench.datapath.reasons().expect("the counts"),
        packets: flows.iter().map(|flow| flow.packets).sum(),
    }
}

/// An uplink's MAC can change, and its program goes by the new one.
#[test]
fn an_uplink_with_another_mac() {
    with_bench(|bench| {
        bench.put_host();
        bench.put_xdp(&[]);
        let martian = Ipv4Frame { source: [127, 0, 0, 1].into(), ..received(bench, udp(1, 2)) };
        assert_eq!(bench.kernel(Entry::UplinkXdp, "up0", &martian.bytes()).action, XDP_DROP);
        let other = Ipv4Frame { macs: (ANOTHER_MACHINE, martian.macs.1), ..martian.clone() };
        assert_eq!(bench.kernel(Entry::UplinkXdp, "up0", &other.bytes()).action, XDP_PASS);
        let uplink = Interface { index: bench.index("up0"), name: "up0".to_owned() };
        bench.datapath.put_xdp(&uplink, Mac(ANOTHER_MACHINE)).expect("an update");
        assert_eq!(bench.kernel(Entry::UplinkXdp, "up0", &martian.bytes()).action, XDP_PASS);
        assert_eq!(bench.kernel(Entry::UplinkXdp, "up0", &other.bytes()).action, XDP_DROP);
    });
}
