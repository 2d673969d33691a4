//! Translation of ICMP errors between the families (RFC 7915 sections 4.2 and 5.2).

use crate::{
    flow::error::ErrorTranslation,
    nat::{
        icmp_error,
        nat64::{
            HeaderFields, MAX_FRAGMENTABLE, extensions, mapped_tuple, read4, read6, set4, set6,
        },
    },
    wire::{
        address::{V4, V6},
        checksum,
        ethernet::ETHERNET,
        frame::{Frame, FrameMut},
        headers::{HEADER_GROWTH, HEADER4, HEADER6, Head, Icmp},
        ipv4::{self, Ipv4},
        ipv6::{self, Ipv6, LEAST_MTU},
        packet::Packet,
        parse::Parse as _,
        protocol,
        quote::{self, HEADER_MASK, PAYLOAD_MASK, Quote},
        tuple::{Side, Tuple},
    },
};

/// Translates the ICMP header of an ICMPv6 error (RFC 7915 section 5.2). None if ICMP has no
/// equivalent.
#[inline(always)]
fn kind_to_ipv4(icmp: Icmp) -> Option<Icmp> {
    use ipv4::icmp::{TIME_EXCEEDED, UNREACHABLE};
    let mut mtu = 0;
    let (kind, code) = match (icmp.0.type_, icmp.0.code) {
        // No route, beyond the scope of the source, address unreachable: host unreachable.
        (ipv6::icmp::UNREACHABLE, 0 | 2 | 3) => (UNREACHABLE, 1),
        // Administratively prohibited.
        (ipv6::icmp::UNREACHABLE, 1) => (UNREACHABLE, 10),
        // Port unreachable.
        (ipv6::icmp::UNREACHABLE, 4) => (UNREACHABLE, 3),
        (ipv6::icmp::TOO_BIG, _) => {
            let [high, low] = icmp.rest().map(u16::from_be);
            // An IPv6 node ignores a lower MTU (RFC 8201 section 4).
            let reported = if high == 0 { low } else { u16::MAX };
            mtu = if reported > LEAST_MTU as u16 {
                reported - HEADER_GROWTH as u16
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
    Some(Icmp::error(kind, code, mtu))
}

/// Translates the ICMP header of an ICMP error of IPv4 (RFC 7915 section 4.2). None if ICMPv6 has
/// no equivalent.
#[inline(always)]
fn kind_to_ipv6(icmp: Icmp) -> Option<Icmp> {
    use ipv6::icmp::{PARAMETER_PROBLEM, TIME_EXCEEDED, TOO_BIG, UNREACHABLE};
    let mut value = 0;
    let (kind, code) = match (icmp.0.type_, icmp.0.code) {
        // Network and host unreachable, with and without a type of service, and obsolete codes: no
        // route.
        (ipv4::icmp::UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => (UNREACHABLE, 0),
        // Protocol unreachable: unrecognized next header, which is the sixth byte.
        (ipv4::icmp::UNREACHABLE, 2) => {
            value = 6;
            (PARAMETER_PROBLEM, 1)
        }
        (ipv4::icmp::UNREACHABLE, 3) => (UNREACHABLE, 4),
        (ipv4::icmp::UNREACHABLE, 4) => {
            // A router older than the field sends zero (RFC 1191 section 5); 1280 is right for
            // every link.
            value = u16::from_be(icmp.rest()[1])
                .saturating_add(HEADER_GROWTH as u16)
                .max(LEAST_MTU as u16);
            (TOO_BIG, 0)
        }
        (ipv4::icmp::UNREACHABLE, 9 | 10 | 13 | 15) => (UNREACHABLE, 1),
        (ipv4::icmp::TIME_EXCEEDED, code) => (TIME_EXCEEDED, code),
        _ => return None,
    };
    Some(Icmp::error(kind, code, value))
}

/// Sum over the pseudo header of an ICMPv6 message of `length` bytes (RFC 4443 section 2.3).
#[inline(always)]
fn pseudo_sum(addresses: &Tuple<V6>, length: u16) -> u32 {
    addresses.address_sum()
        + u32::from(length.to_be())
        + u32::from(u16::from(protocol::ICMPV6).to_be())
}

/// Builds the IPv4 headers of an ICMPv6 error about a NAT64 flow. The quoted payload is missing in
/// the checksum until [`rewrite_quote`]. None if ICMP has no equivalent, or the frame is shorter
/// than when it was parsed.
#[inline(always)]
pub fn error_to_ipv4(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<V6>,
    error: &ErrorTranslation<V6>,
    id: u16,
    head: &mut Head<Ipv4>,
) -> Option<()> {
    let ErrorTranslation { outer: translation, quote, quoted } = error;
    // These bounds hold for every error that was parsed, but the verifier has lost them.
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
    // The quoted header becomes shorter too.
    let outer = HeaderFields {
        hops: outer.hops.wrapping_sub(1),
        length: outer.length.wrapping_sub(HEADER_GROWTH as u16),
        ..outer
    };
    set4(&mut head.outer, outer, &translation.tuple, protocol::ICMP, id);
    set4(&mut head.quoted, inner, quoted, quoted.protocol, 0);
    head.icmp = kind_to_ipv4(icmp)?;
    let new = head.icmp.sum() + head.quoted.sum();
    head.icmp.0.check = icmp.0.check;
    head.icmp.update_checksum(checksum::delta(old, new).into());
    Some(())
}

/// The reverse of [`error_to_ipv4`]. None also if the error would be longer than 1280 bytes (RFC
/// 4443 section 2.4).
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
    // The prefix of IPv4-mapped addresses adds nothing to a one's complement sum.
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
    head.icmp.0.check = icmp.0.check;
    head.icmp.update_checksum(checksum::delta(old, new).into());
    Some(())
}

/// Rewrites the quoted payload of an error whose headers were built, and completes the checksum.
/// None if the frame is shorter than when it was parsed.
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
    head.icmp.update_checksum(head.payload_delta.into());
    Some(())
}

/// The packet that an ICMP error of IPv4 quotes, with IPv4-mapped addresses. None as for
/// [`quote::quote`].
#[inline(always)]
pub fn quote(frame: &(impl Frame + ?Sized), icmp_at: usize, side: Side) -> Option<Quote<V6>> {
    let Quote { tuple, header_at, payload_at } = quote::quote::<V4>(frame, icmp_at, side)?;
    Some(Quote { tuple: mapped_tuple(&tuple), header_at, payload_at })
}
