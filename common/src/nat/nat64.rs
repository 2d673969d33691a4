//! NAT64: IPv6 clients of a published port whose container has IPv4 only. The client's packets
//! become IPv4 on their way into the container, and the replies become IPv6 (RFC 7915, except for
//! the mapping of addresses: the flow has those of both sides).
//!
//! Such a flow is kept in the IPv6 flow table. On the container's side its addresses are
//! IPv4-mapped: the container's own, and that of its network's gateway, which stands for the client
//! there. So an IPv4 packet from a container to its gateway is looked up under its mapped tuple if
//! the IPv4 flow table has no entry for it.

use crate::{
    env::Env,
    wire::{
        address::{V4, V6},
        ethernet::ETHERNET,
        frame::Frame,
        headers::{HEADER_GROWTH, HEADER4, HEADER6, Head},
        ipv4::{DONT_FRAGMENT, Ipv4},
        ipv6::{Ipv6, LEAST_MTU},
        packet::Packet,
        tuple::Tuple,
    },
};

/// Longest IPv4 packet, in bytes, that is sent without DF (RFC 7915 section 5.1). In IPv6 it had at
/// most 1280 bytes, which no router refuses.
pub(crate) const MAX_FRAGMENTABLE: u16 = LEAST_MTU as u16 - HEADER_GROWTH as u16;

/// Whether a packet can belong to a NAT64 flow: it is from a container to its network's gateway.
#[inline(always)]
pub fn may_be_nat64(packet: &Packet<V4>, env: &impl Env<V4>) -> bool {
    env.endpoint(&packet.tuple.source).is_some_and(|own| own.gateway == packet.tuple.destination)
}

/// The tuple with IPv4-mapped addresses, as the IPv6 flow table has it.
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

/// The reverse of [`mapped_tuple`]. None if the addresses are not IPv4-mapped.
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

/// The packet with IPv4-mapped addresses. `payload_at` is still the payload's offset in the IPv4
/// frame.
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

/// Header fields that both families have, without addresses and protocol.
#[derive(Clone, Copy)]
pub(crate) struct HeaderFields {
    /// Type of service or traffic class.
    pub(super) class: u8,
    /// TTL or hop limit.
    pub(super) hops: u8,
    /// Bytes of payload. Zero for a GSO packet of more than 65,535 bytes (BIG TCP), whose length
    /// field is zero in both families.
    pub(super) length: u16,
}

/// Reads an IPv6 header with `extensions` bytes of extension headers. Returns its fields, and the
/// sum over the header without addresses. None if the frame is shorter than when it was parsed.
#[inline(always)]
pub(crate) fn read6(
    frame: &(impl Frame + ?Sized),
    at: usize,
    extensions: u16,
) -> Option<(HeaderFields, u32)> {
    let words: [u16; 4] = frame.read(at)?;
    let ([version, class], [_, hops]) = (words[0].to_ne_bytes(), words[3].to_ne_bytes());
    let length = match u16::from_be(words[2]) {
        0 => 0,
        length => length.wrapping_sub(extensions),
    };
    let sum = u32::from(words[0]) + u32::from(words[1]) + u32::from(words[2]) + u32::from(words[3]);
    Some((HeaderFields { class: version << 4 | class >> 4, hops, length }, sum))
}

/// Reads an IPv4 header of `header` bytes. Returns its fields, and the sum over the header without
/// addresses and options. None if the frame is shorter than when it was parsed.
#[inline(always)]
pub(crate) fn read4(
    frame: &(impl Frame + ?Sized),
    at: usize,
    header: u16,
) -> Option<(HeaderFields, u32)> {
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
pub(crate) fn set4(header: &mut Ipv4, fields: HeaderFields, to: &Tuple<V6>, protocol: u8, id: u16) {
    let total = if fields.length == 0 { 0 } else { fields.length.wrapping_add(HEADER4 as u16) };
    let fragmentable = total != 0 && total <= MAX_FRAGMENTABLE;
    header.0.vihl = 0x45;
    header.0.tos = fields.class;
    header.0.tot_len = total.to_be_bytes();
    header.0.id = if fragmentable { id.to_ne_bytes() } else { [0; 2] };
    header.0.frags = if fragmentable { [0; 2] } else { DONT_FRAGMENT.to_ne_bytes() };
    header.0.ttl = fields.hops;
    header.0.proto = protocol;
    header.0.src_addr = V4::from_word(to.source.words()[3]).octets();
    header.0.dst_addr = V4::from_word(to.destination.words()[3]).octets();
    header.set_checksum();
}

#[inline(always)]
pub(crate) fn set6(header: &mut Ipv6, fields: HeaderFields, to: &Tuple<V6>, protocol: u8) {
    header.0.vcf = [0x60 | fields.class >> 4, fields.class << 4, 0, 0];
    header.0.payload_len = fields.length.to_be_bytes();
    header.0.next_hdr = protocol;
    header.0.hop_limit = fields.hops;
    header.set_addresses(to);
}

/// Bytes of extension headers between an IPv6 packet's header and its payload.
#[inline(always)]
pub(crate) const fn extensions(packet: &Packet<V6>) -> u16 {
    packet.payload_at.wrapping_sub(ETHERNET + HEADER6) as u16
}

/// Builds the IPv4 header that replaces an IPv6 packet's: with the addresses of `to`, one hop less,
/// and the identification `id` if the packet may be fragmented. Extension headers are dropped. None
/// if the frame is shorter than when it was parsed.
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

/// Builds the IPv6 header that replaces an IPv4 packet's: with the addresses of `to` and one hop
/// less. Options are dropped. None if the frame is shorter than when it was parsed.
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
