//! Packets that go from one family into the other, as `causeway_common::crossing` decides about
//! them. This CPU's place for IPv6 has such a packet as it is among IPv6's, whichever it was when
//! it arrived.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use causeway_common::{
    address::{V4, V6},
    crossing::{self, Head},
    icmp_error::{self, ErrorTranslation},
    packet::Payload,
    plan::First,
    reason::Reason,
    tables::Tables as _,
};

use crate::{
    maps::Mapped as _,
    programs::{UNDECIDED, clamp_mss, find_flow, refuse, stop},
    skb::{self, Skb},
    tables::Kernel,
};

/// Sends an IPv6 packet on as one of IPv4.
#[inline(always)]
pub(crate) fn send_as_ipv4(skb: *mut __sk_buff, place: &mut First<V6>) -> i32 {
    let context = TcContext::new(skb);
    match clamp_mss(skb, &place.packet, &place.half.translation) {
        Ok(()) => Skb::new(&context).leave_as_ipv4(place).unwrap_or_else(stop),
        Err(reason) => stop(reason),
    }
}

/// The same for an error.
#[inline(always)]
pub(crate) fn send_error_as_ipv4(skb: *mut __sk_buff, place: &mut First<V6>) -> i32 {
    if !make_head4(skb, place) || !rewrite_quote(skb, &place.error, &mut place.head4) {
        return stop(Reason::ErrorNotTranslated);
    }
    let context = TcContext::new(skb);
    Skb::new(&context).leave_error_as_ipv4(place).unwrap_or_else(stop)
}

#[inline(never)]
fn make_head4(skb: *mut __sk_buff, place: &mut First<V6>) -> bool {
    let context = TcContext::new(skb);
    let First { packet, error, head4, .. } = place;
    crossing::error_to_ipv4(&Skb::new(&context), packet, error, skb::random(), head4).is_some()
}

#[inline(never)]
fn make_head6(skb: *mut __sk_buff, place: &mut First<V6>) -> bool {
    let context = TcContext::new(skb);
    let First { packet, error, head6, .. } = place;
    crossing::error_to_ipv6(&Skb::new(&context), packet, error, head6).is_some()
}

#[inline(never)]
fn rewrite_quote<H>(skb: *mut __sk_buff, error: &ErrorTranslation<V6>, head: &mut Head<H>) -> bool {
    let context = TcContext::new(skb);
    crossing::rewrite_quote(&mut Skb::new(&context), error, head).is_some()
}

/// Decides about an IPv4 packet, if it is of a flow that is kept among IPv6's.
#[inline(always)]
pub(crate) fn decide(skb: *mut __sk_buff, place: &mut First<V4>) -> i32 {
    let Some(across) = V6::first() else { return UNDECIDED };
    if !is_for_gateway(skb, place) {
        return UNDECIDED;
    }
    across.packet = crossing::as_mapped(&place.packet);
    if place.packet.payload == Payload::Error {
        return match error(skb, across) {
            None => UNDECIDED,
            Some(Ok(())) => send_error_as_ipv6(skb, across),
            Some(Err(reason)) => stop(reason),
        };
    }
    if place.packet.first_fragment {
        // What is not translated must not come to the host's stack instead.
        return if is_of_flow(skb, across) { stop(Reason::Fragment) } else { UNDECIDED };
    }
    match find_flow(skb, across) {
        None => UNDECIDED,
        Some(Ok(())) => send_as_ipv6(skb, across),
        Some(Err(reason)) => {
            // As long as it may be before it becomes longer.
            place.half.translation.mtu =
                across.half.translation.mtu.saturating_sub(crossing::LONGER as u16);
            refuse(place, reason)
        }
    }
}

#[inline(never)]
fn is_for_gateway(skb: *mut __sk_buff, place: &First<V4>) -> bool {
    let context = TcContext::new(skb);
    crossing::concerns(&place.packet, &Kernel::new(&context))
}

#[inline(never)]
fn is_of_flow(skb: *mut __sk_buff, across: &First<V6>) -> bool {
    let context = TcContext::new(skb);
    Kernel::new(&context).flow(&across.packet.tuple).is_some()
}

#[inline(never)]
fn send_as_ipv6(skb: *mut __sk_buff, across: &mut First<V6>) -> i32 {
    let context = TcContext::new(skb);
    match clamp_mss(skb, &across.packet, &across.half.translation) {
        Ok(()) => Skb::new(&context).leave_as_ipv6(across).unwrap_or_else(stop),
        Err(reason) => stop(reason),
    }
}

/// What becomes of an ICMP error, which may be of such a flow.
#[inline(never)]
fn error(skb: *mut __sk_buff, across: &mut First<V6>) -> Option<Result<(), Reason>> {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    skb.reach_for(icmp_error::HEADERS);
    let First { packet, error, .. } = across;
    error.quote = crossing::quote(&skb, skb::payload_at(packet), packet.tuple.side)?;
    icmp_error::translate(packet, error, &Kernel::new(&context))
}

#[inline(never)]
fn send_error_as_ipv6(skb: *mut __sk_buff, across: &mut First<V6>) -> i32 {
    if !make_head6(skb, across) || !rewrite_quote(skb, &across.error, &mut across.head6) {
        return stop(Reason::ErrorNotTranslated);
    }
    let context = TcContext::new(skb);
    Skb::new(&context).leave_error_as_ipv6(across).unwrap_or_else(stop)
}
