//! The decisions over the model.

use std::{collections::HashSet, vec::Vec};

use super::*;
use crate::{
    abi::{self, Endpoint, Macs, Network, Publish, Uplink, network},
    address::{Port, V4},
    flow::{tcp, ticks},
    model::Model,
    packet::Payload,
    sweep::{Which, sweep},
    tuple::{Tuple, echo, protocol, side},
};

pub(crate) const C1: V4 = V4::new([172, 18, 0, 2]);
pub(crate) const C2: V4 = V4::new([172, 18, 0, 3]);
pub(crate) const GATEWAY: V4 = V4::new([172, 18, 0, 1]);
pub(crate) const HOST: V4 = V4::new([10, 0, 2, 15]);
pub(crate) const WORLD: V4 = V4::new([203, 0, 113, 10]);
pub(crate) const UPLINK: u32 = 2;
pub(crate) const C1_SIDE: u32 = 11;
pub(crate) const C2_SIDE: u32 = 12;
pub(crate) const C1_SLOT: u32 = 1;
pub(crate) const C2_SLOT: u32 = 2;
pub(super) const PUBLISH_SLOT: u32 = 3;

pub(crate) fn model() -> Model<V4> {
    let mut model = Model::default();
    for (address, host_side, slot) in [(C1, C1_SIDE, C1_SLOT), (C2, C2_SIDE, C2_SLOT)] {
        model.endpoints.insert(
            address,
            Endpoint {
                subnet: V4::new([172, 18, 0, 0]),
                mask: V4::new([255, 255, 0, 0]),
                gateway: GATEWAY,
                host_side,
                bridge: 5,
                slot,
                network: network::MASQUERADE,
                network_number: 0,
                mtu: 1500,
                macs: Macs::new([2; 6], [4; 6]),
            },
        );
    }
    model.uplinks.insert(UPLINK, Uplink { address: HOST, mtu: 1500 });
    model.routes.push((V4::default(), V4::default(), UPLINK));
    model.local.extend([HOST, GATEWAY]);
    for protocol in [protocol::TCP, protocol::UDP, protocol::SCTP] {
        model.ports.insert((protocol, Port::new(5000), None), PUBLISH_SLOT);
    }
    let publish = Publish { container: C1, host_port: Port::new(5000), container_port: Port::new(80), flags: 0 };
    model.publishes.insert(PUBLISH_SLOT, publish);
    model
}

pub(super) fn packet(input: u32, from: (V4, u16), to: (V4, u16), protocol: u8, flags: u8) -> Packet<V4> {
    Packet {
        tuple: Tuple {
            source: from.0,
            destination: to.0,
            source_port: Port::new(from.1),
            destination_port: Port::new(to.1),
            protocol,
            side: if input == UPLINK { side::UPLINK } else { side::CONTAINER },
            echo: if protocol == protocol::ICMP { echo::REQUEST } else { echo::NONE },
            _pad: 0,
        },
        payload: match protocol {
            protocol::TCP => Payload::Tcp,
            protocol::UDP => Payload::Udp,
            protocol::SCTP => Payload::Sctp,
            _ => Payload::Echo,
        },
        flags: if matches!(protocol, protocol::TCP | protocol::SCTP) { flags } else { 0 },
        sequence: 0,
        acknowledgment: 0,
        payload_at: 34,
        ttl: 64,
        input,
        length: 60,
        segment: 60,
        dont_fragment: true,
        first_fragment: false,
        id: 0,
    }
}

fn udp(input: u32, from: (V4, u16), to: (V4, u16)) -> Packet<V4> {
    packet(input, from, to, protocol::UDP, 0)
}

/// The packet as it left, or why it did not.
pub(super) fn left(model: &Model<V4>, packet: &Packet<V4>) -> Result<Translation<V4>, Reason> {
    // Of these packets none is an error: of the frame only the MACs are read.
    match decide(&[2; 14][..], packet, model) {
        Decision::Forward(translation) => Ok(translation),
        other @ (Decision::ForwardError(_) | Decision::ForwardFragment(..) | Decision::PutBack) => panic!("{other:?}"),
        Decision::Stop(reason) => Err(reason),
        Decision::TooLong(mtu) => {
            assert_eq!(mtu, 1500);
            Err(Reason::TooLong)
        }
    }
}

