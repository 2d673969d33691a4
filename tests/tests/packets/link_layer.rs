//! ARP and neighbour discovery of containers, and link-local addresses.

use std::net::IpAddr;

use causeway_common::abi::drop_reason::DropReason;
use causeway_tests::{
    bench::{
        BRIDGE_MAC, Bench, link_local_of, mac_of,
        rows::{C1, C2, C4, Expect, Names, Row, check, from, raw, row, set_up},
        with_bench,
    },
    family::V6,
    packet::{Fragment, IpFrame, Options, Payload, extension},
    raw::{
        flag::SYN,
        header::{DESTINATION, HOP_BY_HOP},
    },
};

mod v6 {
    #[test]
    fn arp_and_nd_spoofing_is_dropped() {
        super::run(super::rows_of_discovery);
    }

    #[test]
    fn link_local_addresses_stay_on_link() {
        super::run(super::rows_of_link_local);
    }
}

fn run(rows: fn(&Bench) -> Vec<Row>) {
    with_bench(|bench| {
        set_up(bench);
        let rows = rows(bench);
        check(bench, V6, rows);
    });
}

/// A frame from the container at that host side, with any source.
fn of(container: [u8; 4], source: IpAddr, destination: IpAddr, payload: Payload) -> IpFrame {
    IpFrame { macs: (BRIDGE_MAC, mac_of(container)), ..from(source, destination, payload) }
}

