//! A fragment of a datagram.

use crate::{
    abi::drop_reason::DropReason,
    flow::fragment_context::FragmentContext,
    nat::fragment::{self, Queue},
    pipeline::{
        create::create_planned,
        send::drop_or_reply,
        steps::{Family, Steps},
    },
    scratch::Scratch,
    verdict::{Outcome, Verdict},
};

/// A fragment.
#[inline(always)]
pub fn fragment<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    let Some(mut context) = steps.fragment_context() else {
        return steps.stop(DropReason::Fragment);
    };
    context.set(&scratch.packet);
    if scratch.packet.first_fragment {
        first_fragment(steps, scratch, &mut context)
    } else {
        later_fragment(steps, scratch, &mut context)
    }
}

#[inline(always)]
pub(super) fn first_fragment<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
    context: &mut FragmentContext<A>,
) -> Verdict {
    let outcome = match steps.lookup_slow(scratch) {
        Outcome::Miss => create_fragment_flow(steps, scratch),
        Outcome::Forward => Ok(()),
        Outcome::Drop(reason) => Err(reason),
    };
    let translated = outcome.is_ok() && fragment::is_translated(&scratch.entry.translation);
    if steps.needs_fragment_state(scratch, outcome) {
        let queued = steps.record(scratch, context, outcome.is_ok());
        if queued != 0 {
            if translated {
                steps.reinject(Some(scratch));
            }
            steps.release(context, queued, translated);
            if translated {
                return Verdict::DROP;
            }
        }
    }
    match outcome {
        Ok(()) => steps.forward_fragment(scratch, context),
        Err(reason) => drop_or_reply(steps, scratch, reason),
    }
}

#[inline(always)]
pub(super) fn later_fragment<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
    context: &mut FragmentContext<A>,
) -> Verdict {
    let ready = steps.take_ports(scratch, context);
    if ready {
        match steps.lookup_slow(scratch) {
            Outcome::Forward => return steps.forward_fragment(scratch, context),
            Outcome::Drop(reason) => return drop_or_reply(steps, scratch, reason),
            Outcome::Miss => fragment::forget_ports(&mut scratch.packet),
        }
    }
    let planned = steps.plan(scratch);
    if !ready && steps.needs_fragment_state(scratch, planned) {
        match steps.queue(context) {
            Queue::Queued | Queue::TakenByFirst => {
                if !fragment::goes_on(planned) {
                    return steps.stop(DropReason::FragmentHeld);
                }
            }
            Queue::FirstArrived => {
                steps.reinject(None);
                return Verdict::DROP;
            }
            Queue::NoRoom => {}
        }
    }
    let outcome = match planned {
        Ok(()) => create_checked(steps, scratch),
        Err(reason) => Err(reason),
    };
    match outcome {
        Ok(()) => steps.forward_fragment(scratch, context),
        Err(reason) => drop_or_reply(steps, scratch, reason),
    }
}

#[inline(always)]
pub(super) fn create_fragment_flow<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    match steps.plan(scratch) {
        Ok(()) => create_checked(steps, scratch),
        refused => refused,
    }
}

#[inline(always)]
pub(super) fn create_checked<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    match create_planned(steps, scratch) {
        Ok(()) => steps.check_ttl_and_mtu(scratch),
        refused => refused,
    }
}
