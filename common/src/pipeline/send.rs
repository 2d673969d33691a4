//! The end of a packet: it is forwarded, dropped, or answered with an ICMP error.

use crate::{
    abi::{
        drop_reason::DropReason,
        translation::{Deliver, Translation},
    },
    flow::{limits::check_ttl_and_mtu, lookup::identifies_flow},
    icmp_reply,
    pipeline::steps::{Family, Steps},
    scratch::Scratch,
    verdict::{Outcome, Verdict},
    wire::{
        ethernet::ETHERNET,
        icmp::{self, IcmpErrorKind},
        packet::Packet,
        tcp,
    },
};

#[inline(always)]
pub(super) fn lookup<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Outcome {
    if identifies_flow(&scratch.packet) { steps.lookup_slow(scratch) } else { Outcome::Miss }
}

/// The last step: checks TTL and length, then forwards. A function of its own, so that its stack
/// frame does not add to those of the other steps.
#[inline(always)]
pub fn send<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    match check_ttl_and_mtu(&scratch.packet, &scratch.entry.translation) {
        Ok(()) => send_or_nat64(steps, scratch),
        Err(reason) => drop_or_reply(steps, scratch, reason),
    }
}

/// Sends a packet on whose TTL and length were checked.
#[inline(always)]
pub fn send_or_nat64<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    if is_nat64(&scratch.entry.translation) {
        return steps.forward_nat64(scratch);
    }
    forward(steps, &scratch.packet, &scratch.entry.translation)
}

#[inline(always)]
pub(super) fn forward<A: Family>(
    steps: &impl Steps<A>,
    packet: &Packet<A>,
    translation: &Translation<A>,
) -> Verdict {
    if packet.flags & tcp::SYN != 0
        && let Err(reason) = steps.clamp_mss(packet, translation)
    {
        return steps.stop(reason);
    }
    steps.forward(packet, translation)
}

/// Whether the translation makes a packet of the other family.
#[inline(always)]
pub(super) fn is_nat64<A: Family>(translation: &Translation<A>) -> bool {
    A::HAS_NAT64 && translation.deliver == Deliver::CONTAINER_NAT64
}

/// Ends a packet. If its reason has an ICMP error, leaves it to [`Steps::reply`].
#[inline(always)]
pub(super) fn drop_or_reply<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
    reason: DropReason,
) -> Verdict {
    let Some(kind) = reason.icmp_error() else { return steps.stop(reason) };
    steps.count(reason);
    scratch.icmp_error_kind = kind as u8;
    Verdict::REFUSED
}

/// Answers a refused packet with an ICMP error.
#[inline(always)]
pub fn reply<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    let Scratch { packet, icmp_error_kind, icmp_error, entry, .. } = scratch;
    // Errors for packets that are too long have no rate limit: the sender repeats the packet until
    // it gets one, and the error is shorter than the packet.
    let limited = *icmp_error_kind != IcmpErrorKind::TooLong as u8;
    if !icmp_reply::may_reply(packet) || (limited && !steps.take_error_budget(packet)) {
        return Verdict::DROP;
    }
    let frame = steps.frame((ETHERNET + icmp::QUOTE) as u32);
    let Some(source) = icmp_reply::error_source(packet, steps.env()) else {
        return Verdict::DROP;
    };
    let Some(kind) = IcmpErrorKind::from_number(*icmp_error_kind) else { return Verdict::DROP };
    match icmp_reply::build(icmp_error, &frame, packet, source, kind, entry.translation.mtu) {
        Some(()) => steps.send_back(packet, icmp_error),
        None => Verdict::DROP,
    }
}
