//! Traceroute: the path to an address, hop by hop.

use std::net::IpAddr;

use causeway_netlink::Netns;

use crate::{
    family::Family,
    raw::{Packet, Raw, Told, flag},
};

/// The kind of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A UDP datagram.
    Udp,
    /// A TCP SYN.
    Tcp,
    /// An ICMP echo request.
    Echo,
}

impl Probe {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Echo];
}

/// The answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The destination answered.
    There(IpAddr),
    /// A router or the destination answered with an ICMP error.
    Error(IpAddr, Told),
}

/// Time exceeded in transit.
#[must_use]
pub fn exceeded(by: IpAddr) -> Answer {
    Answer::Error(by, Told::HopsExceeded)
}

/// Sends a probe with TTL `hops`, and waits for the answer. An ICMP error counts only if it quotes
/// the probe as it was sent.
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
            // Fields that tell one probe from another: the ICMP echo identifier and checksum, or
            // the ports.
            && quote.payload.get(..head) == packet.payload.get(..head)
    };
    errors.wait(&what(), |answer| {
        let (told, quote) = answer.error()?;
        (answer.destination == packet.source && is_ours(&quote))
            .then_some(Answer::Error(answer.source, told))
    })
}

/// Like [`probe`], with a TTL that reaches the destination.
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
