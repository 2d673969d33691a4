//! A history: packets, replies, errors, time that passes, containers and publishes that are
//! removed, and the invariants that hold after each step.

use std::net::IpAddr;

use arbitrary::{Arbitrary, Unstructured};
use causeway_common::{
    abi::{
        Deliver,
        drop_reason::{DropReason, Fate},
        time::ticks,
    },
    env::{Config as _, FlowStore as _},
    flow::collect::{Collect, collect},
    testing::model::Model,
    wire::{
        address::{Address as _, V4},
        ipv6,
        packet::{Arrival, Packet, Payload},
        tuple::{Side, Tuple},
    },
};

use crate::{
    both,
    fixture::{
        self, CONTAINERS, FIRST_PUBLISH, Fixture, GATEWAYS, PUBLISHES, Scenery, addresses_of,
    },
    programs::{Hook, Outcome, in_use, run as run_program},
    traffic::{self, Arriving, Event, Left, Memory},
    wire::{self, Frame},
};

/// One step of a history.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    Frame(Event),
    Frames(Event, Event),
    /// Seconds pass.
    Wait(u8),
    /// Hours may pass.
    WaitLong(u16),
    /// A container is removed, and its flows end.
    Remove(u8),
    /// A container is attached again.
    Restore(u8),
    /// A publish is removed, and its flows end.
    Unpublish(u8),
    /// The agent collects expired flows.
    Sweep,
    /// A socket of the host takes the tuple that a reply to an earlier packet would have.
    Socket(u8),
}

/// Runs a history. Byte 0 selects the family, byte 1 is the number of entries that the flow table
/// has room for, 255 for no limit.
///
/// # Panics
///
/// If an invariant does not hold.
pub fn run(data: &[u8]) {
    both!(run_family, data);
}

fn run_family<A: Scenery>(data: &[u8]) {
    let Some((room, data)) = data.split_first() else { return };
    let mut history = History { model: fixture::model::<A>(), memory: Memory::default() };
    A::put_nat64(&mut history.model);
    history.model.room = if *room == 255 { usize::MAX } else { usize::from(*room) };
    let mut bytes = Unstructured::new(data);
    while !bytes.is_empty() {
        let Ok(step) = Step::arbitrary(&mut bytes) else { return };
        history.go_on(step);
        history.check_flows();
    }
}

struct History<A> {
    model: Model<A>,
    memory: Memory,
}

impl<A: Scenery> History<A> {
    fn go_on(&mut self, step: Step) {
        match step {
            Step::Frame(event) => self.send(event),
            Step::Frames(one, two) => {
                self.send(one);
                self.send(two);
            }
            Step::Wait(seconds) => self.model.now.set(self.model.now.get() + ticks(seconds.into())),
            Step::WaitLong(seconds) => {
                self.model.now.set(self.model.now.get() + ticks(seconds.into()));
            }
            Step::Remove(number) => {
                let number = usize::from(number) % CONTAINERS.len();
                for address in addresses_of(number) {
                    self.model.endpoints.remove(&address);
                }
                self.end(fixture::slot_of(number));
                for (publish, _) in
                    PUBLISHES.iter().enumerate().filter(|(_, publish)| publish.0 == number)
                {
                    self.end(FIRST_PUBLISH + publish as u32);
                }
            }
            Step::Restore(number) => {
                fixture::put_container(&mut self.model, usize::from(number) % CONTAINERS.len());
            }
            Step::Unpublish(number) => {
                self.end(FIRST_PUBLISH + u32::from(number) % PUBLISHES.len() as u32);
            }
            Step::Sweep => {
                let keys: Vec<_> = self.model.flows.borrow().keys().copied().collect();
                for key in keys {
                    collect(&self.model, &key, Collect::Ended);
                }
            }
            Step::Socket(back) => {
                if let Some(packet) =
                    self.memory.get(back).and_then(|left| parse::<A>(&Self::answer_to(left)))
                {
                    self.model.sockets.insert(packet.tuple);
                }
            }
        }
    }

    fn end(&mut self, slot: u32) {
        *self.model.epochs.entry(slot).or_default() += 1;
    }

    fn answer_to(left: &Left) -> Arriving {
        let frame =
            Frame::read(&left.frame).map(|frame| frame.reversed().bytes()).unwrap_or_default();
        let hook = if Fixture::MODEL.container_at(left.output).is_some() {
            Hook::HostSide
        } else {
            Hook::Uplink
        };
        Arriving { hook, input: left.output, frame }
    }

