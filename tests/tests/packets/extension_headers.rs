//! IPv6 extension headers: walked up to a bound. Beyond it packets of containers are dropped.

use causeway_common::abi::drop_reason::DropReason;
use causeway_tests::{
    bench::{
        Bench,
        rows::{Expect, Names, Row, check, from, outside, raw, row, set_up},
        with_bench,
    },
    family::V6,
    packet::{Fragment, IpFrame, Options, Payload, Told, extension},
    raw::{
        flag::{ACK, SYN},
        header::{AUTHENTICATION, DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING},
    },
};

mod v6 {
    #[test]
    fn are_walked_to_the_bound() {
        super::are_walked_to_the_bound();
    }
}

fn are_walked_to_the_bound() {
    with_bench(|bench| {
        set_up(bench);
        let rows = rows(bench);
        check(bench, V6, rows);
    });
}

type Chain = Vec<(u8, Vec<u8>)>;

/// A payload behind those headers.
fn behind(chain: Chain, frame: IpFrame) -> IpFrame {
    IpFrame { options: Options::Extensions(chain), ..frame }
}

/// A type 2 routing header with so many segments left.
fn routing(left: u8) -> (u8, Vec<u8>) {
    let (number, mut rest) = extension(ROUTING, 3);
    (rest[1], rest[2]) = (2, left);
    (number, rest)
}

