//! Between the families: IPv6 clients of a published port whose container has IPv4 alone. What they send becomes IPv4 on its way into the
//! container, and what that answers becomes IPv6 (RFC 7915, but for how it maps addresses: a flow has those of both sides).
//!
//! Such a flow is kept among IPv6's. On the container's side its addresses are IPv4-mapped: the container's own, and that of its network's gateway,
//! which speaks there for the client. So an IPv4 packet from a container to its gateway is looked for under its mapped tuple, if no flow of
//! IPv4's own has it.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{Address as _, V4, V6},
    checksum,
    icmp_error::{self, ErrorTranslation, FrameMut, HEADER_MASK, PAYLOAD_MASK, Quote},
    ipv4::{self, DONT_FRAGMENT, Ipv4},
    ipv6::{self, Ipv6, LEAST_MTU},
    packet::{ETHERNET, Frame, Packet},
    tables::Tables,
    tuple::{Tuple, protocol},
};

const HEADER4: usize = size_of::<Ipv4>();
const HEADER6: usize = size_of::<Ipv6>();

/// By how many bytes a packet is longer in IPv6.
pub const LONGER: u32 = (HEADER6 - HEADER4) as u32;

/// The longest packet that routers may fragment once it is IPv4 (RFC 7915 section 5.1): in IPv6 no router could have refused it.
const MAY_BE_CUT: u16 = LEAST_MTU as u16 - LONGER as u16;

/// Whether a packet can be of such a flow: from a container to its network's gateway.
#[inline(always)]
pub fn concerns(packet: &Packet<V4>, tables: &impl Tables<V4>) -> bool {
    tables.endpoint(&packet.tuple.source).is_some_and(|own| own.gateway == packet.tuple.destination)
}

/// An IPv4 tuple, as it is among IPv6's.
#[inline(always)]
pub const fn mapped(tuple: &Tuple<V4>) -> Tuple<V6> {
    Tuple {
        source: V6::mapped(tuple.source),
        destination: V6::mapped(tuple.destination),
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
        protocol: tuple.protocol,
        side: tuple.side,
        echo: tuple.echo,
        _pad: 0,
    }
}

/// The reverse of [`mapped`]; none if it is no such tuple.
#[inline(always)]
pub fn unmapped(tuple: &Tuple<V6>) -> Option<Tuple<V4>> {
    Some(Tuple {
        source: tuple.source.unmapped()?,
        destination: tuple.destination.unmapped()?,
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
        protocol: tuple.protocol,
        side: tuple.side,
        echo: tuple.echo,
        _pad: 0,
    })
}

/// Makes `place` an IPv4 packet, as it is among IPv6's. Its `payload_at` is where the payload begins in the frame as that is still.
#[inline(always)]
pub fn set_mapped(place: &mut Packet<V6>, packet: &Packet<V4>) {
    // Field by field, in place: a value made first and moved then would take its room on BPF's stack.
    place.tuple = mapped(&packet.tuple);
    place.payload = packet.payload;
    place.flags = packet.flags;
    place.sequence = packet.sequence;
    place.acknowledgment = packet.acknowledgment;
    place.payload_at = packet.payload_at;
    place.ttl = packet.ttl;
    place.input = packet.input;
    place.length = packet.length;
    place.segment = packet.segment + LONGER;
    place.dont_fragment = packet.dont_fragment;
    place.first_fragment = packet.first_fragment;
    place.id = packet.id;
}

/// The header that an IPv6 packet gets in its own's place: with `to`'s addresses, one hop less, and that identification where one is needed.
/// Extension headers are gone.
#[inline(always)]
pub fn to_ipv4(header: &Ipv6, packet: &Packet<V6>, to: &Tuple<V6>, id: u16) -> Ipv4 {
    let extensions = packet.payload_at.wrapping_sub(ETHERNET + HEADER6) as u16;
    let header = Ipv6 { hop_limit: header.hop_limit.wrapping_sub(1), ..*header };
    ipv4(&header, to, packet.tuple.protocol, extensions, id)
}