/// The answer to what left: it arrives where that one went.
pub(super) fn answer(translation: &Translation<V4>, flags: u8) -> Packet<V4> {
    let tuple = translation.tuple.reversed();
    Packet {
        tuple,
        input: translation.output,
        ..packet(0, (tuple.source, 0), (tuple.destination, 0), tuple.protocol, flags)
    }
}

#[test]
fn forward_then_reply_is_identity() {
    let cases = [
        ("masquerade", C1_SIDE, C1, WORLD, 53),
        ("publish", UPLINK, WORLD, HOST, 5000),
        ("hairpin", C2_SIDE, C2, HOST, 5000),
        ("hairpin to itself", C1_SIDE, C1, GATEWAY, 5000),
    ];
    for (what, input, from, to, port) in cases {
        for protocol in [protocol::TCP, protocol::UDP, protocol::SCTP] {
            let model = model();
            let sent = packet(input, (from, 4000), (to, port), protocol, tcp::SYN);
            let there = left(&model, &sent).expect(what);
            let back = left(&model, &answer(&there, tcp::SYN | tcp::ACK)).expect(what);
            assert_eq!(back.tuple, sent.tuple.reversed(), "{what}: the answer is to what was sent");
            assert_eq!(back.output, input, "{what}: it goes back where that came from");
            assert_eq!(checksum_of(&there, &sent.tuple), 0, "{what}: the deltas are those of the tuples");
        }
    }
}

/// Zero if the deltas say what the tuples say.
fn checksum_of(translation: &Translation<V4>, from: &Tuple<V4>) -> u16 {
    let address = crate::checksum::delta(from.address_sum(), translation.tuple.address_sum());
    let port = crate::checksum::delta(from.port_sum(), translation.tuple.port_sum());
    u16::from(address != translation.address_delta || port != translation.port_delta)
}

#[test]
fn no_two_live_flows_share_a_reply_tuple() {
    let model = model();
    let mut seed = 7_u32;
    let mut random = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % below
    };
    let mut begun = HashSet::new();
    for _ in 0..20_000 {
        let port = 4000 + u16::try_from(random(40)).unwrap();
        let sent = match random(4) {
            0 => udp(C1_SIDE, (C1, port), (WORLD, 53)),
            1 => udp(C2_SIDE, (C2, port), (WORLD, 53)),
            2 => udp(UPLINK, (WORLD, port), (HOST, 5000)),
            _ => udp(C2_SIDE, (C2, port), (HOST, 5000)),
        };
        let translation = left(&model, &sent).unwrap();
        begun.insert(sent.tuple);
        assert_eq!(left(&model, &answer(&translation, 0)).unwrap().tuple, sent.tuple.reversed());
    }
    let flows = model.flows.borrow();
    assert_eq!(flows.len(), begun.len() * 2, "each flow has two halves of its own");
    for (key, half) in flows.iter() {
        assert_eq!(flows[&half.translation.tuple.reversed()].translation.tuple.reversed(), *key);
    }
}

#[test]
fn a_port_that_is_taken_gives_way_to_another() {
    let model = model();
    assert_eq!(left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53))).unwrap().tuple.source_port.get(), 4000);
    let second = left(&model, &udp(C2_SIDE, (C2, 4000), (WORLD, 53))).unwrap().tuple.source_port.get();
    assert_ne!(second, 4000);
    // Toward another destination the same port is free.
    let elsewhere = left(&model, &udp(C2_SIDE, (C2, 4000), (V4::new([203, 0, 113, 11]), 53))).unwrap();
    assert_eq!(elsewhere.tuple.source_port.get(), 4000);
}

#[test]
fn a_port_of_a_socket_of_the_host_is_not_taken() {
    let mut model = model();
    model.sockets.insert(udp(UPLINK, (WORLD, 53), (HOST, 4000)).tuple);
    let port = left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53))).unwrap().tuple.source_port.get();
    assert_ne!(port, 4000);
}

#[test]
fn an_answer_to_a_socket_of_the_host_is_not_published() {
    let mut model = model();
    let arriving = udp(UPLINK, (WORLD, 53), (HOST, 5000));
    model.sockets.insert(arriving.tuple);
    assert_eq!(left(&model, &arriving), Err(Reason::HostSocket));
    assert!(model.flows.borrow().is_empty());
}

