//! Between the families: IPv6 clients of a published port whose container has IPv4 alone. What they
//! send becomes IPv4 on its way into the container, and what that answers becomes IPv6 (RFC 7915,
//! but for how it maps addresses: a flow has those of both sides).
//!
//! Such a flow is kept among IPv6's. On the container's side its addresses are IPv4-mapped: the
//! container's own, and that of its network's gateway, which speaks there for the client. So an
//! IPv4 packet from a container to its gateway is looked for under its mapped tuple, if no flow of
//! IPv4's own has it.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{V4, V6},
    checksum,
    drop_reason::DropReason,
    env::Tables,
    forward::{self, Decision},
    icmp_error::{self, ErrorTranslation, FrameMut, HEADER_MASK, PAYLOAD_MASK, Quote},
    ipv4::{self, DONT_FRAGMENT, Ipv4},
    ipv6::{self, Ipv6, LEAST_MTU},
    packet::{ETHERNET, Family as _, Frame, Packet, Payload},
    plan::Scratch,
    tuple::{Tuple, protocol, side},
};

const HEADER4: usize = size_of::<Ipv4>();
const HEADER6: usize = size_of::<Ipv6>();

/// By how many bytes a packet is longer in IPv6.
pub const HEADER_GROWTH: u32 = (HEADER6 - HEADER4) as u32;

/// The longest packet that routers may fragment once it is IPv4 (RFC 7915 section 5.1): in IPv6 no
/// router could have refused it.
const MAX_FRAGMENTABLE: u16 = LEAST_MTU as u16 - HEADER_GROWTH as u16;

/// Decides about an IPv4 packet as it is among IPv6's, if it is of such a flow; none if it is not,
/// and IPv4's own tables are to be asked.
///
/// The kernel's programs take the steps themselves, as they do those of [`forward::decide`].
pub fn decide(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<V4>,
    tables: &impl Tables<V4>,
    v6_tables: &impl Tables<V6>,
) -> Option<Decision<V6>> {
    if packet.tuple.side != side::CONTAINER || !may_be_nat64(packet, tables) {
        return None;
    }
    let mut scratch = Scratch::new(mapped_packet(packet), [0; 6]);
    if packet.payload == Payload::Error {
        scratch.error_translation.quote = quote(frame, packet.payload_at, packet.tuple.side)?;
        let translated =
            icmp_error::translate(&scratch.packet, &mut scratch.error_translation, v6_tables)?;
        return Some(
            translated.map_or_else(Decision::Stop, |()| {
                Decision::ForwardError(scratch.error_translation)
            }),
        );
    }
    if packet.first_fragment {
        return v6_tables.flow(&scratch.packet.tuple).map(|_| Decision::Stop(DropReason::Fragment));
    }
    let leaves = forward::lookup(&scratch.packet, &mut scratch.entry.translation, v6_tables)?;
    let translation = &scratch.entry.translation;
    Some(match leaves {
        // As long as it may be before it becomes longer.
        Err(DropReason::TooLong) => {
            Decision::TooLong(translation.mtu.saturating_sub(HEADER_GROWTH as u16))
        }
        leaves => Decision::of(leaves, translation),
    })
}

/// Whether a packet can be of such a flow: from a container to its network's gateway.
#[inline(always)]
pub fn may_be_nat64(packet: &Packet<V4>, tables: &impl Tables<V4>) -> bool {
    tables.endpoint(&packet.tuple.source).is_some_and(|own| own.gateway == packet.tuple.destination)
}