/// So many destination option headers of 8 bytes.
fn many(count: usize) -> Chain {
    vec![extension(DESTINATION, 1); count]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows(bench: &Bench) -> Vec<Row> {
    use Expect::{Leave, LeaveError, Stop};
    let Names { c1, c2, group, host, near, world, .. } = Names::of(V6);
    let syn = || from(c1, world, Payload::Tcp(4000, 80, SYN));
    let udp = |payload: Vec<u8>| from(c1, world, Payload::Udp(4000, 53, payload));
    let ping = || from(c1, world, Payload::Ping(77));
    let out = || Leave("up0", (host, 4000), (world, 80));
    let hop_by_hop = || extension(HOP_BY_HOP, 1);
    let published =
        |chain| behind(chain, outside(bench, world, host, Payload::Tcp(4000, 5000, SYN)));
    let quoted = |chain| {
        let seen =
            behind(chain, IpFrame { ttl: 7, ..from(host, world, Payload::Tcp(4000, 80, SYN)) });
        let length = seen.bytes().len() - 14;
        Payload::Error(Told::TooLong(1400), Box::new(seen), length)
    };
    let mut cut = behind(many(1), syn()).bytes();
    // The header's length exceeds the packet.
    cut[55] = 4;
    vec![
        row("hop-by-hop options", "h1", behind(vec![hop_by_hop()], syn()), out()),
        row("destination options", "h1", behind(many(1), syn()), out()),
        row("a routing header with no segments left", "h1", behind(vec![routing(0)], syn()), out()),
        row("as many headers as are walked", "h1", behind(many(4), syn()), out()),
        row(
            "headers of the maximum length",
            "h1",
            behind(vec![extension(DESTINATION, 15)], syn()),
            out(),
        ),
        row(
            "the next packet of a flow",
            "h1",
            behind(many(4), from(c1, world, Payload::Tcp(4000, 80, ACK))),
            out(),
        )
        .after("h1", syn()),
        row(
            "before UDP",
            "h1",
            behind(vec![hop_by_hop(), extension(DESTINATION, 14)], udp(b"hello".to_vec())),
            Leave("up0", (host, 4000), (world, 53)),
        ),
        row(
            "before an echo request",
            "h1",
            behind(vec![extension(DESTINATION, 15)], ping()),
            Leave("up0", (host, 77), (world, 0)),
        ),
        row("an atomic fragment", "h1", IpFrame { fragment: Fragment::Atomic, ..syn() }, out()),
        row(
            "an atomic fragment behind others",
            "h1",
            IpFrame {
                fragment: Fragment::Atomic,
                ..behind(vec![extension(DESTINATION, 14)], syn())
            },
            out(),
        ),
        row(
            "a first fragment behind others",
            "h1",
            IpFrame {
                fragment: Fragment::First,
                id: 0x1001,
                ..behind(vec![hop_by_hop(), extension(DESTINATION, 13)], syn())
            },
            out(),
        ),
        row(
            "to a published port",
            "up0",
            published(vec![extension(DESTINATION, 15)]),
            Leave("h1", (world, 4000), (c1, 80)),
        ),
        row(
            "one header more than are walked",
            "h1",
            behind(many(5), syn()),
            Stop(DropReason::ExtensionHeaders),
        ),
        row(
            "eight bytes more than are walked",
            "h1",
            behind(vec![extension(DESTINATION, 16)], syn()),
            Stop(DropReason::ExtensionHeaders),
        ),
        row(
            "a routing header with segments left",
            "h1",
            behind(vec![routing(1)], syn()),
            Stop(DropReason::ExtensionHeaders),
        ),
        row(
            "more than are walked, to a neighbour",
            "h1",
            behind(many(5), from(c1, c2, Payload::Tcp(4000, 80, SYN))),
            Stop(DropReason::ExtensionHeaders),
        ),
        row(
            "more than are walked, to multicast",
            "h1",
            behind(many(5), from(c1, group, Payload::Udp(4000, 80, vec![]))),
            Stop(DropReason::ExtensionHeaders),
        ),
        row(
            "more than are walked, to the host",
            "h1",
            behind(many(5), from(c1, host, Payload::Udp(4000, 80, vec![]))),
            Stop(DropReason::ExtensionHeaders),
        ),
        row(
            "more than are walked, in a neighbour's name",
            "h1",
            behind(many(5), from(c2, world, Payload::Udp(4000, 80, vec![]))),
            Stop(DropReason::SourceAddressSpoofed),
        ),
        row(
            "an extension header behind a fragment header",
            "h1",
            behind(
                vec![(FRAGMENT, vec![0, 0, 1, 0, 0, 0x20, 1]), extension(DESTINATION, 1)],
                syn(),
            ),
            Stop(DropReason::ExtensionHeaders),
        ),
        row(
            "an unknown next header",
            "h1",
            behind(vec![(AUTHENTICATION, vec![4; 23])], syn()),
            Stop(DropReason::ProtocolNotTranslated),
        ),
        row(
            "more than are walked, from outside",
            "up0",
            published(many(5)),
            Stop(DropReason::NotOurs),
        ),
        row(
            "a routing header with segments left, from outside",
            "up0",
            published(vec![routing(1)]),
            Stop(DropReason::NotOurs),
        ),
        row(
            "an error about a packet with extension headers",
            "up0",
            outside(bench, near, host, quoted(vec![hop_by_hop(), extension(DESTINATION, 14)])),
            LeaveError("h1", near, c1, (c1, 4000), (world, 80)),
        )
        .after("h1", syn()),
        row(
            "an error with extension headers itself",
            "up0",
            behind(
                vec![extension(DESTINATION, 15)],
                outside(bench, near, host, quoted(vec![extension(DESTINATION, 15)])),
            ),
            LeaveError("h1", near, c1, (c1, 4000), (world, 80)),
        )
        .after("h1", syn()),
        row(
            "an error about a packet beyond the bound",
            "up0",
            outside(bench, near, host, quoted(many(5))),
            Stop(DropReason::NotOurs),
        )
        .after("h1", syn()),
        row(
            "TTL 1 behind extension headers",
            "h1",
            IpFrame { ttl: 1, ..behind(vec![extension(DESTINATION, 15)], syn()) },
            Stop(DropReason::TtlExceeded),
        ),
        row(
            "too long with extension headers",
            "h1",
            behind(many(4), udp(vec![0; V6.data_of(1500)])),
            Stop(DropReason::TooLong),
        ),
        raw("a header longer than its packet", "h1", cut, DropReason::Malformed),
    ]
}
