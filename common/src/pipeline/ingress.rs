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
    // The lookup of the scratch never fails. If it did, a container's packet must not pass.
    let Some(mut scratch) = steps.scratch() else { return steps.stop(malformed) };
    if verdict == Verdict::UNPARSED && steps.parse_into(&mut scratch, side).is_err() {
        return steps.stop(malformed);
    }
    steps.slow_path(&mut scratch)
}

/// Forwards a packet with a usual header, if it changes no more of its flow than the counters.
/// Otherwise it copies the packet to the scratch for [`slow_path`], which then runs with this
/// function's stack frame released.
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
        // By reference into the table: a copy costs more than another CPU can change meanwhile.
        return steps.forward(&packet, &entry.translation);
    }
    let Some(mut scratch) = steps.scratch() else { return steps.stop(malformed) };
    scratch.packet = packet;
    scratch.source_mac = source_mac(&steps.frame(0));
    scratch.lookup_missed = lookup_missed;
    Verdict::UNDECIDED
}

/// Parses a packet with any header into the scratch. The verifier knows nothing of the values in
/// the scratch, so it checks the next steps once for all kinds of headers.
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

/// Decides a packet that the fast path did not.
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

/// A packet of no flow. The steps are called one after the other and never nested: nested, their
/// stack frames would exceed 512 bytes. Before Linux 6.6 each frame takes 32 bytes at least.
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

/// Begins a flow with the packet, or refuses to.
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
