//! SCTP, whose ports and checksum stay unchanged.

use causeway_common::abi::drop_reason::DropReason;
use causeway_tests::{
    bench::{
        Bench,
        rows::{Expect, Names, Row, check, from, outside, raw, row, set_up},
        with_bench,
    },
    families,
    family::{Family, V4},
    packet::{IpFrame, Payload, Told},
    sctp,
};

families!(ports_and_checksum_are_kept);

fn ports_and_checksum_are_kept(family: Family) {
    with_bench(|bench| {
        set_up(bench);
        let rows = rows_of_sctp(bench, family);
        check(bench, family, rows);
    });
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows_of_sctp(bench: &Bench, family: Family) -> Vec<Row> {
    use Expect::{Leave, LeaveError, Stop};
    let Names { c1, c2, c3, gateway, host, near, world, .. } = Names::of(family);
    let packet = |source, destination, tag, chunk| {
        Payload::Sctp(sctp::Packet { source, destination, tag, chunk })
    };
    let init = |source, destination| packet(source, destination, 0, sctp::init(9));
    let data = |source, destination| packet(source, destination, 7, sctp::data());
    let sent = || from(c1, world, init(4000, 5000));
    let published = || outside(bench, world, host, init(4000, 5002));
    let quoted = || Box::new(IpFrame { ttl: 7, ..from(host, world, data(4000, 5000)) });
    let mut cut_short = from(c1, world, init(4000, 5000)).bytes();
    // The IP packet ends within the header of the first chunk.
    let (field, length) = if family == V4 { (17, 20 + 15) } else { (19, 15) };
    cut_short[field] = length;
    vec![
        row("an INIT is masqueraded", "h1", sent(), Leave("up0", (host, 4000), (world, 5000))),
        row(
            "data of an association",
            "h1",
            from(c1, world, data(4000, 5000)),
            Leave("up0", (host, 4000), (world, 5000)),
        )
        .after("h1", sent()),
        row(
            "an INIT ACK from outside",
            "up0",
            outside(bench, world, host, packet(5000, 4000, 9, sctp::init_ack(7))),
            Leave("h1", (world, 5000), (c1, 4000)),
        )
        .after("h1", sent()),
        row(
            "without masquerade the source stays",
            "h3",
            from(c3, world, init(4000, 5000)),
            Leave("up0", (c3, 4000), (world, 5000)),
        ),
        row(
            "mid-stream outwards",
            "h1",
            from(c1, world, data(4000, 5000)),
            Stop(DropReason::NoFlow),
        ),
        row(
            "an INIT with a tag creates no flow",
            "h1",
            from(c1, world, packet(4000, 5000, 7, sctp::init(9))),
            Stop(DropReason::NoFlow),
        ),
        row(
            "an INIT ACK creates no flow",
            "h1",
            from(c1, world, packet(4000, 5000, 0, sctp::init_ack(9))),
            Stop(DropReason::NoFlow),
        ),
        row(
            "SHUTDOWN COMPLETE creates no flow",
            "h1",
            from(c1, world, packet(4000, 5000, 7, sctp::shutdown_complete())),
            Stop(DropReason::NoFlow),
        ),
        row(
            "a port that another container's association has",
            "h2",
            from(c2, world, init(4000, 5000)),
            Stop(DropReason::SctpPortTaken),
        )
        .after("h1", sent()),
        row(
            "the same port toward another place",
            "h2",
            from(c2, near, init(4000, 5000)),
            Leave("up0", (host, 4000), (near, 5000)),
        )
        .after("h1", sent()),
        row("a published port", "up0", published(), Leave("h1", (world, 4000), (c1, 5002))),
        row(
            "an answer to a published client",
            "h1",
            from(c1, world, packet(5002, 4000, 9, sctp::init_ack(7))),
            Leave("up0", (host, 5002), (world, 4000)),
        )
        .after("up0", published()),
        row(
            "the last port of a range",
            "up0",
            outside(bench, world, host, init(4000, 5003)),
            Leave("h1", (world, 4000), (c1, 5003)),
        ),
        row(
            "mid-stream to a published port",
            "up0",
            outside(bench, world, host, data(4000, 5002)),
            Stop(DropReason::NotOurs),
        ),
        row("hairpin", "h2", from(c2, host, init(4000, 5002)), Leave("h1", (c2, 4000), (c1, 5002))),
        row(
            "hairpin to itself",
            "h1",
            from(c1, host, init(4000, 5002)),
            Leave("h1", (gateway, 4000), (c1, 5002)),
        ),
        row(
            "to a neighbour",
            "h1",
            from(c1, c2, init(4000, 5000)),
            Leave("h2", (c1, 4000), (c2, 5000)),
        ),
        row(
            "to a neighbour in mid-stream",
            "h1",
            from(c1, c2, data(4000, 5000)),
            Leave("h2", (c1, 4000), (c2, 5000)),
        ),
        row(
            "an error that quotes 8 bytes",
            "up0",
            outside(
                bench,
                near,
                host,
                Payload::Error(Told::TooLong(1400), quoted(), family.header() + 8),
            ),
            LeaveError("h1", near, c1, (c1, 4000), (world, 5000)),
        )
        .after("h1", sent()),
        row(
            "an error that quotes the whole packet",
            "up0",
            outside(
                bench,
                near,
                host,
                Payload::Error(Told::TooLong(1400), quoted(), family.header() + 36),
            ),
            LeaveError("h1", near, c1, (c1, 4000), (world, 5000)),
        )
        .after("h1", sent()),
        raw("cut short", "h1", cut_short, DropReason::Malformed),
    ]
}
