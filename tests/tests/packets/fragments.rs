//! Fragments follow the first fragment of their datagram.

use causeway::datapath::{Action, Entry};
use causeway_common::abi::drop_reason::DropReason;
use causeway_tests::{
    bench::{
        Bench,
        rows::{Expect, Names, Row, check, from, id_of, outside, raw, row, set_up},
        with_bench,
    },
    families,
    family::{Family, V4},
    packet::{Fragment, IpFrame, Options, Payload},
    raw::flag::SYN,
};

families!(follow_their_first, leave_with_one_new_identification);

fn follow_their_first(family: Family) {
    with_bench(|bench| {
        set_up(bench);
        let rows = rows_of_fragments(bench, family);
        check(bench, family, rows);
    });
}

/// The first fragment of a packet, with `id`.
fn first(id: u32, whole: IpFrame) -> IpFrame {
    IpFrame { id, fragment: Fragment::First, ..whole }
}

/// A later fragment of the same datagram.
fn later(id: u32, whole: IpFrame) -> IpFrame {
    let payload = Payload::Other(whole.protocol(), b"of no port, and odd".to_vec());
    IpFrame { id, fragment: Fragment::Later, payload, ..whole }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows_of_fragments(bench: &Bench, family: Family) -> Vec<Row> {
    use Expect::{Leave, Reinject, Stop};
    let Names { c1, c2, c3, c4, gateway, group, host, world, .. } = Names::of(family);
    let udp = |source, destination| Payload::Udp(source, destination, b"hello".to_vec());
    let out = || from(c1, world, udp(4000, 53));
    let published = || outside(bench, world, host, udp(4000, 5001));
    let hairpin = || from(c2, host, udp(4000, 5001));
    let hairpin_answer = || from(c1, c2, udp(53, 4000));
    let to_host = || outside(bench, world, host, udp(4000, 9));
    let short = |payload: Payload, bytes: usize| {
        let whole = first(90, from(c1, world, payload));
        let mut frame = whole.bytes();
        frame.truncate(whole.payload_at() + bytes);
        let (field, length) = if family == V4 {
            (16, frame.len() - 14)
        } else {
            (18, frame.len() - 14 - family.header())
        };
        frame[field..field + 2]
            .copy_from_slice(&u16::try_from(length).expect("short").to_be_bytes());
        frame
    };
    vec![
        row("a first fragment", "h1", first(1, out()), Leave("up0", (host, 4000), (world, 53))),
        row("a later fragment", "h1", later(2, out()), Leave("up0", (host, 4000), (world, 53)))
            .after("h1", first(2, out())),
        row(
            "a first fragment with options",
            "h1",
            IpFrame { options: Options::Units(2), ..first(3, out()) },
            Leave("up0", (host, 4000), (world, 53)),
        ),
        row(
            "a first fragment without checksum",
            "h1",
            first(4, from(c1, world, Payload::UdpUnsummed(4000, 53))),
            Leave("up0", (host, 4000), (world, 53)),
        ),
        row(
            "a first fragment of an echo request",
            "h1",
            first(5, from(c1, world, Payload::Ping(77))),
            Leave("up0", (host, 77), (world, 0)),
        ),
        row(
            "a later fragment of an echo request",
            "h1",
            later(6, from(c1, world, Payload::Ping(77))),
            Leave("up0", (host, 77), (world, 0)),
        )
        .after("h1", first(6, from(c1, world, Payload::Ping(77)))),
        row(
            "a first fragment of TCP",
            "h1",
            first(7, from(c1, world, Payload::Tcp(4000, 80, SYN))),
            Leave("up0", (host, 4000), (world, 80)),
        ),
        row(
            "without masquerade",
            "h3",
            later(8, from(c3, world, udp(4000, 53))),
            Leave("up0", (c3, 4000), (world, 53)),
        )
        .after("h3", first(8, from(c3, world, udp(4000, 53)))),
        row(
            "a later fragment before its first",
            "h1",
            later(9, out()),
            Stop(DropReason::FragmentHeld),
        ),
        row("the first fragment of a queued datagram", "h1", first(10, out()), Reinject)
            .after("h1", later(10, out())),
        row(
            "the first fragment again",
            "h1",
            first(11, out()),
            Leave("up0", (host, 4000), (world, 53)),
        )
        .after("h1", later(11, out()))
        .after("h1", first(11, out())),
        row(
            "a later fragment of another container's datagram",
            "h2",
            later(12, from(c2, world, udp(0, 0))),
            Stop(DropReason::FragmentHeld),
        )
        .after("h1", first(12, out())),
        row(
            "a later fragment with a spoofed source",
            "h2",
            later(13, out()),
            Stop(DropReason::SourceAddressSpoofed),
        )
        .after("h1", first(13, out())),
        row(
            "a later fragment of another protocol",
            "h1",
            later(14, from(c1, world, Payload::Tcp(0, 0, 0))),
            Stop(DropReason::FragmentHeld),
        )
        .after("h1", first(14, out())),
        row(
            "a first fragment of a protocol without ports",
            "h1",
            first(15, from(c1, world, Payload::Other(47, vec![0; 8]))),
            Stop(DropReason::ProtocolNotTranslated),
        ),
        row(
            "a later fragment whose first was refused",
            "h1",
            later(16, from(c1, world, Payload::Other(47, vec![0; 8]))),
            Stop(DropReason::Fragment),
        )
        .after("h1", first(16, from(c1, world, Payload::Other(47, vec![0; 8])))),
        row(
            "a fragment too long for the queue",
            "h1",
            IpFrame { payload: Payload::Other(17, vec![0; 2100]), ..later(17, out()) },
            Stop(DropReason::Fragment),
        ),
        row(
            "a fragment of the maximum length of the queue",
            "h1",
            IpFrame {
                payload: Payload::Other(17, vec![0; 2048 - later(0, out()).payload_at()]),
                ..later(18, out())
            },
            Stop(DropReason::FragmentHeld),
        ),
        row(
            "a later fragment with TTL 1",
            "h1",
            IpFrame { ttl: 1, ..later(19, out()) },
            Stop(DropReason::TtlExceeded),
        )
        .after("h1", first(19, out())),
        row(
            "to a neighbour",
            "h1",
            first(20, from(c1, c2, udp(4000, 53))),
            Leave("h2", (c1, 4000), (c2, 53)),
        ),
        row(
            "a later fragment to a neighbour",
            "h1",
            later(21, from(c1, c2, udp(4000, 53))),
            Leave("h2", (c1, 4000), (c2, 53)),
        )
        .after("h1", first(21, from(c1, c2, udp(4000, 53)))),
        row(
            "a later fragment to a neighbour before its first",
            "h1",
            later(22, from(c1, c2, udp(4000, 53))),
            Leave("h2", (c1, 0), (c2, 0)),
        ),
        row(
            "the first fragment after a later one to a neighbour",
            "h1",
            first(23, from(c1, c2, udp(4000, 53))),
            Leave("h2", (c1, 4000), (c2, 53)),
        )
        .after("h1", later(23, from(c1, c2, udp(4000, 53)))),
        row(
            "a later fragment to the host before its first",
            "h1",
            later(24, from(c1, gateway, udp(0, 0))),
            Stop(DropReason::ToHost),
        ),
        row("to the host", "h1", later(25, from(c1, gateway, udp(1, 2))), Stop(DropReason::ToHost))
            .after("h1", first(25, from(c1, gateway, udp(1, 2)))),
        row("to many", "h1", later(26, from(c1, group, udp(0, 0))), Stop(DropReason::ToBridge)),
        row(
            "outwards from an internal network",
            "h4",
            first(27, from(c4, world, udp(4000, 53))),
            Stop(DropReason::InternalNetwork),
        ),
        row(
            "a later fragment outwards from an internal network",
            "h4",
            later(28, from(c4, world, udp(4000, 53))),
            Stop(DropReason::InternalNetwork),
        )
        .after("h4", first(28, from(c4, world, udp(4000, 53)))),
        row(
            "to a published port",
            "up0",
            first(40, published()),
            Leave("h1", (world, 4000), (c1, 53)),
        ),
        row(
            "a later fragment to a published port",
            "up0",
            later(41, published()),
            Leave("h1", (world, 4000), (c1, 53)),
        )
        .after("up0", first(41, published())),
        row(
            "a later fragment from outside before its first",
            "up0",
            later(42, published()),
            Stop(DropReason::NotOurs),
        ),
        row(
            "the first fragment of a datagram that the host also received",
            "up0",
            first(43, published()),
            Reinject,
        )
        .after("up0", later(43, published())),
        row(
            "a first fragment from the host",
            "up0",
            first(44, to_host()),
            Stop(DropReason::NotOurs),
        ),
        row(
            "a later fragment from the host",
            "up0",
            later(45, to_host()),
            Stop(DropReason::NotOurs),
        )
        .after("up0", first(45, to_host())),
        row(
            "a first fragment from the host, after a later one",
            "up0",
            first(46, to_host()),
            Stop(DropReason::NotOurs),
        )
        .after("up0", later(46, to_host())),
        row(
            "an answer",
            "up0",
            later(47, outside(bench, world, host, udp(53, 4000))),
            Leave("h1", (world, 53), (c1, 4000)),
        )
        .after("h1", out())
        .after("up0", first(47, outside(bench, world, host, udp(53, 4000)))),
        row(
            "a published port's answer",
            "h1",
            later(48, from(c1, world, udp(53, 4000))),
            Leave("up0", (host, 5001), (world, 4000)),
        )
        .after("up0", published())
        .after("h1", first(48, from(c1, world, udp(53, 4000)))),
        row("a hairpin", "h2", later(49, hairpin()), Leave("h1", (c2, 4000), (c1, 53)))
            .after("h2", first(49, hairpin())),
        row(
            "a hairpin's answer",
            "h1",
            later(50, hairpin_answer()),
            Leave("h2", (host, 5001), (c2, 4000)),
        )
        .after("h2", hairpin())
        .after("h1", first(50, hairpin_answer())),
        row(
            "the first fragment of a hairpin's answer, after a later one",
            "h1",
            first(51, hairpin_answer()),
            Reinject,
        )
        .after("h2", hairpin())
        .after("h1", later(51, hairpin_answer())),
        raw(
            "a first fragment too short for TCP",
            "h1",
            short(Payload::Tcp(4000, 80, SYN), 16),
            DropReason::Malformed,
        ),
        raw(
            "a first fragment too short for UDP",
            "h1",
            short(udp(4000, 53), 7),
            DropReason::Malformed,
        ),
    ]
}

fn leave_with_one_new_identification(family: Family) {
    let Names { c1, c2, world, .. } = Names::of(family);
    with_bench(|bench| {
        set_up(bench);
        let id = |bench: &Bench, input, frame: IpFrame| {
            let trial = bench.kernel(Entry::HostSide, input, &frame.bytes());
            assert_eq!(trial.action, Action::Redirect);
            id_of(&frame, &trial)
        };
        let whole = |source, port| from(source, world, Payload::Udp(port, 53, b"hello".to_vec()));
        let mut seen = Vec::new();
        for number in 0..8 {
            for (input, source) in [("h1", c1), ("h2", c2)] {
                let first_id = id(bench, input, first(number, whole(source, 4000)));
                // Includes a duplicate of the first.
                let frames = [
                    later(number, whole(source, 0)),
                    first(number, whole(source, 4000)),
                    later(number, whole(source, 0)),
                ];
                assert!(frames.into_iter().all(|frame| id(bench, input, frame) == first_id));
                seen.push(first_id);
            }
        }
        // Sixteen random values of 65,536 may collide.
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() >= 14, "{seen:?}");
        let other = id(bench, "h1", first(0, whole(c1, 4001)));
        assert_eq!(
            id(bench, "h1", later(0, whole(c1, 0))),
            other,
            "another datagram with the same identification replaces it"
        );
    });
}
