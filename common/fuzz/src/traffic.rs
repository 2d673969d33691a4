//! Traffic made of a fuzzer's bytes: packets that begin or continue an exchange, replies to packets
//! that left, errors about them, and damaged frames.

use std::net::{IpAddr, Ipv6Addr};

use arbitrary::Arbitrary;

use causeway_common::wire::address::{Address as _, V4};

use crate::{
    fixture::{
        BRIDGE_MAC, CONTAINERS, Fixture, GATEWAYS, HOST, NEAR, NEAR_MAC, OTHER, Scenery, WORLD,
        mac_of,
    },
    programs::Hook,
    wire::{Fragment, Frame, extension, protocol},
};

/// Description of one frame.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Event {
    /// A new packet is sent.
    Send(Sent),
    /// An earlier frame is sent again.
    Again(u8, Turn),
    /// A reply to an earlier packet that left is sent.
    Answer(u8, Turn),
    /// An ICMP error about an earlier packet that left is sent.
    Report(u8, Report),
}

/// An arbitrary packet.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Sent {
    from: u8,
    to: u8,
    ports: (u8, u8),
    kind: Kind,
    turn: Turn,
    shape: Shape,
}

/// Protocol of a packet.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Udp,
    UdpUnsummed,
    EchoRequest,
    EchoReply,
    Sctp,
    Other(u8),
}

/// What differs between two packets of one exchange.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Turn {
    /// TCP flags, or the type of the SCTP chunk.
    flags: u8,
    /// TCP sequence number, or SCTP tag: mostly near each other.
    sequence: u8,
    acknowledgment: u8,
    ttl: u8,
    /// Offset and change of one byte; mostly none.
    damage: Option<(u8, u8)>,
}

/// Headers and length of a packet.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Shape {
    options: u8,
    fragment: u8,
    length: u8,
}

/// Description of an ICMP error.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Report {
    kind: u8,
    by: u8,
    quoted: u8,
    options: u8,
    turn: Turn,
}

/// A frame, and the hook where it arrives.
#[derive(Clone, Debug)]
pub struct Arriving {
    /// The hook whose program runs.
    pub hook: Hook,
    /// Index of the interface.
    pub input: u32,
    /// The frame.
    pub frame: Vec<u8>,
}

/// A frame that left.
#[derive(Clone, Debug)]
pub struct Left {
    /// The frame as it arrived.
    pub came: Arriving,
    /// The frame as it left.
    pub frame: Vec<u8>,
    /// Index of the interface that it left through.
    pub output: u32,
}

/// The latest frames that left.
#[derive(Clone, Debug, Default)]
pub struct Memory(Vec<Left>);

/// Number of frames that are remembered.
const REMEMBERED: usize = 64;

impl Memory {
    /// Remembers a frame, and forgets the oldest if there are too many.
    pub fn push(&mut self, left: Left) {
        if self.0.len() == REMEMBERED {
            self.0.remove(0);
        }
        self.0.push(left);
    }

    /// The frame that left `back` frames ago; zero is the latest.
    pub fn get(&self, back: u8) -> Option<&Left> {
        let back = usize::from(back) % self.0.len().max(1);
        self.0.get(self.0.len().checked_sub(1 + back)?)
    }

