//! Properties that hold in any order of events, checked over random histories.

use std::{collections::HashMap, vec::Vec};

use bytemuck::Zeroable as _;
use proptest::{prelude::*, test_runner::Config};

use crate::{
    abi::{
        state::Timer,
        time::{Ticks, ticks},
        translation::Translation,
        uplink::Uplink,
    },
    flow::{
        collect::{Collect, collect},
        egress::Egress,
    },
    nat::icmp_error,
    testing::{
        fixture::{
            C1_SIDE, C1_SLOT, C2_SIDE, C2_SLOT, Fixture, Head, PUBLISH_SLOT, UPLINK, answer,
            arrival, families, frame, header, icmp, left, model, packet, sum_at, sums_up,
            whole_packet,
        },
        model::Model,
        steps::{Decision, decide},
    },
    wire::{
        address::Port,
        checksum,
        ethernet::ETHERNET,
        frame::Frame as _,
        packet::Packet,
        protocol, tcp,
        tuple::{Echo, Side, Tuple},
    },
};

families!(
    replies_return_and_tuples_stay_unique,
    full_table_keeps_no_lone_entry,
    flood_evicts_no_flow_in_use,
    translated_error_keeps_checksum_validity,
    delta_checksums_match_full_sums,
);

/// An event of a history.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The exchange with that number begins or continues: a packet, with these flags if it is TCP.
    Send(usize, u8),
    /// The last packet of the exchange is replied to.
    Answer(usize, u8),
    /// Ticks pass.
    Wait(Ticks),
    /// The flows of a slot end.
    End(u32),
    /// The agent collects expired flows.
    Sweep,
}

/// Exchanges with so few ports that they collide: of two containers with two servers and a
/// published port, the container's own hairpin included.
fn exchanges<A: Fixture>() -> Vec<Packet<A>> {
    let mut all = Vec::new();
    for port in 4000..4004 {
        for number in [protocol::UDP, protocol::TCP] {
            for (side, from) in [(C1_SIDE, A::C1), (C2_SIDE, A::C2)] {
                for to in [(A::WORLD, 53), (A::OTHER, 53), (A::HOST, 5000), (A::GATEWAY, 5000)] {
                    all.push(packet(side, (from, port), to, number, 0));
                }
            }
            all.push(packet(UPLINK, (A::WORLD, port), (A::HOST, 5000), number, 0));
        }
        for (side, from) in [(C1_SIDE, A::C1), (C2_SIDE, A::C2)] {
            all.push(packet(side, (from, port), (A::WORLD, 0), A::ICMP, 0));
        }
    }
    all
}

