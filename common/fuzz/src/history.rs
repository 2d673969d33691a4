//! A history: packets, answers, errors, time that passes, containers and publishes that go, and what must hold after each step.

use arbitrary::{Arbitrary, Unstructured};
use causeway_common::{
    abi::exit,
    address::V4,
    flow::ticks,
    model::Model,
    packet::{Arrival, Family as _, Packet, Payload},
    sweep::{Which, sweep},
    tables::Tables as _,
    tuple::side,
};

use crate::{
    programs::{Hook, Outcome, in_use, run as run_program},
    scene::{self, CONTAINERS, FIRST_PUBLISH, PUBLISHES, Scene},
    traffic::{self, Arriving, Event, Left, Memory},
    wire::{self, Ipv4Frame},
};

/// What can happen.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    Frame(Event),
    Frames(Event, Event),
    /// Seconds pass.
    Wait(u8),
    /// Hours may pass.
    WaitLong(u16),
    /// A container goes, with all that began through it.
    Remove(u8),
    /// It comes again.
    Restore(u8),
    /// All that began through a publish is over.
    Unpublish(u8),
    /// The agent removes what has ended.
    Sweep,
    /// A socket of the host's takes the tuple that an answer to what left would have.
    Socket(u8),
}

/// Runs a history, of a table that has room for as many halves as the first byte says, 255 for any number.
///
/// # Panics
///
/// If something does not hold.
pub fn run(data: &[u8]) {
    let Some((room, data)) = data.split_first() else { return };
    let mut history = History { model: scene::model(), memory: Memory::default() };
    history.model.room = if *room == 255 { usize::MAX } else { usize::from(*room) };
    let mut bytes = Unstructured::new(data);
    while !bytes.is_empty() {
        let Ok(step) = Step::arbitrary(&mut bytes) else { return };
        history.go_on(step);
        history.check_flows();
    }
}

struct History {
    model: Model<V4>,
    memory: Memory,
}

impl History {
    fn go_on(&mut self, step: Step) {
        match step {
            Step::Frame(event) => self.send(event),
            Step::Frames(one, two) => {
                self.send(one);
                self.send(two);
            }
            Step::Wait(seconds) => self.model.now.set(self.model.now.get() + ticks(seconds.into())),
            Step::WaitLong(seconds) => self.model.now.set(self.model.now.get() + ticks(seconds.into())),
            Step::Remove(number) => {
                let number = usize::from(number) % CONTAINERS.len();
                self.model.endpoints.remove(&V4::new(CONTAINERS[number]));
                self.end(scene::slot_of(number));
                for (publish, _) in PUBLISHES.iter().enumerate().filter(|(_, publish)| publish.0 == number) {
                    self.end(FIRST_PUBLISH + publish as u32);
                }
            }
            Step::Restore(number) => scene::put_container(&mut self.model, usize::from(number) % CONTAINERS.len()),
            Step::Unpublish(number) => self.end(FIRST_PUBLISH + u32::from(number) % PUBLISHES.len() as u32),
            Step::Sweep => {
                let keys: Vec<_> = self.model.flows.borrow().keys().copied().collect();
                for key in keys {
                    sweep(&self.model, &key, Which::Ended);
                }
            }
            Step::Socket(back) => {
                if let Some(packet) = self.memory.get(back).and_then(|left| parse(&Self::answer_to(left))) {
                    self.model.sockets.insert(packet.tuple);
                }
            }
        }
    }

    fn end(&mut self, slot: u32) {
        *self.model.epochs.entry(slot).or_default() += 1;
    }

    fn answer_to(left: &Left) -> Arriving {
        let frame = Ipv4Frame::read(&left.frame).map(|frame| frame.reversed().bytes()).unwrap_or_default();
        let hook = if Scene::MODEL.container_at(left.output).is_some() { Hook::HostSide } else { Hook::Uplink };
        Arriving { hook, input: left.output, frame }
    }

    fn send(&mut self, event: Event) {
        let Some((arriving, about)) = traffic::frame(event, &Scene::MODEL, &self.memory) else { return };
        let promise = about.and_then(|left| Promise::of(&arriving, &left, &self.model));
        let for_host = arriving.frame[..6] == Scene::MODEL.uplink_mac;
        let outcome = run_program(arriving.hook, &arriving.frame, arriving.input, for_host, &self.model);
        if let Some(promise) = promise {
            promise.check(&arriving, &outcome);
        }
        check_outcome(&arriving, &outcome, &self.model);
        let (frame, output) = match outcome {
            Outcome::Leave { frame, output, .. } => (frame, output),
            Outcome::Pass => (arriving.frame.clone(), arriving.input),
            Outcome::Again => return self.come_again(&arriving),
            Outcome::Stop(_) | Outcome::Answer(..) => return,
        };
        self.memory.push(Left { came: arriving, frame, output });
    }

