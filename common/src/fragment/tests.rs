//! Fragments over the model, with frames as they are on the wire.

use std::{collections::BTreeMap, vec::Vec};

use proptest::{prelude::*, test_runner::Config};

use super::*;
use crate::{
    address::V4,
    forward::tests::{C1, C1_SIDE, C1_SLOT, C2, C2_SIDE, C2_SLOT, GATEWAY, HOST, UPLINK, WORLD, model},
    ipv4::Ipv4,
    model::Model,
    packet::Arrival,
    tuple::protocol,
};

/// A datagram that is cut into fragments of eight bytes each.
#[derive(Clone, Copy, Debug)]
struct Whole {
    input: u32,
    from: (V4, u16),
    to: (V4, u16),
    protocol: u8,
    id: u16,
    fragments: u16,
}

impl Whole {
    const fn udp(input: u32, from: (V4, u16), to: (V4, u16), id: u16) -> Self {
        Self { input, from, to, protocol: protocol::UDP, id, fragments: 4 }
    }

    /// The frame of one fragment.
    fn frame(&self, number: u16) -> Vec<u8> {
        let more = u16::from(number + 1 < self.fragments) << 13;
        let ip = Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_length: 28_u16.to_be(),
            id: self.id.to_be(),
            fragment: (more | number).to_be(),
            ttl: 64,
            protocol: self.protocol,
            checksum: 0,
            source: self.from.0,
            destination: self.to.0,
        };
        let mut frame = std::vec![2; 12];
        frame.extend([8, 0]);
        frame.extend(bytemuck::bytes_of(&ip));
        let ports = [self.from.1.to_be_bytes(), self.to.1.to_be_bytes()].concat();
        match (number, self.protocol) {
            (0, protocol::ICMP) => frame.extend([8, 0, 0, 0, ports[0], ports[1], 0, 1]),
            (0, _) => frame.extend([&ports[..], &[0; 4]].concat()),
            _ => frame.extend([0; 8]),
        }
        frame
    }
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Left {
    number: u16,
    output: u32,
    source: V4,
    destination: V4,
    id: u16,
}

/// What becomes of a frame and of all that comes again because of it.
fn deliver(model: &Model<V4>, input: u32, frame: Vec<u8>) -> Vec<Result<Left, (u16, Reason)>> {
    model.again.borrow_mut().push_back(frame);
    let mut seen = Vec::new();
    for _ in 0..1000 {
        let Some(frame) = model.again.borrow_mut().pop_front() else { return seen };
        let arrival = Arrival {
            side: if input == UPLINK { side::UPLINK } else { side::CONTAINER },
            input,
            length: frame.len() as u32,
            gso_size: 0,
        };
        let packet = V4::parse(&frame[..], arrival).unwrap();
        let number = u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff;
        model.frame.replace(frame.clone());
        match forward::decide(&frame[..], &packet, model) {
            Decision::ForwardFragment(Translation { output, tuple, .. }, id) => {
                let (source, destination) = (tuple.source, tuple.destination);
                seen.push(Ok(Left { number, output, source, destination, id: id as u16 }));
            }
            Decision::Stop(reason) => seen.push(Err((number, reason))),
            Decision::PutBack => {}
            decision @ (Decision::Forward(_) | Decision::ForwardError(_) | Decision::TooLong(_)) => {
                panic!("{decision:?}")
            }
        }
    }
    panic!("it comes again for ever");
}

/// Each way a datagram can go, and where it leaves: interface, source, destination.
fn ways() -> Vec<(&'static str, Whole, (u32, V4, V4))> {
    let ping = |input, from| Whole { protocol: protocol::ICMP, ..Whole::udp(input, (from, 77), (WORLD, 0), 9) };
    std::vec![
        ("masquerade", Whole::udp(C1_SIDE, (C1, 4000), (WORLD, 53), 9), (UPLINK, HOST, WORLD)),
        ("its neighbour's", Whole::udp(C2_SIDE, (C2, 4000), (WORLD, 53), 9), (UPLINK, HOST, WORLD)),
        ("ping", ping(C1_SIDE, C1), (UPLINK, HOST, WORLD)),
        ("published", Whole::udp(UPLINK, (WORLD, 4001), (HOST, 5000), 9), (C1_SIDE, WORLD, C1)),
        ("its answer", Whole::udp(C1_SIDE, (C1, 80), (WORLD, 4001), 10), (UPLINK, HOST, WORLD)),
        ("hairpin", Whole::udp(C2_SIDE, (C2, 4002), (HOST, 5000), 9), (C1_SIDE, C2, C1)),
        ("its answer", Whole::udp(C1_SIDE, (C1, 80), (C2, 4002), 9), (C2_SIDE, HOST, C2)),
        ("hairpin to itself", Whole::udp(C1_SIDE, (C1, 4003), (GATEWAY, 5000), 9), (C1_SIDE, GATEWAY, C1)),
    ]
}

