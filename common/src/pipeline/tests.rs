//! The pipeline over the model.

use crate::{
    abi::{
        drop_reason::DropReason,
        macs::Macs,
        network::Network,
        owner::Owner,
        publish::Publish,
        state::State,
        time::{Ticks, ticks},
        translation::{Deliver, Translation},
    },
    flow::{
        collect::{Collect, collect},
        transition::Way,
    },
    testing::{
        fixture::{
            C1_SIDE, C1_SLOT, C2_SIDE, C2_SLOT, Fixture, PUBLISH_SLOT, UPLINK, answer, families,
            left, model, packet, udp,
        },
        model::Model,
        steps::{Decision, decide_to_uplink},
    },
    wire::{
        address::Port,
        packet::Packet,
        protocol, tcp,
        tuple::{Side, Tuple},
    },
};
use std::{collections::HashSet, vec::Vec};

families!(
    forward_then_reply_is_identity,
    no_two_live_flows_share_a_reply_tuple,
    taken_port_gives_way_to_another,
    port_of_host_socket_is_avoided,
    reply_to_host_socket_is_not_published,
    exhausted_ports_refuse_new_flow,
    full_table_leaves_no_lone_entry,
    flow_ends_with_epoch_of_its_slot,
    expired_flow_frees_its_port,
    expiry_never_frees_a_port_in_use,
    later_clock_of_another_cpu_ends_no_flow,
    both_entries_change_state_together,
    sctp_abort_needs_a_known_tag,
    sctp_with_taken_port_is_refused,
    recreated_endpoint_reuses_tuple_of_its_flow,
    publish_of_removed_container_drops,
    without_a_route_nothing_leaves,
    direct_and_hairpin_flow_stay_apart,
    mid_stream_packet_in_bridge_is_untracked,
    full_table_stops_no_traffic_in_bridge,
    packet_over_uplink_mtu_is_refused,
    next_hop_mac_is_cached_for_a_tick,
    remapped_host_flow_keeps_its_port,
    hairpin_from_own_published_port_is_remapped,
    eviction_spares_one_way_flow_in_use,
    inbound_flows_have_own_quota,
    quota_evicts_half_open_or_expired_flow,
    collect_any_removes_both_entries,
);

fn forward_then_reply_is_identity<A: Fixture>() {
    let cases = [
        ("masquerade", C1_SIDE, A::C1, A::WORLD, 53),
        ("publish", UPLINK, A::WORLD, A::HOST, 5000),
        ("hairpin", C2_SIDE, A::C2, A::HOST, 5000),
        ("hairpin to itself", C1_SIDE, A::C1, A::GATEWAY, 5000),
    ];
    for (what, input, from, to, port) in cases {
        for protocol in [protocol::TCP, protocol::UDP, protocol::SCTP] {
            let model = model::<A>();
            let sent = packet(input, (from, 4000), (to, port), protocol, tcp::SYN);
            let there = left(&model, &sent).expect(what);
            let back = left(&model, &answer(&there, tcp::SYN | tcp::ACK)).expect(what);
            assert_eq!(back.tuple, sent.tuple.reversed(), "{what}: the answer is to what was sent");
            assert_eq!(back.output, input, "{what}: it goes back where that came from");
            assert_eq!(
                checksum_of(&there, &sent.tuple),
                0,
                "{what}: the deltas are those of the tuples"
            );
        }
    }
}

/// Zero if the deltas say what the tuples say.
fn checksum_of<A: Fixture>(translation: &Translation<A>, from: &Tuple<A>) -> u16 {
    let address = crate::wire::checksum::delta(from.address_sum(), translation.tuple.address_sum());
    let port = crate::wire::checksum::delta(from.port_sum(), translation.tuple.port_sum());
    u16::from(address != translation.address_delta || port != translation.port_delta)
}