    fn send(&mut self, event: Event) {
        let Some((arriving, about)) = traffic::frame::<A>(event, &Fixture::MODEL, &self.memory)
        else {
            return;
        };
        let about_nat64 = about.clone().filter(|left| self.is_of_live_nat64_flow(left));
        let promise = about.and_then(|left| Promise::of(&arriving, &left, &self.model));
        let for_host = arriving.frame[..6] == Fixture::MODEL.uplink_mac;
        let outcome =
            run_program(arriving.hook, &arriving.frame, arriving.input, for_host, &self.model);
        if let Some(promise) = promise {
            promise.check(&arriving, &outcome);
        }
        if let Some(left) = about_nat64 {
            check_nat64(&arriving, &left, &outcome);
        }
        check_outcome(&arriving, &outcome, &self.model);
        let (frame, output) = match outcome {
            Outcome::Leave { frame, output, .. } => (frame, output),
            Outcome::Pass => (arriving.frame.clone(), arriving.input),
            Outcome::Again => return self.run_reinjected(&arriving),
            Outcome::Stop(_) | Outcome::Answer(..) => return,
        };
        self.memory.push(Left { came: arriving, frame, output });
    }

    /// Whether a packet that left as one of IPv4 belongs to a live flow, which it would leave by
    /// again.
    fn is_of_live_nat64_flow(&self, left: &Left) -> bool {
        let Some(sent) = parse::<A>(&left.came) else { return false };
        let is_ipv4 = left.frame[12..14] == [8, 0] && left.came.frame[12..14] != [8, 0];
        is_ipv4
            && in_use(&self.model, &sent.tuple)
            && self.model.flow(&sent.tuple).is_some_and(|entry| {
                let Tuple { source_port, destination_port, .. } = entry.translation.tuple;
                let ports = (source_port.get(), destination_port.get());
                Frame::read(&left.frame).and_then(|frame| frame.ports()) == Some(ports)
            })
    }

    /// Runs the reinjected frames: a first fragment and the fragments that were queued for it. None
    /// of them may be reinjected a second time.
    fn run_reinjected(&mut self, first: &Arriving) {
        let frames: Vec<_> = self.model.reinjected.borrow_mut().drain(..).collect();
        for frame in frames {
            let arriving = Arriving { frame, ..first.clone() };
            let outcome =
                run_program(arriving.hook, &arriving.frame, arriving.input, true, &self.model);
            assert_ne!(outcome, Outcome::Again, "{arriving:?} is reinjected twice");
            check_outcome(&arriving, &outcome, &self.model);
        }
    }

    /// Every live flow has two entries, which are inverse to each other, and is counted once.
    fn check_flows(&self) {
        let flows = self.model.flows.borrow();
        for (key, entry) in flows.iter() {
            let counts = entry.epoch == self.model.epoch(entry.slot)
                && self.model.now.get() - entry.last_used <= entry.timeout;
            if !counts {
                continue;
            }
            let other = flows.get(&entry.translation.tuple.reversed());
            let other = other.unwrap_or_else(|| panic!("{key:?} has lost its other entry"));
            assert_eq!(other.translation.tuple.reversed(), *key, "the entries are not inverse");
            assert_ne!(other.is_reply, entry.is_reply, "{key:?} has two entries of one direction");
        }
        let counted: u32 = self.model.counts.borrow().values().sum();
        let owned =
            flows.values().filter(|entry| entry.is_reply == 0 && !entry.owner.is_none()).count();
        assert_eq!(counted as usize, owned, "flows are counted wrong");
        assert!(flows.len() <= self.model.room);
    }
}

fn parse<A: Scenery>(arriving: &Arriving) -> Option<Packet<A>> {
    let arrival = Arrival {
        side: match arriving.hook {
            Hook::HostSide => Side::CONTAINER,
            Hook::Uplink => Side::UPLINK,
            Hook::UplinkOut => Side::HOST,
        },
        input: arriving.input,
        length: u32::try_from(arriving.frame.len()).ok()?,
        gso_size: 0,
    };
    A::parse(&arriving.frame[..], arrival).ok()
}

