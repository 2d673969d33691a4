//! Packets that go from one family into the other, as `causeway_common::crossing` decides about
//! them. This CPU's place for IPv6 has such a packet as it is among IPv6's, whichever it was when
//! it arrived.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use causeway_common::{
    abi::drop_reason::DropReason,
    env::FlowStore as _,
    flow::error::ErrorTranslation,
    nat::{icmp_error, nat64, nat64_error},
    scratch::Scratch,
    wire::{
        address::{V4, V6},
        headers::{self, Head},
        packet::Payload,
        quote,
    },
};

use crate::{
    env::KernelEnv,
    maps::HasMaps as _,
    programs::{UNDECIDED, clamp_mss, drop_or_reply, lookup, stop},
    skb::{self, Skb},
};

/// Sends an IPv6 packet on as one of IPv4.
#[inline(always)]
pub(crate) fn send_as_ipv4(skb: *mut __sk_buff, scratch: &mut Scratch<V6>) -> i32 {
    let context = TcContext::new(skb);
    match clamp_mss(skb, &scratch.packet, &scratch.entry.translation) {
        Ok(()) => Skb::new(&context).leave_as_ipv4(scratch).unwrap_or_else(stop),
        Err(reason) => stop(reason),
    }
}

/// The same for an error.
#[inline(always)]
pub(crate) fn send_error_as_ipv4(skb: *mut __sk_buff, scratch: &mut Scratch<V6>) -> i32 {
    if !make_head4(skb, scratch)
        || !rewrite_quote(skb, &scratch.error_translation, &mut scratch.head4)
    {
        return stop(DropReason::ErrorNotTranslated);
    }
    let context = TcContext::new(skb);
    Skb::new(&context).leave_error_as_ipv4(scratch).unwrap_or_else(stop)
}

#[inline(never)]
fn make_head4(skb: *mut __sk_buff, scratch: &mut Scratch<V6>) -> bool {
    let context = TcContext::new(skb);
    let Scratch { packet, error_translation: error, head4, .. } = scratch;
    nat64_error::error_to_ipv4(&Skb::new(&context), packet, error, skb::random(), head4).is_some()
}

#[inline(never)]
fn make_head6(skb: *mut __sk_buff, scratch: &mut Scratch<V6>) -> bool {
    let context = TcContext::new(skb);
    let Scratch { packet, error_translation: error, head6, .. } = scratch;
    nat64_error::error_to_ipv6(&Skb::new(&context), packet, error, head6).is_some()
}

#[inline(never)]
fn rewrite_quote<H>(skb: *mut __sk_buff, error: &ErrorTranslation<V6>, head: &mut Head<H>) -> bool {
    let context = TcContext::new(skb);
    nat64_error::rewrite_quote(&mut Skb::new(&context), error, head).is_some()
}

/// Decides about an IPv4 packet, if it is of a flow that is kept among IPv6's.
#[inline(always)]
pub(crate) fn decide(skb: *mut __sk_buff, scratch: &mut Scratch<V4>) -> i32 {
    let Some(v6_scratch) = V6::scratch() else { return UNDECIDED };
    if !may_be_nat64(skb, scratch) {
        return UNDECIDED;
    }
    v6_scratch.packet = nat64::mapped_packet(&scratch.packet);
    if scratch.packet.payload == Payload::Error {
        return match error(skb, v6_scratch) {
            None => UNDECIDED,
            Some(Ok(())) => send_error_as_ipv6(skb, v6_scratch),
            Some(Err(reason)) => stop(reason),
        };
    }
    if scratch.packet.first_fragment {
        // What is not translated must not come to the host's stack instead.
        return if has_flow(skb, v6_scratch) { stop(DropReason::Fragment) } else { UNDECIDED };
    }
    match lookup(skb, v6_scratch) {
        None => UNDECIDED,
        Some(Ok(())) => send_as_ipv6(skb, v6_scratch),
        Some(Err(reason)) => {
            // As long as it may be before it becomes longer.
            scratch.entry.translation.mtu =
                v6_scratch.entry.translation.mtu.saturating_sub(headers::HEADER_GROWTH as u16);
            drop_or_reply(scratch, reason)
        }
    }
}

#[inline(never)]
fn may_be_nat64(skb: *mut __sk_buff, scratch: &Scratch<V4>) -> bool {
    let context = TcContext::new(skb);
    nat64::may_be_nat64(&scratch.packet, &KernelEnv::new(&context))
}

#[inline(never)]
fn has_flow(skb: *mut __sk_buff, v6_scratch: &Scratch<V6>) -> bool {
    let context = TcContext::new(skb);
    KernelEnv::new(&context).flow(&v6_scratch.packet.tuple).is_some()
}

#[inline(never)]
fn send_as_ipv6(skb: *mut __sk_buff, v6_scratch: &mut Scratch<V6>) -> i32 {
    let context = TcContext::new(skb);
    match clamp_mss(skb, &v6_scratch.packet, &v6_scratch.entry.translation) {
        Ok(()) => Skb::new(&context).leave_as_ipv6(v6_scratch).unwrap_or_else(stop),
        Err(reason) => stop(reason),
    }
}

/// What becomes of an ICMP error, which may be of such a flow.
#[inline(never)]
fn error(skb: *mut __sk_buff, v6_scratch: &mut Scratch<V6>) -> Option<Result<(), DropReason>> {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    skb.reach_for(quote::HEADERS);
    let Scratch { packet, error_translation: error, .. } = v6_scratch;
    error.quote = nat64_error::quote(&skb, skb::payload_at(packet), packet.tuple.side)?;
    icmp_error::translate(packet, error, &KernelEnv::new(&context))
}

#[inline(never)]
fn send_error_as_ipv6(skb: *mut __sk_buff, v6_scratch: &mut Scratch<V6>) -> i32 {
    if !make_head6(skb, v6_scratch)
        || !rewrite_quote(skb, &v6_scratch.error_translation, &mut v6_scratch.head6)
    {
        return stop(DropReason::ErrorNotTranslated);
    }
    let context = TcContext::new(skb);
    Skb::new(&context).leave_error_as_ipv6(v6_scratch).unwrap_or_else(stop)
}