    /// What was held for a first fragment, and it itself: each once more, and then none of them again.
    fn come_again(&mut self, first: &Arriving) {
        let frames: Vec<_> = self.model.again.borrow_mut().drain(..).collect();
        for frame in frames {
            let arriving = Arriving { frame, ..first.clone() };
            let outcome = run_program(arriving.hook, &arriving.frame, arriving.input, true, &self.model);
            assert_ne!(outcome, Outcome::Again, "{arriving:?} comes again and again");
            check_outcome(&arriving, &outcome, &self.model);
        }
    }

    /// Of the flows that count each has two halves, which are inverse; nobody has another's; and each is counted once.
    fn check_flows(&self) {
        let flows = self.model.flows.borrow();
        for (key, half) in flows.iter() {
            let counts =
                half.epoch == self.model.epoch(half.slot) && self.model.now.get() - half.last_used <= half.timeout;
            if !counts {
                continue;
            }
            let other = flows.get(&half.translation.tuple.reversed());
            let other = other.unwrap_or_else(|| panic!("{key:?} has lost its other half"));
            assert_eq!(other.translation.tuple.reversed(), *key, "the halves are not inverse");
            assert_ne!(other.is_reply, half.is_reply, "{key:?} is two halves of one kind");
        }
        let counted: u32 = self.model.counts.borrow().values().sum();
        let owned = flows.values().filter(|half| half.is_reply == 0 && half.owner != 0).count();
        assert_eq!(counted as usize, owned, "flows are counted wrong");
        assert!(flows.len() <= self.model.room);
    }
}

fn parse(arriving: &Arriving) -> Option<Packet<V4>> {
    let arrival = Arrival {
        side: match arriving.hook {
            Hook::HostSide => side::CONTAINER,
            Hook::Uplink => side::UPLINK,
            Hook::UplinkOut => side::HOST,
        },
        input: arriving.input,
        length: u32::try_from(arriving.frame.len()).ok()?,
        gso_size: 0,
    };
    V4::parse(&arriving.frame[..], arrival).ok()
}

/// What must become of a packet that answers one that left, or reports about it, as long as the flow of that one is in use.
enum Promise {
    /// It comes out as the reverse of what was sent, where that came from.
    Answer(Left),
    /// What it quotes comes out as what was sent, where that came from.
    Report(Left),
}

impl Promise {
    fn of(arriving: &Arriving, left: &Left, model: &Model<V4>) -> Option<Self> {
        let (sent, back) = (parse(&left.came)?, parse(arriving)?);
        if sent.is_fragment() || back.is_fragment() {
            return None;
        }
        if !sent.has_ports() || back.ttl <= 1 || back.length > 1500 || !in_use(model, &sent.tuple) {
            return None;
        }
        let (forward, reply) = (model.flow(&sent.tuple)?.translation, sent.tuple.reversed());
        if forward.tuple.reversed() != parse(&Arriving { frame: reversed(&left.frame)?, ..arriving.clone() })?.tuple {
            // It left by an earlier flow.
            return None;
        }
        let key = forward.tuple.reversed();
        let half = *model.flow(&key)?;
        if half.translation.tuple != reply || (half.input != 0 && half.input != arriving.input) {
            return None;
        }
        if back.payload == Payload::Error {
            let translated = forward.exit != exit::BRIDGED && half.translation.exit != exit::BRIDGED;
            // No less than the ports, behind any header.
            let quoted = arriving.frame.len() - back.payload_at - 8;
            let fits = back.tuple.destination == key.destination && quoted >= 60 + 8;
            return (translated && fits).then(|| Self::Report(left.clone()));
        }
        (back.has_ports() && back.tuple == key).then(|| Self::Answer(left.clone()))
    }

    fn check(&self, arriving: &Arriving, outcome: &Outcome) {
        let (Self::Answer(left) | Self::Report(left)) = self;
        let Outcome::Leave { frame, output, exit } = outcome else {
            panic!("{arriving:?} is {outcome:?}, though the flow of {left:?} is in use");
        };
        let sent = Ipv4Frame::read(&left.came.frame).expect("it was parsed");
        let back = Ipv4Frame::read(frame).expect("a packet leaves");
        if *exit != exit::HOST {
            assert_eq!(*output, left.came.input, "{arriving:?} goes elsewhere than where {left:?} came from");
        }
        if matches!(self, Self::Answer(_)) {
            assert_eq!((back.source, back.destination), (sent.destination, sent.source), "{arriving:?} of {left:?}");
            let crossed = sent.ports().map(|(source, destination)| (destination, source));
            assert_eq!(back.ports(), crossed, "{arriving:?} of {left:?}");
            return;
        }
        assert_eq!(back.destination, sent.source, "{arriving:?} about {left:?}");
        let quote = &back.payload[8..];
        let header = usize::from(quote[0] & 15) * 4;
        assert_eq!((&quote[12..16], &quote[16..20]), (&sent.source[..], &sent.destination[..]), "{arriving:?}");
        assert_eq!(wire::sum(&quote[..header]), u16::MAX, "the quoted header of {arriving:?} does not sum up");
        let ports = if sent.protocol == wire::protocol::ICMP { 4..6 } else { 0..4 };
        assert_eq!(quote[header..][ports.clone()], sent.payload[ports], "{arriving:?} about {left:?}");
    }
}