/// The header that an IPv4 packet gets in its own's place: with `to`'s addresses, and one hop less. Options are gone.
#[inline(always)]
pub fn to_ipv6(header: &Ipv4, packet: &Packet<V6>, to: &Tuple<V6>) -> Ipv6 {
    let length = packet.payload_at.wrapping_sub(ETHERNET) as u16;
    let header = Ipv4 { ttl: header.ttl.wrapping_sub(1), ..*header };
    ipv6(&header, to, packet.tuple.protocol, length)
}

#[inline(always)]
fn ipv4(header: &Ipv6, to: &Tuple<V6>, protocol: u8, extensions: u16, id: u16) -> Ipv4 {
    let [version, class, ..] = header.version_class_flow;
    let total = match u16::from_be(header.payload_length) {
        // A GSO packet of more than 65,535 bytes (BIG TCP) says zero in both families.
        0 => 0,
        length => length.wrapping_sub(extensions).wrapping_add(HEADER4 as u16),
    };
    let may_be_cut = total != 0 && total <= MAY_BE_CUT;
    let header = Ipv4 {
        version_ihl: 0x45,
        tos: version << 4 | class >> 4,
        total_length: total.to_be(),
        id: if may_be_cut { id } else { 0 },
        fragment: if may_be_cut { 0 } else { DONT_FRAGMENT },
        ttl: header.hop_limit,
        protocol,
        checksum: 0,
        source: V4::from_word(to.source.words()[3]),
        destination: V4::from_word(to.destination.words()[3]),
    };
    Ipv4 { checksum: !checksum::fold(header.sum()), ..header }
}

#[inline(always)]
fn ipv6(header: &Ipv4, to: &Tuple<V6>, protocol: u8, header_length: u16) -> Ipv6 {
    let length = match u16::from_be(header.total_length) {
        0 => 0,
        total => total.wrapping_sub(header_length),
    };
    Ipv6 {
        version_class_flow: [0x60 | header.tos >> 4, header.tos << 4, 0, 0],
        payload_length: length.to_be(),
        next_header: protocol,
        hop_limit: header.ttl,
        source: to.source,
        destination: to.destination,
    }
}

/// The beginning of an ICMP message.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
pub struct Icmp {
    kind: u8,
    code: u8,
    checksum: u16,
    /// In network order: of [`ipv6::icmp::TOO_BIG`] the MTU, of IPv4's fragmentation needed it is the second of these.
    rest: [u16; 2],
}

impl Icmp {
    /// Without the checksum.
    #[inline(always)]
    fn sum(self) -> u32 {
        u32::from(u16::from_ne_bytes([self.kind, self.code])) + u32::from(self.rest[0]) + u32::from(self.rest[1])
    }
}

/// The headers of an ICMP error in the other family: they stand one after the other, between the Ethernet header and the quoted payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ErrorHead<H> {
    /// Its own.
    pub outer: H,
    /// ICMP's.
    pub icmp: Icmp,
    /// The quoted packet's.
    pub quoted: H,
    /// By how much the quoted payload's bytes now sum to more than before.
    pub payload_delta: u16,
}