fn no_two_live_flows_share_a_reply_tuple<A: Fixture>() {
    let model = model::<A>();
    let mut seed = 7_u32;
    let mut random = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % below
    };
    let mut age_ring = HashSet::new();
    for _ in 0..20_000 {
        let port = 4000 + u16::try_from(random(40)).unwrap();
        let sent = match random(4) {
            0 => udp(C1_SIDE, (A::C1, port), (A::WORLD, 53)),
            1 => udp(C2_SIDE, (A::C2, port), (A::WORLD, 53)),
            2 => udp(UPLINK, (A::WORLD, port), (A::HOST, 5000)),
            _ => udp(C2_SIDE, (A::C2, port), (A::HOST, 5000)),
        };
        let translation = left(&model, &sent).unwrap();
        age_ring.insert(sent.tuple);
        assert_eq!(left(&model, &answer(&translation, 0)).unwrap().tuple, sent.tuple.reversed());
    }
    let flows = model.flows.borrow();
    assert_eq!(flows.len(), age_ring.len() * 2, "each flow has two halves of its own");
    for (key, entry) in flows.iter() {
        assert_eq!(flows[&entry.translation.tuple.reversed()].translation.tuple.reversed(), *key);
    }
}

fn taken_port_gives_way_to_another<A: Fixture>() {
    let model = model::<A>();
    assert_eq!(
        left(&model, &udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53))).unwrap().tuple.source_port.get(),
        4000
    );
    let second =
        left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::WORLD, 53))).unwrap().tuple.source_port.get();
    assert_ne!(second, 4000);
    // Which port is taken is unpredictable (RFC 6056), though each destination has all of them.
    let port_toward = |port: u16| {
        left(&model, &udp(C1_SIDE, (A::C1, 4001), (A::WORLD, port)))
            .expect("the first has its own");
        let second = left(&model, &udp(C2_SIDE, (A::C2, 4001), (A::WORLD, port)))
            .expect("the second has another");
        second.tuple.source_port.get()
    };
    let ports: HashSet<_> = (100..108).map(port_toward).collect();
    assert!(ports.len() > 4, "{ports:?}");
    // Toward another destination the same port is free.
    let elsewhere = left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::OTHER, 53))).unwrap();
    assert_eq!(elsewhere.tuple.source_port.get(), 4000);
}

fn port_of_host_socket_is_avoided<A: Fixture>() {
    let mut model = model::<A>();
    model.sockets.insert(udp(UPLINK, (A::WORLD, 53), (A::HOST, 4000)).tuple);
    let port =
        left(&model, &udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53))).unwrap().tuple.source_port.get();
    assert_ne!(port, 4000);
}

fn reply_to_host_socket_is_not_published<A: Fixture>() {
    let mut model = model::<A>();
    let arriving = udp(UPLINK, (A::WORLD, 53), (A::HOST, 5000));
    model.sockets.insert(arriving.tuple);
    assert_eq!(left(&model, &arriving), Err(DropReason::HostSocket));
    assert!(model.flows.borrow().is_empty());
}

fn exhausted_ports_refuse_new_flow<A: Fixture>() {
    let model = model::<A>();
    let mut refused = None;
    for port in 1..=u16::MAX {
        let _ = left(&model, &udp(C1_SIDE, (A::C1, port), (A::WORLD, 53))).unwrap();
    }
    let before = model.flows.borrow().len();
    if let Err(reason) = left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::WORLD, 53))) {
        refused = Some(reason);
    }
    assert_eq!(refused, Some(DropReason::PortsExhausted));
    assert_eq!(model.flows.borrow().len(), before);
}

fn full_table_leaves_no_lone_entry<A: Fixture>() {
    for room in [0, 1, 2, 3] {
        let mut model = model::<A>();
        model.room = room;
        let first = left(&model, &udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53)));
        let second = left(&model, &udp(C1_SIDE, (A::C1, 4001), (A::WORLD, 53)));
        assert_eq!(first.is_ok(), room >= 2);
        if let Ok(first) = first {
            // The flow may be evicted only until it is replied to.
            assert!(second.is_ok());
            assert_eq!(model.flows.borrow().len(), 2);
            model.flows.borrow_mut().clear();
            model.counts.borrow_mut().clear();
            assert_eq!(left(&model, &udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53))), Ok(first));
            assert!(left(&model, &answer(&first, 0)).is_ok());
        }
        let second = left(&model, &udp(C1_SIDE, (A::C1, 4001), (A::WORLD, 53)));
        assert_eq!(second, Err(DropReason::TableFull));
        assert_eq!(model.flows.borrow().len(), room & !1);
        assert_eq!(left(&model, &udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53))).is_ok(), room >= 2);
    }
}