    /// Forgets all frames.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// The frame of an event; none if it refers to a frame that is not remembered. Also returns the
/// packet that it replies to or reports, unless it is damaged.
pub fn frame<A: Scenery>(
    event: Event,
    fixture: &Fixture,
    memory: &Memory,
) -> Option<(Arriving, Option<Left>)> {
    match event {
        Event::Send(sent) => Some((sent.frame::<A>(fixture), None)),
        Event::Again(back, turn) => {
            let left = memory.get(back)?;
            let frame = turn.apply(Frame::read(&left.came.frame)?);
            Some((Arriving { frame, ..left.came.clone() }, None))
        }
        Event::Answer(back, turn) => {
            let left = memory.get(back)?;
            let answer = Frame::read(&left.frame)?.reversed();
            let frame = turn.apply(answer);
            Some((arriving_from(left, fixture, frame), turn.damage.is_none().then(|| left.clone())))
        }
        Event::Report(back, report) => {
            let left = memory.get(back)?;
            let frame = report.frame::<A>(left, fixture)?;
            Some((
                arriving_from(left, fixture, frame),
                report.turn.damage.is_none().then(|| left.clone()),
            ))
        }
    }
}

/// Where a reply to a packet that left arrives, and with which MACs.
fn arriving_from(left: &Left, fixture: &Fixture, mut frame: Vec<u8>) -> Arriving {
    let (hook, macs) = match fixture.container_at(left.output) {
        Some(container) => (Hook::HostSide, (BRIDGE_MAC, mac_of(container))),
        None if left.came.hook == Hook::Uplink => (Hook::UplinkOut, (NEAR_MAC, fixture.uplink_mac)),
        None => (Hook::Uplink, (fixture.uplink_mac, NEAR_MAC)),
    };
    frame[..6].copy_from_slice(&macs.0);
    frame[6..12].copy_from_slice(&macs.1);
    Arriving { hook, input: left.output, frame }
}

const PORTS: [u16; 16] =
    [4000, 4001, 4002, 53, 80, 5000, 5001, 5002, 5003, 6000, 7000, 7009, 8000, 9000, 0, 65535];

impl Sent {
    fn frame<A: Scenery>(&self, fixture: &Fixture) -> Arriving {
        let v4 = A::FAMILY == V4::FAMILY;
        let of = |number: u8| match usize::from(number % 16) {
            // Some have their link-local address, where the family has one.
            container @ 0..5 => match A::link_local(mac_of(container)) {
                Some(address) if number / 16 % 4 == 3 => address.ip(),
                _ => A::named(CONTAINERS[container]).ip(),
            },
            5 => A::named(WORLD).ip(),
            6 => A::named(OTHER).ip(),
            7 => A::named(HOST).ip(),
            8 => A::named(NEAR).ip(),
            gateway @ 9..12 => A::named(GATEWAYS[gateway - 9]).ip(),
            12 => A::named([172, 18, 7, 7]).ip(),
            13 => A::named([224, 0, 0, 251 - u8::from(!v4) * 200]).ip(),
            14 if v4 => A::named([172, 18, 255, 255]).ip(),
            // An unused address of the link, or the unspecified address.
            14 if number < 128 => A::link_local([2; 6]).unwrap_or(A::UNSPECIFIED).ip(),
            14 => A::UNSPECIFIED.ip(),
            _ if v4 => A::named([192, 0, 2, number]).ip(),
            _ => A::named([192, 0, 102, number]).ip(),
        };
        let from = self.from % 8;
        let (hook, input, macs) = match usize::from(from) {
            container @ 0..5 => {
                (Hook::HostSide, fixture.sides[container], (BRIDGE_MAC, mac_of(container)))
            }
            7 => (Hook::UplinkOut, fixture.uplink, (NEAR_MAC, fixture.uplink_mac)),
            _ => (Hook::Uplink, fixture.uplink, (fixture.uplink_mac, NEAR_MAC)),
        };
        // A few packets have a spoofed source, and in IPv6 some have a link-local one.
        let link_local = A::link_local(macs.1).filter(|_| (200..240).contains(&self.from));
        let source = match link_local {
            Some(address) => address.ip(),
            None if self.from < 240 => of(from),
            None => of(self.from),
        };
        let (protocol, payload) = self.payload::<A>(macs.1, &of);
        let Shape { options, fragment, .. } = self.shape;
        let frame = Frame {
            macs,
            source,
            destination: of(self.to),
            ttl: 64,
            options: vec![1; if options < 224 || !v4 { 0 } else { usize::from(options % 11) * 4 }],
            extensions: if v4 { Vec::new() } else { extensions(options) },
            dont_fragment: v4 && fragment < 160,
            fragment: match fragment {
                ..240 => None,
                240 if !v4 => Some(Fragment { offset: 0, more: false, id: 0x1234 }),
                240..248 => Some(Fragment { offset: 0, more: true, id: 0x1234 }),
                more => {
                    Some(Fragment { offset: u16::from(more - 247) * 0x10, more: false, id: 0x1234 })
                }
            },
            protocol,
            payload,
        };
        Arriving { hook, input, frame: self.turn.apply(frame) }
    }

