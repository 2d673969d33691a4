//! The parser: from a frame to a [`Packet`], for both families.

use bytemuck::Pod;
use network_types::{icmp::Icmpv4Hdr, tcp::TcpHdr, udp::UdpHdr};

use crate::wire::{
    address::Address,
    frame::Frame,
    packet::{Arrival, Malformed, Packet, Payload},
    protocol,
    quote::Quote,
    sctp, tcp,
    transport::{IcmpHead, Ports, TcpHead, number},
    tuple::{Echo, Side, Tuple},
};

/// An address family whose packets can be parsed.
pub trait Parse: Address {
    /// The IP header, which follows the Ethernet header.
    type Header: Pod;
    /// The most bytes of a frame that [`Self::parse_usual`] reads.
    const USUAL: u32;
    /// The most bytes of a frame that [`Self::parse`] reads.
    const LONGEST: u32;
    /// IANA number of ICMP or ICMPv6.
    const ICMP: u8;
    /// ICMP type of an echo request.
    const ECHO_REQUEST: u8;
    /// ICMP type of an echo reply.
    const ECHO_REPLY: u8;
    /// Mask of the offset of a payload, for the verifier: no offset is larger.
    const PAYLOAD_MASK: usize;

    /// Parses a packet without IP options or extension headers, so that the offset of the payload
    /// is constant. Any other is malformed here.
    fn parse_usual(
        frame: &(impl Frame + ?Sized),
        arrival: Arrival,
    ) -> Result<Packet<Self>, Malformed>;

    /// Parses a packet with any header.
    fn parse(frame: &(impl Frame + ?Sized), arrival: Arrival) -> Result<Packet<Self>, Malformed>;

    /// Parses the packet that an ICMP error quotes from offset `header_at` on. None if it is
    /// truncated, a later fragment, or of a protocol that is not translated.
    fn parse_quote(
        frame: &(impl Frame + ?Sized),
        header_at: usize,
        side: Side,
    ) -> Option<Quote<Self>>;

    /// The payload that an ICMP message of that type is.
    fn of_icmp(kind: u8) -> Payload;

    /// Whether the protocol's checksum covers the addresses.
    fn has_pseudo_header(protocol: u8) -> bool;

    /// Length of the packet in bytes, by its header.
    fn total_length(header: &Self::Header) -> u32;
}

impl<A: Parse> Tuple<A> {
    /// Sets the identifier of an echo. Returns false for any other message.
    #[inline(always)]
    fn set_echo(&mut self, head: IcmpHead) -> bool {
        if head.kind == A::ECHO_REQUEST {
            self.source_port = head.identifier;
            self.echo = Echo::REQUEST;
        } else if head.kind == A::ECHO_REPLY {
            self.destination_port = head.identifier;
            self.echo = Echo::REPLY;
        } else {
            return false;
        }
        true
    }
}

impl<A: Parse> Quote<A> {
    /// Completes a tuple with the ports of the payload at offset `payload_at`. None if that is
    /// truncated, or of a protocol that is not translated.
    #[inline(always)]
    pub(crate) fn read(
        frame: &(impl Frame + ?Sized),
        mut tuple: Tuple<A>,
        header_at: usize,
        payload_at: usize,
    ) -> Option<Self> {
        if matches!(tuple.protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
            let ports: Ports = frame.read(payload_at)?;
            tuple.source_port = ports.source;
            tuple.destination_port = ports.destination;
        } else if tuple.protocol != A::ICMP || !tuple.set_echo(frame.read(payload_at)?) {
            return None;
        }
        Some(Self { tuple, header_at, payload_at })
    }
}

impl<A: Parse> Packet<A> {
    /// Offset of the payload in the frame, masked: the verifier knows no bound of a packet that it
    /// reads from a map.
    #[inline(always)]
    pub const fn payload_offset(&self) -> usize {
        self.payload_at & A::PAYLOAD_MASK
    }

    /// Parses the header of the payload. `carried` is the length of the payload by the IP header,
    /// `header` the length of the headers before it on the wire.
    #[inline(always)]
    pub(crate) fn read_payload(
        &mut self,
        frame: &(impl Frame + ?Sized),
        arrival: Arrival,
        carried: usize,
        header: usize,
    ) -> Result<(), Malformed> {
        let payload_header = self.read_ports(frame, carried)?;
        if arrival.gso_size == sctp::GSO_BY_FRAGMENTS {
            // The size of the largest is not known; it fits the path MTU of the sender.
            self.segment = 0;
        } else if arrival.gso_size != 0 {
            self.segment = header as u32 + payload_header + arrival.gso_size;
        }
        Ok(())
    }

    /// Parses the header of the payload, and returns its length in bytes. `carried` is the length
    /// of the payload by the IP header.
    #[inline(always)]
    fn read_ports(
        &mut self,
        frame: &(impl Frame + ?Sized),
        carried: usize,
    ) -> Result<u32, Malformed> {
        let protocol = self.tuple.protocol;
        if protocol == protocol::TCP {
            let tcp: TcpHead = frame.read(self.payload_at).ok_or(Malformed)?;
            if carried < TcpHdr::LEN || tcp.offset >> 4 < 5 {
                return Err(Malformed);
            }
            self.set_ports(tcp.ports);
            self.payload = Payload::Tcp;
            self.flags = tcp.flags;
            self.sequence = number(tcp.sequence);
            self.acknowledgment = number(tcp.acknowledgment);
            return Ok(u32::from(tcp.offset >> 4) * 4);
        } else if protocol == protocol::UDP {
            let ports: Ports = frame.read(self.payload_at).ok_or(Malformed)?;
            if carried < UdpHdr::LEN {
                return Err(Malformed);
            }
            self.set_ports(ports);
            self.payload = Payload::Udp;
        } else if protocol == protocol::SCTP {
            let head: sctp::Head = frame.read(self.payload_at).ok_or(Malformed)?;
            if carried < size_of::<sctp::Head>() {
                return Err(Malformed);
            }
            self.set_ports(head.ports);
            self.payload = Payload::Sctp;
            self.flags = head.meaning();
            self.sequence = head.tag();
            if self.flags == tcp::SYN {
                let tag = frame.read(self.payload_at + size_of::<sctp::Head>()).ok_or(Malformed)?;
                self.acknowledgment = number(tag);
            }
        } else if protocol == A::ICMP {
            let head: IcmpHead = frame.read(self.payload_at).ok_or(Malformed)?;
            if carried < Icmpv4Hdr::LEN {
                return Err(Malformed);
            }
            self.payload = A::of_icmp(head.kind);
            if self.payload == Payload::Echo {
                self.tuple.set_echo(head);
            }
        }
        Ok(8)
    }

    #[inline(always)]
    fn set_ports(&mut self, ports: Ports) {
        self.tuple.source_port = ports.source;
        self.tuple.destination_port = ports.destination;
    }
}

#[cfg(test)]
mod tests;