fn flow_ends_with_epoch_of_its_slot<A: Fixture>() {
    let mut model = model::<A>();
    let sent = udp(UPLINK, (A::WORLD, 4000), (A::HOST, 5000));
    let there = left(&model, &sent).unwrap();
    let mut back = answer(&there, 0);
    assert!(left(&model, &back).is_ok());
    model.epochs.insert(PUBLISH_SLOT, 1);
    // Now the container begins a flow, from a port that is not published.
    let again = left(&model, &back).unwrap();
    assert_eq!(again.tuple.source, A::HOST);
    assert_eq!(again.tuple.source_port.get(), 80);
    model.publishes.insert(
        PUBLISH_SLOT,
        Publish {
            container: A::C2,
            host_port: Port::new(5000),
            container_port: Port::new(80),
            flags: 0,
        },
    );
    assert_eq!(
        left(&model, &sent).unwrap().tuple.destination,
        A::C2,
        "a fixed port meets the new container at once"
    );
    back.tuple.source = A::C2;
    back.input = C2_SIDE;
    assert_eq!(left(&model, &back).unwrap().tuple, sent.tuple.reversed());
}

fn expired_flow_frees_its_port<A: Fixture>() {
    let model = model::<A>();
    let first = left(&model, &udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53))).unwrap();
    model.now.set(model.now.get() + Network::DEFAULT.timeout(State::Unreplied, protocol::UDP) + 1);
    let second = left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::WORLD, 53))).unwrap();
    assert_eq!(second.tuple, first.tuple, "the port is used again");
    assert_eq!(left(&model, &answer(&second, 0)).unwrap().tuple.destination, A::C2);
    assert_eq!(model.flows.borrow().len(), 2, "nothing is left of the first");
}

fn expiry_never_frees_a_port_in_use<A: Fixture>() {
    let model = model::<A>();
    let sent = udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53));
    let there = left(&model, &sent).unwrap();
    // One-way traffic: the reply entry is never used.
    for _ in 0..10 {
        model.now.set(model.now.get() + ticks(100));
        assert_eq!(left(&model, &sent).unwrap(), there);
    }
    let other = left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::WORLD, 53))).unwrap();
    assert_ne!(other.tuple.source_port, there.tuple.source_port);
    assert_eq!(
        left(&model, &answer(&there, 0)).unwrap().tuple,
        sent.tuple.reversed(),
        "the late answer is still known"
    );
}

fn later_clock_of_another_cpu_ends_no_flow<A: Fixture>() {
    let model = model::<A>();
    let sent = udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53));
    let there = left(&model, &sent).unwrap();
    model.now.set(model.now.get() - 1);
    assert_eq!(left(&model, &sent).unwrap(), there);
}

