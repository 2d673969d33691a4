//! A packet that arrived at a host side or an uplink.

use crate::{
    abi::drop_reason::DropReason,
    flow::lookup::{Lookup, lookup_fast},
    nat::icmp_error,
    pipeline::{
        create::create_planned,
        send::{drop_or_reply, is_nat64, lookup},
        steps::{Family, Steps},
    },
    scratch::Scratch,
    verdict::{Outcome, Verdict},
    wire::{
        ethernet::source_mac,
        packet::{Malformed, Payload},
        quote,
        tuple::Side,
    },
};

/// A packet that arrived at a host side or an uplink. `malformed` is the reason for one that cannot
/// be parsed.
#[inline(always)]
pub fn ingress<A: Family>(steps: &impl Steps<A>, side: Side, malformed: DropReason) -> Verdict {
    let verdict = steps.fast_path(side, malformed);
    if verdict.is_final() {
        return verdict;
    }
    // Without a scratch a container's packet must not pass undecided.
    let Some(mut scratch) = steps.scratch() else { return steps.stop(malformed) };
    if verdict == Verdict::UNPARSED && steps.parse_into(&mut scratch, side).is_err() {
        return steps.stop(malformed);
    }
    steps.slow_path(&mut scratch)
}

/// A packet with a usual header, of a flow that it changes nothing of but the counters. What the
/// function holds on the stack is not there while the next steps run, which find the packet in the
/// scratch.
#[inline(always)]
pub fn fast_path<A: Family>(steps: &impl Steps<A>, side: Side, malformed: DropReason) -> Verdict {
    let Ok(packet) = steps.parse_usual(side) else { return Verdict::UNPARSED };
    let found = lookup_fast(&packet, steps.env());
    let lookup_missed = matches!(found, Lookup::Miss);
    if let Lookup::FastPath(entry) = found {
        if is_nat64(&entry.translation) {
            let Some(mut scratch) = steps.scratch() else { return steps.stop(malformed) };
            scratch.packet = packet;
            scratch.entry.translation = entry.translation;
            return steps.forward_nat64(&mut scratch);
        }
        // Out of the table, without a copy: a step in between costs more than it can change.
        return steps.forward(&packet, &entry.translation);
    }
    let Some(mut scratch) = steps.scratch() else { return steps.stop(malformed) };
    scratch.packet = packet;
    scratch.source_mac = source_mac(&steps.frame(0));
    scratch.lookup_missed = lookup_missed;
    Verdict::UNDECIDED
}

/// Parses a packet into the scratch, whatever is in its header. What the scratch says is then the
/// same to the verifier for every packet.
#[inline(always)]
pub fn parse<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
    side: Side,
) -> Result<(), Malformed> {
    scratch.packet = steps.parse(side)?;
    scratch.source_mac = source_mac(&steps.frame(0));
    scratch.lookup_missed = false;
    Ok(())
}

/// A packet that the fast path left.
#[inline(always)]
pub fn slow_path<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    let mut verdict =
        if scratch.lookup_missed { Verdict::UNDECIDED } else { known_flow(steps, scratch) };
    if verdict == Verdict::UNDECIDED {
        verdict = steps.nat64(scratch);
    }
    if verdict == Verdict::UNDECIDED {
        verdict = no_flow(steps, scratch);
    }
    if verdict == Verdict::REFUSED {
        return steps.reply(scratch);
    }
    verdict
}

/// A packet of a flow in the table.
#[inline(always)]
pub(super) fn known_flow<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    match lookup(steps, scratch) {
        Outcome::Miss => Verdict::UNDECIDED,
        Outcome::Forward => steps.send_checked(scratch),
        Outcome::Drop(reason) => drop_or_reply(steps, scratch, reason),
    }
}

/// A packet of no flow. Step after step, and none in another: together they would hold too much on
/// the stack, of which each takes 32 bytes at least before Linux 6.6.
#[inline(always)]
pub(super) fn no_flow<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    if scratch.packet.payload == Payload::Link && scratch.packet.tuple.side == Side::CONTAINER {
        return steps.link(scratch);
    }
    if scratch.packet.is_fragment() {
        return steps.fragment(scratch);
    }
    if scratch.packet.payload == Payload::Error {
        match steps.error(scratch) {
            Verdict::UNDECIDED => {}
            Verdict::NAT64 => return steps.forward_error_nat64(scratch),
            verdict => return verdict,
        }
    }
    steps.first_packet(scratch)
}

/// The first packet of a flow, or one that may begin none.
#[inline(always)]
pub fn first_packet<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    if let Err(reason) = steps.plan(scratch) {
        return drop_or_reply(steps, scratch, reason);
    }
    if let Err(reason) = create_planned(steps, scratch) {
        return drop_or_reply(steps, scratch, reason);
    }
    steps.send(scratch)
}

/// An ICMP error, which may be of a flow.
#[inline(always)]
pub fn error<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    let frame = steps.frame(quote::HEADERS);
    let Scratch { packet, error_translation: error, .. } = scratch;
    let Some(quote) = quote::quote(&frame, packet.payload_offset(), packet.tuple.side) else {
        return Verdict::UNDECIDED;
    };
    error.quote = quote;
    match icmp_error::translate(packet, error, steps.env()) {
        Outcome::Miss => Verdict::UNDECIDED,
        Outcome::Drop(reason) => steps.stop(reason),
        Outcome::Forward if is_nat64(&error.outer) => Verdict::NAT64,
        Outcome::Forward => steps.forward_error(packet, error),
    }
}
