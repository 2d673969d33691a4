//! NAT64: packets between an IPv6 client and a container with IPv4 only, compared to the last byte.

use std::net::{IpAddr, Ipv4Addr};

use causeway::datapath::{Action, Entry, PublishTarget};
use causeway_common::abi::drop_reason::DropReason;
use causeway_tests::{
    bench::{
        BRIDGE_MAC, Bench, Place, PublishEntry, mac_of, publish_entry,
        rows::{C1, C2, Names, from, outside, read},
        with_bench,
    },
    family::{Family, V4, V6},
    packet::{Fragment, IpFrame, Options, Payload, Told, checksum, extension},
    raw::{
        flag::{ACK, SYN},
        header,
    },
    report,
};

const PLACE: Place =
    Place { address: C1, host_side: "h1", bridge: "cwa", closed: false, masquerade: true };

/// The first container has IPv4 only, the second both families. Ports 5000 and 5001 of the host are
/// published to the first.
fn set_up(bench: &mut Bench) {
    bench.put_host();
    bench.put_container(PLACE);
    bench.put_address(PLACE, "::ffff:172.18.0.2", "::ffff:172.18.0.1", "::ffff:172.18.0.0/112");
    bench.put_dual(Place { address: C2, host_side: "h2", ..PLACE });
    for publish in ["5000:80", "5001:53/udp"] {
        let entry = publish_entry(C1, publish, &[]);
        let v6 = Some(Ipv4Addr::from(C1).to_ipv6_mapped());
        bench.publish(&PublishEntry { target: PublishTarget { v6, ..entry.target }, ..entry });
    }
}

/// The program that a frame enters.
fn entry(input: &str) -> Entry {
    if input == "up0" { Entry::Uplink } else { Entry::HostSide }
}

