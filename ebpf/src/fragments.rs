//! Fragments, as `causeway_common::fragment` decides about them: the same steps, each a function of
//! its own.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT},
    helpers::generated::bpf_loop,
    programs::TcContext,
};
use causeway_common::{
    forward,
    fragment::{self, Hold, Passage},
    plan::First,
    reason::Reason,
};

use crate::{
    maps::Family,
    programs::{self, refuse, stop},
    skb::Skb,
    tables::Kernel,
};

/// A fragment, which is in this CPU's place.
#[inline(never)]
pub(crate) fn handle<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> i32 {
    let Some(passage) = A::passage() else { return stop(Reason::Fragment) };
    passage.set(&place.packet);
    if place.packet.first_fragment {
        first(skb, place, passage)
    } else {
        later(skb, place, passage)
    }
}

#[inline(always)]
fn first<A: Family>(skb: *mut __sk_buff, place: &mut First<A>, passage: &mut Passage<A>) -> i32 {
    let outcome = match A::of_flow(skb, place) {
        Some(outcome) => outcome,
        None => begin_flow(skb, place),
    };
    let translated = outcome.is_ok() && fragment::is_translated(&place.half.translation);
    if concerns(skb, place, outcome) {
        let held = record(skb, place, passage, outcome.is_ok());
        if held != 0 {
            if translated {
                put_back(skb, Some(place));
            }
            release(skb, passage, held, translated);
            if translated {
                return TC_ACT_SHOT;
            }
        }
    }
    match outcome {
        Ok(()) => send(skb, place, passage),
        Err(reason) => refuse(place, reason),
    }
}

#[inline(always)]
fn later<A: Family>(skb: *mut __sk_buff, place: &mut First<A>, passage: &mut Passage<A>) -> i32 {
    let ready = take_ports(skb, place, passage);
    if ready {
        match A::of_flow(skb, place) {
            Some(Ok(())) => return send(skb, place, passage),
            Some(Err(reason)) => return refuse(place, reason),
            None => fragment::forget_ports(&mut place.packet),
        }
    }
    let planned = A::plan(skb, place);
    if !ready && concerns(skb, place, planned) {
        match hold(skb, passage) {
            Hold::Held | Hold::Taken => {
                if !fragment::goes_on(planned) {
                    return stop(Reason::FragmentHeld);
                }
            }
            Hold::Overtaken => {
                put_back::<A>(skb, None);
                return TC_ACT_SHOT;
            }
            Hold::NoRoom => {}
        }
    }
    let outcome = match planned {
        Ok(()) => begin_planned(skb, place),
        Err(reason) => Err(reason),
    };
    match outcome {
        Ok(()) => send(skb, place, passage),
        Err(reason) => refuse(place, reason),
    }
}

#[inline(always)]
fn begin_flow<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> Result<(), Reason> {
    match A::plan(skb, place) {
        Ok(()) => begin_planned(skb, place),
        refused => refused,
    }
}

#[inline(always)]
fn begin_planned<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> Result<(), Reason> {
    match programs::begin_planned(skb, place) {
        Ok(()) => may_leave(place),
        refused => refused,
    }
}

#[inline(never)]
fn may_leave<A: Family>(place: &First<A>) -> Result<(), Reason> {
    forward::leave(&place.packet, &place.half.translation)
}

#[inline(never)]
fn concerns<A: Family>(skb: *mut __sk_buff, place: &First<A>, outcome: Result<(), Reason>) -> bool {
    let context = TcContext::new(skb);
    fragment::concerns(&place.packet, outcome, &Kernel::new(&context))
}

#[inline(never)]
fn record<A: Family>(
    skb: *mut __sk_buff,
    place: &First<A>,
    passage: &mut Passage<A>,
    leaves: bool,
) -> u32 {
    let context = TcContext::new(skb);
    let leaves = if leaves { Some(&place.half.translation) } else { None };
    fragment::record(&place.packet, leaves, passage, &Kernel::new(&context))
}

#[inline(never)]
fn take_ports<A: Family>(
    skb: *mut __sk_buff,
    place: &mut First<A>,
    passage: &mut Passage<A>,
) -> bool {
    let context = TcContext::new(skb);
    fragment::take_ports(&mut place.packet, passage, &Kernel::new(&context))
}

#[inline(never)]
fn hold<A: Family>(skb: *mut __sk_buff, passage: &mut Passage<A>) -> Hold {
    let context = TcContext::new(skb);
    fragment::hold(passage, &Kernel::new(&context))
}

/// Puts the packet back; one that its flow has counted with its place.
#[inline(never)]
fn put_back<A: Family>(skb: *mut __sk_buff, counted: Option<&First<A>>) {
    let context = TcContext::new(skb);
    if let Some(place) = counted {
        fragment::uncount(&place.packet, &Kernel::new(&context));
    }
    Skb::new(&context).put_back();
}

/// Puts the held fragments back, or forgets them.
#[inline(never)]
fn release<A: Family>(skb: *mut __sk_buff, passage: &mut Passage<A>, held: u32, put_back: bool) {
    let mut run = Release { skb, passage, put_back };
    // SAFETY: the function has the signature that the helper wants, and what it is given lives
    // until the loop is over.
    unsafe {
        bpf_loop(held, release_one::<A> as *mut c_void, (&raw mut run).cast(), 0);
    }
}

/// What one turn of the loop over the held fragments needs.
struct Release<A> {
    skb: *mut __sk_buff,
    passage: *mut Passage<A>,
    put_back: bool,
}

/// One turn of the loop over the held fragments; 1 ends it.
extern "C" fn release_one<A: Family>(number: u64, run: *mut Release<A>) -> u64 {
    // SAFETY: `release` gives it a run that lives, and uses its passage no more until the loop is
    // over.
    let (skb, passage, put_back) = unsafe { ((*run).skb, &mut *(*run).passage, (*run).put_back) };
    let context = TcContext::new(skb);
    passage.key.number = number as u32;
    fragment::release(&passage.key, put_back, &Kernel::new(&context));
    0
}

#[inline(never)]
fn send<A: Family>(skb: *mut __sk_buff, place: &First<A>, passage: &Passage<A>) -> i32 {
    let context = TcContext::new(skb);
    match Skb::new(&context).leave_fragment(&place.packet, &place.half.translation, passage.id) {
        Ok(action) => action,
        Err(reason) => stop(reason),
    }
}