#[test]
fn when_every_port_is_taken_the_flow_is_refused() {
    let model = model();
    let mut refused = None;
    for port in 1..=u16::MAX {
        let _ = left(&model, &udp(C1_SIDE, (C1, port), (WORLD, 53))).unwrap();
    }
    let before = model.flows.borrow().len();
    if let Err(reason) = left(&model, &udp(C2_SIDE, (C2, 4000), (WORLD, 53))) {
        refused = Some(reason);
    }
    assert_eq!(refused, Some(Reason::PortsExhausted));
    assert_eq!(model.flows.borrow().len(), before);
}

#[test]
fn a_full_table_keeps_what_it_has_and_leaves_no_half() {
    for room in [0, 1, 2, 3] {
        let mut model = model();
        model.room = room;
        let first = left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53)));
        let second = left(&model, &udp(C1_SIDE, (C1, 4001), (WORLD, 53)));
        assert_eq!(first.is_ok(), room >= 2);
        if let Ok(first) = first {
            // It gives way only as long as nobody answers.
            assert!(second.is_ok());
            assert_eq!(model.flows.borrow().len(), 2);
            model.flows.borrow_mut().clear();
            model.counts.borrow_mut().clear();
            assert_eq!(left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53))), Ok(first));
            assert!(left(&model, &answer(&first, 0)).is_ok());
        }
        let second = left(&model, &udp(C1_SIDE, (C1, 4001), (WORLD, 53)));
        assert_eq!(second, Err(Reason::TableFull));
        assert_eq!(model.flows.borrow().len(), room & !1);
        assert_eq!(left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53))).is_ok(), room >= 2);
    }
}

#[test]
fn a_flow_ends_with_its_slots_epoch() {
    let mut model = model();
    let sent = udp(UPLINK, (WORLD, 4000), (HOST, 5000));
    let there = left(&model, &sent).unwrap();
    let mut back = answer(&there, 0);
    assert!(left(&model, &back).is_ok());
    model.epochs.insert(PUBLISH_SLOT, 1);
    // Now it is the container that begins, with a port that nothing publishes.
    let again = left(&model, &back).unwrap();
    assert_eq!(again.tuple.source, HOST);
    assert_eq!(again.tuple.source_port.get(), 80);
    model.publishes.insert(
        PUBLISH_SLOT,
        Publish { container: C2, host_port: Port::new(5000), container_port: Port::new(80), flags: 0 },
    );
    assert_eq!(left(&model, &sent).unwrap().tuple.destination, C2, "a fixed port meets the new container at once");
    back.tuple.source = C2;
    back.input = C2_SIDE;
    assert_eq!(left(&model, &back).unwrap().tuple, sent.tuple.reversed());
}

#[test]
fn an_idle_flow_counts_as_absent_and_its_port_is_free() {
    let model = model();
    let first = left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53))).unwrap();
    model.now.set(model.now.get() + Network::DEFAULT.timeout(State::Unreplied, protocol::UDP) + 1);
    let second = left(&model, &udp(C2_SIDE, (C2, 4000), (WORLD, 53))).unwrap();
    assert_eq!(second.tuple, first.tuple, "the port is used again");
    assert_eq!(left(&model, &answer(&second, 0)).unwrap().tuple.destination, C2);
    assert_eq!(model.flows.borrow().len(), 2, "nothing is left of the first");
}

#[test]
fn expiry_never_frees_a_port_in_use() {
    let model = model();
    let sent = udp(C1_SIDE, (C1, 4000), (WORLD, 53));
    let there = left(&model, &sent).unwrap();
    // One way only: the reply half is never used.
    for _ in 0..10 {
        model.now.set(model.now.get() + ticks(100));
        assert_eq!(left(&model, &sent).unwrap(), there);
    }
    let other = left(&model, &udp(C2_SIDE, (C2, 4000), (WORLD, 53))).unwrap();
    assert_ne!(other.tuple.source_port, there.tuple.source_port);
    assert_eq!(
        left(&model, &answer(&there, 0)).unwrap().tuple,
        sent.tuple.reversed(),
        "the late answer is still known"
    );
}

#[test]
fn a_clock_that_another_cpu_read_later_ends_nothing() {
    let model = model();
    let sent = udp(C1_SIDE, (C1, 4000), (WORLD, 53));
    let there = left(&model, &sent).unwrap();
    model.now.set(model.now.get() - 1);
    assert_eq!(left(&model, &sent).unwrap(), there);
}

