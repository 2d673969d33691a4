//! Fragments over the model, with frames as they are on the wire.

use crate::{
    abi::{drop_reason::DropReason, fragment::QueuedKey, translation::Translation},
    flow::fragment_context::FragmentContext,
    nat::{
        create,
        fragment::{MAX_QUEUED, TIMEOUT, record, release},
        plan::plan,
    },
    scratch::Scratch,
    testing::{
        fixture::{
            C1_MAC, C1_SIDE, C1_SLOT, C2_SIDE, C2_SLOT, Fixture, UPLINK, arrival, families, frame,
            model,
        },
        model::Model,
        steps::{Decision, decide},
    },
    wire::{
        address::{V4, V6},
        ethernet::ETHERNET,
        protocol,
    },
};
use std::{collections::BTreeMap, vec::Vec};

use proptest::{prelude::*, test_runner::Config};

families!(
    any_permutation_of_fragments_leaves_whole,
    untranslated_fragment_is_not_reinjected,
    foreign_fragments_leave_no_record,
    queue_per_datagram_is_limited,
    expired_fragment_is_not_reinjected,
    first_fragment_with_other_ports_gets_new_id,
    refused_datagram_queues_no_later_fragment,
    ended_flow_ends_its_datagrams,
    reinjected_datagram_counts_once,
    racing_first_fragment_loses_none,
);

/// A family whose fragments are made and read here.
trait Fragmenting: Fixture {
    /// Makes an IP packet a fragment: which eight bytes of the datagram it has, and whether more
    /// fragments follow.
    fn fragment(packet: &mut Vec<u8>, id: u16, number: u16, more: bool);
    /// The fragment's number, and its identification in the byte order of the packet.
    fn number_and_id(packet: &[u8]) -> (u16, u32);
    /// The identification, as it stands in a packet.
    fn id(id: u16) -> u32;
    /// As much of it as a packet has room for.
    const ID_MASK: u32;
}

impl Fragmenting for V4 {
    fn fragment(packet: &mut Vec<u8>, id: u16, number: u16, more: bool) {
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        packet[6..8].copy_from_slice(&(u16::from(more) << 13 | number).to_be_bytes());
    }

    fn number_and_id(packet: &[u8]) -> (u16, u32) {
        let id = u16::from_ne_bytes([packet[4], packet[5]]);
        (u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff, id.into())
    }

    fn id(id: u16) -> u32 {
        id.to_be().into()
    }

    const ID_MASK: u32 = 0xffff;
}

impl Fragmenting for V6 {
    fn fragment(packet: &mut Vec<u8>, id: u16, number: u16, more: bool) {
        let place = (number << 3 | u16::from(more)).to_be_bytes();
        let head = [
            packet[6],
            0,
            place[0],
            place[1],
            0xab,
            0xcd,
            id.to_be_bytes()[0],
            id.to_be_bytes()[1],
        ];
        packet[6] = 44;
        packet[5] += 8;
        packet.splice(40..40, head);
    }

    fn number_and_id(packet: &[u8]) -> (u16, u32) {
        assert_eq!(packet[6], 44);
        (
            u16::from_be_bytes([packet[42], packet[43]]) >> 3,
            u32::from_ne_bytes(packet[44..48].try_into().unwrap()),
        )
    }

    fn id(id: u16) -> u32 {
        u32::from_ne_bytes((0xabcd_0000 | u32::from(id)).to_be_bytes())
    }

    const ID_MASK: u32 = u32::MAX;
}

/// A datagram that is cut into fragments of eight bytes each.
#[derive(Clone, Copy, Debug)]
struct Whole<A> {
    input: u32,
    from: (A, u16),
    to: (A, u16),
    protocol: u8,
    id: u16,
    fragments: u16,
}

impl<A: Fragmenting> Whole<A> {
    const fn udp(input: u32, from: (A, u16), to: (A, u16), id: u16) -> Self {
        Self { input, from, to, protocol: protocol::UDP, id, fragments: 4 }
    }

    /// The frame of one fragment.
    fn frame(&self, number: u16) -> Vec<u8> {
        let ports = [self.from.1.to_be_bytes(), self.to.1.to_be_bytes()].concat();
        let data = match number {
            0 if self.protocol == A::ICMP => [A::ECHO_REQUEST, 0, 0, 0, ports[0], ports[1], 0, 1],
            0 => [ports[0], ports[1], ports[2], ports[3], 0, 0, 0, 0],
            _ => [0; 8],
        };
        let mut packet = A::ip(self.protocol, self.from.0, self.to.0, &data);
        A::fragment(&mut packet, self.id, number, number + 1 < self.fragments);
        frame::<A>(self.input, &packet)
    }
}