    /// Protocol and payload. A message of neighbour discovery has the MAC `mac`, and targets that
    /// the numbers select.
    fn payload<A: Scenery>(&self, mac: [u8; 6], of: &impl Fn(u8) -> IpAddr) -> (u8, Vec<u8>) {
        if let (Kind::Other(number), IpAddr::V6(target)) = (self.kind, of(self.ports.0))
            && number >= 128
        {
            return (protocol::ICMPV6, self.about_link(number, target, mac));
        }
        let port = |number: u8| PORTS[usize::from(number % 16)].to_be_bytes();
        let ports = [port(self.ports.0), port(self.ports.1)].concat();
        let data =
            vec![
                0xa5;
                if self.shape.length == 255 { 1490 } else { usize::from(self.shape.length % 64) }
            ];
        let udp = |sum: [u8; 2]| {
            let length = u16::try_from(8 + data.len()).expect("short data").to_be_bytes();
            [&ports[..], &length, &sum, &data].concat()
        };
        let echo = |kind| [&[kind, 0, 0, 0], &ports[..2], &[0, 7], &data[..]].concat();
        match self.kind {
            Kind::Tcp => {
                // Every second segment has options: an MSS at any offset within a word.
                let words = usize::from(self.shape.length / 64 % 2) * 3;
                let mut options = vec![1; words * 4];
                if words > 0 {
                    let at = usize::from(self.shape.length % 4);
                    options[at..at + 4].copy_from_slice(&[
                        2,
                        4,
                        8 + self.shape.options % 32,
                        self.shape.length,
                    ]);
                }
                let offset = u8::try_from(5 + words).expect("a short header") << 4;
                let head = [0, 0, 0, 0, 0, 0, 0, 0, offset, 0, 0xff, 0xff, 0, 0, 0, 0];
                (protocol::TCP, [&ports[..], &head, &options, &data].concat())
            }
            Kind::Udp => (protocol::UDP, udp([1, 1])),
            Kind::UdpUnsummed => (protocol::UDP, udp([0, 0])),
            Kind::EchoRequest => (A::ICMP, echo(A::ECHO_REQUEST)),
            Kind::EchoReply => (A::ICMP, echo(A::ECHO_REPLY)),
            Kind::Sctp => {
                // One chunk: its header, and as many bytes as an INIT has.
                (protocol::SCTP, [&ports[..], &[0; 8], &[0, 0, 0, 20], &[0; 16], &data].concat())
            }
            Kind::Other(number) => (number, [&ports[..], &data].concat()),
        }
    }
}

impl Sent {
    /// A message of neighbour or listener discovery, or one of the same form.
    fn about_link(&self, number: u8, target: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
        let kind = [135, 135, 136, 136, 133, 131, 143, 134, 137, 130][usize::from(number % 10)];
        let head = [kind, 0, 0, 0, 0, 0, 0, 0];
        let mut message =
            if kind == 133 { head.to_vec() } else { [&head[..], &target.octets()].concat() };
        let Shape { length, .. } = self.shape;
        for option in 0..length % 6 {
            // One option may have a foreign MAC, or be cut.
            let foreign = length / 6 % 16 == option;
            let kind = [1, 2, 14][usize::from(self.ports.1 % 3)];
            message.extend([&[kind, 1][..], if foreign { &[2; 6] } else { &mac }].concat());
        }
        if length > 250 {
            message.pop();
        }
        message
    }
}

/// Extension headers, in one of seven packets.
fn extensions(number: u8) -> Vec<(u8, Vec<u8>)> {
    let header = |number: u8, units: usize| {
        let mut rest = vec![0; units * 8 - 1];
        rest[0] = u8::try_from(units - 1).expect("a short header");
        (number, rest)
    };
    let destination = |units| header(extension::DESTINATION, units);
    let hop_by_hop = || header(extension::HOP_BY_HOP, 1);
    let routing = |left| {
        let (number, mut rest) = header(extension::ROUTING, 3);
        rest[2] = left;
        (number, rest)
    };
    match number.checked_sub(218) {
        None => Vec::new(),
        Some(count @ 0..7) => vec![destination(1); usize::from(count)],
        Some(units @ 7..24) => vec![destination(usize::from(units) - 6)],
        Some(24..28) => vec![hop_by_hop()],
        Some(28..31) => vec![hop_by_hop(), destination(3), routing(0)],
        Some(31..34) => vec![routing(0), destination(2)],
        Some(34) => vec![routing(1)],
        Some(_) => vec![hop_by_hop(), destination(9), destination(7)],
    }
}

impl Turn {
    fn apply(self, mut packet: Frame) -> Vec<u8> {
        packet.ttl = if self.ttl < 240 { 64 } else { self.ttl - 240 };
        let first = packet.is_first();
        let payload = &mut packet.payload;
        let unsummed = packet.protocol == protocol::UDP && payload.get(6..8) == Some(&[0, 0]);
        match packet.protocol {
            protocol::TCP if first && payload.len() >= 20 => {
                payload[7] = self.sequence;
                payload[11] = self.acknowledgment;
                // Single flags are as likely as the combinations that a stack sends.
                payload[13] = match self.flags % 16 {
                    0..6 => 0x02,
                    6..8 => 0x12,
                    8..11 => 0x10,
                    11 => 0x11,
                    12 => 0x04,
                    13 => 0x14,
                    _ => self.flags,
                };
            }
            protocol::SCTP if first && payload.len() >= 20 => {
                payload[12] = [1, 1, 2, 0, 3, 6, 14, 10][usize::from(self.flags % 8)];
                payload[7] = if payload[12] == 1 { self.sequence / 128 } else { self.sequence % 4 };
                payload[19] = self.acknowledgment % 4;
            }
            _ => {}
        }
        let packet = if unsummed { packet } else { packet.summed() };
        let mut frame = packet.bytes();
        if let Some((at, value)) = self.damage {
            // The MACs stay: they only say whose frame it is.
            let at = 12 + usize::from(at) % (frame.len() - 12);
            let header = if frame[12] == 8 { 34 } else { 54 };
            if value == 0 && at >= header {
                frame.truncate(at);
            } else {
                frame[at] ^= value;
            }
        }
        frame
    }
}

impl Report {
    fn frame<A: Scenery>(&self, left: &Left, fixture: &Fixture) -> Option<Vec<u8>> {
        let mut quoted = Frame::read(&left.frame)?;
        let v4 = quoted.source.is_ipv4();
        quoted.ttl = quoted.ttl.saturating_sub(3);
        let by_peer = fixture.container_at(left.output).is_some() || self.by.is_multiple_of(2);
        let mut answer = quoted.reversed();
        if !by_peer {
            answer.source = A::named(NEAR).ip();
        }
        let bytes = quoted.bytes();
        let packet = &bytes[14..];
        // Mostly at least the header and eight bytes (RFC 792).
        let least = quoted.header_length() + 8;
        let length = if self.quoted < 16 {
            usize::from(self.quoted)
        } else {
            least + usize::from(self.quoted)
        };
        let kinds = if v4 {
            [(3, 4), (3, 3), (11, 0), (12, 0), (3, 1), (11, 1)]
        } else {
            [(2, 0), (1, 4), (3, 0), (4, 1), (1, 0), (3, 1)]
        };
        let (kind, code) = kinds[usize::from(self.kind % 6)];
        answer.protocol = quoted.icmp();
        answer.fragment = None;
        answer.dont_fragment = false;
        answer.options =
            vec![1; if self.options < 224 || !v4 { 0 } else { usize::from(self.options % 11) * 4 }];
        answer.extensions = if v4 { Vec::new() } else { extensions(self.options) };
        answer.payload =
            [&[kind, code, 0, 0, 0, 0, 5, 0x78], &packet[..packet.len().min(length)]].concat();
        Some(self.turn.apply(answer))
    }
}
