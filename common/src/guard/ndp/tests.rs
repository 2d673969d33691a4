//! What a container says on its link, row by row.

use crate::{
    abi::{drop_reason::DropReason, endpoint::Endpoint, macs::Macs},
    guard::ndp::{HEADERS, ICMP_AT, from_container},
    testing::{
        fixture::{
            BRIDGE_MAC, C1_MAC, C1_SIDE, C2_MAC, C2_SIDE, Fixture as _, Head, UPLINK, Watched,
            arrival, frame, icmp, model as without,
        },
        model::Model,
        steps::{Decision, decide},
    },
    wire::{
        address::{Address, V6},
        ethernet::ETHERNET,
        packet::Payload,
        parse::Parse as _,
    },
};
use std::vec::Vec;

const fn link_local(host: u8) -> V6 {
    V6::new([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, host])
}

const LL1: V6 = link_local(0xc1);
const LL2: V6 = link_local(0xc2);
/// All nodes of the link, all its routers, all that listen for listeners.
const NODES: V6 = V6::new([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const ROUTERS: V6 = V6::new([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
const LISTENERS: V6 = V6::new([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16]);

/// The containers have link-local addresses too.
fn model() -> Model<V6> {
    let mut model = without::<V6>();
    for (address, link_local) in [(V6::C1, LL1), (V6::C2, LL2)] {
        let endpoint: Endpoint<V6> = model.endpoints[&address];
        model.endpoints.insert(link_local, endpoint);
    }
    model
}

/// The group where the neighbours of an address ask for it (RFC 4291 section 2.7.1).
fn solicited(address: V6) -> V6 {
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&address.octets()[13..]);
    V6::new(group)
}

/// An option of eight bytes.
fn option(kind: u8, mac: [u8; 6]) -> [u8; 8] {
    let mut bytes = [kind, 1, 0, 0, 0, 0, 0, 0];
    bytes[2..].copy_from_slice(&mac);
    bytes
}

/// One that says nothing about a link-layer address: a nonce (RFC 3971).
fn nonce() -> [u8; 8] {
    option(14, [0x5a; 6])
}

/// A message: type, source, destination, what follows its first eight bytes.
fn message(kind: u8, source: V6, destination: V6, rest: &[u8]) -> Vec<u8> {
    let message = icmp(source, destination, [kind, 0, 0, 0, 0, 0, 0, 0], rest, 0);
    V6::ip_of(Head { hops: 255, ..Head::USUAL }, V6::ICMP, source, destination, &message)
}

/// The same about a target.
fn about(kind: u8, source: V6, destination: V6, target: V6, options: &[[u8; 8]]) -> Vec<u8> {
    message(kind, source, destination, &[&target.octets()[..], &options.concat()].concat())
}

fn decided(input: u32, packet: &[u8]) -> Decision<V6> {
    decided_of(input, &frame::<V6>(input, packet))
}

fn decided_of(input: u32, frame: &[u8]) -> Decision<V6> {
    let packet = V6::parse(frame, arrival(input, frame)).unwrap();
    let model = model();
    let decision = decide(frame, &packet, &model);
    assert!(model.flows.borrow().is_empty());
    decision
}

#[track_caller]
fn check(rows: &[(&str, Vec<u8>, DropReason)]) {
    for (what, packet, reason) in rows {
        assert_eq!(decided(C1_SIDE, packet), Decision::Stop(*reason), "{what}");
    }
}

#[test]
fn solicitation_needs_own_addresses() {
    let ask = |source, destination, target, options: &[_]| {
        about(135, source, destination, target, options)
    };
    let group = solicited(V6::C2);
    let own = option(1, C1_MAC);
    check(&[
        ("by its address", ask(V6::C1, group, V6::C2, &[own]), DropReason::Nd),
        ("by its link-local address", ask(LL1, group, V6::C2, &[own]), DropReason::Nd),
        (
            "for the gateway",
            ask(V6::C1, solicited(V6::GATEWAY), V6::GATEWAY, &[own]),
            DropReason::Nd,
        ),
        (
            "for an unused address",
            ask(V6::C1, solicited(V6::UNUSED), V6::UNUSED, &[own]),
            DropReason::Nd,
        ),
        ("straight, whether it is there still", ask(V6::C1, V6::C2, V6::C2, &[]), DropReason::Nd),
        ("the same by link-local addresses", ask(LL1, LL2, LL2, &[]), DropReason::Nd),
        ("with a nonce", ask(V6::C1, group, V6::C2, &[own, nonce()]), DropReason::Nd),
        ("in a neighbour's name", ask(V6::C2, group, V6::C2, &[own]), DropReason::NdSpoofed),
        (
            "in a neighbour's link-local name",
            ask(LL2, group, V6::C2, &[own]),
            DropReason::NdSpoofed,
        ),
        ("in the gateway's name", ask(V6::GATEWAY, group, V6::C2, &[own]), DropReason::NdSpoofed),
        (
            "in the name of an unused address",
            ask(V6::UNUSED, group, V6::C2, &[own]),
            DropReason::NdSpoofed,
        ),
        (
            "with a neighbour's MAC",
            ask(V6::C1, group, V6::C2, &[option(1, C2_MAC)]),
            DropReason::NdSpoofed,
        ),
        (
            "with the bridge's MAC",
            ask(V6::C1, group, V6::C2, &[option(1, BRIDGE_MAC)]),
            DropReason::NdSpoofed,
        ),
        (
            "with a neighbour's MAC for a target's",
            ask(V6::C1, group, V6::C2, &[option(2, C2_MAC)]),
            DropReason::NdSpoofed,
        ),
        (
            "with a neighbour's MAC behind its own",
            ask(V6::C1, group, V6::C2, &[own, option(1, C2_MAC)]),
            DropReason::NdSpoofed,
        ),
        (
            "with an option of no length",
            ask(V6::C1, group, V6::C2, &[[1, 0, 0, 0, 0, 0, 0, 0]]),
            DropReason::NdSpoofed,
        ),
        (
            "with an option of two units",
            ask(V6::C1, group, V6::C2, &[[14, 2, 0, 0, 0, 0, 0, 0], [0; 8]]),
            DropReason::NdSpoofed,
        ),
        (
            "with as many options as are looked at",
            ask(V6::C1, group, V6::C2, &[nonce(), nonce(), nonce(), own]),
            DropReason::Nd,
        ),
        (
            "with a flood of options",
            ask(V6::C1, group, V6::C2, &[nonce(), nonce(), nonce(), nonce(), option(1, C2_MAC)]),
            DropReason::NdSpoofed,
        ),
        (
            "with one more of its own",
            ask(V6::C1, group, V6::C2, &[nonce(), nonce(), nonce(), nonce(), own]),
            DropReason::NdSpoofed,
        ),
        (
            "of a host outside",
            ask(V6::C1, V6::WORLD, V6::WORLD, &[]),
            DropReason::ProtocolNotTranslated,
        ),
        (
            "of the host, by another link's address",
            ask(V6::C1, V6::HOST, V6::HOST, &[]),
            DropReason::ProtocolNotTranslated,
        ),
    ]);
    let mut cut = ask(V6::C1, group, V6::C2, &[own]);
    cut.pop();
    cut[5] -= 1;
    check(&[("with an option that is cut short", cut, DropReason::NdSpoofed)]);
}

#[test]
fn advertisement_needs_own_target() {
    let tell = |source, destination, target, options: &[_]| {
        about(136, source, destination, target, options)
    };
    let own = option(2, C1_MAC);
    check(&[
        ("to who asked", tell(V6::C1, V6::C2, V6::C1, &[own]), DropReason::Nd),
        ("to who asked, without an option", tell(V6::C1, V6::C2, V6::C1, &[]), DropReason::Nd),
        ("to all", tell(V6::C1, NODES, V6::C1, &[own]), DropReason::Nd),
        ("its address by its link-local one", tell(LL1, LL2, V6::C1, &[own]), DropReason::Nd),
        ("its link-local address", tell(V6::C1, V6::GATEWAY, LL1, &[own]), DropReason::Nd),
        ("a neighbour's address", tell(V6::C1, NODES, V6::C2, &[own]), DropReason::NdSpoofed),
        (
            "a neighbour's link-local address",
            tell(V6::C1, NODES, LL2, &[own]),
            DropReason::NdSpoofed,
        ),
        ("the gateway's address", tell(V6::C1, NODES, V6::GATEWAY, &[own]), DropReason::NdSpoofed),
        ("an unused address", tell(V6::C1, NODES, V6::UNUSED, &[own]), DropReason::NdSpoofed),
        ("in a neighbour's name", tell(V6::C2, NODES, V6::C1, &[own]), DropReason::NdSpoofed),
        (
            "a neighbour's address in its name",
            tell(V6::C2, NODES, V6::C2, &[own]),
            DropReason::NdSpoofed,
        ),
        ("in no name", tell(V6::UNSPECIFIED, NODES, V6::C1, &[own]), DropReason::NdSpoofed),
        (
            "with a neighbour's MAC",
            tell(V6::C1, NODES, V6::C1, &[option(2, C2_MAC)]),
            DropReason::NdSpoofed,
        ),
        (
            "with a neighbour's MAC for a source's",
            tell(V6::C1, NODES, V6::C1, &[option(1, C2_MAC)]),
            DropReason::NdSpoofed,
        ),
        (
            "to a host outside",
            tell(V6::C1, V6::WORLD, V6::C1, &[own]),
            DropReason::ProtocolNotTranslated,
        ),
    ]);
}

#[test]
fn probe_needs_own_target() {
    let probe =
        |target, options: &[_]| about(135, V6::UNSPECIFIED, solicited(target), target, options);
    check(&[
        ("its address", probe(V6::C1, &[]), DropReason::Nd),
        ("its link-local address", probe(LL1, &[]), DropReason::Nd),
        ("its address, with a nonce", probe(V6::C1, &[nonce()]), DropReason::Nd),
        ("a neighbour's", probe(V6::C2, &[]), DropReason::NdSpoofed),
        ("a neighbour's link-local one", probe(LL2, &[]), DropReason::NdSpoofed),
        ("the gateway's", probe(V6::GATEWAY, &[]), DropReason::NdSpoofed),
        ("an unused address", probe(V6::UNUSED, &[]), DropReason::NdSpoofed),
        ("with a neighbour's MAC", probe(V6::C1, &[option(1, C2_MAC)]), DropReason::NdSpoofed),
    ]);
}

#[test]
fn router_messages_are_dropped() {
    let prefix = [&[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], &[1, 1], &C1_MAC].concat();
    for kind in [130, 134, 137, 151, 152, 153] {
        for (source, destination) in [
            (LL1, NODES),
            (V6::C1, V6::C2),
            (V6::C2, NODES),
            (V6::UNSPECIFIED, NODES),
            (LL1, V6::WORLD),
        ] {
            let decision = decided(C1_SIDE, &message(kind, source, destination, &prefix));
            assert_eq!(
                decision,
                Decision::Stop(DropReason::RouterAdvertisement),
                "type {kind} by {source:?}"
            );
        }
    }
}

#[test]
fn router_solicitation_needs_own_addresses() {
    let ask = |source, destination, options: &[[u8; 8]]| {
        message(133, source, destination, &options.concat())
    };
    check(&[
        ("by its link-local address", ask(LL1, ROUTERS, &[option(1, C1_MAC)]), DropReason::Nd),
        ("without an option", ask(LL1, ROUTERS, &[]), DropReason::Nd),
        ("by its address", ask(V6::C1, ROUTERS, &[option(1, C1_MAC), nonce()]), DropReason::Nd),
        ("by a neighbour's", ask(LL2, ROUTERS, &[option(1, C1_MAC)]), DropReason::NdSpoofed),
        ("by no address", ask(V6::UNSPECIFIED, ROUTERS, &[]), DropReason::NdSpoofed),
        ("with a neighbour's MAC", ask(LL1, ROUTERS, &[option(1, C2_MAC)]), DropReason::NdSpoofed),
        (
            "with a flood of options",
            ask(LL1, ROUTERS, &[nonce(), nonce(), nonce(), nonce(), option(1, C2_MAC)]),
            DropReason::NdSpoofed,
        ),
        ("of a host outside", ask(V6::C1, V6::WORLD, &[]), DropReason::ProtocolNotTranslated),
    ]);
}

#[test]
fn listener_report_needs_own_source() {
    for kind in [131, 132, 143] {
        // The group, and more records than the parser reads.
        let tell = |source, destination| message(kind, source, destination, &[0xff; 400]);
        check(&[
            ("by its link-local address", tell(LL1, LISTENERS), DropReason::Nd),
            ("by its address", tell(V6::C1, LISTENERS), DropReason::Nd),
            ("by a neighbour's", tell(LL2, LISTENERS), DropReason::NdSpoofed),
            ("by no address", tell(V6::UNSPECIFIED, LISTENERS), DropReason::NdSpoofed),
            ("to a host outside", tell(V6::C1, V6::WORLD), DropReason::ProtocolNotTranslated),
            (
                "to a host outside from a link-local address",
                tell(LL1, V6::WORLD),
                DropReason::ProtocolNotTranslated,
            ),
        ]);
    }
    // As Linux sends it: behind hop-by-hop options, which the router's alert is in (RFC 3810
    // section 5).
    let mut report = message(143, LL1, LISTENERS, &[0; 20]);
    report[6] = 0;
    report[5] += 8;
    report.splice(40..40, [V6::ICMP, 0, 5, 2, 0, 0, 1, 0]);
    assert_eq!(decided(C1_SIDE, &report), Decision::Stop(DropReason::Nd));
}

#[test]
fn unusual_form_is_dropped() {
    let plain = about(136, V6::C1, NODES, V6::C1, &[]);
    let behind = |header: &[u8], next: u8| {
        let mut packet = plain.clone();
        packet[6] = next;
        packet[5] += u8::try_from(header.len()).unwrap();
        packet.splice(40..40, header.iter().copied());
        packet
    };
    let many: Vec<u8> =
        (0..5).flat_map(|i| [if i < 4 { 60 } else { V6::ICMP }, 0, 1, 4, 0, 0, 0, 0]).collect();
    check(
        &[
            ("as it should be", plain.clone(), DropReason::Nd),
            ("behind options", behind(&[V6::ICMP, 0, 1, 4, 0, 0, 0, 0], 60), DropReason::NdSpoofed),
            (
                "in an atomic fragment",
                behind(&[V6::ICMP, 0, 0, 0, 0, 0, 0, 9], 44),
                DropReason::NdSpoofed,
            ),
            (
                "in a first fragment",
                behind(&[V6::ICMP, 0, 0, 1, 0, 0, 0, 9], 44),
                DropReason::NdSpoofed,
            ),
            (
                "behind more options than are walked",
                behind(&many, 60),
                DropReason::ExtensionHeaders,
            ),
            (
                "behind options in a first fragment",
                behind(&[60, 0, 0, 1, 0, 0, 0, 9, V6::ICMP, 0, 1, 4, 0, 0, 0, 0], 44),
                DropReason::ExtensionHeaders,
            ),
            (
                "behind one that leads elsewhere",
                behind(&[V6::ICMP, 0, 0, 1, 0, 0, 0, 0], 43),
                DropReason::ExtensionHeaders,
            ),
            ("cut short before its target", plain[..40 + 8].to_vec(), DropReason::NdSpoofed),
        ]
        .map(|(what, mut packet, reason)| {
            let length = u16::try_from(packet.len() - 40).unwrap();
            packet[4..6].copy_from_slice(&length.to_be_bytes());
            (what, packet, reason)
        }),
    );
    // What is behind the packet's end is none of it.
    for kind in [135, 136] {
        for (bytes, honest) in [(23, false), (24, true), (25, false), (31, false), (32, false)] {
            let mut packet = about(kind, V6::C1, NODES, V6::C1, &[option(1, C2_MAC)]);
            packet[5] = bytes;
            let reason = if honest { DropReason::Nd } else { DropReason::NdSpoofed };
            assert_eq!(
                decided(C1_SIDE, &packet),
                Decision::Stop(reason),
                "type {kind} with {bytes} bytes"
            );
        }
    }
    for kind in [131, 133, 143] {
        let mut fragment = message(kind, LL1, ROUTERS, &[0; 16]);
        fragment[6] = 44;
        fragment[5] += 8;
        fragment.splice(40..40, [V6::ICMP, 0, 0, 1, 0, 0, 0, 9]);
        assert_eq!(
            decided(C1_SIDE, &fragment),
            Decision::Stop(DropReason::NdSpoofed),
            "type {kind}"
        );
    }
}

/// To a neighbour nothing of it is brought: who sees it is the neighbour's stack, by the bridge.
#[test]
fn source_mac_must_match_endpoint() {
    let packet = about(136, V6::C1, LL2, V6::C1, &[]);
    let mut stolen = frame::<V6>(C1_SIDE, &packet);
    stolen[6..12].copy_from_slice(&C2_MAC);
    assert_eq!(decided_of(C1_SIDE, &stolen), Decision::Stop(DropReason::NdSpoofed));
    assert_eq!(
        decided(C2_SIDE, &packet),
        Decision::Stop(DropReason::NdSpoofed),
        "by another host side"
    );
    // All of it a neighbour's, but for the interface.
    let mut whole = frame::<V6>(C1_SIDE, &about(136, V6::C2, NODES, V6::C2, &[option(2, C2_MAC)]));
    whole[6..12].copy_from_slice(&C2_MAC);
    assert_eq!(
        decided_of(C1_SIDE, &whole),
        Decision::Stop(DropReason::NdSpoofed),
        "by a neighbour's whole name"
    );
    // Another's MAC in both places, as an endpoint that was made again has it.
    let mut model = model();
    let frame = frame::<V6>(C1_SIDE, &about(136, V6::C1, LL2, V6::C1, &[option(2, C1_MAC)]));
    let parsed = V6::parse(&frame[..], arrival(C1_SIDE, &frame)).unwrap();
    assert_eq!(decide(&frame[..], &parsed, &model), Decision::Stop(DropReason::Nd));
    model.endpoints.get_mut(&V6::C1).unwrap().macs = Macs::new(C2_MAC, BRIDGE_MAC);
    assert_eq!(decide(&frame[..], &parsed, &model), Decision::Stop(DropReason::NdSpoofed));
}

#[test]
fn messages_from_uplink_are_punted() {
    for kind in 130..=137 {
        let packet = message(kind, V6::ROUTER, V6::HOST, &[0; 24]);
        assert_eq!(decided(UPLINK, &packet), Decision::Stop(DropReason::NotOurs), "type {kind}");
    }
}

#[test]
fn any_message_is_read_within_bounds() {
    let mut state = 3_u64;
    let mut passed = 0;
    for round in 0..100_000_usize {
        let kind = [135, 136, 133, 131, 143, 134][round % 6];
        let packet =
            about(kind, V6::C1, LISTENERS, V6::C1, &[option(1, C1_MAC), option(2, C1_MAC)]);
        let mut frame = frame::<V6>(C1_SIDE, &packet);
        for _ in 0..round % 3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at =
                ETHERNET + 8 + usize::try_from(state >> 33).unwrap() % (frame.len() - ETHERNET - 8);
            frame[at] = (state >> 24) as u8;
        }
        let Ok(packet) = V6::parse(&frame[..], arrival(C1_SIDE, &frame)) else { continue };
        if packet.payload != Payload::Link {
            continue;
        }
        let watched = Watched::new(&frame);
        let reason = from_container(&watched, &packet, &model());
        assert!(watched.reach() <= HEADERS.max(V6::LONGEST));
        if reason == DropReason::Nd {
            passed += 1;
            let own = [V6::C1, LL1];
            assert!(own.contains(&packet.tuple.source) || packet.tuple.source == V6::UNSPECIFIED);
            if matches!(frame[ICMP_AT], 135 | 136) {
                assert!(
                    frame[ICMP_AT] == 135
                        || own.iter().any(|own| own.octets() == frame[ICMP_AT + 8..][..16])
                );
                assert_eq!(
                    [&frame[ICMP_AT + 26..][..6], &frame[ICMP_AT + 34..][..6]],
                    [&C1_MAC; 2]
                );
            }
        }
    }
    assert!(passed > 10_000, "{passed}");
}