fn events<A: Fixture>() -> impl Strategy<Value = Vec<Event>> {
    let exchange = 0..exchanges::<A>().len();
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

/// An exchange, as its initiator sees it.
#[derive(Clone, Copy)]
struct Known<A> {
    there: Translation<A>,
    /// Tick of the last packet, in either direction.
    used: Ticks,
    /// Whether there was a reply.
    replied: bool,
    /// Epoch of `slot` when the exchange began.
    epoch: u32,
    slot: u32,
}

struct History<A> {
    model: Model<A>,
    exchanges: Vec<Packet<A>>,
    known: HashMap<usize, Known<A>>,
}

impl<A: Fixture> History<A> {
    fn new(room: usize) -> Self {
        let mut model = model::<A>();
        model.room = room;
        Self { model, exchanges: exchanges(), known: HashMap::new() }
    }

    /// Ticks of silence after which an exchange must still be known. For TCP, the shortest timeout
    /// of any state.
    fn shortest_timeout(&self, exchange: usize, replied: bool) -> Ticks {
        let timer = match (self.exchanges[exchange].tuple.protocol, replied) {
            (protocol::UDP, false) => Timer::Udp,
            (protocol::UDP, true) => Timer::UdpStream,
            (number, _) if number == A::ICMP => Timer::Icmp,
            _ => Timer::Closed,
        };
        ticks(timer.default_seconds())
    }

    /// Whether the flow of an exchange must be live.
    fn is_in_use(&self, exchange: usize) -> bool {
        self.known.get(&exchange).is_some_and(|known| {
            self.model.now.get() - known.used <= self.shortest_timeout(exchange, known.replied)
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
                    collect(&self.model, &key, Collect::Ended);
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
        prop_assert_eq!(
            there.address_delta,
            checksum::delta(sent.tuple.address_sum(), there.tuple.address_sum())
        );
        prop_assert_eq!(
            there.port_delta,
            checksum::delta(sent.tuple.port_sum(), there.tuple.port_sum())
        );
        let slot = self.slot_of(&sent.tuple);
        let (now, epoch) =
            (self.model.now.get(), self.model.epochs.get(&slot).copied().unwrap_or(0));
        if in_use && let Some(known) = self.known.get_mut(&exchange) {
            prop_assert_eq!(known.there.tuple, there.tuple, "what is in use changes");
            known.used = now;
        } else {
            self.known.insert(exchange, Known { there, used: now, replied: false, epoch, slot });
        }
        // No other exchange in use has that tuple.
        for (other, known) in &self.known {
            let same = *other != exchange && known.there.tuple == there.tuple;
            prop_assert!(
                !same || !self.is_in_use(*other),
                "{:?} belongs to two exchanges",
                there.tuple
            );
        }
        Ok(())
    }

    /// Forward, then reply, is the identity while the flow is in use.
    fn answer(&mut self, exchange: usize, flags: u8) -> Result<(), TestCaseError> {
        if !self.is_in_use(exchange) {
            return self.reply_after_end(exchange, flags);
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

    /// A flow of a slot that has ended gets no reply any more.
    fn reply_after_end(&mut self, exchange: usize, flags: u8) -> Result<(), TestCaseError> {
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

    fn slot_of(&self, tuple: &Tuple<A>) -> u32 {
        if self.model.local.contains(&tuple.destination) {
            PUBLISH_SLOT
        } else if tuple.source == A::C1 {
            C1_SLOT
        } else {
            C2_SLOT
        }
    }

    /// Every live flow has two entries, which are inverse to each other.
    fn entries_match(&self) -> Result<(), TestCaseError> {
        let flows = self.model.flows.borrow();
        for (key, entry) in flows.iter() {
            let live = entry.epoch == self.model.epochs.get(&entry.slot).copied().unwrap_or(0)
                && self.model.now.get() - entry.last_used <= entry.timeout;
            if !live {
                continue;
            }
            let other = flows.get(&entry.translation.tuple.reversed());
            prop_assert!(other.is_some(), "{key:?} has lost its other entry");
            let inverse = other.is_some_and(|other| other.translation.tuple.reversed() == *key);
            prop_assert!(inverse, "the entries of {key:?} are not inverse");
        }
        let counted: u32 = self.model.counts.borrow().values().sum();
        let owned =
            flows.values().filter(|entry| entry.is_reply == 0 && !entry.owner.is_none()).count();
        prop_assert_eq!(counted as usize, owned, "flows are counted wrong");
        Ok(())
    }
}

/// Number of cases, for each family.
fn config() -> Config {
    Config { cases: 250, failure_persistence: None, ..Config::default() }
}

fn replies_return_and_tuples_stay_unique<A: Fixture>() {
    proptest!(config(), |(events in events::<A>())| {
        let mut history = History::<A>::new(usize::MAX);
        for event in events {
            history.go_on(event)?;
            history.entries_match()?;
        }
    });
}

/// A table that is always too small: a refused flow leaves no entry, and the entries still match.
fn full_table_keeps_no_lone_entry<A: Fixture>() {
    proptest!(config(), |(events in events::<A>(), room in 0_usize..12)| {
        let mut history = History::<A>::new(room);
        for event in events {
            match event {
                // Half-open flows may be evicted: nothing is promised for them.
                Event::Send(exchange, flags) => {
                    let _ = left(&history.model, &Packet { flags, ..history.exchanges[exchange] });
                }
                Event::Answer(..) => {}
                Event::Wait(_) | Event::End(_) | Event::Sweep => history.go_on(event)?,
            }
            history.entries_match()?;
            prop_assert!(history.model.flows.borrow().len() <= room);
        }
    });
}

/// Flows with replies stay, whatever else asks for room.
fn flood_evicts_no_flow_in_use<A: Fixture>() {
    proptest!(config(), |(flood in prop::collection::vec((0_u16..2000, 0_u32..4, 0_u8..3), 1..400))| {
        let mut history = History::<A>::new(16);
        let in_use: Vec<usize> = (0..exchanges::<A>().len())
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
            let (input, from, to) =
                if kind == 1 { (UPLINK, A::WORLD, (A::HOST, 5000)) } else { (C2_SIDE, A::C2, (A::OTHER, 80)) };
            let _ = left(&history.model, &packet(input, (from, 10_000 + port), to, number, flags));
            for exchange in &in_use {
                if history.is_in_use(*exchange) {
                    history.answer(*exchange, 0)?;
                }
            }
            history.entries_match()?;
        }
    });
}

/// An ICMP error of a router, or of the container behind a publish: each checksum is as right or
/// wrong after the translation as before, and the flow is unchanged.
fn translated_error_keeps_checksum_validity<A: Fixture>() {
    let about = prop_oneof![
        Just((protocol::TCP, false)),
        Just((protocol::UDP, false)),
        Just((A::ICMP, false)),
        Just((protocol::TCP, true)),
        Just((protocol::UDP, true)),
    ];
    proptest!(config(), |(
        (number, published) in about,
        (kind, code) in prop::sample::select(A::ERRORS.to_vec()),
        data in prop::collection::vec(any::<u8>(), 20..200),
        cut in any::<prop::sample::Index>(),
        wrong in prop_oneof![3 => Just(0_u16), 1 => 1_u16..0xffff],
        taken in any::<bool>(),
        options in (0..=Head::OPTIONS, 0..=Head::OPTIONS),
    )| {
        let (outer, inner) =
            (Head { options: options.0, ..Head::USUAL }, Head { options: options.1, ..Head::USUAL });
        let model = model::<A>();
        let port = if number == A::ICMP { 0 } else { 53 };
        if taken {
            // The port is taken, so that the external one differs.
            left(&model, &packet(C2_SIDE, (A::C2, 4000), (A::WORLD, port), number, tcp::SYN)).expect("the first");
        }
        let sent = if published {
            packet(UPLINK, (A::WORLD, 4000), (A::HOST, 5000), number, tcp::SYN)
        } else {
            packet(C1_SIDE, (A::C1, 4000), (A::WORLD, port), number, tcp::SYN)
        };
        let there = left(&model, &sent).expect("the flow");
        // The error's sender, and the source address that it leaves with.
        let (input, by, seen) =
            if published { (C1_SIDE, A::C1, A::HOST) } else { (UPLINK, A::ROUTER, A::ROUTER) };
        let quoted = whole_packet(inner, &there.tuple, &data);
        // RFC 792: at least the header and eight bytes.
        let least = A::length_of(inner) + 8;
        let quoted = &quoted[..least + cut.index(quoted.len() - least + 1)];
        // A quote that ends within the checksum is left out.
        prop_assume!(number != protocol::TCP || quoted.len() != A::length_of(inner) + 17);
        let head = [kind, code, 0, 0, 0, 0, 5, 120];
        let message = icmp(by, there.tuple.source, head, quoted, wrong);
        let mut frame = frame::<A>(input, &A::ip_of(outer, A::ICMP, by, there.tuple.source, &message));

        let error = A::parse(&frame[..], arrival(input, &frame)).expect("a packet");
        let before = model.flows.borrow().clone();
        let decision = decide(&frame[..], &error, &model);
        prop_assert_eq!(&*model.flows.borrow(), &before, "the flow has changed");
        let Decision::ForwardError(translation) = decision else { panic!("{decision:?}") };
        prop_assert_eq!(translation.outer.output, sent.input);
        icmp_error::apply::<A>(&mut frame[..], error.payload_at, &translation).expect("as long as it was");

        let quoted = &whole_packet(inner, &sent.tuple, &data)[..quoted.len()];
        let message = [&head[..], quoted].concat();
        let head = Head { hops: 63, ..outer };
        let mut wanted = A::ip_of(head, A::ICMP, seen, sent.tuple.source, &message);
        let mut left = frame[ETHERNET..].to_vec();
        let right = sums_up(A::ICMP, seen, sent.tuple.source, &left[A::length_of(outer)..]);
        prop_assert_eq!(right, wrong == 0, "the message's checksum");
        for packet in [&mut wanted, &mut left] {
            packet[A::length_of(outer) + 2..][..2].fill(0);
        }
        prop_assert_eq!(left, wanted, "what is quoted is what was sent");
    });
}

/// The header and the transport's checksum updated by deltas, against sums over all bytes.
fn delta_checksums_match_full_sums<A: Fixture>() {
    type Ends = ([u8; 16], [u8; 16], u16, u16);
    proptest!(config(), |(
        from in any::<Ends>(),
        to in any::<Ends>(),
        hops in 1_u8..,
        data in prop::collection::vec(any::<u8>(), 20..64),
        number in prop::sample::select(std::vec![protocol::TCP, protocol::UDP, A::ICMP]),
    )| {
        let echo = number == A::ICMP;
        let tuple = |(source, destination, source_port, destination_port)| Tuple {
            source: A::of(source),
            destination: A::of(destination),
            source_port: Port::new(source_port),
            destination_port: if echo { Port::ZERO } else { Port::new(destination_port) },
            protocol: number,
            side: Side::CONTAINER,
            echo: if echo { Echo::REQUEST } else { Echo::NONE },
            _pad: 0,
        };
        let (before, after) = (tuple(from), tuple(to));
        let mut translation = Translation::<A>::zeroed();
        translation.set(&before, &after, &Egress::uplink(UPLINK, &Uplink { address: A::HOST, mtu: 1500 }));

        let was = whole_packet(Head { hops, ..Head::USUAL }, &before, &data);
        let wanted = whole_packet(Head { hops: hops - 1, ..Head::USUAL }, &after, &data);
        let mut ip: A::Header = was[..].read(0).expect("a whole header");
        A::rewrite(&mut ip, &translation);
        prop_assert_eq!(bytemuck::bytes_of(&ip), &wanted[..header::<A>()]);

        let pseudo = if A::has_pseudo_header(number) { translation.address_delta } else { 0 };
        let at = header::<A>() + sum_at::<A>(number).expect("it has a checksum");
        let field = |packet: &[u8]| u16::from_ne_bytes([packet[at], packet[at + 1]]);
        let updated = checksum::update(field(&was), u32::from(pseudo) + u32::from(translation.port_delta));
        let mut segment = wanted[header::<A>()..].to_vec();
        segment[at - header::<A>()..][..2].copy_from_slice(&updated.to_ne_bytes());
        prop_assert!(sums_up(number, after.source, after.destination, &segment), "transport");
    });
}