/// Outcome of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Left<A> {
    number: u16,
    output: u32,
    source: A,
    destination: A,
    id: u32,
}

/// Outcomes of a frame, and of all frames that are reinjected because of it.
fn deliver<A: Fragmenting>(
    model: &Model<A>,
    input: u32,
    frame: Vec<u8>,
) -> Vec<Result<Left<A>, (u16, DropReason)>> {
    model.reinjected.borrow_mut().push_back(frame);
    let mut seen = Vec::new();
    for _ in 0..1000 {
        let Some(frame) = model.reinjected.borrow_mut().pop_front() else { return seen };
        let packet = A::parse(&frame[..], arrival(input, &frame)).unwrap();
        let (number, _) = A::number_and_id(&frame[ETHERNET..]);
        model.frame.replace(frame.clone());
        match decide(&frame[..], &packet, model) {
            Decision::ForwardFragment(Translation { output, tuple, .. }, id) => {
                let (source, destination) = (tuple.source, tuple.destination);
                seen.push(Ok(Left { number, output, source, destination, id: id & A::ID_MASK }));
            }
            Decision::Stop(reason) => seen.push(Err((number, reason))),
            Decision::Reinject => {}
            decision
            @ (Decision::Forward(_) | Decision::ForwardError(_) | Decision::TooLong(_)) => {
                panic!("{decision:?}")
            }
        }
    }
    panic!("it comes again for ever");
}

/// A path of a datagram: name, datagram, and egress: interface, source, destination.
type Way<A> = (&'static str, Whole<A>, (u32, A, A));

fn ways<A: Fragmenting>() -> Vec<Way<A>> {
    let ping = |input, from| Whole {
        protocol: A::ICMP,
        ..Whole::udp(input, (from, 77), (A::WORLD, 0), 9)
    };
    std::vec![
        (
            "masquerade",
            Whole::udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53), 9),
            (UPLINK, A::HOST, A::WORLD)
        ),
        (
            "its neighbour's",
            Whole::udp(C2_SIDE, (A::C2, 4000), (A::WORLD, 53), 9),
            (UPLINK, A::HOST, A::WORLD)
        ),
        ("ping", ping(C1_SIDE, A::C1), (UPLINK, A::HOST, A::WORLD)),
        (
            "published",
            Whole::udp(UPLINK, (A::WORLD, 4001), (A::HOST, 5000), 9),
            (C1_SIDE, A::WORLD, A::C1)
        ),
        (
            "its answer",
            Whole::udp(C1_SIDE, (A::C1, 80), (A::WORLD, 4001), 10),
            (UPLINK, A::HOST, A::WORLD)
        ),
        (
            "hairpin",
            Whole::udp(C2_SIDE, (A::C2, 4002), (A::HOST, 5000), 9),
            (C1_SIDE, A::C2, A::C1)
        ),
        (
            "its answer",
            Whole::udp(C1_SIDE, (A::C1, 80), (A::C2, 4002), 9),
            (C2_SIDE, A::HOST, A::C2)
        ),
        (
            "hairpin to itself",
            Whole::udp(C1_SIDE, (A::C1, 4003), (A::GATEWAY, 5000), 9),
            (C1_SIDE, A::GATEWAY, A::C1)
        ),
    ]
}

/// A model with the flows that the replies among the paths belong to.
fn age_ring<A: Fragmenting>() -> Model<A> {
    let model = model::<A>();
    for (what, whole, _) in ways::<A>() {
        if what != "its answer" {
            let first = Whole { id: 1, ..whole };
            assert!(matches!(deliver(&model, whole.input, first.frame(0))[..], [Ok(_)]), "{what}");
        }
    }
    model
}