fn both_entries_change_state_together<A: Fixture>() {
    let model = model::<A>();
    let to = |flags| packet(C1_SIDE, (A::C1, 4000), (A::WORLD, 80), protocol::TCP, flags);
    let there = left(&model, &to(tcp::SYN)).unwrap();
    let states = || -> Vec<u8> { model.flows.borrow().values().map(|entry| entry.state).collect() };
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

fn sctp_abort_needs_a_known_tag<A: Fixture>() {
    const CLIENTS: u32 = 0x11;
    const SERVERS: u32 = 0x22;
    let to = |sequence, flags, acknowledgment| Packet {
        sequence,
        acknowledgment,
        ..packet(C1_SIDE, (A::C1, 4000), (A::WORLD, 80), protocol::SCTP, flags)
    };
    // Sender, verification tag, and whether the ABORT ends the association.
    for (way, tag, ends) in [
        (Way::Reply, 0, false),
        (Way::Reply, 0xbad, false),
        (Way::Reply, CLIENTS, true),
        // A side that does not know the association reflects the tag that it was sent.
        (Way::Reply, SERVERS, true),
        (Way::Forward, SERVERS, true),
        (Way::Forward, CLIENTS, true),
        (Way::Forward, 0xbad, false),
    ] {
        let model = model::<A>();
        let there = left(&model, &to(0, tcp::SYN, CLIENTS)).unwrap();
        let from = |sequence, flags, acknowledgment| Packet {
            sequence,
            acknowledgment,
            ..answer(&there, flags)
        };
        left(&model, &from(CLIENTS, tcp::SYN, SERVERS)).unwrap();
        // A forged INIT with a tag of its own changes nothing.
        left(&model, &from(0, tcp::SYN, 0xbad)).unwrap();
        let last = if way == Way::Forward { to(tag, tcp::RST, 0) } else { from(tag, tcp::RST, 0) };
        left(&model, &last).unwrap();
        let state = if ends { State::Closed } else { State::Replied };
        assert!(
            model.flows.borrow().values().all(|entry| entry.state == state as u8),
            "{way:?} with {tag:#x}"
        );
    }
}

fn sctp_with_taken_port_is_refused<A: Fixture>() {
    let model = model::<A>();
    let init = |input, from| packet(input, (from, 4000), (A::WORLD, 80), protocol::SCTP, tcp::SYN);
    left(&model, &init(C1_SIDE, A::C1)).unwrap();
    assert_eq!(left(&model, &init(C2_SIDE, A::C2)), Err(DropReason::SctpPortTaken));
    assert_eq!(model.flows.borrow().len(), 2);
}

fn recreated_endpoint_reuses_tuple_of_its_flow<A: Fixture>() {
    let mut model = model::<A>();
    let sent = udp(C2_SIDE, (A::C2, 4000), (A::HOST, 5000));
    assert!(left(&model, &sent).is_ok());
    let mut own = model.endpoints[&A::C2];
    own.host_side = 99;
    model.endpoints.insert(A::C2, own);
    let there = left(&model, &Packet { input: 99, ..sent }).unwrap();
    assert_eq!(left(&model, &answer(&there, 0)).unwrap().output, 99);
}

fn publish_of_removed_container_drops<A: Fixture>() {
    let mut model = model::<A>();
    model.endpoints.remove(&A::C1);
    assert_eq!(
        left(&model, &udp(UPLINK, (A::WORLD, 4000), (A::HOST, 5000))),
        Err(DropReason::ContainerGone)
    );
}

fn without_a_route_nothing_leaves<A: Fixture>() {
    let mut model = model::<A>();
    model.routes.clear();
    assert_eq!(
        left(&model, &udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53))),
        Err(DropReason::NoRoute)
    );
}

fn direct_and_hairpin_flow_stay_apart<A: Fixture>() {
    let direct = udp(C2_SIDE, (A::C2, 4000), (A::C1, 80));
    let published = udp(C2_SIDE, (A::C2, 4000), (A::HOST, 5000));
    for order in [[direct, published], [published, direct]] {
        let model = model::<A>();
        let leave = order.map(|sent| left(&model, &sent).unwrap());
        assert_ne!(leave[0].tuple, leave[1].tuple, "the container can tell them apart");
        for (sent, there) in order.iter().zip(&leave) {
            assert_eq!(left(&model, &answer(there, 0)).unwrap().tuple, sent.tuple.reversed());
        }
    }
}

fn mid_stream_packet_in_bridge_is_untracked<A: Fixture>() {
    let model = model::<A>();
    let there = left(&model, &packet(C2_SIDE, (A::C2, 4000), (A::C1, 80), protocol::TCP, tcp::ACK))
        .unwrap();
    assert_eq!((there.deliver, there.output), (Deliver::SAME_BRIDGE, C1_SIDE));
    assert!(model.flows.borrow().is_empty());
}

fn full_table_stops_no_traffic_in_bridge<A: Fixture>() {
    for room in [0, 1] {
        let mut model = model::<A>();
        model.room = room;
        let there = left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::C1, 80))).unwrap();
        assert_eq!((there.deliver, there.output), (Deliver::SAME_BRIDGE, C1_SIDE));
        assert!(model.flows.borrow().is_empty());
    }
}