/// What must become of a packet that replies to an earlier one, or reports an error about it, while
/// the flow of that one is live.
enum Promise {
    /// The reply leaves as the reverse of the packet that was sent, to its sender.
    Answer(Left),
    /// The error leaves to the sender of the quoted packet, and quotes it as it was sent.
    Report(Left),
}

impl Promise {
    fn of<A: Scenery>(arriving: &Arriving, left: &Left, model: &Model<A>) -> Option<Self> {
        let (sent, back) = (parse::<A>(&left.came)?, parse::<A>(arriving)?);
        if sent.is_fragment() || back.is_fragment() {
            return None;
        }
        if !sent.has_ports() || back.ttl <= 1 || back.length > 1500 || !in_use(model, &sent.tuple) {
            return None;
        }
        let (forward, reply) = (model.flow(&sent.tuple)?.translation, sent.tuple.reversed());
        if forward.tuple.reversed()
            != parse(&Arriving { frame: reversed(&left.frame)?, ..arriving.clone() })?.tuple
        {
            // The packet left by an earlier flow.
            return None;
        }
        let key = forward.tuple.reversed();
        let entry = *model.flow(&key)?;
        if entry.translation.tuple != reply || (entry.input != 0 && entry.input != arriving.input) {
            return None;
        }
        if back.payload == Payload::Error {
            let translated = forward.deliver != Deliver::SAME_BRIDGE
                && entry.translation.deliver != Deliver::SAME_BRIDGE;
            // The quote has at least the ports, behind any header.
            let quoted = arriving.frame.len() - back.payload_at - 8;
            let longest = if A::FAMILY == V4::FAMILY { 60 } else { ipv6::LONGEST };
            let fits = back.tuple.destination == key.destination && quoted >= longest + 8;
            return (translated && fits).then(|| Self::Report(left.clone()));
        }
        (back.has_ports() && back.tuple == key).then(|| Self::Answer(left.clone()))
    }

    fn check(&self, arriving: &Arriving, outcome: &Outcome) {
        let (Self::Answer(left) | Self::Report(left)) = self;
        let Outcome::Leave { frame, output, deliver } = outcome else {
            panic!("{arriving:?} is {outcome:?}, but the flow of {left:?} is live");
        };
        let sent = Frame::read(&left.came.frame).expect("it was parsed");
        let back = Frame::read(frame).expect("a packet leaves");
        if *deliver != Deliver::STACK {
            assert_eq!(
                *output, left.came.input,
                "{arriving:?} goes elsewhere than where {left:?} came from"
            );
        }
        if matches!(self, Self::Answer(_)) {
            assert_eq!(
                (back.source, back.destination),
                (sent.destination, sent.source),
                "{arriving:?} of {left:?}"
            );
            let crossed = sent.ports().map(|(source, destination)| (destination, source));
            assert_eq!(back.ports(), crossed, "{arriving:?} of {left:?}");
            return;
        }
        assert_eq!(back.destination, sent.source, "{arriving:?} about {left:?}");
        let quote = &back.payload[8..];
        let v4 = quote[0] >> 4 == 4;
        let addresses = if v4 { quote[12..20].to_vec() } else { quote[8..40].to_vec() };
        assert_eq!(addresses, octets(&[sent.source, sent.destination]), "{arriving:?}");
        if v4 {
            let header = usize::from(quote[0] & 15) * 4;
            assert_eq!(
                wire::sum(&quote[..header]),
                u16::MAX,
                "the quoted header of {arriving:?} does not sum up"
            );
        }
        // The quote has the header that the packet left with.
        let header = Frame::read(&left.frame).expect("it left").header_length();
        let ports = if sent.protocol == sent.icmp() { 4..6 } else { 0..4 };
        assert_eq!(
            quote[header..][ports.clone()],
            sent.payload[ports],
            "{arriving:?} about {left:?}"
        );
    }
}

fn octets(addresses: &[IpAddr]) -> Vec<u8> {
    let of = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    addresses.iter().flat_map(of).collect()
}

fn reversed(frame: &[u8]) -> Option<Vec<u8>> {
    Some(Frame::read(frame)?.reversed().bytes())
}