/// What an error of IPv6 is in IPv4 (RFC 7915 section 5.2); none if it has no like.
#[inline(always)]
fn kind_to_ipv4(icmp: &Icmp) -> Option<Icmp> {
    use ipv4::icmp::{TIME_EXCEEDED, UNREACHABLE};
    let mut mtu = 0;
    let (kind, code) = match (icmp.kind, icmp.code) {
        // No route, beyond the scope of the source, address unreachable: host unreachable.
        (ipv6::icmp::UNREACHABLE, 0 | 2 | 3) => (UNREACHABLE, 1),
        // Administratively prohibited.
        (ipv6::icmp::UNREACHABLE, 1) => (UNREACHABLE, 10),
        // Port unreachable.
        (ipv6::icmp::UNREACHABLE, 4) => (UNREACHABLE, 3),
        (ipv6::icmp::TOO_BIG, _) => {
            let [high, low] = icmp.rest.map(u16::from_be);
            // Less than that no node believes (RFC 8201 section 4).
            let most = if high == 0 { low } else { u16::MAX };
            mtu = if most > LEAST_MTU as u16 { most - LONGER as u16 } else { MAY_BE_CUT };
            (UNREACHABLE, 4)
        }
        (ipv6::icmp::TIME_EXCEEDED, code) => (TIME_EXCEEDED, code),
        // Unrecognized next header: protocol unreachable.
        (ipv6::icmp::PARAMETER_PROBLEM, 1) => (UNREACHABLE, 2),
        _ => return None,
    };
    Some(Icmp { kind, code, checksum: 0, rest: [0, mtu.to_be()] })
}

