//! What holds whatever happens, in whatever order: checked over histories that nobody thought of.

use std::{collections::HashMap, vec::Vec};

use bytemuck::Zeroable as _;
use proptest::{prelude::*, test_runner::Config};

use super::{
    tests::{
        C1, C1_SIDE, C1_SLOT, C2, C2_SIDE, C2_SLOT, GATEWAY, HOST, PUBLISH_SLOT, UPLINK, WORLD, answer, left, model,
        packet,
    },
    *,
};
use crate::{
    abi::{Door, Uplink},
    address::V4,
    checksum,
    flow::{Ticks, Timer, tcp, ticks},
    ipv4::Ipv4,
    model::Model,
    packet::{Arrival, ETHERNET},
    sweep::{Which, sweep},
    tuple::{Tuple, echo, protocol, side},
};

/// On the way to the world.
const ROUTER: V4 = V4::new([10, 0, 2, 2]);
/// Another address of the world's.
const OTHER: V4 = V4::new([203, 0, 113, 66]);

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The exchange with that number goes on, or begins: a packet with these flags of TCP, if it is that.
    Send(usize, u8),
    /// Its last packet is answered.
    Answer(usize, u8),
    /// So many ticks pass.
    Wait(Ticks),
    /// Everything that began through a slot is over.
    End(u32),
    /// The agent removes what has ended.
    Sweep,
}

/// Few enough ports that they collide: two containers, two servers, a published port, a container's own hairpin.
fn exchanges() -> Vec<Packet<V4>> {
    let mut all = Vec::new();
    for port in 4000..4004 {
        for number in [protocol::UDP, protocol::TCP] {
            for (side, from) in [(C1_SIDE, C1), (C2_SIDE, C2)] {
                for to in [(WORLD, 53), (OTHER, 53), (HOST, 5000), (GATEWAY, 5000)] {
                    all.push(packet(side, (from, port), to, number, 0));
                }
            }
            all.push(packet(UPLINK, (WORLD, port), (HOST, 5000), number, 0));
        }
        for (side, from) in [(C1_SIDE, C1), (C2_SIDE, C2)] {
            all.push(packet(side, (from, port), (WORLD, 0), protocol::ICMP, 0));
        }
    }
    all
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let exchange = 0..exchanges().len();
    let flags = prop_oneof![
        6 => Just(tcp::SYN),
        4 => Just(tcp::ACK),
        2 => Just(tcp::FIN | tcp::ACK),
        1 => Just(tcp::RST),
        3 => Just(tcp::SYN | tcp::ACK),
    ];
    let event = prop_oneof![
        20 => (exchange.clone(), flags.clone()).prop_map(|(exchange, flags)| Event::Send(exchange, flags)),
        20 => (exchange, flags).prop_map(|(exchange, flags)| Event::Answer(exchange, flags)),
        2 => (1..ticks(8000)).prop_map(Event::Wait),
        4 => (1..ticks(200)).prop_map(Event::Wait),
        1 => prop_oneof![Just(C1_SLOT), Just(C2_SLOT), Just(PUBLISH_SLOT)].prop_map(Event::End),
        1 => Just(Event::Sweep),
    ];
    prop::collection::vec(event, 1..300)
}

/// An exchange as the one who began it sees it.
#[derive(Clone, Copy)]
struct Known {
    there: Translation<V4>,
    /// When the last packet went, either way.
    used: Ticks,
    /// Whether it was answered.
    replied: bool,
    /// The epoch of what it began through.
    epoch: u32,
    slot: u32,
}

struct History {
    model: Model<V4>,
    exchanges: Vec<Packet<V4>>,
    known: HashMap<usize, Known>,
}

impl History {
    fn new(room: usize) -> Self {
        let mut model = model();
        model.room = room;
        Self { model, exchanges: exchanges(), known: HashMap::new() }
    }