fn reversed(frame: &[u8]) -> Option<Vec<u8>> {
    Some(Ipv4Frame::read(frame)?.reversed().bytes())
}

/// What holds of any frame, whatever it is.
pub fn check_outcome(arriving: &Arriving, outcome: &Outcome, model: &Model<V4>) {
    match outcome {
        Outcome::Leave { frame, output, exit } => check_left(arriving, frame, *output, *exit, model),
        Outcome::Answer(_, answer) => check_answer(arriving, answer, model),
        Outcome::Stop(_) | Outcome::Pass | Outcome::Again => {}
    }
}

fn check_left(arriving: &Arriving, frame: &[u8], output: u32, exit: u8, model: &Model<V4>) {
    assert_eq!(arriving.frame.len(), frame.len(), "{arriving:?} leaves with another length");
    let was = wire::header_sums_up(&arriving.frame);
    assert_eq!(was, wire::header_sums_up(frame), "the header's checksum of {arriving:?}, which left as {frame:02x?}");
    let (Some(before), Some(after)) = (Ipv4Frame::read(&arriving.frame), Ipv4Frame::read(frame)) else { return };
    if before.transport_sums_up() {
        assert!(after.transport_sums_up(), "the checksum of {arriving:?}, which left as {frame:02x?}");
    }
    if exit == exit::PEER || exit == exit::NEIGHBOUR {
        assert_eq!(before.ttl - 1, after.ttl, "the hops of {arriving:?}");
    }
    if exit == exit::NEIGHBOUR {
        assert!(model.uplinks.contains_key(&output), "{arriving:?} leaves through {output}, which is no uplink");
        // Nobody outside hears from a container of a network that is masqueraded. The second is not.
        let own = model.local.contains(&V4::new(after.source)) || after.source == CONTAINERS[2];
        assert!(own, "{arriving:?} leaves from {:?}", after.source);
    }
    if exit == exit::PEER || exit == exit::BRIDGED {
        let owner =
            model.endpoints.values().find(|endpoint| V4::new(after.destination) == address_of(model, endpoint.slot));
        if let Some(endpoint) = owner {
            assert_eq!(endpoint.host_side, output, "{arriving:?} goes to another container than it says");
        }
    }
}

fn address_of(model: &Model<V4>, slot: u32) -> V4 {
    let found = model.endpoints.iter().find(|(_, endpoint)| endpoint.slot == slot);
    found.map_or(V4::new([0; 4]), |(address, _)| *address)
}

/// An error of the datapath's own: whole, to the sender alone, about that packet (RFC 1812 section 4.3.2).
pub fn check_answer(arriving: &Arriving, answer: &[u8], model: &Model<V4>) {
    let said = Ipv4Frame::read(answer).unwrap_or_else(|| panic!("{arriving:?} is answered with {answer:02x?}"));
    let header = arriving.frame[14] & 15;
    assert!(wire::header_sums_up(answer), "the header's checksum of {answer:02x?}");
    assert!(said.protocol == wire::protocol::ICMP && said.transport_sums_up(), "the checksum of {answer:02x?}");
    assert_eq!(said.destination, arriving.frame[26..30], "{arriving:?}: not to its sender");
    assert_eq!(said.macs.0, arriving.frame[6..12], "{arriving:?}: not to its sender");
    assert!(model.local.contains(&V4::new(said.source)), "{arriving:?}: not by the host");
    let quoted = &said.payload[8..];
    assert_eq!(quoted, &arriving.frame[14..][..quoted.len()], "{arriving:?}: quotes something else");
    // The header and eight bytes at least, where there are as many.
    let total = match u16::from_be_bytes([arriving.frame[16], arriving.frame[17]]) {
        0 => usize::MAX,
        total => total.into(),
    };
    let least = (usize::from(header) * 4 + 8).min(arriving.frame.len() - 14).min(total) & !1;
    assert!(quoted.len() >= least.min(96), "{arriving:?}: quotes {} bytes", quoted.len());
    assert!(answer.len() <= 576, "{arriving:?}: answered at length");
}