/// What an error of IPv4 is in IPv6 (RFC 7915 section 4.2); none if it has no like.
#[inline(always)]
fn kind_to_ipv6(icmp: &Icmp) -> Option<Icmp> {
    use ipv6::icmp::{PARAMETER_PROBLEM, TIME_EXCEEDED, TOO_BIG, UNREACHABLE};
    let mut rest = 0;
    let (kind, code) = match (icmp.kind, icmp.code) {
        // Network and host unreachable, the same for a type of service, and those that nobody sends any more: no route.
        (ipv4::icmp::UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => (UNREACHABLE, 0),
        // Protocol unreachable: unrecognized next header, which is the sixth byte.
        (ipv4::icmp::UNREACHABLE, 2) => {
            rest = 6;
            (PARAMETER_PROBLEM, 1)
        }
        (ipv4::icmp::UNREACHABLE, 3) => (UNREACHABLE, 4),
        (ipv4::icmp::UNREACHABLE, 4) => {
            // Zero from who knows no such field (RFC 1191 section 5): the least that there can be is always true.
            rest = u16::from_be(icmp.rest[1]).saturating_add(LONGER as u16).max(LEAST_MTU as u16);
            (TOO_BIG, 0)
        }
        (ipv4::icmp::UNREACHABLE, 9 | 10 | 13 | 15) => (UNREACHABLE, 1),
        (ipv4::icmp::TIME_EXCEEDED, code) => (TIME_EXCEEDED, code),
        _ => return None,
    };
    Some(Icmp { kind, code, checksum: 0, rest: [0, rest.to_be()] })
}

/// What an IPv6 header adds to the sum over ICMP, with `length` bytes of that (RFC 4443 section 2.3).
#[inline(always)]
fn pseudo_sum(header: &Ipv6, length: u16) -> u32 {
    header.source.sum()
        + header.destination.sum()
        + u32::from(length.to_be())
        + u32::from(u16::from(protocol::ICMPV6).to_be())
}

/// The sum over an IPv6 header, not folded.
#[inline(always)]
fn sum(header: &Ipv6) -> u32 {
    let [a, b, c, d] = header.version_class_flow;
    u32::from(u16::from_ne_bytes([a, b]))
        + u32::from(u16::from_ne_bytes([c, d]))
        + u32::from(header.payload_length)
        + u32::from(u16::from_ne_bytes([header.next_header, header.hop_limit]))
        + header.source.sum()
        + header.destination.sum()
}

/// Makes an error of IPv6 about such a flow one of IPv4: the quoted payload in its place, the headers apart, for they become shorter.
/// None if it has no like in IPv4, or the frame is shorter than it was.
#[inline(always)]
pub fn error_to_ipv4(
    frame: &mut (impl FrameMut + ?Sized),
    packet: &Packet<V6>,
    error: &ErrorTranslation<V6>,
    id: u16,
) -> Option<ErrorHead<Ipv4>> {
    let ErrorTranslation { outer: translation, quote, quoted: to } = error;
    let icmp_at = packet.payload_at & 0xff;
    let (header_at, payload_at) = (quote.header_at & HEADER_MASK, quote.payload_at & PAYLOAD_MASK);
    if payload_at != header_at + HEADER6 {
        return None;
    }
    let outer: Ipv6 = frame.read(ETHERNET)?;
    let icmp: Icmp = frame.read(icmp_at)?;
    let quoted: Ipv6 = frame.read(header_at)?;
    let mut kind = kind_to_ipv4(&icmp)?;
    let payload_delta = checksum::fold(icmp_error::rewrite_quoted_payload(frame, payload_at, &quote.tuple, to)?);

    let extensions = icmp_at.wrapping_sub(ETHERNET + HEADER6) as u16;
    let length = u16::from_be(outer.payload_length).wrapping_sub(extensions);
    let old = pseudo_sum(&outer, length) + icmp.sum() + sum(&quoted);
    // Inside it is the quoted header too that becomes shorter.
    let last_hop = Ipv6 { hop_limit: outer.hop_limit.wrapping_sub(1), ..outer };
    let outer = ipv4(&last_hop, &translation.tuple, protocol::ICMP, extensions.wrapping_add(LONGER as u16), id);
    let quoted = ipv4(&quoted, to, to.protocol, 0, 0);
    let delta = u32::from(checksum::delta(old, kind.sum() + quoted.sum())) + u32::from(payload_delta);
    kind.checksum = checksum::update(icmp.checksum, delta);
    Some(ErrorHead { outer, icmp: kind, quoted, payload_delta })
}

/// The reverse of [`error_to_ipv4`]. None too if it would be longer than an error may be (RFC 4443 section 2.4).
#[inline(always)]
pub fn error_to_ipv6(
    frame: &mut (impl FrameMut + ?Sized),
    packet: &Packet<V6>,
    error: &ErrorTranslation<V6>,
) -> Option<ErrorHead<Ipv6>> {
    let ErrorTranslation { outer: translation, quote, quoted: to } = error;
    let icmp_at = packet.payload_at & 0x7f;
    let (header_at, payload_at) = (quote.header_at & HEADER_MASK, quote.payload_at & PAYLOAD_MASK);
    if payload_at != header_at + HEADER4 || packet.length + 2 * LONGER > LEAST_MTU {
        return None;
    }
    let outer: Ipv4 = frame.read(ETHERNET)?;
    let icmp: Icmp = frame.read(icmp_at)?;
    let quoted: Ipv4 = frame.read(header_at)?;
    let mut kind = kind_to_ipv6(&icmp)?;
    let payload_delta = checksum::fold(icmp_error::rewrite_quoted_payload(frame, payload_at, &quote.tuple, to)?);

    let old = icmp.sum() + quoted.sum();
    let header_length = (icmp_at.wrapping_sub(ETHERNET) as u16).wrapping_sub(LONGER as u16);
    let last_hop = Ipv4 { ttl: outer.ttl.wrapping_sub(1), ..outer };
    let outer = ipv6(&last_hop, &translation.tuple, protocol::ICMPV6, header_length);
    let quoted = ipv6(&quoted, to, to.protocol, HEADER4 as u16);
    let new = pseudo_sum(&outer, u16::from_be(outer.payload_length)) + kind.sum() + sum(&quoted);
    let delta = u32::from(checksum::delta(old, new)) + u32::from(payload_delta);
    kind.checksum = checksum::update(icmp.checksum, delta);
    Some(ErrorHead { outer, icmp: kind, quoted, payload_delta })
}

/// What an error about an IPv4 packet quotes, as it is among IPv6's; none as for [`icmp_error::quote`].
#[inline(always)]
pub fn quote(frame: &(impl Frame + ?Sized), icmp_at: usize, side: u8) -> Option<Quote<V6>> {
    let Quote { tuple, header_at, payload_at } = icmp_error::quote::<V4>(frame, icmp_at, side)?;
    Some(Quote { tuple: mapped(&tuple), header_at, payload_at })
}
