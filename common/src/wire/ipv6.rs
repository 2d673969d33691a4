//! IPv6 (RFC 8200) and ICMPv6 (RFC 4443).
//!
//! Up to [`EXTENSIONS`] extension headers of fewer than [`EXTENSION_BYTES`] bytes in all are
//! parsed: hop-by-hop options, destination options, a routing header without segments left, and the
//! fragment header, which is the last one. A payload behind more of them is [`Payload::Unparsed`].
//! Neighbours would parse it, so containers must not send it (RFC 7113). Any other header counts as
//! a payload without ports.

use bytemuck::{Pod, Zeroable};

use crate::wire::{
    address::{Address as _, V6},
    ethernet::ETHERNET,
    frame::Frame,
    layout::word,
    ndp,
    packet::{Arrival, Malformed, Packet, Payload},
    parse::Parse,
    protocol,
    quote::Quote,
    transport::TCP,
    tuple::{Side, Tuple},
};

pub use super::layout::Ipv6;

impl Ipv6 {
    /// The one's complement sum over the header, not folded.
    #[inline(always)]
    pub(crate) fn sum(&self) -> u32 {
        let [a, b, c, d] = self.0.vcf;
        u32::from(u16::from_ne_bytes([a, b]))
            + u32::from(u16::from_ne_bytes([c, d]))
            + u32::from(word(self.0.payload_len))
            + u32::from(u16::from_ne_bytes([self.0.next_hdr, self.0.hop_limit]))
            + self.source().sum()
            + self.destination().sum()
    }

    /// Source address.
    #[inline(always)]
    pub(crate) fn source(&self) -> V6 {
        V6::from_octets(self.0.src_addr)
    }

    /// Destination address.
    #[inline(always)]
    pub(crate) fn destination(&self) -> V6 {
        V6::from_octets(self.0.dst_addr)
    }

    /// Sets both addresses to the tuple's.
    #[inline(always)]
    pub(crate) fn set_addresses(&mut self, tuple: &Tuple<V6>) {
        self.0.src_addr = tuple.source.octets();
        self.0.dst_addr = tuple.destination.octets();
    }
}

/// The smallest MTU that a link may have, in bytes (RFC 8200 section 5).
pub const LEAST_MTU: u32 = 1280;

/// The most extension headers that are parsed.
pub const EXTENSIONS: usize = 4;

/// All extension headers together have fewer bytes than this.
pub const EXTENSION_BYTES: usize = 128;

/// Bytes of a header without extension headers.
pub(crate) const HEADER: usize = size_of::<Ipv6>();

/// Bytes of the longest header with extension headers.
pub const LONGEST: usize = HEADER + EXTENSION_BYTES;

/// Bytes of the hop-by-hop options header of a jumbogram (RFC 2675).
const JUMBO_OPTION: usize = 8;

/// IANA numbers of extension headers.
mod extension {
    use network_types::ip::IpProto;

    pub(super) const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
    pub(super) const ROUTING: u8 = IpProto::Ipv6Route as u8;
    pub(super) const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
    pub(super) const DESTINATION: u8 = IpProto::Ipv6Opts as u8;
}

/// A fragment header (RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct FragmentHead {
    next_header: u8,
    _reserved: u8,
    /// In network order: the offset in the upper 13 bits, more fragments (M) in the lowest.
    offset: u16,
    id: [u16; 2],
}

const OFFSET: u16 = 0xfff8_u16.to_be();

const MORE: u16 = 1_u16.to_be();

/// The result of parsing extension headers.
#[derive(Clone, Copy)]
struct Walk {
    /// IANA number of the header that follows them.
    protocol: u8,
    /// Their length in bytes.
    length: usize,
    /// Offset and M of the fragment header, in network order; zero without one.
    fragment: u16,
    id: u32,
}

/// Whether that is the number of an extension header.
#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        extension::HOP_BY_HOP | extension::ROUTING | extension::FRAGMENT | extension::DESTINATION
    )
}

/// Parses the extension headers from offset `at` on. None if the frame is too short. Beyond the
/// bounds the result is the number of an extension header.
#[inline(always)]
fn walk(frame: &(impl Frame + ?Sized), at: usize, next: u8) -> Option<Walk> {
    let mut walk = Walk { protocol: next, length: 0, fragment: 0, id: 0 };
    for _ in 0..EXTENSIONS {
        if !is_extension(walk.protocol) {
            break;
        }
        // The verifier does not see that longer chains have ended the loop.
        let here = at + (walk.length & (EXTENSION_BYTES - 1));
        if walk.protocol == extension::FRAGMENT {
            let head: FragmentHead = frame.read(here)?;
            if walk.length + size_of::<FragmentHead>() >= EXTENSION_BYTES {
                break;
            }
            walk.length += size_of::<FragmentHead>();
            walk.protocol = head.next_header;
            walk.fragment = head.offset & (OFFSET | MORE);
            walk.id = u32::from(head.id[0]) | u32::from(head.id[1]) << 16;
            break;
        }
        let [next, words, _, left]: [u8; 4] = frame.read(here)?;
        let length = (usize::from(words) + 1) * 8;
        if walk.length + length >= EXTENSION_BYTES
            || (walk.protocol == extension::ROUTING && left != 0)
        {
            break;
        }
        walk.length += length;
        walk.protocol = next;
    }
    Some(walk)
}