fn any_permutation_of_fragments_leaves_whole<A: Fragmenting>() {
    let all: Vec<(usize, u16)> = (0..ways::<A>().len())
        .flat_map(|way| (0..4_u16).map(move |number| (way, number)))
        .collect();
    let config = Config { failure_persistence: None, ..Config::with_cases(200) };
    proptest!(config, |(
        order in Just(all).prop_shuffle(),
        twice in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    )| {
        let model = age_ring::<A>();
        let ways = ways();
        let mut order = order;
        for index in twice {
            let fragment = *index.get(&order);
            order.push(fragment);
        }
        let mut sent = BTreeMap::<usize, Vec<u16>>::new();
        let mut left = BTreeMap::<usize, Vec<Left<A>>>::new();
        for (way, number) in order {
            sent.entry(way).or_default().push(number);
            let (what, whole, (output, source, destination)) = ways[way];
            for outcome in deliver(&model, whole.input, whole.frame(number)) {
                match outcome {
                    Ok(one) if (one.output, one.source, one.destination) == (output, source, destination) => {
                        left.entry(way).or_default().push(one);
                    }
                    // A fragment that the host's stack or another container may be waiting for goes
                    // on at once as well.
                    Ok(one) => prop_assert!((one.source, one.destination) == (A::C1, A::C2), "{what}: {one:?}"),
                    Err((_, reason)) => prop_assert!(
                        matches!(
                            reason,
                            DropReason::FragmentHeld | DropReason::NotOurs | DropReason::ToHost
                        ),
                        "{what}: {reason:?}"
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
                prop_assert_eq!(id, A::id(whole.id), "{}: who speaks in its own name has its own", what);
            } else {
                ids.push((expected.1, expected.2, whole.protocol, id));
            }
        }
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), all, "no two datagrams with one source, destination and identification");
        prop_assert!(model.fragment_queue.borrow().is_empty(), "nothing is left");
    });
}

fn untranslated_fragment_is_not_reinjected<A: Fragmenting>() {
    let model = model::<A>();
    for (whole, expected) in [
        (Whole::udp(UPLINK, (A::WORLD, 4000), (A::HOST, 9), 1), Err(DropReason::NotOurs)),
        (Whole::udp(C1_SIDE, (A::C1, 4000), (A::GATEWAY, 9), 1), Err(DropReason::ToHost)),
        (Whole::udp(C1_SIDE, (A::C1, 4000), (A::C2, 9), 1), Ok(C2_SIDE)),
    ] {
        for number in [2, 3, 0, 1] {
            let seen = deliver(&model, whole.input, whole.frame(number));
            let outcomes: Vec<_> = seen
                .iter()
                .map(|one| one.map(|left| left.output).map_err(|(_, reason)| reason))
                .collect();
            assert_eq!(outcomes, [expected], "{whole:?}, {number}");
        }
        assert!(model.fragment_queue.borrow().is_empty());
    }
}

fn foreign_fragments_leave_no_record<A: Fragmenting>() {
    let model = model::<A>();
    for (input, from, to) in [(UPLINK, A::WORLD, A::OTHER), (C1_SIDE, A::C1, A::GROUP)] {
        for number in [1, 0] {
            deliver(&model, input, Whole::udp(input, (from, 1), (to, 2), 3).frame(number));
        }
    }
    assert!(model.datagrams.borrow().is_empty() && model.fragment_queue.borrow().is_empty());
}

fn queue_per_datagram_is_limited<A: Fragmenting>() {
    let model = model::<A>();
    let whole = Whole { fragments: 100, ..Whole::udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53), 1) };
    for number in (1..100).rev() {
        let [Err((_, reason))] = deliver(&model, C1_SIDE, whole.frame(number))[..] else {
            panic!("{number} leaves")
        };
        let held = u32::from(99 - number) < MAX_QUEUED;
        assert_eq!(
            reason,
            if held { DropReason::FragmentHeld } else { DropReason::Fragment },
            "{number}"
        );
    }
    let seen = deliver(&model, C1_SIDE, whole.frame(0));
    assert_eq!(seen.iter().filter(|one| one.is_ok()).count(), 1 + MAX_QUEUED as usize);
}

fn expired_fragment_is_not_reinjected<A: Fragmenting>() {
    let model = model::<A>();
    let whole = Whole::udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53), 1);
    deliver(&model, C1_SIDE, whole.frame(1));
    model.now.set(model.now.get() + TIMEOUT);
    deliver(&model, C1_SIDE, whole.frame(2));
    model.now.set(model.now.get() + 1);
    assert!(matches!(deliver(&model, C1_SIDE, whole.frame(0))[..], [Ok(Left { number: 0, .. })]));
    assert!(matches!(deliver(&model, C1_SIDE, whole.frame(3))[..], [Ok(Left { number: 3, .. })]));
    model.now.set(model.now.get() + TIMEOUT + 1);
    assert_eq!(deliver(&model, C1_SIDE, whole.frame(3)), [Err((3, DropReason::FragmentHeld))]);
}