fn next_hop_mac_is_cached_for_a_tick<A: Fixture>() {
    let mut model = model::<A>();
    let hop = Macs::new([2; 6], [4; 6]);
    model.next_hops.insert(UPLINK, hop);
    let sent = udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53));
    let known = |model: &Model<A>, packets: usize| {
        let leaves: Vec<_> = (0..packets).map(|_| left(model, &sent).expect("it leaves")).collect();
        assert!(leaves.iter().all(|leaves| !leaves.macs.is_resolved() || leaves.macs == hop));
        leaves.iter().map(|leaves| leaves.macs.is_resolved()).collect::<Vec<_>>()
    };
    let after = |model: &Model<A>, ticks: Ticks| model.now.set(model.now.get() + ticks);
    assert_eq!(known(&model, 6), [false, false, false, false, true, true], "it begins");
    after(&model, 1);
    assert_eq!(known(&model, 2), [false, true], "it was busy in the tick before");
    after(&model, 2);
    // The flow has had eight packets: every fourth one asks.
    assert_eq!(known(&model, 5), [false, false, false, false, true], "it was not");
    after(&model, 2);
    model.next_hops.clear();
    assert_eq!(known(&model, 9), [false; 9], "not resolved");
    model.next_hops.insert(UPLINK, hop);
    assert_eq!(known(&model, 6), [false; 6], "and it was asked for in this tick");
    after(&model, 1);
    assert_eq!(known(&model, 2), [false, true], "resolved by the second packet");
    model.next_hops.clear();
    after(&model, 1);
    assert_eq!(known(&model, 6), [false; 6], "not resolvable any more");
}

fn packet_over_uplink_mtu_is_refused<A: Fixture>() {
    let model = model::<A>();
    let sent = udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53));
    for (segment, dont_fragment, expected) in [
        (1500, true, None),
        (1500, false, None),
        (1501, true, Some(DropReason::TooLong)),
        (1501, false, Some(DropReason::TooLong)),
    ] {
        // The first packet of a flow, and one of a known flow.
        for _ in 0..2 {
            assert_eq!(left(&model, &Packet { segment, dont_fragment, ..sent }).err(), expected);
        }
        model.flows.borrow_mut().clear();
    }
    // Within a bridge the uplink does not matter.
    assert!(
        left(&model, &Packet { segment: 9000, ..udp(C2_SIDE, (A::C2, 4000), (A::C1, 80)) }).is_ok()
    );
}

fn remapped_host_flow_keeps_its_port<A: Fixture>() {
    for number in [protocol::UDP, protocol::TCP, A::ICMP] {
        let mut model = model::<A>();
        let port = if number == A::ICMP { 0 } else { 80 };
        left(&model, &packet(C1_SIDE, (A::C1, 4000), (A::WORLD, port), number, tcp::SYN))
            .expect("masqueraded");
        let mut sent = packet(UPLINK, (A::HOST, 4000), (A::WORLD, port), number, tcp::SYN);
        sent.tuple.side = Side::HOST;
        let forwarded = |decision| match decision {
            Some(Decision::Forward(translation)) => Some(translation),
            _ => None,
        };
        let there = forwarded(decide_to_uplink(&[][..], &sent, false, &model)).expect("it moves");
        assert_ne!(there.tuple, Tuple { side: Side::UPLINK, ..sent.tuple });
        left(&model, &answer(&there, tcp::SYN | tcp::ACK)).expect("its answer comes back");

        *model.epochs.entry(C1_SLOT).or_default() += 1;
        let keys: Vec<_> = model.flows.borrow().keys().copied().collect();
        for key in keys {
            crate::flow::collect::collect(&model, &key, crate::flow::collect::Collect::Ended);
        }
        sent.flags = if number == protocol::TCP { tcp::ACK } else { 0 };
        let then = forwarded(decide_to_uplink(&[][..], &sent, false, &model))
            .map(|translation| translation.tuple);
        assert_eq!(then, Some(there.tuple), "protocol {number}");
    }
}

fn hairpin_from_own_published_port_is_remapped<A: Fixture>() {
    let mut model = model::<A>();
    model.publishes.get_mut(&PUBLISH_SLOT).expect("a publish").container_port = Port::new(5000);
    let sent = udp(C1_SIDE, (A::C1, 5000), (A::GATEWAY, 5000));
    let there = left(&model, &sent).expect("a hairpin");
    assert_eq!((there.tuple.source, there.tuple.destination_port.get()), (A::GATEWAY, 5000));
    let back = left(&model, &answer(&there, 0)).expect("its answer");
    assert_eq!(back.tuple, sent.tuple.reversed());
}