#[test]
fn both_halves_move_together() {
    let model = model();
    let to = |flags| packet(C1_SIDE, (C1, 4000), (WORLD, 80), protocol::TCP, flags);
    let there = left(&model, &to(tcp::SYN)).unwrap();
    let states = || -> Vec<u8> { model.flows.borrow().values().map(|half| half.state).collect() };
    let steps = [
        (false, tcp::SYN | tcp::ACK, State::SynReceived),
        (true, tcp::ACK, State::Established),
        (false, tcp::FIN | tcp::ACK, State::ReplyClosed),
        (true, tcp::FIN | tcp::ACK, State::Closing),
        (true, tcp::SYN, State::SynSent),
        (false, tcp::RST, State::Closed),
    ];
    for (forward, flags, state) in steps {
        let packet = if forward { to(flags) } else { answer(&there, flags) };
        assert!(left(&model, &packet).is_ok());
        assert_eq!(states(), [state as u8; 2], "after {flags:#x}");
    }
}

#[test]
fn sctp_is_ended_by_who_knows_its_tags() {
    const CLIENTS: u32 = 0x11;
    const SERVERS: u32 = 0x22;
    let to = |sequence, flags, acknowledgment| Packet {
        sequence,
        acknowledgment,
        ..packet(C1_SIDE, (C1, 4000), (WORLD, 80), protocol::SCTP, flags)
    };
    // Who sends it, the tag it has, and whether that ends the association.
    for (way, tag, ends) in [
        (Way::Reply, 0, false),
        (Way::Reply, 0xbad, false),
        (Way::Reply, CLIENTS, true),
        // Of an association it knows nothing of, a side reflects the tag that it was sent.
        (Way::Reply, SERVERS, true),
        (Way::Forward, SERVERS, true),
        (Way::Forward, CLIENTS, true),
        (Way::Forward, 0xbad, false),
    ] {
        let model = model();
        let there = left(&model, &to(0, tcp::SYN, CLIENTS)).unwrap();
        let from = |sequence, flags, acknowledgment| Packet { sequence, acknowledgment, ..answer(&there, flags) };
        left(&model, &from(CLIENTS, tcp::SYN, SERVERS)).unwrap();
        // An INIT out of the blue, with a tag of its own, changes nothing.
        left(&model, &from(0, tcp::SYN, 0xbad)).unwrap();
        let last = if way == Way::Forward { to(tag, tcp::RST, 0) } else { from(tag, tcp::RST, 0) };
        left(&model, &last).unwrap();
        let state = if ends { State::Closed } else { State::Replied };
        assert!(model.flows.borrow().values().all(|half| half.state == state as u8), "{way:?} with {tag:#x}");
    }
}

#[test]
fn sctp_whose_port_is_taken_is_refused() {
    let model = model();
    let init = |input, from| packet(input, (from, 4000), (WORLD, 80), protocol::SCTP, tcp::SYN);
    left(&model, &init(C1_SIDE, C1)).unwrap();
    assert_eq!(left(&model, &init(C2_SIDE, C2)), Err(Reason::SctpPortTaken));
    assert_eq!(model.flows.borrow().len(), 2);
}

#[test]
fn an_endpoint_made_again_takes_up_its_flows_port() {
    let mut model = model();
    let sent = udp(C2_SIDE, (C2, 4000), (HOST, 5000));
    assert!(left(&model, &sent).is_ok());
    let mut own = model.endpoints[&C2];
    own.host_side = 99;
    model.endpoints.insert(C2, own);
    let there = left(&model, &Packet { input: 99, ..sent }).unwrap();
    assert_eq!(left(&model, &answer(&there, 0)).unwrap().output, 99);
}

#[test]
fn a_publish_whose_container_is_gone_drops() {
    let mut model = model();
    model.endpoints.remove(&C1);
    assert_eq!(left(&model, &udp(UPLINK, (WORLD, 4000), (HOST, 5000))), Err(Reason::ContainerGone));
}

#[test]
fn without_a_route_nothing_leaves() {
    let mut model = model();
    model.routes.clear();
    assert_eq!(left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53))), Err(Reason::NoRoute));
}