/// For each path into the container: ingress interface, client, and address of the host.
fn clients(bench: &Bench, payload: &Payload) -> [(&'static str, IpFrame); 3] {
    let Names { c2, gateway, host, world, .. } = Names::of(V6);
    [
        ("up0", outside(bench, world, host, payload.clone())),
        ("h2", from(c2, host, payload.clone())),
        ("h2", from(c2, gateway, payload.clone())),
    ]
}

/// The IPv4 frame that the container must receive, from that port of the gateway.
fn inside(frame: &IpFrame, port: u16, seen: &[u8]) -> IpFrame {
    let Names { c1, gateway, .. } = Names::of(V4);
    let to = if frame.protocol() == 6 { 80 } else { 53 };
    let whole = IpFrame {
        ttl: frame.ttl - 1,
        ..IpFrame::new((mac_of(C1), BRIDGE_MAC), gateway, c1, frame.payload.with_ports(port, to))
    };
    identified(whole, seen)
}

/// Copies the identification that the kernel chose for a packet that routers may fragment (RFC 7915
/// section 5.1).
fn identified(frame: IpFrame, seen: &[u8]) -> IpFrame {
    let length = frame.bytes().len() - 14;
    if length <= 1260 {
        IpFrame {
            id: u16::from_be_bytes([seen[18], seen[19]]).into(),
            fragment: Fragment::None,
            ..frame
        }
    } else {
        IpFrame { id: 0, fragment: Fragment::Dont, ..frame }
    }
}

/// Sends a client's frame, which must reach the container. Returns the gateway's port.
#[track_caller]
fn goes_in(bench: &Bench, what: &str, input: &str, frame: &IpFrame) -> u16 {
    let trial = bench.kernel(entry(input), input, &frame.bytes());
    assert_eq!(trial.action, Action::Redirect, "{what}");
    let (port, _) = read(&trial.frame).ports();
    assert!((1024..32768).contains(&port), "{what}: {port} may belong to a socket of the host");
    let wanted = inside(frame, port, &trial.frame).bytes();
    assert_eq!(trial.frame, wanted, "{what}:\n{:02x?} is not\n{wanted:02x?}", trial.frame);
    port
}

fn udp(data: usize) -> Payload {
    Payload::Udp(
        4000,
        5001,
        (0..data).map(|place| u8::try_from(place % 251).expect("a byte")).collect(),
    )
}

fn tcp(flags: u8) -> Payload {
    Payload::Tcp(4000, 5000, flags)
}

#[test]
fn client_packets_become_ipv4() {
    with_bench(|bench| {
        set_up(bench);
        let padding = |number| extension(number, 1);
        let mut rows = 0;
        for (what, payload, change) in [
            ("a SYN", tcp(SYN), &(|frame| frame) as &dyn Fn(IpFrame) -> IpFrame),
            ("a datagram", udp(5), &|frame| frame),
            ("an odd one", udp(6), &|frame| frame),
            ("an empty one", udp(0), &|frame| frame),
            ("the maximum length that routers may fragment", udp(1232), &|frame| frame),
            ("longer", udp(1233), &|frame| frame),
            ("the maximum length", udp(1520 - 48), &|frame| frame),
            ("with TTL 2", udp(5), &|frame| IpFrame { ttl: 2, ..frame }),
            ("behind options", tcp(SYN), &|frame| IpFrame { options: Options::Units(10), ..frame }),
            ("a whole datagram with a fragment header", udp(5), &|frame| IpFrame {
                fragment: Fragment::Atomic,
                ..frame
            }),
            ("behind several headers", udp(5), &|frame| {
                let headers = [header::HOP_BY_HOP, header::DESTINATION, header::DESTINATION]
                    .map(padding)
                    .to_vec();
                IpFrame {
                    options: Options::Extensions(headers),
                    fragment: Fragment::Atomic,
                    ..frame
                }
            }),
        ] {
            for (input, frame) in clients(bench, &payload) {
                bench.flush();
                let frame = change(frame);
                let port = goes_in(bench, what, input, &frame);
                // The next packet finds the flow entry; without extension headers it takes the fast
                // path.
                assert_eq!(goes_in(bench, what, input, &frame), port);
                rows += 1;
            }
        }
        report::rows(V6, rows);
    });
}

/// In UDP a checksum of zero means no checksum.
#[test]
fn zero_checksum_is_sent_as_ffff() {
    with_bench(|bench| {
        set_up(bench);
        let frame = |word: u16| {
            let Names { host, world, .. } = Names::of(V6);
            outside(bench, world, host, Payload::Udp(4000, 5001, word.to_be_bytes().to_vec()))
        };
        let port = goes_in(bench, "the first", "up0", &frame(0));
        let there = |word| inside(&frame(word), port, &[0; 40]).segment();
        let sum = |word| u16::from_be_bytes(there(word)[6..8].try_into().expect("two bytes"));
        let word = (0..=u16::MAX).find(|word| sum(*word) == 0xffff).expect("some data");
        assert_eq!(goes_in(bench, "one whose checksum becomes zero", "up0", &frame(word)), port);
    });
}

#[test]
fn refused_client_packets() {
    with_bench(|bench| {
        set_up(bench);
        let Names { c2, host, world, gateway, .. } = Names::of(V6);
        let from_world = |payload| outside(bench, world, host, payload);
        let part = |fragment| IpFrame { fragment, ..from_world(udp(64)) };
        let rows = [
            (
                "a first fragment of a datagram",
                "up0",
                part(Fragment::First),
                DropReason::Fragment,
                None,
            ),
            ("a later fragment", "up0", part(Fragment::Later), DropReason::Fragment, None),
            ("TCP in mid-stream", "up0", from_world(tcp(ACK)), DropReason::NotOurs, None),
            (
                "TTL 1",
                "up0",
                IpFrame { ttl: 1, ..from_world(udp(5)) },
                DropReason::TtlExceeded,
                Some((host, Told::HopsExceeded)),
            ),
            (
                "TTL 1 from a neighbour",
                "h2",
                IpFrame { ttl: 1, ..from(c2, host, udp(5)) },
                DropReason::TtlExceeded,
                Some((gateway, Told::HopsExceeded)),
            ),
            (
                "longer than the MTU",
                "up0",
                from_world(udp(1521 - 48)),
                DropReason::TooLong,
                Some((host, Told::TooLong(1520))),
            ),
        ];
        for (what, input, frame, reason, answer) in &rows {
            for begun in [false, true] {
                bench.flush();
                if begun && *reason != DropReason::NotOurs {
                    let whole =
                        IpFrame { ttl: 64, fragment: Fragment::None, ..with_data(frame, 5) };
                    goes_in(bench, what, input, &whole);
                } else if frame.fragment == Fragment::Later {
                    // Only with a flow is the translation known.
                    continue;
                }
                let before =
                    bench.datapath.counters().reasons().expect("the counts")[reason.name()];
                let trial = bench.kernel(entry(input), input, &frame.bytes());
                assert_eq!(
                    bench.datapath.counters().reasons().expect("the counts")[reason.name()],
                    before + 1,
                    "{what}"
                );
                let Some((speaker, told)) = answer else {
                    assert!(
                        trial.action != Action::Redirect && trial.frame == frame.bytes(),
                        "{what}: {:?}",
                        trial.action
                    );
                    continue;
                };
                assert_eq!(trial.action, Action::Redirect, "{what}");
                assert_eq!(read(&trial.frame).source, *speaker, "{what}");
                let head = told.head(V6);
                assert_eq!(
                    (&trial.frame[54..56], &trial.frame[58..62]),
                    (&head[..2], &head[4..]),
                    "{what}"
                );
            }
        }
        report::rows(V6, rows.len());
    });
}

/// A frame with other data.
fn with_data(frame: &IpFrame, data: usize) -> IpFrame {
    let payload =
        if matches!(frame.payload, Payload::Udp(..)) { udp(data) } else { frame.payload.clone() };
    IpFrame { payload, ..frame.clone() }
}

/// A frame from the container to the gateway's port, from the published port of its protocol.
fn back(payload: Payload) -> IpFrame {
    let Names { c1, gateway, .. } = Names::of(V4);
    from(c1, gateway, payload)
}

/// The IPv6 frame that must leave, to the sender of `there`.
fn outwards(frame: &IpFrame, there: &IpFrame, payload: Payload) -> IpFrame {
    let hairpin = there.macs.0 == BRIDGE_MAC;
    IpFrame {
        // The kernel fills in the MACs of the next hop.
        macs: if hairpin { (mac_of(C2), BRIDGE_MAC) } else { frame.macs },
        ttl: frame.ttl - 1,
        ..IpFrame::new(frame.macs, there.destination, there.source, payload)
    }
}

#[test]
fn replies_become_ipv6() {
    with_bench(|bench| {
        set_up(bench);
        let mut rows = 0;
        for (what, begins, answer, change) in [
            (
                "a SYN and ACK",
                tcp(SYN),
                tcp(SYN | ACK),
                &(|frame| frame) as &dyn Fn(IpFrame) -> IpFrame,
            ),
            ("a datagram", udp(5), udp(5), &|frame| frame),
            ("an odd one", udp(5), udp(6), &|frame| frame),
            ("the maximum length", udp(5), udp(1500 - 48), &|frame| frame),
            ("one with don't fragment", udp(5), udp(5), &|frame| IpFrame {
                fragment: Fragment::Dont,
                ..frame
            }),
            ("behind options", udp(5), udp(5), &|frame| IpFrame {
                options: Options::Units(10),
                ..frame
            }),
            ("with TTL 2", tcp(SYN), tcp(ACK), &|frame| IpFrame { ttl: 2, ..frame }),
        ] {
            for (input, there) in clients(bench, &begins) {
                bench.flush();
                let port = goes_in(bench, what, input, &there);
                let own = if there.protocol() == 6 { 80 } else { 53 };
                let frame = change(back(answer.with_ports(own, port)));
                let published = if own == 80 { 5000 } else { 5001 };
                let wanted = outwards(&frame, &there, answer.with_ports(published, 4000)).bytes();
                for _ in 0..2 {
                    let trial = bench.kernel(Entry::HostSide, "h1", &frame.bytes());
                    assert_eq!(trial.action, Action::Redirect, "{what}");
                    assert_eq!(
                        trial.frame, wanted,
                        "{what}:\n{:02x?} is not\n{wanted:02x?}",
                        trial.frame
                    );
                }
                rows += 1;
            }
        }
        report::rows(V4, rows);
    });
}

#[test]
fn refused_replies() {
    with_bench(|bench| {
        set_up(bench);
        let [(input, there), ..] = clients(bench, &udp(5));
        let port = goes_in(bench, "the first", input, &there);
        let answer = |data| back(udp(data).with_ports(53, port));
        let c2 = Names::of(V4).c2;
        let rows = [
            (
                "TTL 1",
                "h1",
                IpFrame { ttl: 1, ..answer(5) },
                DropReason::TtlExceeded,
                Some(Told::HopsExceeded),
            ),
            (
                "longer than the MTU",
                "h1",
                answer(1501 - 48),
                DropReason::TooLong,
                Some(Told::TooLong(1480)),
            ),
            (
                "without checksum",
                "h1",
                back(Payload::UdpUnsummed(53, port)),
                DropReason::NoChecksum,
                None,
            ),
            (
                "a first fragment",
                "h1",
                IpFrame { fragment: Fragment::First, ..answer(64) },
                DropReason::Fragment,
                None,
            ),
            (
                "to another port",
                "h1",
                back(udp(5).with_ports(53, port ^ 1)),
                DropReason::ToHost,
                None,
            ),
            ("with its source address", "h2", answer(5), DropReason::SourceAddressSpoofed, None),
            (
                "of a neighbour itself",
                "h2",
                IpFrame { source: c2, macs: from(c2, c2, udp(5)).macs, ..answer(5) },
                DropReason::ToHost,
                None,
            ),
        ];
        for (what, input, frame, reason, answer) in &rows {
            let before = bench.datapath.counters().reasons().expect("the counts")[reason.name()];
            let trial = bench.kernel(Entry::HostSide, input, &frame.bytes());
            assert_eq!(
                bench.datapath.counters().reasons().expect("the counts")[reason.name()],
                before + 1,
                "{what}"
            );
            if let Some(told) = answer {
                let (packet, head) = (read(&trial.frame), told.head(V4));
                assert_eq!(
                    (trial.action, packet.source),
                    (Action::Redirect, Names::of(V4).gateway),
                    "{what}"
                );
                assert_eq!(
                    (&packet.payload[..2], &packet.payload[4..8]),
                    (&head[..2], &head[4..]),
                    "{what}"
                );
            } else {
                assert!(
                    trial.action != Action::Redirect && trial.frame == frame.bytes(),
                    "{what}: {:?}",
                    trial.action
                );
            }
        }
        report::rows(V4, rows.len());
    });
}

/// The traffic class is copied (RFC 7915 sections 4.1 and 5.1). A flow label has no counterpart.
#[test]
fn traffic_class_is_copied() {
    with_bench(|bench| {
        set_up(bench);
        let [(input, there), ..] = clients(bench, &udp(5));
        for class in [0, 1, 0xb8, 0xff_u8] {
            let mut frame = there.bytes();
            frame[14..18].copy_from_slice(&[0x60 | class >> 4, class << 4 | 0x0a, 0xbc, 0xde]);
            let seen = bench.kernel(entry(input), input, &frame).frame;
            assert_eq!(
                (&seen[12..16], checksum(&seen[14..34])),
                (&[0x08, 0x00, 0x45, class][..], 0)
            );
            let port = read(&seen).ports().0;
            let mut frame = back(udp(5).with_ports(53, port)).bytes();
            frame[15] = class;
            frame[24..26].fill(0);
            let sum = checksum(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            let seen = bench.kernel(Entry::HostSide, "h1", &frame).frame;
            assert_eq!(seen[12..18], [0x86, 0xdd, 0x60 | class >> 4, class << 4, 0, 0]);
        }
    });
}

/// An ICMP error that quotes at most `most` bytes of a packet.
fn about(told: Told, quoted: IpFrame, most: usize) -> Payload {
    let length = (quoted.bytes().len() - 14).min(most);
    Payload::Error(told, Box::new(quoted), length)
}

/// The length of a quote in a family that covers as much payload as `most` bytes do in the other:
/// the IP headers differ in length.
const fn as_much(of: Family, most: usize) -> usize {
    match of {
        V4 => most.saturating_sub(20),
        V6 => most.saturating_sub(20).saturating_add(40),
    }
}

#[test]
fn icmp_errors_and_quotes_are_translated() {
    const ALL: usize = 10_000;
    with_bench(|bench| {
        set_up(bench);
        let mut rows = 0;
        for (begins, answer, own, published) in
            [(tcp(SYN), tcp(SYN | ACK), 80, 5000), (udp(5), udp(33), 53, 5001)]
        {
            for (input, there) in clients(bench, &begins) {
                for most in [ALL, 28] {
                    for (told, like, back_like) in [
                        (Told::HopsExceeded, Told::HopsExceeded, Some(Told::HopsExceeded)),
                        (
                            Told::FragmentsMissing,
                            Told::FragmentsMissing,
                            Some(Told::FragmentsMissing),
                        ),
                        (Told::TooLong(1400), Told::TooLong(1380), Some(Told::TooLong(1420))),
                        (Told::PortClosed, Told::PortClosed, Some(Told::PortClosed)),
                    ] {
                        for options in [Options::None, Options::Units(1), Options::Units(10)] {
                            bench.flush();
                            let port = goes_in(bench, "it begins", input, &there);
                            let sent = back(answer.with_ports(own, port));
                            let left = outwards(&sent, &there, answer.with_ports(published, 4000));
                            assert_eq!(
                                bench.kernel(Entry::HostSide, "h1", &sent.bytes()).action,
                                Action::Redirect
                            );

                            // Errors about packets of the container. A router's IPv6 address has no
                            // IPv4 counterpart: the gateway is the source.
                            let speaker =
                                if input == "up0" { Names::of(V6).near } else { there.source };
                            let error =
                                about(told, IpFrame { ttl: 3, ..left.clone() }, as_much(V6, most));
                            let error = IpFrame {
                                options: options.clone(),
                                payload: error,
                                source: speaker,
                                ..there.clone()
                            };
                            let trial = bench.kernel(entry(input), input, &error.bytes());
                            let quoted = IpFrame { ttl: 3, id: 0, ..sent.clone() };
                            let wanted =
                                IpFrame { payload: about(like, quoted, most), ..back(udp(0)) };
                            let Names { c1, gateway, .. } = Names::of(V4);
                            let macs = (mac_of(C1), BRIDGE_MAC);
                            let wanted = IpFrame {
                                macs,
                                source: gateway,
                                destination: c1,
                                ttl: 63,
                                ..wanted
                            };
                            let wanted = identified(wanted, &trial.frame).bytes();
                            assert_eq!(
                                trial.action,
                                Action::Redirect,
                                "{told:?} {most} {options:?}"
                            );
                            assert_eq!(
                                trial.frame, wanted,
                                "{told:?} {most}:\n{:02x?} is not\n{wanted:02x?}",
                                trial.frame
                            );

                            // Errors about packets to the container.
                            let Some(like) = back_like else { continue };
                            let came =
                                IpFrame { id: 0, ttl: 3, ..inside(&there, port, &trial.frame) };
                            let error = IpFrame { options, ..back(about(told, came, most)) };
                            let trial = bench.kernel(Entry::HostSide, "h1", &error.bytes());
                            let quoted = IpFrame { ttl: 3, ..there.clone() };
                            let wanted =
                                outwards(&error, &there, about(like, quoted, as_much(V6, most)))
                                    .bytes();
                            assert_eq!(trial.action, Action::Redirect, "{told:?} {most}");
                            assert_eq!(
                                trial.frame, wanted,
                                "{told:?} {most}:\n{:02x?} is not\n{wanted:02x?}",
                                trial.frame
                            );
                            rows += 1;
                        }
                    }
                }
            }
        }
        for family in Family::ALL {
            report::rows(family, rows);
        }
    });
}

#[test]
fn refused_icmp_errors() {
    with_bench(|bench| {
        set_up(bench);
        let [(input, there), ..] = clients(bench, &udp(5));
        let port = goes_in(bench, "it begins", input, &there);
        let sent = back(udp(5).with_ports(53, port));
        let left = outwards(&sent, &there, udp(5).with_ports(5001, 4000));
        let came = IpFrame { id: 0, ..inside(&there, port, &[0; 40]) };
        let from_near = |payload| IpFrame { payload, source: Names::of(V6).near, ..there.clone() };
        let c2 = Names::of(V4).c2;
        let own = from(c2, c2, udp(0)).macs;
        let rows: [(&str, &str, IpFrame, DropReason); 8] = [
            (
                "without counterpart in IPv4",
                input,
                from_near(about(Told::BadHeader, left.clone(), 9999)),
                DropReason::ErrorNotTranslated,
            ),
            (
                "without counterpart in IPv6",
                "h1",
                back(about(Told::BadHeader, came.clone(), 9999)),
                DropReason::ErrorNotTranslated,
            ),
            (
                "about a packet with options",
                "h1",
                back(about(
                    Told::PortClosed,
                    IpFrame { options: Options::Units(1), ..came.clone() },
                    9999,
                )),
                DropReason::ErrorNotTranslated,
            ),
            (
                "with TTL 1",
                input,
                IpFrame { ttl: 1, ..from_near(about(Told::PortClosed, left.clone(), 9999)) },
                DropReason::TtlExceeded,
            ),
            (
                "of the container with TTL 1",
                "h1",
                IpFrame { ttl: 1, ..back(about(Told::PortClosed, came.clone(), 9999)) },
                DropReason::TtlExceeded,
            ),
            (
                "about a neighbour's flow",
                "h2",
                IpFrame {
                    source: c2,
                    macs: own,
                    ..back(about(Told::PortClosed, came.clone(), 9999))
                },
                DropReason::ToHost,
            ),
            (
                "about a packet that never came",
                "h1",
                back(about(
                    Told::PortClosed,
                    IpFrame { payload: udp(5).with_ports(9, 53), ..came.clone() },
                    9999,
                )),
                DropReason::ToHost,
            ),
            (
                "longer than an error may be",
                "h1",
                back(about(
                    Told::PortClosed,
                    IpFrame { payload: udp(1300).with_ports(port, 53), ..came },
                    9999,
                )),
                DropReason::ErrorNotTranslated,
            ),
        ];
        for (what, input, frame, reason) in &rows {
            let before = bench.datapath.counters().reasons().expect("the counts")[reason.name()];
            let trial = bench.kernel(entry(input), input, &frame.bytes());
            assert_eq!(
                bench.datapath.counters().reasons().expect("the counts")[reason.name()],
                before + 1,
                "{what}"
            );
            assert!(trial.action != Action::Redirect, "{what}");
        }
        report::rows(V4, rows.len());
    });
}

/// Two IPv4 containers with the same port, and a client with one port for both: their flows must
/// not be mixed.
#[test]
fn ipv4_and_nat64_flows_share_no_tuple() {
    with_bench(|bench| {
        set_up(bench);
        let Names { c1, gateway, host, .. } = Names::of(V4);
        let [(input, there), ..] = clients(bench, &udp(5));
        // The container reaches itself as the gateway, from each port that NAT64 may use.
        for port in (1024..32768).step_by(61) {
            let itself = from(c1, host, udp(5).with_ports(port, 5001));
            let seen = read(&bench.kernel(Entry::HostSide, "h1", &itself.bytes()).frame);
            assert_eq!((seen.source, seen.destination), (gateway, c1));
            bench.flush();
            bench.kernel(Entry::HostSide, "h1", &itself.bytes());
            let across = goes_in(bench, "across", input, &there);
            assert_ne!(across, port);
            // In the other order.
            bench.flush();
            let across = goes_in(bench, "across", input, &there);
            let itself = from(c1, host, udp(5).with_ports(across, 5001));
            let seen = read(&bench.kernel(Entry::HostSide, "h1", &itself.bytes()).frame);
            assert_eq!((seen.source, seen.destination), (gateway, c1));
            assert_ne!(seen.ports().0, across);
        }
    });
}

/// Every address of the host, the gateway's included.
#[test]
fn local_sources_are_dropped_on_uplink() {
    with_bench(|bench| {
        set_up(bench);
        let Names { host, c1, .. } = Names::of(V6);
        let link_local: IpAddr = "fe80::1".parse().expect("an address");
        for source in [host, c1, link_local, V6.loopback()] {
            let frame = outside(bench, source, host, udp(5));
            assert_eq!(
                bench.kernel(Entry::Uplink, "up0", &frame.bytes()).action,
                Action::Drop,
                "{source}"
            );
        }
        let mapped: IpAddr = "::ffff:203.0.113.10".parse().expect("an address");
        let frame = outside(bench, mapped, host, udp(5));
        assert_eq!(
            bench.kernel(Entry::Uplink, "up0", &frame.bytes()).action,
            Action::Pass,
            "no packet has such an address"
        );
    });
}
