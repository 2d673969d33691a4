//! ICMP errors and the packets they quote.

use causeway_common::abi::drop_reason::DropReason;
use causeway_tests::{
    bench::{
        Bench,
        rows::{Expect, Names, Row, check, from, outside, row, set_up},
        with_bench,
    },
    families,
    family::Family,
    packet::{Fragment, IpFrame, Options, Payload, Told},
    raw::flag::SYN,
};

families!(table);

fn table(family: Family) {
    with_bench(|bench| {
        set_up(bench);
        let rows = rows_of_errors(bench, family);
        check(bench, family, rows);
    });
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows_of_errors(bench: &Bench, family: Family) -> Vec<Row> {
    use Expect::{Leave, LeaveError, Stop};
    let Names { c1, c2, host, near, world, .. } = Names::of(family);
    let syn = || from(c1, world, Payload::Tcp(4000, 80, SYN));
    let datagram = || from(c1, world, Payload::Udp(4000, 53, b"hello".to_vec()));
    let published = || outside(bench, world, host, Payload::Udp(4000, 5001, b"hello".to_vec()));
    // The quoted packet as it was when the error was sent.
    let seen =
        |source, destination, payload| IpFrame { ttl: 7, ..from(source, destination, payload) };
    let error = |told, quoted: IpFrame| {
        let length = quoted.bytes().len() - 14;
        Payload::Error(told, Box::new(quoted), length)
    };
    let short = |told, quoted: IpFrame| Payload::Error(told, Box::new(quoted), family.header() + 8);
    let masqueraded = || seen(host, world, Payload::Tcp(4000, 80, SYN));
    let masqueraded_udp = || seen(host, world, Payload::Udp(4000, 53, b"hello".to_vec()));
    let back_to_c1 = |source| LeaveError("h1", source, c1, (c1, 4000), (world, 80));
    vec![
        row(
            "time exceeded at a router",
            "up0",
            outside(bench, near, host, error(Told::HopsExceeded, masqueraded())),
            back_to_c1(near),
        )
        .after("h1", syn()),
        row(
            "a quote of 8 bytes, without TCP's checksum",
            "up0",
            outside(bench, near, host, short(Told::HopsExceeded, masqueraded())),
            back_to_c1(near),
        )
        .after("h1", syn()),
        row(
            "fragmentation needed, quoted with IP options",
            "up0",
            outside(
                bench,
                near,
                host,
                error(Told::TooLong(1400), IpFrame { options: Options::Units(2), ..masqueraded() }),
            ),
            back_to_c1(near),
        )
        .after("h1", syn()),
        row(
            "an error with IP options itself",
            "up0",
            IpFrame {
                options: Options::Units(10),
                ..outside(bench, near, host, error(Told::TooLong(1400), masqueraded()))
            },
            back_to_c1(near),
        )
        .after("h1", syn()),
        row(
            "port unreachable by the peer itself",
            "up0",
            outside(bench, world, host, error(Told::PortClosed, masqueraded_udp())),
            LeaveError("h1", world, c1, (c1, 4000), (world, 53)),
        )
        .after("h1", datagram()),
        row(
            "a quoted datagram without checksum keeps none",
            "up0",
            outside(
                bench,
                world,
                host,
                error(Told::PortClosed, seen(host, world, Payload::UdpUnsummed(4000, 53))),
            ),
            LeaveError("h1", world, c1, (c1, 4000), (world, 53)),
        )
        .after("h1", from(c1, world, Payload::UdpUnsummed(4000, 53))),
        row(
            "time exceeded for an echo request",
            "up0",
            outside(
                bench,
                near,
                host,
                error(Told::HopsExceeded, seen(host, world, Payload::Ping(77))),
            ),
            LeaveError("h1", near, c1, (c1, 77), (world, 0)),
        )
        .after("h1", from(c1, world, Payload::Ping(77))),
        row(
            "an error about an answer of a published port",
            "up0",
            outside(
                bench,
                near,
                host,
                error(
                    Told::TooLong(1400),
                    seen(host, world, Payload::Udp(5001, 4000, b"hello".to_vec())),
                ),
            ),
            LeaveError("h1", near, c1, (c1, 53), (world, 4000)),
        )
        .after("up0", published()),
        row(
            "port unreachable by the container behind a published port",
            "h1",
            from(
                c1,
                world,
                error(Told::PortClosed, seen(world, c1, Payload::Udp(4000, 53, b"hello".to_vec()))),
            ),
            LeaveError("up0", host, world, (world, 4000), (host, 5001)),
        )
        .after("up0", published()),
        row(
            "the same by a hairpin",
            "h1",
            from(
                c1,
                c2,
                error(Told::PortClosed, seen(c2, c1, Payload::Udp(4000, 53, b"hello".to_vec()))),
            ),
            LeaveError("h2", host, c2, (c2, 4000), (host, 5001)),
        )
        .after("h2", from(c2, host, Payload::Udp(4000, 5001, b"hello".to_vec()))),
        row(
            "between neighbours nothing is translated",
            "h1",
            from(
                c1,
                c2,
                error(Told::PortClosed, seen(c2, c1, Payload::Udp(4000, 53, b"hello".to_vec()))),
            ),
            Leave("h2", (c1, 0), (c2, 0)),
        )
        .after("h2", from(c2, c1, Payload::Udp(4000, 53, b"hello".to_vec()))),
        row(
            "an error in a neighbour's name",
            "h1",
            from(
                c2,
                world,
                error(Told::PortClosed, seen(world, c1, Payload::Udp(4000, 53, b"hello".to_vec()))),
            ),
            Stop(DropReason::SourceAddressSpoofed),
        )
        .after("up0", published()),
        row(
            "an error about another container's flow",
            "h2",
            from(
                c2,
                world,
                error(Told::PortClosed, seen(world, c1, Payload::Udp(4000, 53, b"hello".to_vec()))),
            ),
            Stop(DropReason::ErrorOfNoFlow),
        )
        .after("up0", published()),
        row(
            "an error without a flow",
            "up0",
            outside(bench, near, host, error(Told::HopsExceeded, masqueraded())),
            Stop(DropReason::NotOurs),
        ),
        row(
            "an error about a packet that was never sent",
            "up0",
            outside(
                bench,
                near,
                host,
                error(Told::HopsExceeded, seen(host, world, Payload::Tcp(4001, 80, SYN))),
            ),
            Stop(DropReason::NotOurs),
        )
        .after("h1", syn()),
        row(
            "an error about a later fragment",
            "up0",
            outside(
                bench,
                near,
                host,
                error(
                    Told::FragmentsMissing,
                    IpFrame { fragment: Fragment::Later, ..masqueraded() },
                ),
            ),
            Stop(DropReason::NotOurs),
        )
        .after("h1", syn()),
        row(
            "an error about an error",
            "up0",
            outside(
                bench,
                near,
                host,
                error(
                    Told::HopsExceeded,
                    seen(host, world, short(Told::PortClosed, masqueraded())),
                ),
            ),
            Stop(DropReason::NotOurs),
        )
        .after("h1", syn()),
        row(
            "a quote cut short in its ports",
            "up0",
            outside(
                bench,
                near,
                host,
                Payload::Error(Told::HopsExceeded, Box::new(masqueraded()), family.header() + 2),
            ),
            Stop(DropReason::NotOurs),
        )
        .after("h1", syn()),
        row(
            "an error with TTL 1",
            "up0",
            IpFrame {
                ttl: 1,
                ..outside(bench, near, host, error(Told::HopsExceeded, masqueraded()))
            },
            Stop(DropReason::TtlExceeded),
        )
        .after("h1", syn()),
    ]
}
