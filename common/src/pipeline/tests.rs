//! The decisions over the model.

use crate::{
    abi::{
        drop_reason::DropReason,
        limits,
        macs::Macs,
        network::Network,
        publish::Publish,
        state::State,
        time::{Ticks, ticks},
        translation::{Translation, deliver},
    },
    flow::{
        collect::{Collect, collect},
        transition::Way,
    },
    pipeline::decide_to_uplink,
    testing::{
        fixture::{
            C1_SIDE, C1_SLOT, C2_SIDE, C2_SLOT, Fixture, PUBLISH_SLOT, UPLINK, answer, families,
            left, model, packet, udp,
        },
        model::Model,
    },
    wire::{
        address::Port,
        packet::Packet,
        protocol, tcp,
        tuple::{Tuple, side},
    },
};
use std::{collections::HashSet, vec::Vec};

families!(
    forward_then_reply_is_identity,
    no_two_live_flows_share_a_reply_tuple,
    a_port_that_is_taken_gives_way_to_another,
    a_port_of_a_socket_of_the_host_is_not_taken,
    an_answer_to_a_socket_of_the_host_is_not_published,
    when_every_port_is_taken_the_flow_is_refused,
    a_full_table_keeps_what_it_has_and_leaves_no_half,
    a_flow_ends_with_its_slots_epoch,
    an_idle_flow_counts_as_absent_and_its_port_is_free,
    expiry_never_frees_a_port_in_use,
    a_clock_that_another_cpu_read_later_ends_nothing,
    both_halves_move_together,
    sctp_is_ended_by_who_knows_its_tags,
    sctp_whose_port_is_taken_is_refused,
    an_endpoint_made_again_takes_up_its_flows_port,
    a_publish_whose_container_is_gone_drops,
    without_a_route_nothing_leaves,
    a_neighbour_reached_both_ways_answers_each_in_its_own_name,
    neighbours_in_mid_stream_are_brought_but_not_kept,
    neighbours_reach_each_other_though_the_table_is_full,
    what_is_longer_than_the_uplinks_mtu_is_refused,
    a_next_hops_mac_is_known_for_a_tick_to_a_flow_with_more_than_four_packets_in_it_or_one_in_the_last,
    the_hosts_exchange_keeps_the_port_it_moved_to_when_the_flow_in_its_way_is_gone,
    a_container_reaches_its_own_published_port_from_that_very_port,
    in_a_full_table_one_sided_use_counts_and_a_look_forgets_nobody,
    what_outsiders_begin_is_counted_apart_from_what_the_container_begins,
    a_container_that_has_all_its_flows_gets_new_ones_for_those_nobody_answered_or_that_have_ended,
    sweeping_any_flow_takes_both_halves_by_either,
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

fn a_port_that_is_taken_gives_way_to_another<A: Fixture>() {
    let model = model::<A>();
    assert_eq!(
        left(&model, &udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53))).unwrap().tuple.source_port.get(),
        4000
    );
    let second =
        left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::WORLD, 53))).unwrap().tuple.source_port.get();
    assert_ne!(second, 4000);
    // Nobody foretells which (RFC 6056), though each destination has all of them.
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

fn a_port_of_a_socket_of_the_host_is_not_taken<A: Fixture>() {
    let mut model = model::<A>();
    model.sockets.insert(udp(UPLINK, (A::WORLD, 53), (A::HOST, 4000)).tuple);
    let port =
        left(&model, &udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53))).unwrap().tuple.source_port.get();
    assert_ne!(port, 4000);
}

fn an_answer_to_a_socket_of_the_host_is_not_published<A: Fixture>() {
    let mut model = model::<A>();
    let arriving = udp(UPLINK, (A::WORLD, 53), (A::HOST, 5000));
    model.sockets.insert(arriving.tuple);
    assert_eq!(left(&model, &arriving), Err(DropReason::HostSocket));
    assert!(model.flows.borrow().is_empty());
}

