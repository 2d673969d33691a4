//! ICMP errors that change their family (RFC 7915 sections 4.2 and 5.2).

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
        tuple::Tuple,
    },
};

/// What an error of IPv6 is in IPv4 (RFC 7915 section 5.2); none if it has no like.
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
    Some(Icmp::error(kind, code, mtu))
}

/// What an error of IPv4 is in IPv6 (RFC 7915 section 4.2); none if it has no like.
#[inline(always)]
fn kind_to_ipv6(icmp: Icmp) -> Option<Icmp> {
    use ipv6::icmp::{PARAMETER_PROBLEM, TIME_EXCEEDED, TOO_BIG, UNREACHABLE};
    let mut value = 0;
    let (kind, code) = match (icmp.0.type_, icmp.0.code) {
        // Network and host unreachable, the same for a type of service, and those that nobody sends
        // any more: no route.
        (ipv4::icmp::UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => (UNREACHABLE, 0),
        // Protocol unreachable: unrecognized next header, which is the sixth byte.
        (ipv4::icmp::UNREACHABLE, 2) => {
            value = 6;
            (PARAMETER_PROBLEM, 1)
        }
        (ipv4::icmp::UNREACHABLE, 3) => (UNREACHABLE, 4),
        (ipv4::icmp::UNREACHABLE, 4) => {
            // Zero from who knows no such field (RFC 1191 section 5): the least that there can be
            // is always true.
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
    head.icmp.0.check = icmp.0.check;
    head.icmp.update_checksum(checksum::delta(old, new).into());
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
    head.icmp.0.check = icmp.0.check;
    head.icmp.update_checksum(checksum::delta(old, new).into());
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
    head.icmp.update_checksum(head.payload_delta.into());
    Some(())
}

/// What an error about an IPv4 packet quotes, as it is among IPv6's; none as for
/// [`quote::quote`].
#[inline(always)]
pub fn quote(frame: &(impl Frame + ?Sized), icmp_at: usize, side: u8) -> Option<Quote<V6>> {
    let Quote { tuple, header_at, payload_at } = quote::quote::<V4>(frame, icmp_at, side)?;
    Some(Quote { tuple: mapped_tuple(&tuple), header_at, payload_at })
}