impl Parse for V6 {
    type Header = Ipv6;
    const USUAL: u32 = (ETHERNET + HEADER) as u32 + TCP;
    const LONGEST: u32 = (ETHERNET + LONGEST) as u32 + TCP;
    const ICMP: u8 = protocol::ICMPV6;
    const ECHO_REQUEST: u8 = icmp::ECHO_REQUEST;
    const ECHO_REPLY: u8 = icmp::ECHO_REPLY;
    const PAYLOAD_MASK: usize = 0xff;

    #[inline(always)]
    fn parse_usual(
        frame: &(impl Frame + ?Sized),
        arrival: Arrival,
    ) -> Result<Packet<Self>, Malformed> {
        parse::<true>(frame, arrival)
    }

    #[inline(always)]
    fn parse(frame: &(impl Frame + ?Sized), arrival: Arrival) -> Result<Packet<Self>, Malformed> {
        parse::<false>(frame, arrival)
    }

    #[inline(always)]
    fn parse_quote(
        frame: &(impl Frame + ?Sized),
        header_at: usize,
        side: Side,
    ) -> Option<Quote<Self>> {
        let ip: Ipv6 = frame.read(header_at)?;
        if ip.0.vcf[0] >> 4 != 6 {
            return None;
        }
        let walk = walk(frame, header_at + HEADER, ip.0.next_hdr)?;
        if walk.fragment & OFFSET != 0 {
            return None;
        }
        let tuple = Tuple::without_ports(ip.source(), ip.destination(), walk.protocol, side);
        Quote::read(frame, tuple, header_at, header_at + HEADER + walk.length)
    }

    #[inline(always)]
    fn of_icmp(kind: u8) -> Payload {
        match kind {
            icmp::ECHO_REQUEST | icmp::ECHO_REPLY => Payload::Echo,
            icmp::UNREACHABLE..=icmp::PARAMETER_PROBLEM => Payload::Error,
            ndp::LISTENER_QUERY..=ndp::REDIRECT
            | ndp::LISTENER_REPORT_V2
            | ndp::ROUTER_OF_GROUPS..=ndp::NO_ROUTER_OF_GROUPS => Payload::Link,
            _ => Payload::Other,
        }
    }

    #[inline(always)]
    fn has_pseudo_header(protocol: u8) -> bool {
        protocol != protocol::SCTP
    }

    #[inline(always)]
    fn total_length(header: &Ipv6) -> u32 {
        match u16::from_be_bytes(header.0.payload_len) {
            // BIG TCP.
            0 => u32::MAX,
            length => HEADER as u32 + u32::from(length),
        }
    }
}

#[inline(always)]
fn parse<const USUAL: bool>(
    frame: &(impl Frame + ?Sized),
    arrival: Arrival,
) -> Result<Packet<V6>, Malformed> {
    let ip: Ipv6 = frame.read(ETHERNET).ok_or(Malformed)?;
    let length = arrival.length.wrapping_sub(ETHERNET as u32);
    let carried = u32::from(u16::from_be_bytes(ip.0.payload_len));
    // A payload length of zero is a GSO packet of more than 65,535 bytes (BIG TCP).
    let jumbo = carried == 0 && arrival.gso_size != 0;
    if ip.0.vcf[0] >> 4 != 6
        || HEADER as u32 + carried > length
        || ip.source().is_v4_mapped()
        || ip.destination().is_v4_mapped()
        || (USUAL && is_extension(ip.0.next_hdr))
    {
        return Err(Malformed);
    }
    let tuple = Tuple::without_ports(ip.source(), ip.destination(), ip.0.next_hdr, arrival.side);
    let mut packet = Packet::without_payload(tuple, arrival, ETHERNET + HEADER, ip.0.hop_limit);
    packet.dont_fragment = true;
    if !USUAL && is_extension(ip.0.next_hdr) {
        let walk = walk(frame, ETHERNET + HEADER, ip.0.next_hdr).ok_or(Malformed)?;
        packet.tuple.protocol = walk.protocol;
        packet.payload_at += walk.length;
        if !jumbo && (carried as usize) < walk.length {
            return Err(Malformed);
        }
        // With neither offset nor M it is an atomic fragment: a whole datagram (RFC 6946).
        if walk.fragment != 0 {
            packet.id = walk.id;
            if walk.fragment & OFFSET != 0 {
                packet.payload = Payload::Fragment;
                return Ok(packet);
            }
            packet.first_fragment = true;
        }
        if is_extension(walk.protocol) {
            packet.payload = Payload::Unparsed;
            return Ok(packet);
        }
    }
    let header = packet.payload_at - ETHERNET;
    let carried = if jumbo { usize::MAX } else { carried as usize + HEADER - header };
    // The kernel removes the option from the segments of a jumbogram.
    let option = if jumbo && ip.0.next_hdr == extension::HOP_BY_HOP { JUMBO_OPTION } else { 0 };
    packet.read_payload(frame, arrival, carried, header - option)?;
    Ok(packet)
}

/// ICMPv6 types.
pub(crate) mod icmp {
    use network_types::icmp::Icmpv6Type;

    pub(crate) const UNREACHABLE: u8 = 1;
    pub(crate) const TOO_BIG: u8 = Icmpv6Type::PacketTooBig as u8;
    pub(crate) const TIME_EXCEEDED: u8 = 3;
    pub(crate) const PARAMETER_PROBLEM: u8 = Icmpv6Type::ParameterProblem as u8;
    pub(super) const ECHO_REQUEST: u8 = Icmpv6Type::EchoRequest as u8;
    pub(super) const ECHO_REPLY: u8 = Icmpv6Type::EchoReply as u8;
}

#[cfg(test)]
mod tests;
