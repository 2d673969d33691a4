//! What can happen on the wires, made of a fuzzer's bytes: packets that begin something, that go on with it, that answer what left, errors
//! about it, and frames that are damaged.

use arbitrary::Arbitrary;

use crate::{
    programs::Hook,
    scene::{BRIDGE_MAC, CONTAINERS, GATEWAYS, HOST, NEAR, NEAR_MAC, OTHER, Scene, WORLD, mac_of},
    wire::{Ipv4Frame, protocol},
};

/// One frame's description.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Event {
    /// Somebody sends a packet.
    Send(Sent),
    /// An earlier frame is sent once more.
    Again(u8, Turn),
    /// What an earlier frame left as is answered.
    Answer(u8, Turn),
    /// An ICMP error is sent about what an earlier frame left as.
    Report(u8, Report),
}

/// A packet of nobody's choice.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Sent {
    from: u8,
    to: u8,
    ports: (u8, u8),
    kind: Kind,
    turn: Turn,
    shape: Shape,
}

/// What it carries.
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

/// What is not the same in two packets of one exchange.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Turn {
    /// TCP's flags, or SCTP's chunk.
    flags: u8,
    /// Numbers that should be near each other, and need not.
    sequence: u8,
    acknowledgment: u8,
    ttl: u8,
    /// Bytes changed, and where: seldom any.
    damage: Option<(u8, u8)>,
}

/// The packet's form.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Shape {
    options: u8,
    fragment: u8,
    length: u8,
}

/// An error.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Report {
    kind: u8,
    by: u8,
    quoted: u8,
    options: u8,
    turn: Turn,
}

/// A frame and where it is.
#[derive(Clone, Debug)]
pub struct Arriving {
    /// The program that sees it.
    pub hook: Hook,
    /// The interface.
    pub input: u32,
    /// The frame.
    pub frame: Vec<u8>,
}

/// A frame that left.
#[derive(Clone, Debug)]
pub struct Left {
    /// As it came.
    pub came: Arriving,
    /// As it left.
    pub frame: Vec<u8>,
    /// Through what.
    pub output: u32,
}

/// The frames that left, as far as anybody remembers.
#[derive(Clone, Debug, Default)]
pub struct Memory(Vec<Left>);

/// How many are remembered.
const REMEMBERED: usize = 64;

impl Memory {
    /// Remembers one more.
    pub fn push(&mut self, left: Left) {
        if self.0.len() == REMEMBERED {
            self.0.remove(0);
        }
        self.0.push(left);
    }

