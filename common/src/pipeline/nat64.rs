//! An IPv4 packet that may belong to the flow of an IPv6 client.

use crate::{
    abi::drop_reason::DropReason,
    nat::{icmp_error, nat64::mapped_packet, nat64_error},
    pipeline::{
        send::{drop_or_reply, lookup},
        steps::{Nat64Client, Nat64Steps, Steps},
    },
    scratch::Scratch,
    verdict::{Outcome, Verdict},
    wire::{
        address::{V4, V6},
        headers::HEADER_GROWTH,
        packet::Payload,
        quote,
    },
};

/// An IPv4 packet from a container to its gateway, if it belongs to a flow of an IPv6 client.
#[inline(always)]
pub fn nat64(v4: &impl Nat64Client, v6: &impl Nat64Steps, scratch: &mut Scratch<V4>) -> Verdict {
    let Some(mut v6_scratch) = v6.scratch() else { return Verdict::UNDECIDED };
    if !v4.may_be_nat64(scratch) {
        return Verdict::UNDECIDED;
    }
    v6_scratch.packet = mapped_packet(&scratch.packet);
    if scratch.packet.payload == Payload::Error {
        return match v6.translate_error(&mut v6_scratch) {
            Outcome::Miss => Verdict::UNDECIDED,
            Outcome::Forward => v6.forward_error_as_ipv6(&mut v6_scratch),
            Outcome::Drop(reason) => v6.stop(reason),
        };
    }
    if scratch.packet.first_fragment {
        // What is not translated must not come to the host's stack instead.
        return if v6.has_flow(&v6_scratch) {
            v6.stop(DropReason::Fragment)
        } else {
            Verdict::UNDECIDED
        };
    }
    match lookup(v6, &mut v6_scratch) {
        Outcome::Miss => Verdict::UNDECIDED,
        Outcome::Forward => v6.forward_as_ipv6(&mut v6_scratch),
        Outcome::Drop(reason) => {
            // The MTU for the sender's IPv4 packet, which grows when it becomes an IPv6 packet.
            scratch.entry.translation.mtu =
                v6_scratch.entry.translation.mtu.saturating_sub(HEADER_GROWTH as u16);
            drop_or_reply(v4, scratch, reason)
        }
    }
}

/// Finds the flow of an IPv4 ICMP error in the IPv6 flow table.
#[inline(always)]
pub fn translate_ipv4_error(steps: &impl Steps<V6>, scratch: &mut Scratch<V6>) -> Outcome {
    let frame = steps.frame(quote::HEADERS);
    let Scratch { packet, error_translation: error, .. } = scratch;
    let Some(quote) = nat64_error::quote(&frame, packet.payload_offset(), packet.tuple.side) else {
        return Outcome::Miss;
    };
    error.quote = quote;
    icmp_error::translate(packet, error, steps.env())
}