    /// How long an exchange may be silent and must still be known. For TCP no more is known here than that of the shortest of its states.
    fn patience(&self, exchange: usize, replied: bool) -> Ticks {
        let timer = match (self.exchanges[exchange].tuple.protocol, replied) {
            (protocol::UDP, false) => Timer::Udp,
            (protocol::UDP, true) => Timer::UdpStream,
            (protocol::ICMP, _) => Timer::Icmp,
            _ => Timer::Closed,
        };
        ticks(timer.default_seconds())
    }

    /// Whether the flow of an exchange must be there.
    fn is_in_use(&self, exchange: usize) -> bool {
        self.known.get(&exchange).is_some_and(|known| {
            self.model.now.get() - known.used <= self.patience(exchange, known.replied)
                && self.model.epochs.get(&known.slot).copied().unwrap_or(0) == known.epoch
        })
    }

    fn go_on(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Send(exchange, flags) => return self.send(exchange, flags),
            Event::Answer(exchange, flags) => return self.answer(exchange, flags),
            Event::Wait(time) => self.model.now.set(self.model.now.get() + time),
            Event::End(slot) => *self.model.epochs.entry(slot).or_default() += 1,
            Event::Sweep => {
                let keys: Vec<_> = self.model.flows.borrow().keys().copied().collect();
                for key in keys {
                    sweep(&self.model, &key, Which::Ended);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, exchange: usize, flags: u8) -> Result<(), TestCaseError> {
        let mut sent = self.exchanges[exchange];
        sent.flags = if sent.tuple.protocol == protocol::TCP { flags } else { 0 };
        let in_use = self.is_in_use(exchange);
        let Ok(there) = left(&self.model, &sent) else {
            prop_assert!(!in_use, "{:?} is refused, though its flow is in use", sent.tuple);
            return Ok(());
        };
        prop_assert_eq!(there.address_delta, checksum::delta(sent.tuple.address_sum(), there.tuple.address_sum()));
        prop_assert_eq!(there.port_delta, checksum::delta(sent.tuple.port_sum(), there.tuple.port_sum()));
        let slot = self.slot_of(&sent.tuple);
        let (now, epoch) = (self.model.now.get(), self.model.epochs.get(&slot).copied().unwrap_or(0));
        if in_use && let Some(known) = self.known.get_mut(&exchange) {
            prop_assert_eq!(known.there.tuple, there.tuple, "what is in use changes");
            known.used = now;
        } else {
            self.known.insert(exchange, Known { there, used: now, replied: false, epoch, slot });
        }
        // Nobody else that is in use has that tuple.
        for (other, known) in &self.known {
            let same = *other != exchange && known.there.tuple == there.tuple;
            prop_assert!(!same || !self.is_in_use(*other), "{:?} is two exchanges' own", there.tuple);
        }
        Ok(())
    }

    /// Forward then reply is identity, as long as the flow is in use.
    fn answer(&mut self, exchange: usize, flags: u8) -> Result<(), TestCaseError> {
        if !self.is_in_use(exchange) {
            return self.answer_too_late(exchange, flags);
        }
        let now = self.model.now.get();
        let Some(known) = self.known.get_mut(&exchange) else { return Ok(()) };
        let sent = self.exchanges[exchange];
        let back = left(&self.model, &answer(&known.there, flags));
        prop_assert!(back.is_ok(), "the answer to {:?} is refused: {:?}", sent.tuple, back);
        let Ok(back) = back else { return Ok(()) };
        prop_assert_eq!(back.tuple, sent.tuple.reversed(), "the answer is to what was sent");
        prop_assert_eq!(back.output, sent.input, "it goes where that came from");
        known.used = now;
        known.replied = true;
        Ok(())
    }

    /// What began through something that is over is not answered any more.
    fn answer_too_late(&mut self, exchange: usize, flags: u8) -> Result<(), TestCaseError> {
        let Some(known) = self.known.get(&exchange).copied() else { return Ok(()) };
        if self.model.epochs.get(&known.slot).copied().unwrap_or(0) == known.epoch {
            return Ok(());
        }
        self.known.remove(&exchange);
        let sent = self.exchanges[exchange].tuple;
        let back = left(&self.model, &answer(&known.there, flags));
        let arrives = back.is_ok_and(|back| back.tuple == sent.reversed());
        prop_assert!(!arrives, "the answer to {sent:?} comes though its flow has ended");
        Ok(())
    }

    fn slot_of(&self, tuple: &Tuple<V4>) -> u32 {
        if self.model.local.contains(&tuple.destination) {
            PUBLISH_SLOT
        } else if tuple.source == C1 {
            C1_SLOT
        } else {
            C2_SLOT
        }
    }

    /// Of the flows that count each has two halves, which are inverse.
    fn halves_match(&self) -> Result<(), TestCaseError> {
        let flows = self.model.flows.borrow();
        for (key, half) in flows.iter() {
            let live = half.epoch == self.model.epochs.get(&half.slot).copied().unwrap_or(0)
                && self.model.now.get() - half.last_used <= half.timeout;
            if !live {
                continue;
            }
            let other = flows.get(&half.translation.tuple.reversed());
            prop_assert!(other.is_some(), "{key:?} has lost its other half");
            let inverse = other.is_some_and(|other| other.translation.tuple.reversed() == *key);
            prop_assert!(inverse, "the halves of {key:?} are not inverse");
        }
        let counted: u32 = self.model.counts.borrow().values().sum();
        let owned = flows.values().filter(|half| half.is_reply == 0 && half.owner != 0).count();
        prop_assert_eq!(counted as usize, owned, "flows are counted wrong");
        Ok(())
    }
}

fn config() -> Config {
    Config { cases: 400, failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn in_any_history_answers_come_back_and_no_tuple_is_given_twice(events in events()) {
        let mut history = History::new(usize::MAX);
        for event in events {
            history.go_on(event)?;
            history.halves_match()?;
        }
    }

    /// A table that is always too small: what is refused is refused whole, and the halves still match.
    #[test]
    fn in_any_history_a_full_table_keeps_no_half(events in events(), room in 0_usize..12) {
        let mut history = History::new(room);
        for event in events {
            match event {
                // What gives way to new flows is half-open: of those nothing is promised.
                Event::Send(exchange, flags) => {
                    let _ = left(&history.model, &Packet { flags, ..history.exchanges[exchange] });
                }
                Event::Answer(..) => {}
                Event::Wait(_) | Event::End(_) | Event::Sweep => history.go_on(event)?,
            }
            history.halves_match()?;
            prop_assert!(history.model.flows.borrow().len() <= room);
        }
    }

    /// Flows that were answered stay, whatever else wants in.
    #[test]
    fn no_flood_takes_the_place_of_a_flow_in_use(flood in prop::collection::vec((0_u16..2000, 0_u32..4, 0_u8..3), 1..400)) {
        let mut history = History::new(16);
        let in_use: Vec<usize> = (0..exchanges().len())
            .filter(|number| history.exchanges[*number].tuple.protocol == protocol::UDP)
            .step_by(7)
            .take(4)
            .collect();
        for exchange in &in_use {
            history.send(*exchange, 0)?;
            prop_assert!(history.is_in_use(*exchange));
            history.answer(*exchange, 0)?;
        }
        for (port, time, kind) in flood {
            history.model.now.set(history.model.now.get() + time);
            let (number, flags) = if kind == 0 { (protocol::TCP, tcp::SYN) } else { (protocol::UDP, 0) };
            let from = if kind == 1 { (UPLINK, WORLD, (HOST, 5000)) } else { (C2_SIDE, C2, (OTHER, 80)) };
            let _ = left(&history.model, &packet(from.0, (from.1, 10_000 + port), from.2, number, flags));
            for exchange in &in_use {
                if history.is_in_use(*exchange) {
                    history.answer(*exchange, 0)?;
                }
            }
            history.halves_match()?;
        }
    }

    /// What a router says of a packet that left: every checksum of it holds afterwards as it held before, the flow is as it was, and a
    /// checksum that was wrong is wrong still.
    #[test]
    fn a_translated_error_is_as_right_as_it_was(
        number in prop_oneof![Just(protocol::TCP), Just(protocol::UDP), Just(protocol::ICMP)],
        kind in prop_oneof![Just([3_u8, 4]), Just([3, 1]), Just([11, 0]), Just([12, 0])],
        data in prop::collection::vec(any::<u8>(), 20..200),
        cut in any::<prop::sample::Index>(),
        wrong in prop_oneof![3 => Just(0_u16), 1 => 1_u16..0xffff],
        taken in any::<bool>(),
    ) {
        let model = model();
        let port = if number == protocol::ICMP { 0 } else { 53 };
        if taken {
            // So that its port is another one outside.
            left(&model, &packet(C2_SIDE, (C2, 4000), (WORLD, port), number, tcp::SYN)).expect("the first");
        }
        let sent = packet(C1_SIDE, (C1, 4000), (WORLD, port), number, tcp::SYN);
        let there = left(&model, &sent).expect("the flow").tuple;
        let quoted = whole_packet(&there, &data);
        // RFC 792: the header and eight bytes at least.
        let quoted = &quoted[..28 + cut.index(quoted.len() - 27)];
        // Half a checksum cannot be kept up.
        prop_assume!(number != protocol::TCP || quoted.len() != 20 + 17);
        let message = icmp([kind[0], kind[1], 0, 0, 0, 0, 5, 120], quoted, wrong);
        let mut frame = ip(protocol::ICMP, ROUTER, HOST, &message);
        frame.splice(0..0, [0; ETHERNET]);

        let length = u32::try_from(frame.len()).expect("a short frame");
        let arrival = Arrival { side: side::UPLINK, input: UPLINK, length, gso_size: 0 };
        let error = V4::parse(&frame[..], arrival).expect("a packet");
        let before = model.flows.borrow().clone();
        let decision = decide(&frame[..], &error, &model);
        prop_assert_eq!(&*model.flows.borrow(), &before, "the flow has changed");
        let Decision::ForwardError(translation) = decision else { panic!("{decision:?}") };
        icmp_error::apply::<V4>(&mut frame[..], error.payload_at, &translation).expect("as long as it was");

        let expected = icmp([kind[0], kind[1], 0, 0, 0, 0, 5, 120], &whole_packet(&sent.tuple, &data)[..quoted.len()], wrong);
        let (header, message) = frame[ETHERNET..].split_at(20);
        prop_assert_eq!(checksum::sum(header), 0xffff, "the error's own header");
        prop_assert_eq!((&header[12..16], &header[16..]), (&ROUTER.octets()[..], &C1.octets()[..]));
        prop_assert_eq!(checksum::sum(message) == 0xffff, wrong == 0, "the message");
        prop_assert_eq!(checksum::sum(&message[8..28]), 0xffff, "the quoted header");
        prop_assert_eq!(&message[4..], &expected[4..], "what is quoted is what was sent");
    }

    /// The header, and what the deltas do to a transport's checksum, against the sum over everything.
    #[test]
    fn translated_checksums_are_those_of_the_whole(
        from in any::<([u8; 4], [u8; 4], u16, u16)>(),
        to in any::<([u8; 4], [u8; 4], u16, u16)>(),
        ttl in 1_u8..,
        data in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let tuple = |(source, destination, source_port, destination_port)| Tuple {
            source: V4::new(source),
            destination: V4::new(destination),
            source_port: crate::address::Port::new(source_port),
            destination_port: crate::address::Port::new(destination_port),
            protocol: protocol::TCP,
            side: side::CONTAINER,
            echo: echo::NONE,
            _pad: 0,
        };
        let (before, after) = (tuple(from), tuple(to));
        let mut translation = Translation::<V4>::zeroed();
        translation.set(&before, &after, &Door::uplink(UPLINK, &Uplink { address: HOST, mtu: 1500 }));

        let mut header = header(from.0, from.1, ttl);
        let field = !checksum::sum(&header);
        header[10..12].copy_from_slice(&field.to_ne_bytes());
        let mut frame = std::vec![0; ETHERNET];
        frame.extend(header);
        let mut ip: Ipv4 = frame[..].read(ETHERNET).expect("a whole header");
        V4::rewrite(&mut ip, &translation);
        let expected = self::header(to.0, to.1, ttl - 1);
        let mut rewritten = bytemuck::bytes_of(&ip).to_vec();
        let field = u16::from_ne_bytes([rewritten[10], rewritten[11]]);
        rewritten[10..12].fill(0);
        prop_assert_eq!(&rewritten[..], &expected[..]);
        prop_assert_eq!(field, !checksum::sum(&expected), "IP");

        let covered = |(source, destination, source_port, destination_port): ([u8; 4], [u8; 4], u16, u16)| {
            let ports = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
            !checksum::sum(&[&source[..], &destination, &[0, 6], &ports, &data].concat())
        };
        let delta = u32::from(translation.address_delta) + u32::from(translation.port_delta);
        prop_assert_eq!(checksum::update(covered(from), delta), covered(to), "transport");
    }
}

/// An ICMP message, whose checksum differs from the right one by `wrong`.
fn icmp(head: [u8; 8], rest: &[u8], wrong: u16) -> Vec<u8> {
    let mut message = [&head, rest].concat();
    let sum = !checksum::sum(&message) ^ wrong;
    message[2..4].copy_from_slice(&sum.to_ne_bytes());
    message
}

/// The packet with that tuple and with right checksums, whatever its transport's header says otherwise.
fn whole_packet(tuple: &Tuple<V4>, data: &[u8]) -> Vec<u8> {
    let (from, to) = (tuple.source_port.get().to_be_bytes(), tuple.destination_port.get().to_be_bytes());
    let mut segment = data.to_vec();
    let sum_at = match tuple.protocol {
        protocol::ICMP => {
            segment[..2].copy_from_slice(&[8, 0]);
            segment[4..6].copy_from_slice(&from);
            2
        }
        protocol::UDP => 6,
        _ => 16,
    };
    if tuple.protocol != protocol::ICMP {
        segment[..4].copy_from_slice(&[from, to].concat());
    }
    segment[sum_at..sum_at + 2].fill(0);
    let length = u16::try_from(segment.len()).expect("a short packet").to_be_bytes();
    let pseudo = [&tuple.source.octets()[..], &tuple.destination.octets(), &[0, tuple.protocol], &length].concat();
    let covered = if tuple.protocol == protocol::ICMP { segment.clone() } else { [pseudo, segment.clone()].concat() };
    let sum = match !checksum::sum(&covered) {
        0 if tuple.protocol == protocol::UDP => u16::MAX,
        sum => sum,
    };
    segment[sum_at..sum_at + 2].copy_from_slice(&sum.to_ne_bytes());
    ip(tuple.protocol, tuple.source, tuple.destination, &segment)
}

fn ip(number: u8, source: V4, destination: V4, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("a short packet").to_be_bytes();
    let mut packet = [
        &[0x45, 0, length[0], length[1], 0, 7, 0x40, 0, 64, number, 0, 0][..],
        &source.octets(),
        &destination.octets(),
    ]
    .concat();
    let sum = !checksum::sum(&packet);
    packet[10..12].copy_from_slice(&sum.to_ne_bytes());
    packet.extend(payload);
    packet
}

/// An IPv4 header without its checksum.
fn header(source: [u8; 4], destination: [u8; 4], ttl: u8) -> Vec<u8> {
    [&[0x45, 0, 0, 40, 0, 7, 0x40, 0, ttl, 6, 0, 0][..], &source, &destination].concat()
}