    /// One of them, the latest for zero.
    pub fn get(&self, back: u8) -> Option<&Left> {
        let back = usize::from(back) % self.0.len().max(1);
        self.0.get(self.0.len().checked_sub(1 + back)?)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// A frame that an event makes; none where it is about what is not remembered. Says too which one left that it answers or is about, if it
/// was not damaged.
pub fn frame(event: Event, scene: &Scene, memory: &Memory) -> Option<(Arriving, Option<Left>)> {
    match event {
        Event::Send(sent) => Some((sent.frame(scene), None)),
        Event::Again(back, turn) => {
            let left = memory.get(back)?;
            let frame = turn.apply(Ipv4Frame::read(&left.came.frame)?);
            Some((Arriving { frame, ..left.came.clone() }, None))
        }
        Event::Answer(back, turn) => {
            let left = memory.get(back)?;
            let answer = Ipv4Frame::read(&left.frame)?.reversed();
            let frame = turn.apply(answer);
            Some((arriving_from(left, scene, frame), turn.damage.is_none().then(|| left.clone())))
        }
        Event::Report(back, report) => {
            let left = memory.get(back)?;
            let frame = report.frame(left, scene)?;
            Some((arriving_from(left, scene, frame), report.turn.damage.is_none().then(|| left.clone())))
        }
    }
}

/// Where an answer to what left arrives, and with which MACs.
fn arriving_from(left: &Left, scene: &Scene, mut frame: Vec<u8>) -> Arriving {
    let (hook, macs) = match scene.container_at(left.output) {
        Some(container) => (Hook::HostSide, (BRIDGE_MAC, mac_of(container))),
        None if left.came.hook == Hook::Uplink => (Hook::UplinkOut, (NEAR_MAC, scene.uplink_mac)),
        None => (Hook::Uplink, (scene.uplink_mac, NEAR_MAC)),
    };
    frame[..6].copy_from_slice(&macs.0);
    frame[6..12].copy_from_slice(&macs.1);
    Arriving { hook, input: left.output, frame }
}

const PORTS: [u16; 16] = [4000, 4001, 4002, 53, 80, 5000, 5001, 5002, 5003, 6000, 7000, 7009, 8000, 9000, 0, 65535];

impl Sent {
    fn frame(&self, scene: &Scene) -> Arriving {
        let of = |number: u8| -> [u8; 4] {
            match usize::from(number % 16) {
                container @ 0..5 => CONTAINERS[container],
                5 => WORLD,
                6 => OTHER,
                7 => HOST,
                8 => NEAR,
                gateway @ 9..12 => GATEWAYS[gateway - 9],
                12 => [172, 18, 7, 7],
                13 => [224, 0, 0, 251],
                14 => [172, 18, 255, 255],
                _ => [192, 0, 2, number],
            }
        };
        let from = self.from % 8;
        let (hook, input, macs) = match usize::from(from) {
            container @ 0..5 => (Hook::HostSide, scene.sides[container], (BRIDGE_MAC, mac_of(container))),
            7 => (Hook::UplinkOut, scene.uplink, (NEAR_MAC, scene.uplink_mac)),
            _ => (Hook::Uplink, scene.uplink, (scene.uplink_mac, NEAR_MAC)),
        };
        // Once in a while somebody speaks in another's name.
        let source = if self.from < 240 { of(from) } else { of(self.from) };
        let (protocol, payload) = self.payload();
        let frame = Ipv4Frame {
            macs,
            source,
            destination: of(self.to),
            ttl: 64,
            options: vec![1; if self.shape.options < 224 { 0 } else { usize::from(self.shape.options % 11) * 4 }],
            fragment: match self.shape.fragment {
                ..160 => 0x4000,
                160..240 => 0,
                240..248 => 0x2000,
                more => u16::from(more - 247) * 0x10,
            },
            protocol,
            payload,
        };
        Arriving { hook, input, frame: self.turn.apply(frame) }
    }

    fn payload(&self) -> (u8, Vec<u8>) {
        let port = |number: u8| PORTS[usize::from(number % 16)].to_be_bytes();
        let ports = [port(self.ports.0), port(self.ports.1)].concat();
        let data = vec![0xa5; if self.shape.length == 255 { 1490 } else { usize::from(self.shape.length % 64) }];
        let udp = |sum: [u8; 2]| {
            let length = u16::try_from(8 + data.len()).expect("short data").to_be_bytes();
            [&ports[..], &length, &sum, &data].concat()
        };
        let echo = |kind| [&[kind, 0, 0, 0], &ports[..2], &[0, 7], &data[..]].concat();
        match self.kind {
            Kind::Tcp => {
                // Options, in every second one: an MSS, at any place of a word.
                let words = usize::from(self.shape.length / 64 % 2) * 3;
                let mut options = vec![1; words * 4];
                if words > 0 {
                    let at = usize::from(self.shape.length % 4);
                    options[at..at + 4].copy_from_slice(&[2, 4, 8 + self.shape.options % 32, self.shape.length]);
                }
                let offset = u8::try_from(5 + words).expect("a short header") << 4;
                let head = [0, 0, 0, 0, 0, 0, 0, 0, offset, 0, 0xff, 0xff, 0, 0, 0, 0];
                (protocol::TCP, [&ports[..], &head, &options, &data].concat())
            }
            Kind::Udp => (protocol::UDP, udp([1, 1])),
            Kind::UdpUnsummed => (protocol::UDP, udp([0, 0])),
            Kind::EchoRequest => (protocol::ICMP, echo(8)),
            Kind::EchoReply => (protocol::ICMP, echo(0)),
            Kind::Sctp => {
                // One chunk's head, and as much as an INIT has.
                (protocol::SCTP, [&ports[..], &[0; 8], &[0, 0, 0, 20], &[0; 16], &data].concat())
            }
            Kind::Other(number) => (number, [&ports[..], &data].concat()),
        }
    }
}

impl Turn {
    fn apply(self, mut packet: Ipv4Frame) -> Vec<u8> {
        packet.ttl = if self.ttl < 240 { 64 } else { self.ttl - 240 };
        let first = packet.is_first();
        let payload = &mut packet.payload;
        let unsummed = packet.protocol == protocol::UDP && payload.get(6..8) == Some(&[0, 0]);
        match packet.protocol {
            protocol::TCP if first && payload.len() >= 20 => {
                payload[7] = self.sequence;
                payload[11] = self.acknowledgment;
                // Each flag alone is as likely as what a stack would send.
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
            // Not the MACs: they say no more than whose frame it is.
            let at = 12 + usize::from(at) % (frame.len() - 12);
            if value == 0 && at >= 34 {
                frame.truncate(at);
            } else {
                frame[at] ^= value;
            }
        }
        frame
    }
}

impl Report {
    fn frame(&self, left: &Left, scene: &Scene) -> Option<Vec<u8>> {
        let mut quoted = Ipv4Frame::read(&left.frame)?;
        quoted.ttl = quoted.ttl.saturating_sub(3);
        let by_peer = scene.container_at(left.output).is_some() || self.by.is_multiple_of(2);
        let mut answer = quoted.reversed();
        if !by_peer {
            answer.source = NEAR;
        }
        let bytes = quoted.bytes();
        let packet = &bytes[14..];
        // At least the header and eight bytes, mostly (RFC 792).
        let least = 20 + quoted.options.len() + 8;
        let length = if self.quoted < 16 { usize::from(self.quoted) } else { least + usize::from(self.quoted) };
        let (kind, code) = [(3, 4), (3, 3), (11, 0), (12, 0), (3, 1), (11, 1)][usize::from(self.kind % 6)];
        answer.protocol = protocol::ICMP;
        answer.fragment = 0;
        answer.options = vec![1; if self.options < 224 { 0 } else { usize::from(self.options % 11) * 4 }];
        answer.payload = [&[kind, code, 0, 0, 0, 0, 5, 0x78], &packet[..packet.len().min(length)]].concat();
        Some(self.turn.apply(answer))
    }
}