fn eviction_spares_one_way_flow_in_use<A: Fixture>() {
    let mut model = model::<A>();
    model.room = 6;
    let stream = udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53));
    let answered = udp(C1_SIDE, (A::C1, 4001), (A::WORLD, 53));
    // The first flow is used twice without a reply, the second has a reply, the third neither.
    let _ = left(&model, &stream).unwrap();
    let there = left(&model, &answered).unwrap();
    let _ = left(&model, &stream).unwrap();
    let _ = left(&model, &answer(&there, 0)).unwrap();
    let _ = left(&model, &udp(C1_SIDE, (A::C1, 4002), (A::WORLD, 53))).unwrap();
    // Each new flow evicts the one before it, which alone is half-open and not in use.
    for port in 4003..4010 {
        assert!(left(&model, &udp(C1_SIDE, (A::C1, port), (A::WORLD, 53))).is_ok(), "{port}");
        assert!(
            model.flows.borrow().contains_key(&stream.tuple)
                && model.flows.borrow().contains_key(&answered.tuple)
        );
    }
    // Flows in use were pushed to the ring again: once they have expired they make room.
    model.now.set(model.now.get() + ticks(3600));
    for port in 5000..5003 {
        let there = left(&model, &udp(C1_SIDE, (A::C1, port), (A::WORLD, 53))).unwrap();
        assert!(left(&model, &answer(&there, 0)).is_ok(), "{port}");
    }
    assert_eq!(
        left(&model, &udp(C1_SIDE, (A::C1, 5003), (A::WORLD, 53))),
        Err(DropReason::TableFull)
    );
}

fn inbound_flows_have_own_quota<A: Fixture>() {
    let mut model = model::<A>();
    model.networks.insert(0, Network { max_flows: 2, ..Network::DEFAULT });
    for port in 1..=3 {
        let there = left(&model, &udp(UPLINK, (A::WORLD, port), (A::HOST, 5000)));
        match there {
            Ok(there) => assert!(left(&model, &answer(&there, 0)).is_ok()),
            Err(reason) => assert_eq!((port, reason), (3, DropReason::TooManyFlows)),
        }
    }
    let there = left(&model, &udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53))).unwrap();
    assert!(left(&model, &answer(&there, 0)).is_ok());
    let counts = model.counts.borrow();
    assert_eq!((counts[&Owner::inbound(C1_SLOT)], counts[&Owner::of(C1_SLOT)]), (2, 1));
}

fn quota_evicts_half_open_or_expired_flow<A: Fixture>() {
    let mut model = model::<A>();
    model.networks.insert(0, Network { max_flows: 2, ..Network::DEFAULT });
    // A half-open flow of another container does not count.
    let _ = left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::WORLD, 53))).unwrap();
    for port in 4000..4010 {
        assert!(left(&model, &udp(C1_SIDE, (A::C1, port), (A::WORLD, 53))).is_ok(), "{port}");
    }
    assert_eq!(
        (model.counts.borrow()[&Owner::of(C1_SLOT)], model.counts.borrow()[&Owner::of(C2_SLOT)]),
        (2, 1)
    );
    for port in [4008, 4009] {
        let there = left(&model, &udp(C1_SIDE, (A::C1, port), (A::WORLD, 53))).unwrap();
        let _ = left(&model, &answer(&there, 0)).unwrap();
    }
    assert_eq!(
        left(&model, &udp(C1_SIDE, (A::C1, 4010), (A::WORLD, 53))),
        Err(DropReason::TooManyFlows)
    );
    model.now.set(model.now.get() + ticks(3600));
    assert!(
        left(&model, &udp(C1_SIDE, (A::C1, 4010), (A::WORLD, 53))).is_ok(),
        "no agent has swept"
    );
}

fn collect_any_removes_both_entries<A: Fixture>() {
    for by_reply in [false, true] {
        let model = model::<A>();
        let sent = udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53));
        let there = left(&model, &sent).unwrap();
        let key = if by_reply { there.tuple.reversed() } else { sent.tuple };
        assert!(!collect(&model, &key, Collect::Ended), "it has not ended");
        assert!(collect(&model, &key, Collect::Any));
        assert!(model.flows.borrow().is_empty());
        assert_eq!(model.counts.borrow()[&Owner::of(C1_SLOT)], 0);
    }
}