fn when_every_port_is_taken_the_flow_is_refused<A: Fixture>() {
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

fn a_full_table_keeps_what_it_has_and_leaves_no_half<A: Fixture>() {
    for room in [0, 1, 2, 3] {
        let mut model = model::<A>();
        model.room = room;
        let first = left(&model, &udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53)));
        let second = left(&model, &udp(C1_SIDE, (A::C1, 4001), (A::WORLD, 53)));
        assert_eq!(first.is_ok(), room >= 2);
        if let Ok(first) = first {
            // It gives way only as long as nobody answers.
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

fn a_flow_ends_with_its_slots_epoch<A: Fixture>() {
    let mut model = model::<A>();
    let sent = udp(UPLINK, (A::WORLD, 4000), (A::HOST, 5000));
    let there = left(&model, &sent).unwrap();
    let mut back = answer(&there, 0);
    assert!(left(&model, &back).is_ok());
    model.epochs.insert(PUBLISH_SLOT, 1);
    // Now it is the container that begins, with a port that nothing publishes.
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

fn an_idle_flow_counts_as_absent_and_its_port_is_free<A: Fixture>() {
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
    // One way only: the reply half is never used.
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

fn a_clock_that_another_cpu_read_later_ends_nothing<A: Fixture>() {
    let model = model::<A>();
    let sent = udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53));
    let there = left(&model, &sent).unwrap();
    model.now.set(model.now.get() - 1);
    assert_eq!(left(&model, &sent).unwrap(), there);
}

fn both_halves_move_together<A: Fixture>() {
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

fn sctp_is_ended_by_who_knows_its_tags<A: Fixture>() {
    const CLIENTS: u32 = 0x11;
    const SERVERS: u32 = 0x22;
    let to = |sequence, flags, acknowledgment| Packet {
        sequence,
        acknowledgment,
        ..packet(C1_SIDE, (A::C1, 4000), (A::WORLD, 80), protocol::SCTP, flags)
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
        let model = model::<A>();
        let there = left(&model, &to(0, tcp::SYN, CLIENTS)).unwrap();
        let from = |sequence, flags, acknowledgment| Packet {
            sequence,
            acknowledgment,
            ..answer(&there, flags)
        };
        left(&model, &from(CLIENTS, tcp::SYN, SERVERS)).unwrap();
        // An INIT out of the blue, with a tag of its own, changes nothing.
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

fn sctp_whose_port_is_taken_is_refused<A: Fixture>() {
    let model = model::<A>();
    let init = |input, from| packet(input, (from, 4000), (A::WORLD, 80), protocol::SCTP, tcp::SYN);
    left(&model, &init(C1_SIDE, A::C1)).unwrap();
    assert_eq!(left(&model, &init(C2_SIDE, A::C2)), Err(DropReason::SctpPortTaken));
    assert_eq!(model.flows.borrow().len(), 2);
}

fn an_endpoint_made_again_takes_up_its_flows_port<A: Fixture>() {
    let mut model = model::<A>();
    let sent = udp(C2_SIDE, (A::C2, 4000), (A::HOST, 5000));
    assert!(left(&model, &sent).is_ok());
    let mut own = model.endpoints[&A::C2];
    own.host_side = 99;
    model.endpoints.insert(A::C2, own);
    let there = left(&model, &Packet { input: 99, ..sent }).unwrap();
    assert_eq!(left(&model, &answer(&there, 0)).unwrap().output, 99);
}

fn a_publish_whose_container_is_gone_drops<A: Fixture>() {
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

fn a_neighbour_reached_both_ways_answers_each_in_its_own_name<A: Fixture>() {
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

fn neighbours_in_mid_stream_are_brought_but_not_kept<A: Fixture>() {
    let model = model::<A>();
    let there = left(&model, &packet(C2_SIDE, (A::C2, 4000), (A::C1, 80), protocol::TCP, tcp::ACK))
        .unwrap();
    assert_eq!((there.deliver, there.output), (deliver::SAME_BRIDGE, C1_SIDE));
    assert!(model.flows.borrow().is_empty());
}

fn neighbours_reach_each_other_though_the_table_is_full<A: Fixture>() {
    for room in [0, 1] {
        let mut model = model::<A>();
        model.room = room;
        let there = left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::C1, 80))).unwrap();
        assert_eq!((there.deliver, there.output), (deliver::SAME_BRIDGE, C1_SIDE));
        assert!(model.flows.borrow().is_empty());
    }
}

fn a_next_hops_mac_is_known_for_a_tick_to_a_flow_with_more_than_four_packets_in_it_or_one_in_the_last<
    A: Fixture,
>() {
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
    // Of the flow's packets there were eight: every fourth asks.
    assert_eq!(known(&model, 5), [false, false, false, false, true], "it was not");
    after(&model, 2);
    model.next_hops.clear();
    assert_eq!(known(&model, 9), [false; 9], "nobody knows it");
    model.next_hops.insert(UPLINK, hop);
    assert_eq!(known(&model, 6), [false; 6], "and it was asked for in this tick");
    after(&model, 1);
    assert_eq!(known(&model, 2), [false, true], "until somebody does");
    model.next_hops.clear();
    after(&model, 1);
    assert_eq!(known(&model, 6), [false; 6], "nobody does any more");
}

fn what_is_longer_than_the_uplinks_mtu_is_refused<A: Fixture>() {
    let model = model::<A>();
    let sent = udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53));
    for (segment, dont_fragment, expected) in [
        (1500, true, None),
        (1500, false, None),
        (1501, true, Some(DropReason::TooLong)),
        (1501, false, Some(DropReason::TooLong)),
    ] {
        // First of its flow, and of a known one.
        for _ in 0..2 {
            assert_eq!(left(&model, &Packet { segment, dont_fragment, ..sent }).err(), expected);
        }
        model.flows.borrow_mut().clear();
    }
    // Between neighbours the uplink does not matter.
    assert!(
        left(&model, &Packet { segment: 9000, ..udp(C2_SIDE, (A::C2, 4000), (A::C1, 80)) }).is_ok()
    );
}

fn the_hosts_exchange_keeps_the_port_it_moved_to_when_the_flow_in_its_way_is_gone<A: Fixture>() {
    for number in [protocol::UDP, protocol::TCP, A::ICMP] {
        let mut model = model::<A>();
        let port = if number == A::ICMP { 0 } else { 80 };
        left(&model, &packet(C1_SIDE, (A::C1, 4000), (A::WORLD, port), number, tcp::SYN))
            .expect("masqueraded");
        let mut sent = packet(UPLINK, (A::HOST, 4000), (A::WORLD, port), number, tcp::SYN);
        sent.tuple.side = side::HOST;
        let there = decide_to_uplink(&sent, false, &model).expect("it moves");
        assert_ne!(there.tuple, Tuple { side: side::UPLINK, ..sent.tuple });
        left(&model, &answer(&there, tcp::SYN | tcp::ACK)).expect("its answer comes back");

        *model.epochs.entry(C1_SLOT).or_default() += 1;
        let keys: Vec<_> = model.flows.borrow().keys().copied().collect();
        for key in keys {
            crate::flow::collect::collect(&model, &key, crate::flow::collect::Collect::Ended);
        }
        sent.flags = if number == protocol::TCP { tcp::ACK } else { 0 };
        let then = decide_to_uplink(&sent, false, &model).map(|translation| translation.tuple);
        assert_eq!(then, Some(there.tuple), "protocol {number}");
    }
}

fn a_container_reaches_its_own_published_port_from_that_very_port<A: Fixture>() {
    let mut model = model::<A>();
    model.publishes.get_mut(&PUBLISH_SLOT).expect("a publish").container_port = Port::new(5000);
    let sent = udp(C1_SIDE, (A::C1, 5000), (A::GATEWAY, 5000));
    let there = left(&model, &sent).expect("a hairpin");
    assert_eq!((there.tuple.source, there.tuple.destination_port.get()), (A::GATEWAY, 5000));
    let back = left(&model, &answer(&there, 0)).expect("its answer");
    assert_eq!(back.tuple, sent.tuple.reversed());
}

fn in_a_full_table_one_sided_use_counts_and_a_look_forgets_nobody<A: Fixture>() {
    let mut model = model::<A>();
    model.room = 6;
    let stream = udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53));
    let answered = udp(C1_SIDE, (A::C1, 4001), (A::WORLD, 53));
    // The first is sent twice and never answered, the second is answered, the third is neither.
    let _ = left(&model, &stream).unwrap();
    let there = left(&model, &answered).unwrap();
    let _ = left(&model, &stream).unwrap();
    let _ = left(&model, &answer(&there, 0)).unwrap();
    let _ = left(&model, &udp(C1_SIDE, (A::C1, 4002), (A::WORLD, 53))).unwrap();
    // Each new one takes the place of the one before it: only that is half open, and not in use.
    for port in 4003..4010 {
        assert!(left(&model, &udp(C1_SIDE, (A::C1, port), (A::WORLD, 53))).is_ok(), "{port}");
        assert!(
            model.flows.borrow().contains_key(&stream.tuple)
                && model.flows.borrow().contains_key(&answered.tuple)
        );
    }
    // Those in use were noted again: once they have ended there is room in their place.
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

fn what_outsiders_begin_is_counted_apart_from_what_the_container_begins<A: Fixture>() {
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
    assert_eq!((counts[&(C1_SLOT | limits::COUNT_INBOUND)], counts[&C1_SLOT]), (2, 1));
}

fn a_container_that_has_all_its_flows_gets_new_ones_for_those_nobody_answered_or_that_have_ended<
    A: Fixture,
>() {
    let mut model = model::<A>();
    model.networks.insert(0, Network { max_flows: 2, ..Network::DEFAULT });
    // A neighbour's half-open flow is none of its.
    let _ = left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::WORLD, 53))).unwrap();
    for port in 4000..4010 {
        assert!(left(&model, &udp(C1_SIDE, (A::C1, port), (A::WORLD, 53))).is_ok(), "{port}");
    }
    assert_eq!((model.counts.borrow()[&C1_SLOT], model.counts.borrow()[&C2_SLOT]), (2, 1));
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

fn sweeping_any_flow_takes_both_halves_by_either<A: Fixture>() {
    for by_reply in [false, true] {
        let model = model::<A>();
        let sent = udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53));
        let there = left(&model, &sent).unwrap();
        let key = if by_reply { there.tuple.reversed() } else { sent.tuple };
        assert!(!collect(&model, &key, Collect::Ended), "it has not ended");
        assert!(collect(&model, &key, Collect::Any));
        assert!(model.flows.borrow().is_empty());
        assert_eq!(model.counts.borrow()[&C1_SLOT], 0);
    }
}
