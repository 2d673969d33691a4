//! What a frame says: its tuple, and what of it would need translation.

use bytemuck::{AnyBitPattern, Pod, Zeroable};

use crate::{
    abi::Translation,
    address::{Address, Port, V4},
    answer::Why,
    checksum,
    flow::tcp,
    icmp_error::{FrameMut, Quote},
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

/// An IPv4 header (RFC 791), without options.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Ipv4 {
    /// Version, and header length in words of 32 bits.
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Bytes of header and payload, in network order.
    pub total_length: u16,
    /// Identification.
    pub id: u16,
    /// Flags and fragment offset, in network order.
    pub fragment: u16,
    /// Hops left.
    pub ttl: u8,
    /// IANA number of what follows.
    pub protocol: u8,
    /// Checksum of this header.
    pub checksum: u16,
    /// Source address.
    pub source: V4,
    /// Destination address.
    pub destination: V4,
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
    /// A fragment that is not a datagram's first: its tuple has no ports.
    Fragment,
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
    /// TCP's flags, or those that mean the same as SCTP's first chunk; zero for other protocols. (Inside `Payload` they would be undefined for the others, and the verifier takes no
    /// undefined byte.)
    pub flags: u8,
    /// TCP's sequence number, or SCTP's verification tag; zero for other protocols.
    pub sequence: u32,
    /// TCP's acknowledgment number, or the tag that an SCTP INIT or INIT ACK asks for; zero for other protocols.
    pub acknowledgment: u32,
    /// Where the payload begins in the frame.
    pub payload_at: usize,
    /// Hops left.
    pub ttl: u8,
    /// Where it arrived.
    pub input: u32,
    /// Bytes from the IP header on, of a GSO packet as a whole.
    pub length: u32,
    /// Bytes of the longest packet on the wire, from the IP header on: of each segment, for a GSO packet.
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

/// In IPv4's field of flags and fragment offset, as the frame's bytes stand in a word: set in every fragment.
const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff_u16.to_be();

/// In the same field: routers must not fragment the packet.
const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();

/// In the same field: zero in a first fragment.
const FRAGMENT_OFFSET: u16 = 0x1fff_u16.to_be();

/// A family whose packets can be parsed and rewritten.
pub trait Family: Address {
    /// Its header, which stands after the Ethernet header.
    type Header: Pod;

    /// Parses a packet that begins after the Ethernet header.
    fn parse(frame: &(impl Frame + ?Sized), arrival: Arrival) -> Result<Packet<Self>, Malformed>;
    /// Parses what an ICMP error quotes from `header_at` on; none if that is cut short, a later fragment, or nothing that is translated.
    fn parse_quote(frame: &(impl Frame + ?Sized), header_at: usize, side: u8) -> Option<Quote<Self>>;
    /// Rewrites the header, with one hop less.
    fn rewrite(header: &mut Self::Header, translation: &Translation<Self>);
    /// Rewrites a quoted header's addresses, which change the sum over them by `address_delta`.
    fn rewrite_quoted(header: &mut Self::Header, to: &Tuple<Self>, address_delta: u16);
    /// Rewrites a fragment's identification; none if the frame is shorter than it was.
    fn rewrite_id(frame: &mut (impl FrameMut + ?Sized), packet: &Packet<Self>, id: u32) -> Option<()>;
    /// Whether the protocol's checksum covers the addresses.
    fn has_pseudo_header(protocol: u8) -> bool;
    /// Bytes of the whole packet, as its header says.
    fn total_length(header: &Self::Header) -> u32;
    /// The header of an ICMP error of the host's own, with `length` bytes after it.
    fn answer_header(source: Self, destination: Self, length: u16) -> Self::Header;
    /// What that header adds to the sum over the error.
    fn answer_sum(header: &Self::Header) -> u32;
    /// The error's type and code.
    fn answer_kind(why: Why) -> (u8, u8);
}

impl Family for V4 {
    type Header = Ipv4;

    #[inline(always)]
    fn rewrite(header: &mut Ipv4, translation: &Translation<Self>) {
        // One less in the first byte of the word (TTL, protocol).
        const ONE_HOP: u16 = u16::from_ne_bytes([0xfe, 0xff]);
        header.ttl = header.ttl.wrapping_sub(1);
        let delta = u32::from(translation.address_delta) + u32::from(ONE_HOP);
        header.checksum = checksum::update(header.checksum, delta);
        header.source = translation.tuple.source;
        header.destination = translation.tuple.destination;
    }

    #[inline(always)]
    fn rewrite_quoted(header: &mut Ipv4, to: &Tuple<Self>, address_delta: u16) {
        header.checksum = checksum::update(header.checksum, u32::from(address_delta));
        header.source = to.source;
        header.destination = to.destination;
    }

    #[inline(always)]
    fn rewrite_id(frame: &mut (impl FrameMut + ?Sized), _packet: &Packet<Self>, id: u32) -> Option<()> {
        let mut header: Ipv4 = frame.read(ETHERNET)?;
        let delta = checksum::delta(u32::from(header.id), u32::from(id as u16));
        header.checksum = checksum::update(header.checksum, u32::from(delta));
        header.id = id as u16;
        frame.put(ETHERNET, &header)
    }

    #[inline(always)]
    fn has_pseudo_header(protocol: u8) -> bool {
        !matches!(protocol, protocol::ICMP | protocol::SCTP)
    }

    #[inline(always)]
    fn total_length(header: &Ipv4) -> u32 {
        match u16::from_be(header.total_length) {
            // BIG TCP.
            0 => u32::MAX,
            length => u32::from(length),
        }
    }

    #[inline(always)]
    fn answer_header(source: Self, destination: Self, length: u16) -> Ipv4 {
        let mut header = Ipv4 {
            version_ihl: 0x45,
            // Internetwork control (RFC 1812 section 4.3.2.5).
            tos: 0xc0,
            total_length: (size_of::<Ipv4>() as u16 + length).to_be(),
            id: 0,
            fragment: DONT_FRAGMENT,
            ttl: 64,
            protocol: protocol::ICMP,
            checksum: 0,
            source,
            destination,
        };
        let sum = u32::from(u16::from_ne_bytes([header.version_ihl, header.tos]))
            + u32::from(header.total_length)
            + u32::from(header.fragment)
            + u32::from(u16::from_ne_bytes([header.ttl, header.protocol]))
            + source.sum()
            + destination.sum();
        header.checksum = !checksum::fold(sum);
        header
    }

    #[inline(always)]
    fn answer_sum(_header: &Ipv4) -> u32 {
        0
    }

    #[inline(always)]
    fn answer_kind(why: Why) -> (u8, u8) {
        match why {
            Why::TimeExceeded => (icmp::TIME_EXCEEDED, 0),
            Why::TooLong => (icmp::UNREACHABLE, 4),
            Why::Prohibited => (icmp::UNREACHABLE, 13),
            Why::NoRoute => (icmp::UNREACHABLE, 0),
        }
    }

    #[inline(always)]
    fn parse_quote(frame: &(impl Frame + ?Sized), header_at: usize, side: u8) -> Option<Quote<Self>> {
        let ip: Ipv4 = frame.read(header_at)?;
        let header = usize::from(ip.version_ihl & 0x0f) * 4;
        if ip.version_ihl >> 4 != 4 || header < 20 || ip.fragment & FRAGMENT_OFFSET != 0 {
            return None;
        }
        let payload_at = header_at + header;
        let mut tuple = Tuple {
            source: ip.source,
            destination: ip.destination,
            source_port: Port::ZERO,
            destination_port: Port::ZERO,
            protocol: ip.protocol,
            side,
            echo: echo::NONE,
            _pad: 0,
        };
        match ip.protocol {
            protocol::TCP | protocol::UDP | protocol::SCTP => {
                let ports: Ports = frame.read(payload_at)?;
                tuple.source_port = ports.source;
                tuple.destination_port = ports.destination;
            }
            protocol::ICMP => {
                let head: IcmpHead = frame.read(payload_at)?;
                if !tuple.set_echo(head, icmp::ECHO_REQUEST, icmp::ECHO_REPLY) {
                    return None;
                }
            }
            _ => return None,
        }
        Some(Quote { tuple, header_at, payload_at })
    }

    #[inline(always)]
    fn parse(frame: &(impl Frame + ?Sized), arrival: Arrival) -> Result<Packet<Self>, Malformed> {
        let ip: Ipv4 = frame.read(ETHERNET).ok_or(Malformed)?;
        let header = usize::from(ip.version_ihl & 0x0f) * 4;
        let length = arrival.length.wrapping_sub(ETHERNET as u32);
        // A total length of zero is a GSO packet of more than 65,535 bytes (BIG TCP).
        let total = u32::from(u16::from_be(ip.total_length));
        if ip.version_ihl >> 4 != 4 || header < 20 || total > length || (total != 0 && (total as usize) < header) {
            return Err(Malformed);
        }
        let payload_at = ETHERNET + header;
        let mut packet = Packet {
            tuple: Tuple {
                source: ip.source,
                destination: ip.destination,
                source_port: Port::ZERO,
                destination_port: Port::ZERO,
                protocol: ip.protocol,
                side: arrival.side,
                echo: echo::NONE,
                _pad: 0,
            },
            payload: Payload::Other,
            flags: 0,
            sequence: 0,
            acknowledgment: 0,
            payload_at,
            ttl: ip.ttl,
            input: arrival.input,
            length,
            segment: length,
            dont_fragment: ip.fragment & DONT_FRAGMENT != 0,
            first_fragment: false,
            id: 0,
        };
        if ip.fragment & MORE_FRAGMENTS_AND_OFFSET != 0 {
            packet.id = u32::from(ip.id);
            if ip.fragment & FRAGMENT_OFFSET != 0 {
                packet.payload = Payload::Fragment;
                return Ok(packet);
            }
            packet.first_fragment = true;
        }
        let carried = if total == 0 { usize::MAX } else { total as usize - header };
        let payload_header = packet.read_ports(frame, carried, protocol::ICMP)?;
        if arrival.gso_size == sctp::GSO_BY_FRAGMENTS {
            // How long the longest is nobody says: no longer than the sender found its path to be.
            packet.segment = 0;
        } else if arrival.gso_size != 0 {
            packet.segment = (header as u32) + payload_header + arrival.gso_size;
        }
        Ok(packet)
    }
}

/// Types of ICMP messages, of both families.
mod icmp {
    pub(super) const ECHO_REPLY: u8 = 0;
    pub(super) const UNREACHABLE: u8 = 3;
    pub(super) const TIME_EXCEEDED: u8 = 11;
    pub(super) const PARAMETER_PROBLEM: u8 = 12;
    pub(super) const ECHO_REQUEST: u8 = 8;
    pub(super) const ECHO_REQUEST_V6: u8 = 128;
    pub(super) const ECHO_REPLY_V6: u8 = 129;
}

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

impl<A> Tuple<A> {
    /// Takes the identifier of an echo; false for any other message.
    #[inline(always)]
    fn set_echo(&mut self, head: IcmpHead, request: u8, reply: u8) -> bool {
        if head.kind == request {
            self.source_port = head.identifier;
            self.echo = echo::REQUEST;
        } else if head.kind == reply {
            self.destination_port = head.identifier;
            self.echo = echo::REPLY;
        } else {
            return false;
        }
        true
    }
}

impl<A: Address> Packet<A> {
    /// Whether it may begin a flow: TCP by a SYN alone, UDP always, SCTP by an INIT, an echo by its request.
    #[inline(always)]
    pub fn begins(&self) -> bool {
        match self.payload {
            Payload::Tcp => self.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN,
            Payload::Udp => true,
            Payload::Sctp => self.flags == tcp::SYN && self.sequence == 0,
            Payload::Echo => self.tuple.echo == echo::REQUEST,
            Payload::Error | Payload::Fragment | Payload::Other => false,
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
        !matches!(self.payload, Payload::Error | Payload::Fragment | Payload::Other)
    }

    /// Fills in what the payload's header says, and answers its length in bytes. `carried` is how many bytes the IP header says there are, `icmp` the family's ICMP.
    #[inline(always)]
    fn read_ports(&mut self, frame: &(impl Frame + ?Sized), carried: usize, icmp: u8) -> Result<u32, Malformed> {
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
        } else if protocol == icmp {
            let head: IcmpHead = frame.read(self.payload_at).ok_or(Malformed)?;
            if carried < 8 {
                return Err(Malformed);
            }
            let (request, reply) = if icmp == protocol::ICMP {
                (icmp::ECHO_REQUEST, icmp::ECHO_REPLY)
            } else {
                (icmp::ECHO_REQUEST_V6, icmp::ECHO_REPLY_V6)
            };
            if self.tuple.set_echo(head, request, reply) {
                self.payload = Payload::Echo;
            } else if icmp == protocol::ICMP
                && matches!(head.kind, icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM)
            {
                self.payload = Payload::Error;
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
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::tuple::side;

    const ARRIVAL: Arrival = Arrival { side: side::CONTAINER, input: 7, length: 0, gso_size: 0 };

    fn parse(frame: &[u8]) -> Result<Packet<V4>, Malformed> {
        V4::parse(frame, Arrival { length: u32::try_from(frame.len()).unwrap(), ..ARRIVAL })
    }

    fn tcp() -> Vec<u8> {
        let mut frame = std::vec![0; ETHERNET];
        frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 172, 18, 0, 2, 203, 0, 113, 10]);
        frame.extend([0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 0xff, 0xff, 0, 0, 0, 0]);
        frame
    }

    fn changed(at: usize, value: u8) -> Vec<u8> {
        let mut frame = tcp();
        frame[at] = value;
        frame
    }

    #[test]
    fn a_tcp_packet_says_who_and_what() {
        let packet = parse(&tcp()).unwrap();
        assert_eq!(packet.tuple.source.octets(), [172, 18, 0, 2]);
        assert_eq!(packet.tuple.destination.octets(), [203, 0, 113, 10]);
        assert_eq!((packet.tuple.source_port.get(), packet.tuple.destination_port.get()), (4000, 80));
        assert_eq!((packet.payload, packet.flags, packet.payload_at), (Payload::Tcp, 0x12, 34));
        assert_eq!((packet.ttl, packet.length, packet.input), (64, 40, 7));
        assert!(!packet.begins());
    }

    #[test]
    fn no_frame_cut_short_is_read_beyond_its_end() {
        let frame = tcp();
        for length in 0..frame.len() {
            assert_eq!(parse(&frame[..length]), Err(Malformed), "{length} bytes");
        }
    }

    #[test]
    fn headers_that_contradict_themselves_are_malformed() {
        for (what, at, value) in [
            ("version 6", 14, 0x65),
            ("a header of four words", 14, 0x44),
            ("a header longer than the packet", 14, 0x4f),
            ("longer than the frame", 17, 41),
            ("shorter than its header", 17, 19),
            ("no room for TCP", 17, 39),
            ("a TCP header of four words", 46, 0x40),
        ] {
            assert_eq!(parse(&changed(at, value)), Err(Malformed), "{what}");
        }
    }

    #[test]
    fn a_total_length_of_zero_is_a_large_gso_packet() {
        assert!(parse(&changed(17, 0)).is_ok());
    }

    #[test]
    fn what_begins_a_flow() {
        for (flags, begins) in
            [(0x02, true), (0xc2, true), (0x12, false), (0x06, false), (0x03, false), (0x10, false), (0, false)]
        {
            assert_eq!(parse(&changed(47, flags)).unwrap().begins(), begins, "flags {flags:#x}");
        }
        let mut echo = changed(23, protocol::ICMP);
        for (kind, payload, begins) in [
            (8, Payload::Echo, true),
            (0, Payload::Echo, false),
            (3, Payload::Error, false),
            (5, Payload::Other, false),
        ] {
            echo[34] = kind;
            let packet = parse(&echo).unwrap();
            assert_eq!((packet.payload, packet.begins()), (payload, begins), "type {kind}");
        }
        let fragment = parse(&changed(21, 8)).unwrap();
        assert_eq!((fragment.payload, fragment.begins(), fragment.has_ports()), (Payload::Fragment, false, false));
        assert!(parse(&changed(23, protocol::UDP)).unwrap().begins());
    }

    #[test]
    fn any_bytes_are_parsed_or_refused() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut parsed = 0;
        for round in 0..200_000_u32 {
            let mut frame = tcp();
            for _ in 0..=round % 6 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = usize::try_from(state >> 33).unwrap() % frame.len();
                frame[at] = (state >> 24) as u8;
            }
            frame.truncate(frame.len() - usize::try_from(state >> 60).unwrap());
            if let Ok(packet) = parse(&frame) {
                parsed += 1;
                assert!((34..=74).contains(&packet.payload_at));
                assert!(packet.payload_at <= frame.len());
            }
        }
        assert!(parsed > 1000);
    }
}
