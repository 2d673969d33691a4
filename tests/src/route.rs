//! Finding the way to an address hop by hop, as traceroute does.

use std::net::Ipv4Addr;

use causeway::net::netns::Netns;

use crate::raw::{Ipv4, Raw, flag};

/// What is sent on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A datagram.
    Udp,
    /// A SYN.
    Tcp,
    /// An ICMP echo request.
    Echo,
}

impl Probe {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Echo];
}

/// Who answered a probe, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Where the probe was to go.
    There(Ipv4Addr),
    /// Somebody on the way, or there, by an ICMP error of that type and code.
    Error(Ipv4Addr, u8, u8),
}

/// ICMP time exceeded, in transit.
#[must_use]
pub fn exceeded(by: Ipv4Addr) -> Answer {
    Answer::Error(by, 11, 0)
}

/// Sends a probe that may make `hops` hops, and waits for what comes of it. An error must quote the probe as it was sent, or it is none of its.
#[track_caller]
pub fn probe(netns: &Netns, kind: Probe, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), hops: u8) -> Answer {
    let packet = match kind {
        Probe::Udp => Ipv4::udp(from, to, b"who is there?"),
        Probe::Tcp => Ipv4::tcp(from, to, flag::SYN, 1000, 0),
        Probe::Echo => echo(from, to.0),
    };
    let (errors, answers) = (Raw::open(netns, 1), Raw::open(netns, packet.protocol));
    answers.send(&Ipv4 { ttl: hops, ..packet.clone() });
    let head = 8.min(packet.payload.len());
    let what = || format!("an answer to {kind:?} from {from:?} to {to:?} with {hops} hops");
    if hops == u8::MAX {
        return answers.wait(&what(), |answer| answers_to(&packet, answer).then_some(Answer::There(answer.source)));
    }
    let is_ours = |quote: &Ipv4| {
        (quote.source, quote.destination, quote.protocol) == (packet.source, packet.destination, packet.protocol)
            // The checksum of an echo is beside its identifier, and right after the ports of UDP.
            && quote.payload.get(..head) == packet.payload.get(..head)
    };
    errors.wait(&what(), |answer| {
        let (kind, quote) = answer.error()?;
        (answer.destination == packet.source && is_ours(&quote)).then_some(Answer::Error(answer.source, kind.0, kind.1))
    })
}

/// As [`probe`], with as many hops as it takes.
#[track_caller]
pub fn reach(netns: &Netns, kind: Probe, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Answer {
    probe(netns, kind, from, to, u8::MAX)
}

fn answers_to(packet: &Ipv4, answer: &Ipv4) -> bool {
    let there = (answer.source, answer.destination) == (packet.destination, packet.source);
    let same = if packet.protocol == 1 {
        (answer.payload.first(), answer.word(4)) == (Some(&0), packet.word(4))
    } else {
        answer.ports() == (packet.ports().1, packet.ports().0)
    };
    there && same
}

fn echo(from: (Ipv4Addr, u16), to: Ipv4Addr) -> Ipv4 {
    let mut message = vec![8, 0, 0, 0];
    message.extend(from.1.to_be_bytes());
    message.extend([0, 1]);
    message.extend(b"who is there?");
    let sum = crate::packet::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Ipv4::new(from.0, to, 1, message)
}
