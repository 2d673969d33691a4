//! Link-local addresses: packets with them never leave their link.

use crate::{
    abi::{drop_reason::DropReason, translation::Deliver},
    testing::{
        fixture::{
            C1_SIDE, C2_SIDE, Fixture as _, UPLINK, answer, left, model as base_model, packet, udp,
        },
        model::Model,
    },
    wire::{address::V6, packet::Packet, protocol, tcp},
};

const fn link_local(host: u8) -> V6 {
    V6::new([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, host])
}

const LL1: V6 = link_local(0xc1);
const LL2: V6 = link_local(0xc2);
/// The bridge's address.
const BRIDGES: V6 = link_local(0xb1);
const ROUTERS: V6 = link_local(0x99);

/// A model whose containers have link-local addresses too.
fn model() -> Model<V6> {
    let mut model = base_model::<V6>();
    for (address, link_local) in [(V6::C1, LL1), (V6::C2, LL2)] {
        let endpoint = model.endpoints[&address];
        model.endpoints.insert(link_local, endpoint);
    }
    model
}

fn refusal(model: &Model<V6>, packet: &Packet<V6>) -> DropReason {
    left(model, packet).expect_err("it stays")
}

#[test]
fn link_local_peers_reach_each_other() {
    for (from, to) in [(LL2, LL1), (V6::C2, LL1), (LL2, V6::C1)] {
        let model = model();
        for protocol in [protocol::TCP, protocol::UDP, protocol::ICMPV6] {
            let sent = packet(
                C2_SIDE,
                (from, 4000),
                (to, if protocol == protocol::ICMPV6 { 0 } else { 80 }),
                protocol,
                tcp::SYN,
            );
            let there = left(&model, &sent).unwrap();
            assert_eq!((there.deliver, there.output), (Deliver::SAME_BRIDGE, C1_SIDE));
            assert_eq!((there.tuple.source, there.tuple.destination), (from, to));
            assert_eq!(
                left(&model, &answer(&there, tcp::SYN | tcp::ACK)).unwrap().tuple,
                sent.tuple.reversed()
            );
        }
    }
}

#[test]
fn unknown_neighbour_goes_to_bridge() {
    let model = model();
    for to in [BRIDGES, link_local(0x77), V6::GROUP, V6::UNUSED] {
        assert_eq!(
            refusal(&model, &udp(C1_SIDE, (LL1, 4000), (to, 53))),
            DropReason::ToBridge,
            "{to:?}"
        );
        assert_eq!(
            refusal(&model, &udp(C1_SIDE, (V6::C1, 4000), (to, 53))),
            DropReason::ToBridge,
            "{to:?}"
        );
    }
}

#[test]
fn link_local_source_reaches_no_publish() {
    let mut model = model();
    for to in [V6::HOST, V6::GATEWAY] {
        for port in [22, 5000] {
            assert_eq!(
                refusal(&model, &udp(C2_SIDE, (LL2, 4000), (to, port))),
                DropReason::ToHost,
                "{to:?} {port}"
            );
        }
        assert!(left(&model, &udp(C2_SIDE, (V6::C2, 4000), (to, 5000))).is_ok());
    }
    // The bridge's address as one of the host's: a port is published on it too.
    model.local.insert(BRIDGES);
    assert_eq!(refusal(&model, &udp(C2_SIDE, (LL2, 4000), (BRIDGES, 5000))), DropReason::ToHost);
    assert!(left(&model, &udp(C2_SIDE, (V6::C2, 4000), (BRIDGES, 5000))).is_ok());
}

#[test]
fn link_local_source_never_leaves_link() {
    let mut model = model();
    for to in [V6::WORLD, V6::OTHER, V6::ROUTER] {
        for protocol in [protocol::TCP, protocol::UDP, protocol::SCTP, protocol::ICMPV6] {
            let sent = packet(C1_SIDE, (LL1, 4000), (to, 80), protocol, tcp::SYN);
            assert_eq!(refusal(&model, &sent), DropReason::NoRoute, "{to:?} {protocol}");
        }
    }
    // Without masquerade it does not either.
    model.endpoints.get_mut(&LL1).unwrap().network = 0;
    assert_eq!(refusal(&model, &udp(C1_SIDE, (LL1, 4000), (V6::WORLD, 53))), DropReason::NoRoute);
    assert!(model.flows.borrow().is_empty());
}

#[test]
fn spoofed_link_local_source_is_dropped() {
    let model = model();
    for from in [LL2, BRIDGES, link_local(0x77)] {
        for to in [V6::C2, V6::WORLD, V6::GROUP, BRIDGES] {
            assert_eq!(
                refusal(&model, &udp(C1_SIDE, (from, 4000), (to, 53))),
                DropReason::SourceAddressSpoofed,
                "{from:?}"
            );
        }
    }
}

#[test]
fn outside_client_has_no_link_local_source() {
    let mut model = model();
    assert_eq!(
        refusal(&model, &udp(UPLINK, (ROUTERS, 4000), (V6::HOST, 5000))),
        DropReason::SourceNotOutside
    );
    model.local.insert(BRIDGES);
    assert_eq!(
        refusal(&model, &udp(UPLINK, (ROUTERS, 4000), (BRIDGES, 5000))),
        DropReason::SourceNotOutside
    );
    assert_eq!(refusal(&model, &udp(UPLINK, (ROUTERS, 4000), (V6::HOST, 22))), DropReason::NotOurs);
}