/// Checks the invariants that hold for any frame.
pub fn check_outcome<A: Scenery>(arriving: &Arriving, outcome: &Outcome, model: &Model<A>) {
    match outcome {
        Outcome::Leave { frame, output, deliver } => {
            check_left(arriving, frame, *output, *deliver, model);
        }
        Outcome::Answer(_, answer) => check_answer(arriving, answer, model),
        Outcome::Stop(_) | Outcome::Pass | Outcome::Again => {}
    }
    check_link(arriving, outcome, model);
}

/// Checks what answers a packet that left as one of the other family, or reports an error about it:
/// if it leaves, it goes to the sender of that packet.
fn check_nat64(arriving: &Arriving, left: &Left, outcome: &Outcome) {
    let Outcome::Leave { frame, .. } = outcome else { return };
    let sent = Frame::read(&left.came.frame).expect("it was parsed");
    let back = Frame::read(frame).expect("a packet leaves");
    assert_eq!(back.destination, sent.source, "{arriving:?} of {left:?}");
}

/// Checks a packet that leaves as one of the other family.
fn check_translated(arriving: &Arriving, frame: &[u8]) {
    let (Some(before), Some(after)) = (Frame::read(&arriving.frame), Frame::read(frame)) else {
        panic!("{arriving:?} leaves as {frame:02x?}, which is no packet")
    };
    assert!(wire::header_sums_up(frame), "the header's checksum of {frame:02x?}");
    assert_eq!(before.ttl - 1, after.ttl, "the hops of {arriving:?}");
    if before.transport_sums_up() {
        assert!(
            after.transport_sums_up(),
            "the checksum of {arriving:?}, which left as {frame:02x?}"
        );
    }
}

fn check_left<A: Scenery>(
    arriving: &Arriving,
    frame: &[u8],
    output: u32,
    deliver: Deliver,
    model: &Model<A>,
) {
    if arriving.frame[12..14] != frame[12..14] {
        return check_translated(arriving, frame);
    }
    assert_eq!(arriving.frame.len(), frame.len(), "{arriving:?} leaves with another length");
    let was = wire::header_sums_up(&arriving.frame);
    assert_eq!(
        was,
        wire::header_sums_up(frame),
        "the header's checksum of {arriving:?}, which left as {frame:02x?}"
    );
    let (Some(before), Some(after)) = (Frame::read(&arriving.frame), Frame::read(frame)) else {
        return;
    };
    if before.transport_sums_up() {
        assert!(
            after.transport_sums_up(),
            "the checksum of {arriving:?}, which left as {frame:02x?}"
        );
    }
    if deliver == Deliver::CONTAINER || deliver == Deliver::UPLINK {
        assert_eq!(before.ttl - 1, after.ttl, "the hops of {arriving:?}");
        // A packet with a link-local address stays on its link.
        let of_link = [after.source, after.destination]
            .into_iter()
            .filter_map(A::of)
            .any(|own| own.stays_on_link());
        assert!(!of_link, "{arriving:?} leaves its link as {frame:02x?}");
    }
    if deliver == Deliver::UPLINK {
        assert!(
            model.uplinks.contains_key(&output),
            "{arriving:?} leaves through {output}, which is no uplink"
        );
        // The address of a masqueraded container never leaves. The second network is not
        // masqueraded.
        let source = A::of(after.source).expect("the family that it was");
        let own = model.local.contains(&source) || source == A::named(CONTAINERS[2]);
        assert!(own, "{arriving:?} leaves from {source:?}");
    }
    if deliver == Deliver::CONTAINER || deliver == Deliver::SAME_BRIDGE {
        let owner = A::of(after.destination).and_then(|address| model.endpoints.get(&address));
        if let Some(endpoint) = owner {
            assert_eq!(
                endpoint.host_side, output,
                "{arriving:?} goes to a container that does not have its destination address"
            );
        }
    }
}