/// An IPv4 tuple, as it is among IPv6's.
#[inline(always)]
pub const fn mapped_tuple(tuple: &Tuple<V4>) -> Tuple<V6> {
    Tuple {
        source: V6::v4_mapped(tuple.source),
        destination: V6::v4_mapped(tuple.destination),
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
pub fn unmapped_tuple(tuple: &Tuple<V6>) -> Option<Tuple<V4>> {
    Some(Tuple {
        source: tuple.source.to_v4()?,
        destination: tuple.destination.to_v4()?,
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
        protocol: tuple.protocol,
        side: tuple.side,
        echo: tuple.echo,
        _pad: 0,
    })
}

/// An IPv4 packet, as it is among IPv6's. Its `payload_at` is where the payload begins in the frame
/// as that is still.
#[inline(always)]
pub const fn mapped_packet(packet: &Packet<V4>) -> Packet<V6> {
    Packet {
        tuple: mapped_tuple(&packet.tuple),
        payload: packet.payload,
        flags: packet.flags,
        sequence: packet.sequence,
        acknowledgment: packet.acknowledgment,
        payload_at: packet.payload_at,
        ttl: packet.ttl,
        input: packet.input,
        length: packet.length,
        segment: packet.segment + HEADER_GROWTH,
        dont_fragment: packet.dont_fragment,
        first_fragment: packet.first_fragment,
        id: packet.id,
    }
}

/// What a packet gets in the other family: its header, and what else an ICMP error has before the
/// quoted payload. Made in place, in the kernel in a map: it is too much for BPF's stack.
#[derive(Clone, Copy, Debug)]
pub struct Head<H> {
    /// The header.
    pub outer: H,
    /// ICMP's, of an error.
    pub icmp: Icmp,
    /// The quoted packet's header.
    pub quoted: H,
    /// By how much the quoted payload's bytes now sum to more than before.
    pub payload_delta: u16,
}

impl<H: Zeroable> Head<H> {
    /// Nothing yet.
    pub fn none() -> Self {
        Self { outer: H::zeroed(), icmp: Icmp::zeroed(), quoted: H::zeroed(), payload_delta: 0 }
    }
}

/// What a header says in either family, addresses and protocol left out.
#[derive(Clone, Copy)]
struct HeaderFields {
    /// Type of service, or traffic class.
    class: u8,
    /// Hops left.
    hops: u8,
    /// Bytes that follow. Zero for a GSO packet of more than 65,535 bytes (BIG TCP), of which both
    /// families say nothing else.
    length: u16,
}

/// Reads an IPv6 header with `extensions` bytes of extension headers. Answers the sum over it too,
/// the addresses left out.
#[inline(always)]
fn read6(frame: &(impl Frame + ?Sized), at: usize, extensions: u16) -> Option<(HeaderFields, u32)> {
    let words: [u16; 4] = frame.read(at)?;
    let ([version, class], [_, hops]) = (words[0].to_ne_bytes(), words[3].to_ne_bytes());
    let length = match u16::from_be(words[2]) {
        0 => 0,
        length => length.wrapping_sub(extensions),
    };
    let sum = u32::from(words[0]) + u32::from(words[1]) + u32::from(words[2]) + u32::from(words[3]);
    Some((HeaderFields { class: version << 4 | class >> 4, hops, length }, sum))
}

/// Reads an IPv4 header of `header` bytes; likewise, options left out.
#[inline(always)]
fn read4(frame: &(impl Frame + ?Sized), at: usize, header: u16) -> Option<(HeaderFields, u32)> {
    let words: [u16; 6] = frame.read(at)?;
    let ([_, class], [hops, _]) = (words[0].to_ne_bytes(), words[4].to_ne_bytes());
    let length = match u16::from_be(words[1]) {
        0 => 0,
        total => total.wrapping_sub(header),
    };
    let sum = u32::from(words[0]) + u32::from(words[1]) + u32::from(words[2]);
    let sum = sum + u32::from(words[3]) + u32::from(words[4]) + u32::from(words[5]);
    Some((HeaderFields { class, hops, length }, sum))
}

#[inline(always)]
fn set4(header: &mut Ipv4, fields: HeaderFields, to: &Tuple<V6>, protocol: u8, id: u16) {
    let total = if fields.length == 0 { 0 } else { fields.length.wrapping_add(HEADER4 as u16) };
    let fragmentable = total != 0 && total <= MAX_FRAGMENTABLE;
    header.version_ihl = 0x45;
    header.tos = fields.class;
    header.total_length = total.to_be();
    header.id = if fragmentable { id } else { 0 };
    header.fragment = if fragmentable { 0 } else { DONT_FRAGMENT };
    header.ttl = fields.hops;
    header.protocol = protocol;
    header.checksum = 0;
    header.source = V4::from_word(to.source.words()[3]);
    header.destination = V4::from_word(to.destination.words()[3]);
    header.checksum = !checksum::fold(header.sum());
}

#[inline(always)]
fn set6(header: &mut Ipv6, fields: HeaderFields, to: &Tuple<V6>, protocol: u8) {
    header.version_class_flow = [0x60 | fields.class >> 4, fields.class << 4, 0, 0];
    header.payload_length = fields.length.to_be();
    header.next_header = protocol;
    header.hop_limit = fields.hops;
    header.source = to.source;
    header.destination = to.destination;
}

/// Bytes between an IPv6 packet's header and its payload.
#[inline(always)]
const fn extensions(packet: &Packet<V6>) -> u16 {
    packet.payload_at.wrapping_sub(ETHERNET + HEADER6) as u16
}

/// Makes the header that an IPv6 packet gets in its own's place: with `to`'s addresses, one hop
/// less, and that identification where one is needed. Extension headers are gone. None if the frame
/// is shorter than it was.
#[inline(always)]
pub fn to_ipv4(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<V6>,
    to: &Tuple<V6>,
    id: u16,
    head: &mut Head<Ipv4>,
) -> Option<()> {
    let (fields, _) = read6(frame, ETHERNET, extensions(packet))?;
    let fields = HeaderFields { hops: fields.hops.wrapping_sub(1), ..fields };
    set4(&mut head.outer, fields, to, packet.tuple.protocol, id);
    Some(())
}

/// Makes the header that an IPv4 packet gets in its own's place: with `to`'s addresses, and one hop
/// less. Options are gone. None if the frame is shorter than it was.
#[inline(always)]
pub fn to_ipv6(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<V6>,
    to: &Tuple<V6>,
    head: &mut Head<Ipv6>,
) -> Option<()> {
    let (fields, _) = read4(frame, ETHERNET, packet.payload_at.wrapping_sub(ETHERNET) as u16)?;
    let fields = HeaderFields { hops: fields.hops.wrapping_sub(1), ..fields };
    set6(&mut head.outer, fields, to, packet.tuple.protocol);
    Some(())
}

/// The beginning of an ICMP message.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
pub struct Icmp {
    kind: u8,
    code: u8,
    checksum: u16,
    /// In network order: of [`ipv6::icmp::TOO_BIG`] the MTU, of IPv4's fragmentation needed it is
    /// the second of these.
    rest: [u16; 2],
}

impl Icmp {
    /// Without the checksum.
    #[inline(always)]
    fn sum(self) -> u32 {
        u32::from(u16::from_ne_bytes([self.kind, self.code]))
            + u32::from(self.rest[0])
            + u32::from(self.rest[1])
    }
}

/// What an error of IPv6 is in IPv4 (RFC 7915 section 5.2); none if it has no like.
#[inline(always)]
fn kind_to_ipv4(icmp: Icmp) -> Option<Icmp> {
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
            mtu = if most > LEAST_MTU as u16 {
                most - HEADER_GROWTH as u16
            } else {
                MAX_FRAGMENTABLE
            };
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
fn kind_to_ipv6(icmp: Icmp) -> Option<Icmp> {
    use ipv6::icmp::{PARAMETER_PROBLEM, TIME_EXCEEDED, TOO_BIG, UNREACHABLE};
    let mut rest = 0;
    let (kind, code) = match (icmp.kind, icmp.code) {
        // Network and host unreachable, the same for a type of service, and those that nobody sends
        // any more: no route.
        (ipv4::icmp::UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => (UNREACHABLE, 0),
        // Protocol unreachable: unrecognized next header, which is the sixth byte.
        (ipv4::icmp::UNREACHABLE, 2) => {
            rest = 6;
            (PARAMETER_PROBLEM, 1)
        }
        (ipv4::icmp::UNREACHABLE, 3) => (UNREACHABLE, 4),
        (ipv4::icmp::UNREACHABLE, 4) => {
            // Zero from who knows no such field (RFC 1191 section 5): the least that there can be
            // is always true.
            rest = u16::from_be(icmp.rest[1])
                .saturating_add(HEADER_GROWTH as u16)
                .max(LEAST_MTU as u16);
            (TOO_BIG, 0)
        }
        (ipv4::icmp::UNREACHABLE, 9 | 10 | 13 | 15) => (UNREACHABLE, 1),
        (ipv4::icmp::TIME_EXCEEDED, code) => (TIME_EXCEEDED, code),
        _ => return None,
    };
    Some(Icmp { kind, code, checksum: 0, rest: [0, rest.to_be()] })
}

/// What an IPv6 header adds to the sum over ICMP with `length` bytes (RFC 4443 section 2.3).
#[inline(always)]
fn pseudo_sum(addresses: &Tuple<V6>, length: u16) -> u32 {
    addresses.address_sum()
        + u32::from(length.to_be())
        + u32::from(u16::from(protocol::ICMPV6).to_be())
}

/// Makes the headers of an error of IPv6 about such a flow those of one of IPv4, as far as that can
/// be said before [`rewrite_quote`]. None if it has no like in IPv4, or the frame is shorter than
/// it was.
#[inline(always)]
pub fn error_to_ipv4(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<V6>,
    error: &ErrorTranslation<V6>,
    id: u16,
    head: &mut Head<Ipv4>,
) -> Option<()> {
    let ErrorTranslation { outer: translation, quote, quoted } = error;
    // Bounds that hold for every error, and that BPF's verifier has lost.
    let icmp_at = packet.payload_at & V6::PAYLOAD_MASK;
    let header_at = quote.header_at & HEADER_MASK;
    if quote.payload_at != header_at + HEADER6 {
        return None;
    }
    let (outer, _) = read6(frame, ETHERNET, extensions(packet))?;
    let icmp: Icmp = frame.read(icmp_at)?;
    let (inner, inner_sum) = read6(frame, header_at, 0)?;
    let old = pseudo_sum(&packet.tuple, outer.length)
        + icmp.sum()
        + inner_sum
        + quote.tuple.address_sum();
    // Inside of it the quoted header becomes shorter too.
    let outer = HeaderFields {
        hops: outer.hops.wrapping_sub(1),
        length: outer.length.wrapping_sub(HEADER_GROWTH as u16),
        ..outer
    };
    set4(&mut head.outer, outer, &translation.tuple, protocol::ICMP, id);
    set4(&mut head.quoted, inner, quoted, quoted.protocol, 0);
    head.icmp = kind_to_ipv4(icmp)?;
    let new = head.icmp.sum() + head.quoted.sum();
    head.icmp.checksum = checksum::update(icmp.checksum, checksum::delta(old, new).into());
    Some(())
}

/// The reverse of [`error_to_ipv4`]. None too if it would be longer than an error may be (RFC 4443
/// section 2.4).
#[inline(always)]
pub fn error_to_ipv6(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<V6>,
    error: &ErrorTranslation<V6>,
    head: &mut Head<Ipv6>,
) -> Option<()> {
    let ErrorTranslation { outer: translation, quote, quoted } = error;
    let icmp_at = packet.payload_at & V4::PAYLOAD_MASK;
    let header_at = quote.header_at & HEADER_MASK;
    if quote.payload_at != header_at + HEADER4 || packet.length + 2 * HEADER_GROWTH > LEAST_MTU {
        return None;
    }
    let (outer, _) = read4(frame, ETHERNET, icmp_at.wrapping_sub(ETHERNET) as u16)?;
    let icmp: Icmp = frame.read(icmp_at)?;
    let (inner, inner_sum) = read4(frame, header_at, HEADER4 as u16)?;
    // That the tuple's addresses are mapped adds nothing to a sum.
    let old = icmp.sum() + inner_sum + quote.tuple.address_sum();
    let outer = HeaderFields {
        hops: outer.hops.wrapping_sub(1),
        length: outer.length.wrapping_add(HEADER_GROWTH as u16),
        ..outer
    };
    set6(&mut head.outer, outer, &translation.tuple, protocol::ICMPV6);
    set6(&mut head.quoted, inner, quoted, quoted.protocol);
    head.icmp = kind_to_ipv6(icmp)?;
    let new = pseudo_sum(&translation.tuple, outer.length) + head.icmp.sum() + head.quoted.sum();
    head.icmp.checksum = checksum::update(icmp.checksum, checksum::delta(old, new).into());
    Some(())
}

/// Rewrites what stays in its place of such an error, whose headers are made: the quoted payload.
/// None if the frame is shorter than it was.
#[inline(always)]
pub fn rewrite_quote<H>(
    frame: &mut (impl FrameMut + ?Sized),
    error: &ErrorTranslation<V6>,
    head: &mut Head<H>,
) -> Option<()> {
    let ErrorTranslation { quote, quoted, .. } = error;
    let payload_at = quote.payload_at & PAYLOAD_MASK;
    let delta = icmp_error::rewrite_quoted_payload(frame, payload_at, &quote.tuple, quoted)?;
    head.payload_delta = checksum::fold(delta);
    head.icmp.checksum = checksum::update(head.icmp.checksum, head.payload_delta.into());
    Some(())
}

/// What an error about an IPv4 packet quotes, as it is among IPv6's; none as for
/// [`icmp_error::quote`].
#[inline(always)]
pub fn quote(frame: &(impl Frame + ?Sized), icmp_at: usize, side: u8) -> Option<Quote<V6>> {
    let Quote { tuple, header_at, payload_at } = icmp_error::quote::<V4>(frame, icmp_at, side)?;
    Some(Quote { tuple: mapped_tuple(&tuple), header_at, payload_at })
}

#[cfg(test)]
mod tests;
