//! A parsed packet: its tuple, and what of it translation needs.

use crate::wire::{
    address::Address,
    ethernet::ETHERNET,
    tcp,
    tuple::{Tuple, echo},
};

/// What a packet carries, as far as translation goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Payload {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// An ICMP echo request or reply.
    Echo,
    /// An ICMP error, which quotes a packet.
    Error,
    /// What keeps a link going and never leaves it: IPv6's neighbour discovery (RFC 4861) and
    /// multicast listener discovery (RFC 3810).
    Link,
    /// A fragment that is not a datagram's first: its tuple has no ports.
    Fragment,
    /// What nobody can see, behind more of IPv6's extension headers than are walked, or behind one
    /// that leads elsewhere first.
    Unparsed,
    /// Anything else: its tuple has no ports.
    Other,
}

/// A packet, parsed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet<A> {
    /// As it arrived.
    pub tuple: Tuple<A>,
    /// What it carries.
    pub payload: Payload,
    /// TCP's flags, or those that mean the same as SCTP's first chunk; zero for other protocols.
    /// (Inside `Payload` they would be undefined for the others, and the verifier takes no
    /// undefined byte.)
    pub flags: u8,
    /// TCP's sequence number, or SCTP's verification tag; zero for other protocols.
    pub sequence: u32,
    /// TCP's acknowledgment number, or the tag that an SCTP INIT or INIT ACK asks for; zero for
    /// other protocols.
    pub acknowledgment: u32,
    /// Where the payload begins in the frame.
    pub payload_at: usize,
    /// Hops left.
    pub ttl: u8,
    /// Where it arrived.
    pub input: u32,
    /// Bytes from the IP header on, of a GSO packet as a whole.
    pub length: u32,
    /// Bytes of the longest packet on the wire, from the IP header on: of each segment, for a GSO
    /// packet.
    pub segment: u32,
    /// Whether routers must not fragment it.
    pub dont_fragment: bool,
    /// Whether it is the first fragment of a datagram.
    pub first_fragment: bool,
    /// A fragment's identification, as its bytes stand in a word; zero for any other packet.
    pub id: u32,
}

/// What is not a packet of the family asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

/// Where and how a frame arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// One of [`crate::wire::tuple::side`].
    pub side: u8,
    /// The interface's index.
    pub input: u32,
    /// The frame's length in bytes; a GSO packet's as a whole.
    pub length: u32,
    /// Bytes of payload in each segment of a GSO packet; zero for any other.
    pub gso_size: u32,
}

impl<A: Address> Packet<A> {
    /// One of which the IP header alone is known.
    #[inline(always)]
    pub(crate) const fn without_payload(
        tuple: Tuple<A>,
        arrival: Arrival,
        payload_at: usize,
        ttl: u8,
    ) -> Self {
        let length = arrival.length.wrapping_sub(ETHERNET as u32);
        Self {
            tuple,
            payload: Payload::Other,
            flags: 0,
            sequence: 0,
            acknowledgment: 0,
            payload_at,
            ttl,
            input: arrival.input,
            length,
            segment: length,
            dont_fragment: false,
            first_fragment: false,
            id: 0,
        }
    }

    /// Whether it may begin a flow: TCP by a SYN alone, UDP always, SCTP by an INIT, an echo by its
    /// request.
    #[inline(always)]
    pub fn begins(&self) -> bool {
        match self.payload {
            Payload::Tcp => self.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN,
            Payload::Udp => true,
            Payload::Sctp => self.flags == tcp::SYN && self.sequence == 0,
            Payload::Echo => self.tuple.echo == echo::REQUEST,
            Payload::Error
            | Payload::Link
            | Payload::Fragment
            | Payload::Unparsed
            | Payload::Other => false,
        }
    }

    /// Whether it is a part of a datagram only.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.first_fragment || self.payload == Payload::Fragment
    }

    /// Whether it can be of a flow.
    #[inline(always)]
    pub fn has_ports(&self) -> bool {
        !matches!(
            self.payload,
            Payload::Error | Payload::Link | Payload::Fragment | Payload::Unparsed | Payload::Other
        )
    }
}
