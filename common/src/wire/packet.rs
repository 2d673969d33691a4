//! A parsed packet: its tuple, and what else translation needs.

use crate::wire::{
    address::Address,
    ethernet::ETHERNET,
    tcp,
    tuple::{Echo, Side, Tuple},
};

/// The payload, as far as translation tells it apart.
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
    /// Link-local control messages of IPv6: neighbour discovery (RFC 4861) and multicast listener
    /// discovery (RFC 3810).
    Link,
    /// A later fragment. Its tuple has no ports.
    Fragment,
    /// Behind more IPv6 extension headers than are parsed, or behind a routing header with segments
    /// left.
    Unparsed,
    /// Any other. Its tuple has no ports.
    Other,
}

/// A packet, parsed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet<A> {
    /// The tuple with which it arrived.
    pub tuple: Tuple<A>,
    /// The payload.
    pub payload: Payload,
    /// TCP's flags, or the equivalent of SCTP's first chunk; zero for other protocols. Not part of
    /// `Payload`: bytes of other variants would be uninitialised, which the verifier refuses.
    pub flags: u8,
    /// TCP's sequence number, or SCTP's verification tag; zero for other protocols.
    pub sequence: u32,
    /// TCP's acknowledgment number, or the initiate tag of an SCTP INIT or INIT ACK; zero for other
    /// protocols.
    pub acknowledgment: u32,
    /// Offset of the payload in the frame.
    pub payload_at: usize,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Index of the interface where it arrived.
    pub input: u32,
    /// Length in bytes, from the IP header on; of a GSO packet, that of all segments together.
    pub length: u32,
    /// Length in bytes of the longest packet on the wire, from the IP header on; of a GSO packet,
    /// that of a segment.
    pub segment: u32,
    /// Whether routers must not fragment it.
    pub dont_fragment: bool,
    /// Whether it is the first fragment of a datagram.
    pub first_fragment: bool,
    /// Identification of a fragment, in the packet's byte order; zero for any other packet.
    pub id: u32,
}

/// The frame has no packet of the expected family, or its headers contradict each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

/// Where and how a frame arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Where it enters the datapath.
    pub side: Side,
    /// Index of the interface.
    pub input: u32,
    /// Length of the frame in bytes; of a GSO packet, that of all segments together.
    pub length: u32,
    /// Bytes of payload in each segment of a GSO packet; zero for any other.
    pub gso_size: u32,
}

impl<A: Address> Packet<A> {
    /// A packet of which only the IP header was parsed.
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

    /// Whether it can start a flow: a TCP SYN without ACK, any UDP, an SCTP INIT, an echo request.
    #[inline(always)]
    pub fn begins(&self) -> bool {
        match self.payload {
            Payload::Tcp => self.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN,
            Payload::Udp => true,
            Payload::Sctp => self.flags == tcp::SYN && self.sequence == 0,
            Payload::Echo => self.tuple.echo == Echo::REQUEST,
            Payload::Error
            | Payload::Link
            | Payload::Fragment
            | Payload::Unparsed
            | Payload::Other => false,
        }
    }

    /// Whether it is a fragment.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.first_fragment || self.payload == Payload::Fragment
    }

    /// Whether its tuple has ports, so that it can belong to a flow.
    #[inline(always)]
    pub fn has_ports(&self) -> bool {
        !matches!(
            self.payload,
            Payload::Error | Payload::Link | Payload::Fragment | Payload::Unparsed | Payload::Other
        )
    }
}