/// A model in which the flows of the ways that are answers have begun.
fn begun() -> Model<V4> {
    let model = model();
    for (what, whole, _) in ways() {
        if what != "its answer" {
            let first = Whole { id: 1, ..whole };
            assert!(matches!(deliver(&model, whole.input, first.frame(0))[..], [Ok(_)]), "{what}");
        }
    }
    model
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::with_cases(300) })]

    #[test]
    fn any_permutation_of_fragments_leaves_whole(
        order in Just(
            (0..ways().len()).flat_map(|way| (0..4_u16).map(move |number| (way, number))).collect::<Vec<_>>()
        ).prop_shuffle(),
        twice in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let model = begun();
        let ways = ways();
        let mut order = order;
        for index in twice {
            let fragment = *index.get(&order);
            order.push(fragment);
        }
        let mut sent = BTreeMap::<usize, Vec<u16>>::new();
        let mut left = BTreeMap::<usize, Vec<Left>>::new();
        for (way, number) in order {
            sent.entry(way).or_default().push(number);
            let (what, whole, (output, source, destination)) = ways[way];
            for outcome in deliver(&model, whole.input, whole.frame(number)) {
                match outcome {
                    Ok(one) if (one.output, one.source, one.destination) == (output, source, destination) => {
                        left.entry(way).or_default().push(one);
                    }
                    // What the host's stack or the neighbour may be waiting for goes on as it came, besides.
                    Ok(one) => prop_assert!((one.source, one.destination) == (C1, C2), "{what}: {one:?}"),
                    Err((_, reason)) => prop_assert!(
                        matches!(reason, Reason::FragmentHeld | Reason::NotOurs | Reason::ToHost), "{what}: {reason:?}"
                    ),
                }
            }
        }
        let mut ids = Vec::new();
        for (way, (what, whole, expected)) in ways.iter().enumerate() {
            let mut numbers: Vec<_> = left[&way].iter().map(|one| one.number).collect();
            numbers.sort_unstable();
            let sent = sent.get_mut(&way).unwrap();
            sent.sort_unstable();
            prop_assert_eq!(&numbers, sent, "{}", what);
            let id = left[&way][0].id;
            prop_assert!(left[&way].iter().all(|one| one.id == id), "{what}: one identification");
            if expected.1 == whole.from.0 {
                prop_assert_eq!(id, whole.id.to_be(), "{}: who speaks in its own name has its own", what);
            } else {
                ids.push((expected.1, expected.2, whole.protocol, id));
            }
        }
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), all, "no two datagrams with one source, destination and identification");
        prop_assert!(model.held.borrow().is_empty(), "nothing is left");
    }
}

#[test]
fn what_the_host_or_a_neighbour_has_already_is_not_put_back() {
    let model = model();
    for (whole, expected) in [
        (Whole::udp(UPLINK, (WORLD, 4000), (HOST, 9), 1), Err(Reason::NotOurs)),
        (Whole::udp(C1_SIDE, (C1, 4000), (GATEWAY, 9), 1), Err(Reason::ToHost)),
        (Whole::udp(C1_SIDE, (C1, 4000), (C2, 9), 1), Ok(C2_SIDE)),
    ] {
        for number in [2, 3, 0, 1] {
            let seen = deliver(&model, whole.input, whole.frame(number));
            let outcomes: Vec<_> =
                seen.iter().map(|one| one.map(|left| left.output).map_err(|(_, reason)| reason)).collect();
            assert_eq!(outcomes, [expected], "{whole:?}, {number}");
        }
        assert!(model.held.borrow().is_empty());
    }
}

#[test]
fn nothing_is_kept_of_what_goes_by_the_host() {
    let model = model();
    for (input, from, to) in [(UPLINK, WORLD, V4::new([198, 51, 100, 7])), (C1_SIDE, C1, V4::new([224, 0, 0, 251]))] {
        for number in [1, 0] {
            deliver(&model, input, Whole::udp(input, (from, 1), (to, 2), 3).frame(number));
        }
    }
    assert!(model.datagrams.borrow().is_empty() && model.held.borrow().is_empty());
}

#[test]
fn a_datagram_holds_so_many_fragments_and_no_more() {
    let model = model();
    let whole = Whole { fragments: 100, ..Whole::udp(C1_SIDE, (C1, 4000), (WORLD, 53), 1) };
    for number in (1..100).rev() {
        let [Err((_, reason))] = deliver(&model, C1_SIDE, whole.frame(number))[..] else { panic!("{number} leaves") };
        let held = u32::from(99 - number) < HELD_OF_ONE;
        assert_eq!(reason, if held { Reason::FragmentHeld } else { Reason::Fragment }, "{number}");
    }
    let seen = deliver(&model, C1_SIDE, whole.frame(0));
    assert_eq!(seen.iter().filter(|one| one.is_ok()).count(), 1 + HELD_OF_ONE as usize);
}

