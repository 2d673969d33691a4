//! Finding the way to an address hop by hop, as traceroute does.

use std::net::IpAddr;

use causeway_netlink::Netns;

use crate::{
    family::Family,
    raw::{Packet, Raw, Told, flag},
};

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
    There(IpAddr),
    /// Somebody on the way, or there, by an ICMP error.
    Error(IpAddr, Told),
}

/// Time exceeded, in transit.
#[must_use]
pub fn exceeded(by: IpAddr) -> Answer {
    Answer::Error(by, Told::HopsExceeded)
}

/// Sends a probe that may make `hops` hops, and waits for what comes of it. An error must quote the
/// probe as it was sent, or it is none of its.
#[track_caller]
pub fn probe(
    netns: &Netns,
    kind: Probe,
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    hops: u8,
) -> Answer {
    let packet = match kind {
        Probe::Udp => Packet::udp(from, to, b"who is there?"),
        Probe::Tcp => Packet::tcp(from, to, flag::SYN, 1000, 0),
        Probe::Echo => Packet::echo(from.0, to.0, from.1, b"who is there?"),
    };
    let family = Family::of(to.0);
    let (errors, answers) = (Raw::icmp(netns, family), Raw::open(netns, family, packet.protocol));
    answers.send(&Packet { ttl: hops, ..packet.clone() });
    let head = 8.min(packet.payload.len());
    let what = || format!("an answer to {kind:?} from {from:?} to {to:?} with {hops} hops");
    if hops == u8::MAX {
        return answers.wait(&what(), |answer| {
            answers_to(&packet, answer).then_some(Answer::There(answer.source))
        });
    }
    let is_ours = |quote: &Packet| {
        (quote.source, quote.destination, quote.protocol) == (packet.source, packet.destination, packet.protocol)
            // The checksum of an echo is beside its identifier, and right after the ports of UDP.
            && quote.payload.get(..head) == packet.payload.get(..head)
    };
    errors.wait(&what(), |answer| {
        let (told, quote) = answer.error()?;
        (answer.destination == packet.source && is_ours(&quote))
            .then_some(Answer::Error(answer.source, told))
    })
}

/// As [`probe`], with as many hops as it takes.
#[track_caller]
pub fn reach(netns: &Netns, kind: Probe, from: (IpAddr, u16), to: (IpAddr, u16)) -> Answer {
    probe(netns, kind, from, to, u8::MAX)
}

fn answers_to(packet: &Packet, answer: &Packet) -> bool {
    let there = (answer.source, answer.destination) == (packet.destination, packet.source);
    let same = if packet.kind().is_some() {
        (answer.kind(), answer.word(4)) == (Some((packet.family().echo().1, 0)), packet.word(4))
    } else {
        answer.ports() == (packet.ports().1, packet.ports().0)
    };
    there && same
}