fn first_fragment_with_other_ports_gets_new_id<A: Fragmenting>() {
    let model = model::<A>();
    let [one, other] =
        [4000, 4001].map(|port| Whole::udp(C1_SIDE, (A::C1, port), (A::WORLD, 53), 1));
    let id = |whole: Whole<A>, number| match deliver(&model, C1_SIDE, whole.frame(number))[..] {
        [Ok(left)] => left.id,
        ref seen => panic!("{seen:?}"),
    };
    let (of_one, again) = (id(one, 0), id(one, 0));
    assert_eq!((again, id(one, 1)), (of_one, of_one));
    let of_other = id(other, 0);
    assert_ne!(of_other, of_one);
    assert_eq!(id(other, 1), of_other);
}

fn refused_datagram_queues_no_later_fragment<A: Fragmenting>() {
    let mut model = model::<A>();
    model.routes.clear();
    let whole = Whole::udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53), 1);
    assert_eq!(deliver(&model, C1_SIDE, whole.frame(1)), [Err((1, DropReason::FragmentHeld))]);
    assert_eq!(deliver(&model, C1_SIDE, whole.frame(0)), [Err((0, DropReason::NoRoute))]);
    assert_eq!(deliver(&model, C1_SIDE, whole.frame(2)), [Err((2, DropReason::Fragment))]);
    assert!(model.fragment_queue.borrow().is_empty());
}

fn ended_flow_ends_its_datagrams<A: Fragmenting>() {
    for (slot, whole) in [
        (C1_SLOT, Whole::udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53), 1)),
        (C2_SLOT, Whole::udp(C2_SIDE, (A::C2, 4000), (A::WORLD, 53), 1)),
    ] {
        let mut model = model::<A>();
        assert!(matches!(deliver(&model, whole.input, whole.frame(0))[..], [Ok(_)]));
        model.epochs.insert(slot, 1);
        assert_eq!(deliver(&model, whole.input, whole.frame(1)), [Err((1, DropReason::Fragment))]);
    }
}

fn reinjected_datagram_counts_once<A: Fragmenting>() {
    let model = model::<A>();
    let whole = Whole::udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53), 1);
    for number in [3, 2, 0, 1] {
        deliver(&model, C1_SIDE, whole.frame(number));
    }
    let flows = model.flows.borrow();
    let forward = flows.values().find(|entry| entry.is_reply == 0).unwrap();
    assert_eq!(
        (forward.packets, forward.bytes),
        (4, 4 * whole.frame(1).len() as u64 - 4 * ETHERNET as u64)
    );
}

/// Another CPU processes the first fragment while a later one is being queued.
fn racing_first_fragment_loses_none<A: Fragmenting>() {
    for (what, meanwhile) in [
        ("before the copy is looked for", first_and_what_is_held as fn(&Model<A>)),
        ("after it", |model| {
            first_alone(model);
        }),
    ] {
        let model = model::<A>();
        model.meanwhile.set(Some(meanwhile));
        let seen = deliver(&model, C1_SIDE, ahead::<A>().frame(1));
        let left: Vec<_> = seen.iter().flatten().map(|left| left.number).collect();
        assert_eq!(left, [1], "{what}: it leaves once: {seen:?}");
        assert!(model.fragment_queue.borrow().is_empty(), "{what}");
    }
}

const fn ahead<A: Fragmenting>() -> Whole<A> {
    Whole::udp(C1_SIDE, (A::C1, 4000), (A::WORLD, 53), 1)
}

/// Only as far as the record: the CPU looked for queued fragments before there was one.
fn first_alone<A: Fragmenting>(model: &Model<A>) -> QueuedKey<A> {
    let frame = ahead::<A>().frame(0);
    let packet = A::parse(&frame[..], arrival(C1_SIDE, &frame)).unwrap();
    let mut scratch = Scratch::new(packet, C1_MAC);
    plan(&mut scratch, model).expect("it may begin a flow");
    create::prepare(&mut scratch, model);
    assert!(create::try_port(&mut scratch, 0, model).is_break(), "its own port is free");
    create::complete(&mut scratch, model).expect("there is room");
    let translation = scratch.entry.translation;
    let mut passage = FragmentContext::new(&packet);
    let held = record(&packet, Some(&translation), &mut passage, model);
    assert_eq!(held, 1, "the other was counted");
    passage.key
}

fn first_and_what_is_held<A: Fragmenting>(model: &Model<A>) {
    let key = first_alone(model);
    release(&key, true, model);
}