#[test]
fn what_was_held_too_long_is_not_put_back() {
    let model = model();
    let whole = Whole::udp(C1_SIDE, (C1, 4000), (WORLD, 53), 1);
    deliver(&model, C1_SIDE, whole.frame(1));
    model.now.set(model.now.get() + TIMEOUT);
    deliver(&model, C1_SIDE, whole.frame(2));
    model.now.set(model.now.get() + 1);
    assert!(matches!(deliver(&model, C1_SIDE, whole.frame(0))[..], [Ok(Left { number: 0, .. })]));
    assert!(matches!(deliver(&model, C1_SIDE, whole.frame(3))[..], [Ok(Left { number: 3, .. })]));
    model.now.set(model.now.get() + TIMEOUT + 1);
    assert_eq!(deliver(&model, C1_SIDE, whole.frame(3)), [Err((3, Reason::FragmentHeld))]);
}

#[test]
fn a_first_fragment_with_other_ports_is_of_another_datagram() {
    let model = model();
    let [one, other] = [4000, 4001].map(|port| Whole::udp(C1_SIDE, (C1, port), (WORLD, 53), 1));
    let id = |whole: Whole, number| match deliver(&model, C1_SIDE, whole.frame(number))[..] {
        [Ok(left)] => left.id,
        ref seen => panic!("{seen:?}"),
    };
    let (of_one, again) = (id(one, 0), id(one, 0));
    assert_eq!((again, id(one, 1)), (of_one, of_one));
    let of_other = id(other, 0);
    assert_ne!(of_other, of_one);
    assert_eq!(id(other, 1), of_other);
}

#[test]
fn later_fragments_of_a_refused_datagram_are_refused_and_not_held() {
    let mut model = model();
    model.routes.clear();
    let whole = Whole::udp(C1_SIDE, (C1, 4000), (WORLD, 53), 1);
    assert_eq!(deliver(&model, C1_SIDE, whole.frame(1)), [Err((1, Reason::FragmentHeld))]);
    assert_eq!(deliver(&model, C1_SIDE, whole.frame(0)), [Err((0, Reason::NoRoute))]);
    assert_eq!(deliver(&model, C1_SIDE, whole.frame(2)), [Err((2, Reason::Fragment))]);
    assert!(model.held.borrow().is_empty());
}

#[test]
fn a_flow_that_ends_ends_its_datagrams() {
    for (slot, whole) in [
        (C1_SLOT, Whole::udp(C1_SIDE, (C1, 4000), (WORLD, 53), 1)),
        (C2_SLOT, Whole::udp(C2_SIDE, (C2, 4000), (WORLD, 53), 1)),
    ] {
        let mut model = model();
        assert!(matches!(deliver(&model, whole.input, whole.frame(0))[..], [Ok(_)]));
        model.epochs.insert(slot, 1);
        assert_eq!(deliver(&model, whole.input, whole.frame(1)), [Err((1, Reason::Fragment))]);
    }
}

#[test]
fn a_datagram_that_was_held_counts_once() {
    let model = model();
    let whole = Whole::udp(C1_SIDE, (C1, 4000), (WORLD, 53), 1);
    for number in [3, 2, 0, 1] {
        deliver(&model, C1_SIDE, whole.frame(number));
    }
    let flows = model.flows.borrow();
    let forward = flows.values().find(|half| half.is_reply == 0).unwrap();
    assert_eq!((forward.packets, forward.bytes), (4, 4 * 28));
}

/// Its first fragment is decided about by another CPU while a later one is being held.
#[test]
fn a_first_fragment_that_comes_while_one_is_held_loses_none() {
    const WHOLE: Whole = Whole::udp(C1_SIDE, (C1, 4000), (WORLD, 53), 1);
    fn arrival() -> Arrival {
        Arrival { side: side::CONTAINER, input: C1_SIDE, length: 42, gso_size: 0 }
    }
    fn first_alone(model: &Model<V4>) {
        // As far as the record: it has looked for what is held before that was there.
        let packet = V4::parse(&WHOLE.frame(0)[..], arrival()).unwrap();
        let Decision::Forward(translation) = forward::begin_flow(&mut First::new(packet, [2; 6]), model) else {
            panic!()
        };
        let held = record(&packet, Some(&translation), &mut Passage::new(&packet), model);
        assert_eq!(held, 1, "the other was counted");
    }
    fn first_and_what_is_held(model: &Model<V4>) {
        first_alone(model);
        let mut key = Passage::new(&V4::parse(&WHOLE.frame(1)[..], arrival()).unwrap()).key;
        key.number = 0;
        release(&key, true, model);
    }
    for (what, meanwhile) in
        [("before the copy is looked for", first_and_what_is_held as fn(&Model<V4>)), ("after it", first_alone)]
    {
        let model = model();
        model.meanwhile.set(Some(meanwhile));
        let seen = deliver(&model, C1_SIDE, WHOLE.frame(1));
        let left: Vec<_> = seen.iter().flatten().map(|left| left.number).collect();
        assert_eq!(left, [1], "{what}: it leaves once: {seen:?}");
        assert!(model.held.borrow().is_empty(), "{what}");
    }
}
