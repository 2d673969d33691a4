//! A packet that the host itself sends out of an uplink.

use crate::{
    flow::lookup_slow,
    nat::host_flows::{self, HostFlow},
    pipeline::{
        send::forward,
        steps::{Family, NoFlow, Steps},
    },
    scratch::Scratch,
    verdict::{Outcome, Verdict},
    wire::{packet::Payload, tuple::Side},
};

/// A packet that the host itself sends out of an uplink.
#[inline(always)]
pub fn host_egress<A: Family>(steps: &impl Steps<A>) -> Verdict {
    let verdict = steps.host_fast_path();
    if verdict.is_final() {
        return verdict;
    }
    let Some(mut scratch) = steps.scratch() else { return Verdict::PASS };
    if verdict == Verdict::UNPARSED && steps.parse_into(&mut scratch, Side::HOST).is_err() {
        return Verdict::PASS;
    }
    steps.host_slow_path(&mut scratch)
}

/// Passes a packet of the host that belongs to no flow and begins none, as nearly all do.
#[inline(always)]
pub fn host_fast_path<A: Family>(steps: &impl Steps<A>) -> Verdict {
    let Ok(packet) = steps.parse_usual(Side::HOST) else { return Verdict::UNPARSED };
    if packet.payload != Payload::Error
        && (!host_flows::may_belong_to_host_flow(&packet, steps.env())
            || host_flows::classify(&packet, steps.bypasses_socket_lookup(&packet), steps.env())
                == HostFlow::None)
    {
        return Verdict::PASS;
    }
    let Some(mut scratch) = steps.scratch() else { return Verdict::PASS };
    scratch.packet = packet;
    Verdict::UNDECIDED
}

/// Decides a packet of the host that may belong to a flow. It passes unchanged if it does not, and
/// begins none.
#[inline(always)]
pub fn host_slow_path<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    let mut verdict = if scratch.packet.payload == Payload::Error {
        steps.error(scratch)
    } else {
        steps.host_flow(scratch)
    };
    if verdict == Verdict::UNDECIDED
        && steps.plan_host_flow(scratch).is_ok()
        && steps.create(scratch).is_ok()
    {
        verdict = steps.send(scratch);
    }
    // A packet that was translated in part must not leave.
    if verdict == Verdict::DROP { verdict } else { Verdict::PASS }
}

/// A packet of a flow of the host's own.
#[inline(always)]
pub fn host_flow<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    let Scratch { packet, entry, .. } = scratch;
    if !host_flows::may_belong_to_host_flow(packet, steps.env()) {
        return Verdict::PASS;
    }
    match host_flows::classify(packet, steps.bypasses_socket_lookup(packet), steps.env()) {
        HostFlow::None => Verdict::PASS,
        HostFlow::Track | HostFlow::Remap => Verdict::UNDECIDED,
        HostFlow::Existing => {
            match lookup_slow::lookup_slow(packet, &mut entry.translation, steps.env()) {
                Outcome::Forward => forward(steps, packet, &entry.translation),
                Outcome::Miss | Outcome::Drop(_) => Verdict::UNDECIDED,
            }
        }
    }
}

/// Plans the flow that a packet of the host's begins.
#[inline(always)]
pub fn plan_host_flow<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
) -> Result<(), NoFlow> {
    let bypasses_socket_lookup = steps.bypasses_socket_lookup(&scratch.packet);
    let flow = host_flows::classify(&scratch.packet, bypasses_socket_lookup, steps.env());
    if !matches!(flow, HostFlow::Track | HostFlow::Remap) {
        return Err(NoFlow);
    }
    scratch.new_flow = host_flows::plan(&scratch.packet, flow, steps.env());
    Ok(())
}
