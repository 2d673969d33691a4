//! Fragments, as `causeway_common::fragment` decides about them: the same steps, each a function of
//! its own.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT},
    helpers::generated::bpf_loop,
    programs::TcContext,
};
use causeway_common::{
    abi::drop_reason::DropReason,
    flow::{fragment_context::FragmentContext, limits},
    nat::fragment::{self, Queue},
    scratch::Scratch,
};

use crate::{
    env::KernelEnv,
    maps::Family,
    programs::{self, drop_or_reply, stop},
    skb::Skb,
};

/// A fragment, which is in this CPU's place.
#[inline(never)]
pub(crate) fn decide<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> i32 {
    let Some(fragment_context) = A::fragment_context() else { return stop(DropReason::Fragment) };
    fragment_context.set(&scratch.packet);
    if scratch.packet.first_fragment {
        first(skb, scratch, fragment_context)
    } else {
        later(skb, scratch, fragment_context)
    }
}

#[inline(always)]
fn first<A: Family>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<A>,
    fragment_context: &mut FragmentContext<A>,
) -> i32 {
    let outcome = match A::lookup_slow(skb, scratch) {
        Some(outcome) => outcome,
        None => create_flow(skb, scratch),
    };
    let translated = outcome.is_ok() && fragment::is_translated(&scratch.entry.translation);
    if needs_fragment_state(skb, scratch, outcome) {
        let queued = record(skb, scratch, fragment_context, outcome.is_ok());
        if queued != 0 {
            if translated {
                reinject(skb, Some(scratch));
            }
            release(skb, fragment_context, queued, translated);
            if translated {
                return TC_ACT_SHOT;
            }
        }
    }
    match outcome {
        Ok(()) => send(skb, scratch, fragment_context),
        Err(reason) => drop_or_reply(scratch, reason),
    }
}

#[inline(always)]
fn later<A: Family>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<A>,
    fragment_context: &mut FragmentContext<A>,
) -> i32 {
    let ready = take_ports(skb, scratch, fragment_context);
    if ready {
        match A::lookup_slow(skb, scratch) {
            Some(Ok(())) => return send(skb, scratch, fragment_context),
            Some(Err(reason)) => return drop_or_reply(scratch, reason),
            None => fragment::forget_ports(&mut scratch.packet),
        }
    }
    let planned = A::plan(skb, scratch);
    if !ready && needs_fragment_state(skb, scratch, planned) {
        match queue(skb, fragment_context) {
            Queue::Queued | Queue::TakenByFirst => {
                if !fragment::goes_on(planned) {
                    return stop(DropReason::FragmentHeld);
                }
            }
            Queue::FirstArrived => {
                reinject::<A>(skb, None);
                return TC_ACT_SHOT;
            }
            Queue::NoRoom => {}
        }
    }
    let outcome = match planned {
        Ok(()) => create_planned(skb, scratch),
        Err(reason) => Err(reason),
    };
    match outcome {
        Ok(()) => send(skb, scratch, fragment_context),
        Err(reason) => drop_or_reply(scratch, reason),
    }
}

#[inline(always)]
fn create_flow<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> Result<(), DropReason> {
    match A::plan(skb, scratch) {
        Ok(()) => create_planned(skb, scratch),
        refused => refused,
    }
}

#[inline(always)]
fn create_planned<A: Family>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    match programs::create_planned(skb, scratch) {
        Ok(()) => may_leave(scratch),
        refused => refused,
    }
}

#[inline(never)]
fn may_leave<A: Family>(scratch: &Scratch<A>) -> Result<(), DropReason> {
    limits::check_ttl_and_mtu(&scratch.packet, &scratch.entry.translation)
}

#[inline(never)]
fn needs_fragment_state<A: Family>(
    skb: *mut __sk_buff,
    scratch: &Scratch<A>,
    outcome: Result<(), DropReason>,
) -> bool {
    let context = TcContext::new(skb);
    fragment::needs_fragment_state(&scratch.packet, outcome, &KernelEnv::new(&context))
}

#[inline(never)]
fn record<A: Family>(
    skb: *mut __sk_buff,
    scratch: &Scratch<A>,
    fragment_context: &mut FragmentContext<A>,
    leaves: bool,
) -> u32 {
    let context = TcContext::new(skb);
    let leaves = if leaves { Some(&scratch.entry.translation) } else { None };
    fragment::record(&scratch.packet, leaves, fragment_context, &KernelEnv::new(&context))
}

#[inline(never)]
fn take_ports<A: Family>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<A>,
    fragment_context: &mut FragmentContext<A>,
) -> bool {
    let context = TcContext::new(skb);
    fragment::take_ports(&mut scratch.packet, fragment_context, &KernelEnv::new(&context))
}

#[inline(never)]
fn queue<A: Family>(skb: *mut __sk_buff, fragment_context: &mut FragmentContext<A>) -> Queue {
    let context = TcContext::new(skb);
    fragment::queue(fragment_context, &KernelEnv::new(&context))
}

/// Puts the packet back; one that its flow has counted with its place.
#[inline(never)]
fn reinject<A: Family>(skb: *mut __sk_buff, counted: Option<&Scratch<A>>) {
    let context = TcContext::new(skb);
    if let Some(scratch) = counted {
        fragment::uncount(&scratch.packet, &KernelEnv::new(&context));
    }
    Skb::new(&context).reinject();
}

/// Puts the held fragments back, or forgets them.
#[inline(never)]
fn release<A: Family>(
    skb: *mut __sk_buff,
    fragment_context: &mut FragmentContext<A>,
    queued: u32,
    reinject: bool,
) {
    let mut run = Release { skb, fragment_context, reinject };
    // SAFETY: the function has the signature that the helper wants, and what it is given lives
    // until the loop is over.
    unsafe {
        bpf_loop(queued, release_one::<A> as *mut c_void, (&raw mut run).cast(), 0);
    }
}

/// What one turn of the loop over the held fragments needs.
struct Release<A> {
    skb: *mut __sk_buff,
    fragment_context: *mut FragmentContext<A>,
    reinject: bool,
}

/// One turn of the loop over the held fragments; 1 ends it.
extern "C" fn release_one<A: Family>(number: u64, run: *mut Release<A>) -> u64 {
    // SAFETY: `release` gives it a run that lives, and uses its passage no more until the loop is
    // over.
    let (skb, fragment_context, reinject) =
        unsafe { ((*run).skb, &mut *(*run).fragment_context, (*run).reinject) };
    let context = TcContext::new(skb);
    fragment_context.key.number = number as u32;
    fragment::release(&fragment_context.key, reinject, &KernelEnv::new(&context));
    0
}

#[inline(never)]
fn send<A: Family>(
    skb: *mut __sk_buff,
    scratch: &Scratch<A>,
    fragment_context: &FragmentContext<A>,
) -> i32 {
    let context = TcContext::new(skb);
    match Skb::new(&context).leave_fragment(
        &scratch.packet,
        &scratch.entry.translation,
        fragment_context.id,
    ) {
        Ok(action) => action,
        Err(reason) => stop(reason),
    }
}