#[test]
fn a_neighbour_reached_both_ways_answers_each_in_its_own_name() {
    let direct = udp(C2_SIDE, (C2, 4000), (C1, 80));
    let published = udp(C2_SIDE, (C2, 4000), (HOST, 5000));
    for order in [[direct, published], [published, direct]] {
        let model = model();
        let leave = order.map(|sent| left(&model, &sent).unwrap());
        assert_ne!(leave[0].tuple, leave[1].tuple, "the container can tell them apart");
        for (sent, there) in order.iter().zip(&leave) {
            assert_eq!(left(&model, &answer(there, 0)).unwrap().tuple, sent.tuple.reversed());
        }
    }
}

#[test]
fn neighbours_in_mid_stream_are_brought_but_not_kept() {
    let model = model();
    let there = left(&model, &packet(C2_SIDE, (C2, 4000), (C1, 80), protocol::TCP, tcp::ACK)).unwrap();
    assert_eq!((there.exit, there.output), (exit::BRIDGED, C1_SIDE));
    assert!(model.flows.borrow().is_empty());
}

#[test]
fn neighbours_reach_each_other_though_the_table_is_full() {
    for room in [0, 1] {
        let mut model = model();
        model.room = room;
        let there = left(&model, &udp(C2_SIDE, (C2, 4000), (C1, 80))).unwrap();
        assert_eq!((there.exit, there.output), (exit::BRIDGED, C1_SIDE));
        assert!(model.flows.borrow().is_empty());
    }
}

#[test]
fn what_is_longer_than_the_uplinks_mtu_is_refused() {
    let model = model();
    let sent = udp(C1_SIDE, (C1, 4000), (WORLD, 53));
    for (segment, dont_fragment, expected) in [
        (1500, true, None),
        (1500, false, None),
        (1501, true, Some(Reason::TooLong)),
        (1501, false, Some(Reason::TooLong)),
    ] {
        // First of its flow, and of a known one.
        for _ in 0..2 {
            assert_eq!(left(&model, &Packet { segment, dont_fragment, ..sent }).err(), expected);
        }
        model.flows.borrow_mut().clear();
    }
    // Between neighbours the uplink does not matter.
    assert!(left(&model, &Packet { segment: 9000, ..udp(C2_SIDE, (C2, 4000), (C1, 80)) }).is_ok());
}

#[test]
fn the_hosts_exchange_keeps_the_port_it_moved_to_when_the_flow_in_its_way_is_gone() {
    for number in [protocol::UDP, protocol::TCP, protocol::ICMP] {
        let mut model = model();
        let port = if number == protocol::ICMP { 0 } else { 80 };
        left(&model, &packet(C1_SIDE, (C1, 4000), (WORLD, port), number, tcp::SYN)).expect("masqueraded");
        let mut sent = packet(UPLINK, (HOST, 4000), (WORLD, port), number, tcp::SYN);
        sent.tuple.side = side::HOST;
        let there = decide_from_host(&sent, false, &model).expect("it moves");
        assert_ne!(there.tuple, Tuple { side: side::UPLINK, ..sent.tuple });
        left(&model, &answer(&there, tcp::SYN | tcp::ACK)).expect("its answer comes back");

        *model.epochs.entry(C1_SLOT).or_default() += 1;
        let keys: Vec<_> = model.flows.borrow().keys().copied().collect();
        for key in keys {
            crate::sweep::sweep(&model, &key, crate::sweep::Which::Ended);
        }
        sent.flags = if number == protocol::TCP { tcp::ACK } else { 0 };
        let then = decide_from_host(&sent, false, &model).map(|translation| translation.tuple);
        assert_eq!(then, Some(there.tuple), "protocol {number}");
    }
}

#[test]
fn a_container_reaches_its_own_published_port_from_that_very_port() {
    let mut model = model();
    model.publishes.get_mut(&PUBLISH_SLOT).expect("a publish").container_port = Port::new(5000);
    let sent = udp(C1_SIDE, (C1, 5000), (GATEWAY, 5000));
    let there = left(&model, &sent).expect("a hairpin");
    assert_eq!((there.tuple.source, there.tuple.destination_port.get()), (GATEWAY, 5000));
    let back = left(&model, &answer(&there, 0)).expect("its answer");
    assert_eq!(back.tuple, sent.tuple.reversed());
}

