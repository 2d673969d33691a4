//! Parsing: from a frame to a [`Packet`], for either family.

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
    tuple::{Tuple, echo},
};

/// An address family whose packets can be parsed.
pub trait Parse: Address {
    /// Its header, which stands after the Ethernet header.
    type Header: Pod;
    /// How many bytes of a frame [`Self::parse_usual`] looks at, at most.
    const USUAL: u32;
    /// How many [`Self::parse`] does.
    const LONGEST: u32;
    /// IANA number of its ICMP.
    const ICMP: u8;
    /// ICMP's type of an echo request.
    const ECHO_REQUEST: u8;
    /// ICMP's type of an echo reply.
    const ECHO_REPLY: u8;
    /// No payload begins later in a frame than this says, all of whose bits are ones.
    const PAYLOAD_MASK: usize;

    /// Parses a packet whose header has nothing in it that nearly none has: where its payload
    /// begins is known beforehand.
    fn parse_usual(
        frame: &(impl Frame + ?Sized),
        arrival: Arrival,
    ) -> Result<Packet<Self>, Malformed>;

    /// Parses a packet that begins after the Ethernet header.
    fn parse(frame: &(impl Frame + ?Sized), arrival: Arrival) -> Result<Packet<Self>, Malformed>;

    /// Parses what an ICMP error quotes from `header_at` on; none if that is cut short, a later
    /// fragment, or nothing that is translated.
    fn parse_quote(
        frame: &(impl Frame + ?Sized),
        header_at: usize,
        side: u8,
    ) -> Option<Quote<Self>>;

    /// What an ICMP message of that type is.
    fn of_icmp(kind: u8) -> Payload;

    /// Whether the protocol's checksum covers the addresses.
    fn has_pseudo_header(protocol: u8) -> bool;

    /// Bytes of the whole packet, as its header says.
    fn total_length(header: &Self::Header) -> u32;
}

impl<A: Parse> Tuple<A> {
    /// Takes the identifier of an echo; false for any other message.
    #[inline(always)]
    fn set_echo(&mut self, head: IcmpHead) -> bool {
        if head.kind == A::ECHO_REQUEST {
            self.source_port = head.identifier;
            self.echo = echo::REQUEST;
        } else if head.kind == A::ECHO_REPLY {
            self.destination_port = head.identifier;
            self.echo = echo::REPLY;
        } else {
            return false;
        }
        true
    }
}

impl<A: Parse> Quote<A> {
    /// What the payload that begins at `payload_at` adds to a tuple without ports; none if it is
    /// cut short, or nothing that is translated.
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
    /// Where the payload begins in the frame, with a bound that the verifier does not know of a
    /// packet from a map.
    #[inline(always)]
    pub const fn payload_offset(&self) -> usize {
        self.payload_at & A::PAYLOAD_MASK
    }

    /// Fills in what the payload's header says. `carried` is how many bytes the IP header says
    /// there are, `header` how many that has which are on the wire.
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

    /// Fills in what the payload's header says, and answers its length in bytes. `carried` is how
    /// many bytes the IP header says there are.
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