/// A neighbour solicitation or advertisement: type, target, link-layer address options (kind and
/// MAC).
fn about(kind: u8, target: IpAddr, options: &[(u8, [u8; 6])]) -> Payload {
    let IpAddr::V6(target) = target else { panic!("{target} has no such neighbours") };
    let options = options.iter().flat_map(|(kind, mac)| [&[*kind, 1][..], mac].concat());
    Payload::Icmp(kind, [0; 4].into_iter().chain(target.octets()).chain(options).collect())
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows_of_discovery(_bench: &Bench) -> Vec<Row> {
    const ASK: u8 = 135;
    const TELL: u8 = 136;
    let Names { c1, c2, gateway, unused, group, host, world, .. } = Names::of(V6);
    let (ll1, ll2) = (link_local_of(C1), link_local_of(C2));
    let nowhere: IpAddr = "::".parse().expect("an address");
    let (own, theirs) = (mac_of(C1), mac_of(C2));
    let frame =
        |source, destination, payload| IpFrame { ttl: 255, ..of(C1, source, destination, payload) };
    let ask = |source, target, options: &[_]| frame(source, group, about(ASK, target, options));
    let tell = |source, target, options: &[_]| frame(source, group, about(TELL, target, options));
    let nonce = (14, [0x5a; 6]);
    let flood = [nonce, nonce, nonce, nonce, (1, theirs)];
    let spoofed = |what, frame| row(what, "h1", frame, Expect::Stop(DropReason::NdSpoofed));
    let passes = |what, frame| row(what, "h1", frame, Expect::Stop(DropReason::Nd));
    let outwards =
        |what, frame| row(what, "h1", frame, Expect::Stop(DropReason::ProtocolNotTranslated));
    let router =
        |what, frame| row(what, "h1", frame, Expect::Stop(DropReason::RouterAdvertisement));
    let hidden = |what, frame| row(what, "h1", frame, Expect::Stop(DropReason::ExtensionHeaders));
    let behind = |chain, frame: IpFrame| IpFrame { options: Options::Extensions(chain), ..frame };
    let report = |source| frame(source, group, Payload::Icmp(143, vec![0; 24]));
    let mut stolen = tell(c1, c1, &[(2, own)]);
    stolen.macs.1 = theirs;
    let mut cut = tell(c1, c1, &[]).bytes();
    cut.truncate(70);
    cut[19] = 16;
    vec![
        passes("who has a neighbour's address", ask(c1, c2, &[(1, own)])),
        passes("who has the gateway's", ask(ll1, gateway, &[(1, own), nonce])),
        passes("is a neighbour there still", frame(c1, c2, about(ASK, c2, &[]))),
        passes("it has its own address", tell(c1, c1, &[(2, own)])),
        passes("it has its link-local address", frame(c1, ll2, about(TELL, ll1, &[]))),
        passes("duplicate address detection for its address", ask(nowhere, c1, &[])),
        passes(
            "duplicate address detection for its link-local address",
            ask(nowhere, ll1, &[nonce]),
        ),
        passes(
            "is there a router",
            frame(ll1, group, Payload::Icmp(133, [&[0; 4][..], &[1, 1], &own].concat())),
        ),
        passes("it listens", report(ll1)),
        passes(
            "multicast report, as Linux sends it",
            behind(vec![extension(HOP_BY_HOP, 1)], report(ll1)),
        ),
        passes("multicast done", frame(ll1, group, Payload::Icmp(132, vec![0; 20]))),
        spoofed("who has it, in a neighbour's name", ask(c2, gateway, &[(1, own)])),
        spoofed("who has it, in the gateway's name", ask(gateway, c2, &[(1, own)])),
        spoofed("who has it, with a neighbour's MAC", ask(c1, gateway, &[(1, theirs)])),
        spoofed(
            "who has it, with a neighbour's MAC behind its own",
            ask(c1, gateway, &[(1, own), (1, theirs)]),
        ),
        spoofed("who has it, behind a flood of options", ask(c1, gateway, &flood)),
        spoofed("it has a neighbour's address", tell(c1, c2, &[(2, own)])),
        spoofed("it has a neighbour's link-local address", tell(ll1, ll2, &[(2, own)])),
        spoofed("it has the gateway's address", tell(c1, gateway, &[(2, own)])),
        spoofed("it has an unused address", tell(c1, unused, &[(2, own)])),
        spoofed("a neighbour has its address", tell(c2, c1, &[(2, own)])),
        spoofed("it has its own with a neighbour's MAC", tell(c1, c1, &[(2, theirs)])),
        spoofed("it has its own in a frame with a neighbour's MAC", stolen),
        spoofed("duplicate address detection for a neighbour's address", ask(nowhere, c2, &[])),
        spoofed(
            "duplicate address detection for the gateway's address",
            ask(nowhere, gateway, &[]),
        ),
        spoofed(
            "is there a router, in a neighbour's name",
            frame(ll2, group, Payload::Icmp(133, vec![0; 4])),
        ),
        spoofed(
            "is there a router, with a neighbour's MAC",
            frame(ll1, group, Payload::Icmp(133, [&[0; 4][..], &[1, 1], &theirs].concat())),
        ),
        spoofed("a neighbour listens", report(ll2)),
        spoofed("multicast report from the unspecified address", report(nowhere)),
        spoofed("behind options", behind(vec![extension(DESTINATION, 1)], tell(c1, c1, &[]))),
        spoofed(
            "in an atomic fragment",
            IpFrame { fragment: Fragment::Atomic, ..tell(c1, c1, &[]) },
        ),
        spoofed("in a first fragment", IpFrame { fragment: Fragment::First, ..tell(c1, c1, &[]) }),
        spoofed(
            "multicast report in a first fragment",
            IpFrame { fragment: Fragment::First, ..report(ll1) },
        ),
        hidden(
            "behind more options than are walked",
            behind(vec![extension(DESTINATION, 1); 5], tell(c1, c2, &[])),
        ),
        hidden("to a neighbour, behind more than are walked", {
            behind(vec![extension(DESTINATION, 1); 5], frame(c1, c2, about(TELL, gateway, &[])))
        }),
        router("a router's advertisement", frame(ll1, group, Payload::Icmp(134, vec![0; 12]))),
        router(
            "a router's advertisement in the gateway's name",
            frame(gateway, c2, Payload::Icmp(134, vec![0; 12])),
        ),
        router("a redirect", frame(ll1, c2, Payload::Icmp(137, vec![0; 36]))),
        router("who listens", frame(ll1, group, Payload::Icmp(130, vec![0; 24]))),
        outwards("solicitation to a global address", frame(c1, world, about(ASK, world, &[]))),
        outwards("advertisement to a global address", frame(c1, world, about(TELL, c1, &[]))),
        outwards(
            "it has its own, to another link of the host",
            frame(c1, host, about(TELL, c1, &[])),
        ),
        outwards(
            "multicast report to a global address",
            frame(c1, world, Payload::Icmp(143, vec![0; 400])),
        ),
        row(
            "solicitation from an internal network to a global address",
            "h4",
            IpFrame { ttl: 255, ..of(C4, Names::of(V6).c4, world, about(ASK, world, &[])) },
            Expect::Stop(DropReason::ProtocolNotTranslated),
        ),
        raw("cut short in its target", "h1", cut, DropReason::NdSpoofed),
    ]
}

fn rows_of_link_local(bench: &Bench) -> Vec<Row> {
    use Expect::{Leave, Stop};
    let Names { c1, c2, group, host, gateway, world, .. } = Names::of(V6);
    let (ll1, ll2) = (link_local_of(C1), link_local_of(C2));
    let [unknown, bridge]: [IpAddr; 2] =
        ["fe80::77", "fe80::1"].map(|address| address.parse().expect("an address"));
    let tcp =
        |source, destination, port| of(C1, source, destination, Payload::Tcp(4000, port, SYN));
    let _ = bench;
    vec![
        row("to a neighbour", "h1", tcp(ll1, ll2, 80), Leave("h2", (ll1, 4000), (ll2, 80))),
        row("to a neighbour's address", "h1", tcp(ll1, c2, 80), Leave("h2", (ll1, 4000), (c2, 80))),
        row(
            "to a neighbour by its own address",
            "h1",
            tcp(c1, ll2, 80),
            Leave("h2", (c1, 4000), (ll2, 80)),
        ),
        row(
            "a neighbour's answer",
            "h2",
            of(C2, ll2, ll1, Payload::Tcp(80, 4000, SYN | 0x10)),
            Leave("h1", (ll2, 80), (ll1, 4000)),
        )
        .after("h1", tcp(ll1, ll2, 80)),
        row("to an unknown neighbour", "h1", tcp(ll1, unknown, 80), Stop(DropReason::ToBridge)),
        row("to the bridge", "h1", tcp(c1, bridge, 80), Stop(DropReason::ToBridge)),
        row("to many", "h1", tcp(ll1, group, 80), Stop(DropReason::ToBridge)),
        row("to the gateway", "h1", tcp(ll1, gateway, 22), Stop(DropReason::ToHost)),
        row("to the host", "h1", tcp(ll1, host, 22), Stop(DropReason::ToHost)),
        row("to a published port", "h1", tcp(ll1, host, 7000), Stop(DropReason::ToHost)),
        row("outwards", "h1", tcp(ll1, world, 80), Stop(DropReason::NoRoute)),
        row(
            "an echo request outwards",
            "h1",
            of(C1, ll1, world, Payload::Ping(77)),
            Stop(DropReason::NoRoute),
        ),
        row(
            "in a neighbour's name",
            "h1",
            tcp(ll2, c2, 80),
            Stop(DropReason::SourceAddressSpoofed),
        ),
        row(
            "in the bridge's name",
            "h1",
            tcp(bridge, c2, 80),
            Stop(DropReason::SourceAddressSpoofed),
        ),
    ]
}