#[test]
fn in_a_full_table_one_sided_use_counts_and_a_look_forgets_nobody() {
    let mut model = model();
    model.room = 6;
    let stream = udp(C1_SIDE, (C1, 4000), (WORLD, 53));
    let answered = udp(C1_SIDE, (C1, 4001), (WORLD, 53));
    // The first is sent twice and never answered, the second is answered, the third is neither.
    let _ = left(&model, &stream).unwrap();
    let there = left(&model, &answered).unwrap();
    let _ = left(&model, &stream).unwrap();
    let _ = left(&model, &answer(&there, 0)).unwrap();
    let _ = left(&model, &udp(C1_SIDE, (C1, 4002), (WORLD, 53))).unwrap();
    // Each new one takes the place of the one before it: only that is half open, and not in use.
    for port in 4003..4010 {
        assert!(left(&model, &udp(C1_SIDE, (C1, port), (WORLD, 53))).is_ok(), "{port}");
        assert!(model.flows.borrow().contains_key(&stream.tuple) && model.flows.borrow().contains_key(&answered.tuple));
    }
    // Those in use were noted again: once they have ended there is room in their place.
    model.now.set(model.now.get() + ticks(3600));
    for port in 5000..5003 {
        let there = left(&model, &udp(C1_SIDE, (C1, port), (WORLD, 53))).unwrap();
        assert!(left(&model, &answer(&there, 0)).is_ok(), "{port}");
    }
    assert_eq!(left(&model, &udp(C1_SIDE, (C1, 5003), (WORLD, 53))), Err(Reason::TableFull));
}

#[test]
fn what_outsiders_begin_is_counted_apart_from_what_the_container_begins() {
    let mut model = model();
    model.networks.insert(0, Network { max_flows: 2, ..Network::DEFAULT });
    for port in 1..=3 {
        let there = left(&model, &udp(UPLINK, (WORLD, port), (HOST, 5000)));
        match there {
            Ok(there) => assert!(left(&model, &answer(&there, 0)).is_ok()),
            Err(reason) => assert_eq!((port, reason), (3, Reason::TooManyFlows)),
        }
    }
    let there = left(&model, &udp(C1_SIDE, (C1, 4000), (WORLD, 53))).unwrap();
    assert!(left(&model, &answer(&there, 0)).is_ok());
    let counts = model.counts.borrow();
    assert_eq!((counts[&(C1_SLOT | abi::FROM_OUTSIDE)], counts[&C1_SLOT]), (2, 1));
}

#[test]
fn a_container_that_has_all_its_flows_gets_new_ones_for_those_nobody_answered_or_that_have_ended() {
    let mut model = model();
    model.networks.insert(0, Network { max_flows: 2, ..Network::DEFAULT });
    // A neighbour's half-open flow is none of its.
    let _ = left(&model, &udp(C2_SIDE, (C2, 4000), (WORLD, 53))).unwrap();
    for port in 4000..4010 {
        assert!(left(&model, &udp(C1_SIDE, (C1, port), (WORLD, 53))).is_ok(), "{port}");
    }
    assert_eq!((model.counts.borrow()[&C1_SLOT], model.counts.borrow()[&C2_SLOT]), (2, 1));
    for port in [4008, 4009] {
        let there = left(&model, &udp(C1_SIDE, (C1, port), (WORLD, 53))).unwrap();
        let _ = left(&model, &answer(&there, 0)).unwrap();
    }
    assert_eq!(left(&model, &udp(C1_SIDE, (C1, 4010), (WORLD, 53))), Err(Reason::TooManyFlows));
    model.now.set(model.now.get() + ticks(3600));
    assert!(left(&model, &udp(C1_SIDE, (C1, 4010), (WORLD, 53))).is_ok(), "no agent has swept");
}

#[test]
fn sweeping_any_flow_takes_both_halves_by_either() {
    for by_reply in [false, true] {
        let model = model();
        let sent = udp(C1_SIDE, (C1, 4000), (WORLD, 53));
        let there = left(&model, &sent).unwrap();
        let key = if by_reply { there.tuple.reversed() } else { sent.tuple };
        assert!(!sweep(&model, &key, Which::Ended), "it has not ended");
        assert!(sweep(&model, &key, Which::Any));
        assert!(model.flows.borrow().is_empty());
        assert_eq!(model.counts.borrow()[&C1_SLOT], 0);
    }
}