/// Checks neighbour and listener discovery: a container's message reaches other containers and the
/// host only if it is about the container alone, whatever headers it is hidden behind.
fn check_link<A: Scenery>(arriving: &Arriving, outcome: &Outcome, model: &Model<A>) {
    let [0x86, 0xdd] = arriving.frame[12..14] else { return };
    let message = Frame::message_in(&arriving.frame);
    let link = matches!(message, Some(130..=137 | 143));
    let nd = *outcome == Outcome::Stop(DropReason::Nd);
    let passes = match outcome {
        Outcome::Leave { .. } | Outcome::Pass => true,
        Outcome::Stop(reason) => reason.fate() == Fate::Punt,
        Outcome::Answer(..) | Outcome::Again => false,
    };
    let concerns = nd || (link && passes);
    if arriving.hook != Hook::HostSide || !concerns {
        return;
    }
    // A later fragment is no message, and a first one that is cut before the message is refused.
    assert!(nd && link, "{arriving:?} has a message {message:?} in it, and is {outcome:?}");
    let frame = Frame::read(&arriving.frame).unwrap_or_else(|| panic!("{arriving:?} is no packet"));
    let mac = arriving.frame[6..12].to_vec();
    let own = |address: IpAddr| {
        let endpoint = A::of(address).and_then(|address| model.endpoints.get(&address));
        endpoint.filter(|own| own.host_side == arriving.input && own.macs.destination()[..] == mac)
    };
    let kind = frame.payload[0];
    let target = |at: usize| {
        let octets: [u8; 16] = frame.payload[at..at + 16].try_into().expect("sixteen bytes");
        IpAddr::from(octets)
    };
    assert!(
        matches!(kind, 131 | 132 | 133 | 135 | 136 | 143),
        "{arriving:?} is a message of routers"
    );
    assert!(!frame.is_part(), "{arriving:?} is a fragment");
    let probe = kind == 135 && frame.source.is_unspecified();
    let speaker = own(if probe { target(8) } else { frame.source });
    let speaker = speaker.unwrap_or_else(|| panic!("{arriving:?} has a spoofed source"));
    assert!(kind != 136 || own(target(8)).is_some(), "{arriving:?} has a spoofed target");
    let options = match kind {
        133 => 8,
        135 | 136 => 24,
        _ => frame.payload.len(),
    };
    for option in frame.payload[options..].chunks(8) {
        let foreign = matches!(option[0], 1 | 2) && option[2..] != mac;
        assert!(
            option.len() == 8 && option[1] == 1 && !foreign,
            "{arriving:?} has an option with a spoofed MAC"
        );
    }
    let on_link = A::of(frame.destination).is_some_and(|to| {
        to.is_multicast() || to.stays_on_link() || to.is_in(&speaker.subnet, &speaker.mask)
    });
    assert!(on_link, "{arriving:?} leaves its link");
}

/// Checks an error that the datapath sends: complete, to the packet's sender only, and about that
/// packet (RFC 1812 section 4.3.2, RFC 4443 section 2.4).
pub fn check_answer<A: Scenery>(arriving: &Arriving, answer: &[u8], model: &Model<A>) {
    let said = Frame::read(answer)
        .unwrap_or_else(|| panic!("{arriving:?} is answered with {answer:02x?}"));
    assert!(wire::header_sums_up(answer), "the header's checksum of {answer:02x?}");
    assert!(
        said.protocol == said.icmp() && said.transport_sums_up(),
        "the checksum of {answer:02x?}"
    );
    let v4 = said.source.is_ipv4();
    let source = if v4 { &arriving.frame[26..30] } else { &arriving.frame[22..38] };
    assert_eq!(octets(&[said.destination]), source, "{arriving:?}: not to its sender");
    assert_eq!(said.macs.0, arriving.frame[6..12], "{arriving:?}: not to its sender");
    let by_host = match A::of(said.source) {
        Some(source) => model.local.contains(&source),
        // To a container that has IPv4 alone, by its gateway.
        None => GATEWAYS.into_iter().any(|gateway| said.source == IpAddr::from(gateway)),
    };
    assert!(by_host, "{arriving:?}: not by the host");
    let quoted = &said.payload[8..];
    assert_eq!(
        quoted,
        &arriving.frame[14..][..quoted.len()],
        "{arriving:?}: quotes something else"
    );
    // The header and at least eight bytes, if there are as many.
    let field =
        |at: usize| usize::from(u16::from_be_bytes([arriving.frame[at], arriving.frame[at + 1]]));
    let (header, said) =
        if v4 { (usize::from(arriving.frame[14] & 15) * 4, field(16)) } else { (40, field(18)) };
    let total = match said {
        0 => usize::MAX,
        length if v4 => length,
        length => 40 + length,
    };
    let least = (header + 8).min(arriving.frame.len() - 14).min(total) & !1;
    assert!(quoted.len() >= least.min(96), "{arriving:?}: quotes {} bytes", quoted.len());
    assert!(answer.len() <= 576, "{arriving:?}: the error is too long");
}
