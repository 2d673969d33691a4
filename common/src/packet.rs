//! What a frame says: its tuple, and what of it would need translation.

use bytemuck::{AnyBitPattern, Pod, Zeroable};

use crate::{
    abi::Translation,
    address::{Address, Port},
    drop_reason::DropReason,
    env::Tables,
    flow::tcp,
    icmp_error::{FrameMut, Quote},
    icmp_reply::IcmpErrorKind,
    sctp,
    tuple::{Tuple, echo, protocol},
};

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// Types of Ethernet frames, as the frame's bytes stand in a word.
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800_u16.to_be();
    /// ARP.
    pub const ARP: u16 = 0x0806_u16.to_be();
    /// IPv6.
    pub const IPV6: u16 = 0x86dd_u16.to_be();
}

/// A frame that can be read.
pub trait Frame {
    /// What stands at `offset`; none if the frame ends before that.
    fn read<T: AnyBitPattern>(&self, offset: usize) -> Option<T>;
}

impl Frame for [u8] {
    fn read<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        self.get(offset..offset.checked_add(size_of::<T>())?).map(bytemuck::pod_read_unaligned)
    }
}

/// An Ethernet header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Ethernet {
    /// Destination MAC.
    pub destination: [u8; 6],
    /// Source MAC.
    pub source: [u8; 6],
    /// As the frame's bytes stand in a word.
    pub ether_type: u16,
}

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

/// The frame's source MAC; zero if it ends before that.
#[inline(always)]
pub fn source_mac(frame: &(impl Frame + ?Sized)) -> [u8; 6] {
    match frame.read::<Ethernet>(0) {
        Some(header) => header.source,
        None => [0; 6],
    }
}

/// What is not a packet of the family asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

/// Where and how a frame arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// One of [`crate::tuple::side`].
    pub side: u8,
    /// The interface's index.
    pub input: u32,
    /// The frame's length in bytes; a GSO packet's as a whole.
    pub length: u32,
    /// Bytes of payload in each segment of a GSO packet; zero for any other.
    pub gso_size: u32,
}

/// A family whose packets can be parsed and rewritten.
pub trait Family: Address {
    /// Its header, which stands after the Ethernet header.
    type Header: Pod;

    /// Whether nothing in the header makes up for what changes in it.
    const HAS_NO_HEADER_CHECKSUM: bool;
    /// What one hop less adds to a sum over the header.
    const ONE_HOP: u16;
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
    /// Decides about what keeps a container's link going ([`Payload::Link`]).
    fn link_from_container(
        frame: &(impl Frame + ?Sized),
        packet: &Packet<Self>,
        tables: &impl Tables<Self>,
    ) -> DropReason;
    /// Rewrites the header, with one hop less.
    fn rewrite(header: &mut Self::Header, translation: &Translation<Self>);
    /// Rewrites a quoted header's addresses, which change the sum over them by `address_delta`.
    fn rewrite_quoted(header: &mut Self::Header, to: &Tuple<Self>, address_delta: u16);
    /// Rewrites a fragment's identification; none if the frame is shorter than it was.
    fn rewrite_id(
        frame: &mut (impl FrameMut + ?Sized),
        packet: &Packet<Self>,
        id: u32,
    ) -> Option<()>;
    /// Whether the protocol's checksum covers the addresses.
    fn has_pseudo_header(protocol: u8) -> bool;
    /// Bytes of the whole packet, as its header says.
    fn total_length(header: &Self::Header) -> u32;
    /// The header of an ICMP error of the host's own, with `length` bytes after it.
    fn answer_header(source: Self, destination: Self, length: u16) -> Self::Header;
    /// What that header adds to the sum over the error.
    fn answer_sum(header: &Self::Header) -> u32;
    /// The error's type and code.
    fn answer_kind(why: IcmpErrorKind) -> (u8, u8);
}

/// Bytes of TCP's header without options: the longest that parsing looks at after the IP header.
pub(crate) const TCP: u32 = 20;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Ports {
    pub(crate) source: Port,
    pub(crate) destination: Port,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct TcpHead {
    ports: Ports,
    sequence: [u16; 2],
    acknowledgment: [u16; 2],
    offset: u8,
    flags: u8,
}

/// A number of 32 bits as it stands in a header that need not be aligned to it.
#[inline(always)]
pub(crate) const fn number([high, low]: [u16; 2]) -> u32 {
    (u16::from_be(high) as u32) << 16 | u16::from_be(low) as u32
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct IcmpHead {
    kind: u8,
    code: u8,
    checksum: u16,
    identifier: Port,
}

impl<A: Family> Tuple<A> {
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

impl<A: Address> Tuple<A> {
    /// One whose ports are not known yet.
    #[inline(always)]
    pub(crate) const fn without_ports(source: A, destination: A, protocol: u8, side: u8) -> Self {
        Self {
            source,
            destination,
            source_port: Port::ZERO,
            destination_port: Port::ZERO,
            protocol,
            side,
            echo: echo::NONE,
            _pad: 0,
        }
    }
}

impl<A: Family> Quote<A> {
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

impl<A: Family> Packet<A> {
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
            // How long the longest is nobody says: no longer than the sender found its path to be.
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
            if carried < 20 || tcp.offset >> 4 < 5 {
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
            if carried < 8 {
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
            if carried < 8 {
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
