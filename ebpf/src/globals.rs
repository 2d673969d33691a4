//! Steps that the verifier looks at by themselves, once for each program: what it calls global
//! functions. Every other function it looks at anew for each way that leads to it, and there are
//! many to the creation of a flow.
//!
//! Such a function has a name of its own in the object and takes nothing but numbers and pointers
//! that may be null, which is why there is a thin one for each family. It is given the packet
//! alone, and asks for this CPU's scratch again: what a function is given is plain memory to the
//! verifier, of which Linux before 6.2 takes no key and no value of a map.

use core::{arch::asm, ptr};

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use causeway_common::{
    abi::drop_reason::DropReason,
    pipeline,
    scratch::Scratch,
    verdict::{Outcome, Verdict},
    wire::{
        address::{V4, V6},
        tuple::Side,
    },
};

use crate::{family::Family, maps::HasMaps as _, steps::Tc, subprograms};

/// A family's global functions.
pub(crate) trait Globals: Family {
    /// [`pipeline::slow_path`].
    fn slow_path(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Verdict;
    /// [`pipeline::host_slow_path`].
    fn host_slow_path(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Verdict;
    /// [`causeway_common::flow::lookup_slow::lookup_slow`].
    fn lookup_slow(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Outcome;
    /// [`causeway_common::nat::plan::plan`].
    fn plan(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Result<(), DropReason>;
    /// [`pipeline::create_with_eviction`].
    fn create_with_eviction(
        skb: *mut __sk_buff,
        scratch: &mut Scratch<Self>,
    ) -> Result<(), DropReason>;
    /// [`pipeline::create`].
    fn create(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Result<(), DropReason>;
    /// [`pipeline::nat64`], of an IPv4 packet from a container.
    fn nat64(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Verdict;
    /// Sends an IPv6 packet on as one of IPv4.
    fn forward_nat64(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Verdict;
    /// Sends an ICMPv6 error on as one of IPv4.
    fn forward_error_nat64(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Verdict;
}

/// Makes a global function that works on the scratch.
macro_rules! global {
    ($name:ident, $address:ty, $without_scratch:expr, |$steps:ident, $scratch:ident| $body:expr) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(skb: *mut __sk_buff) -> i32 {
            let context = TcContext::new(skb);
            let $steps = &Tc::new(&context);
            match <$address>::scratch() {
                Some($scratch) => $body,
                None => $without_scratch,
            }
        }
    };
}

macro_rules! globals_of {
    (
        $address:ty, $slow_path:ident, $host_slow_path:ident, $lookup_slow:ident, $plan:ident,
        $create_with_eviction:ident, $create:ident, $($nat64:item)*
    ) => {
        global!($slow_path, $address, subprograms::stop(DropReason::Malformed).action(), |steps, scratch| {
            pipeline::slow_path::<$address>(steps, scratch).action()
        });
        global!($host_slow_path, $address, Verdict::PASS.action(), |steps, scratch| {
            pipeline::host_slow_path::<$address>(steps, scratch).action()
        });
        global!($lookup_slow, $address, MISS, |steps, scratch| {
            outcome_to_number(subprograms::lookup_slow::<$address>(steps, scratch))
        });
        global!($plan, $address, to_number(Err(DropReason::Malformed)), |steps, scratch| {
            to_number(subprograms::plan::<$address>(steps, scratch))
        });
        global!($create, $address, to_number(Err(DropReason::Malformed)), |steps, scratch| {
            to_number(pipeline::create::<$address>(steps, scratch))
        });
        global!($create_with_eviction, $address, to_number(Err(DropReason::Malformed)), |steps, scratch| {
            to_number(pipeline::create_with_eviction::<$address>(steps, scratch))
        });

        impl Globals for $address {
            #[inline(always)]
            fn slow_path(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Verdict {
                Verdict::from_action($slow_path(expose_scratch(skb, scratch)))
            }

            #[inline(always)]
            fn host_slow_path(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Verdict {
                Verdict::from_action($host_slow_path(expose_scratch(skb, scratch)))
            }

            #[inline(always)]
            fn lookup_slow(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Outcome {
                match $lookup_slow(expose_scratch(skb, scratch)) {
                    MISS => Outcome::Miss,
                    number => Outcome::of(from_number(number)),
                }
            }

            #[inline(always)]
            fn plan(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Result<(), DropReason> {
                from_number($plan(expose_scratch(skb, scratch)))
            }

            #[inline(always)]
            fn create_with_eviction(
                skb: *mut __sk_buff,
                scratch: &mut Scratch<Self>,
            ) -> Result<(), DropReason> {
                from_number($create_with_eviction(expose_scratch(skb, scratch)))
            }

            #[inline(always)]
            fn create(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Result<(), DropReason> {
                from_number($create(expose_scratch(skb, scratch)))
            }

            $($nat64)*
        }
    };
}

globals_of! {
    V4, slow_path4, host_slow_path4, lookup_slow4, plan4, create_with_eviction4, create4,

    #[inline(always)]
    fn nat64(skb: *mut __sk_buff, scratch: &mut Scratch<V4>) -> Verdict {
        // What is kept among IPv6's is addressed to containers.
        if scratch.packet.tuple.side == Side::CONTAINER {
            Verdict::from_action(nat64_from_container(expose_scratch(skb, scratch)))
        } else {
            Verdict::UNDECIDED
        }
    }

    #[inline(always)]
    fn forward_nat64(_: *mut __sk_buff, _: &mut Scratch<V4>) -> Verdict {
        Verdict::DROP
    }

    #[inline(always)]
    fn forward_error_nat64(_: *mut __sk_buff, _: &mut Scratch<V4>) -> Verdict {
        Verdict::DROP
    }
}

globals_of! {
    V6, slow_path6, host_slow_path6, lookup_slow6, plan6, create_with_eviction6, create6,

    #[inline(always)]
    fn nat64(_: *mut __sk_buff, _: &mut Scratch<V6>) -> Verdict {
        Verdict::UNDECIDED
    }

    #[inline(always)]
    fn forward_nat64(skb: *mut __sk_buff, scratch: &mut Scratch<V6>) -> Verdict {
        Verdict::from_action(forward_as_ipv4(expose_scratch(skb, scratch)))
    }

    #[inline(always)]
    fn forward_error_nat64(skb: *mut __sk_buff, scratch: &mut Scratch<V6>) -> Verdict {
        Verdict::from_action(forward_error_as_ipv4(expose_scratch(skb, scratch)))
    }
}

global!(nat64_from_container, V4, Verdict::UNDECIDED.action(), |steps, scratch| {
    pipeline::nat64(steps, steps, scratch).action()
});
global!(forward_as_ipv4, V6, Verdict::DROP.action(), |steps, scratch| {
    subprograms::forward_as_ipv4(steps, scratch).action()
});
global!(forward_error_as_ipv4, V6, Verdict::DROP.action(), |steps, scratch| {
    subprograms::forward_error_as_ipv4(steps, scratch).action()
});

/// The packet, for a function that finds the scratch by itself: tells the compiler that the callee
/// may read and write the scratch.
#[inline(always)]
fn expose_scratch<A>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> *mut __sk_buff {
    // An instruction that does nothing. Without one, two lines of the source would be at the same
    // instruction, which the kernel refuses.
    // SAFETY: a register keeps its value.
    unsafe { asm!("{0} = {0}", in(reg) ptr::from_mut(scratch), options(nostack)) };
    skb
}

/// What stands for [`Outcome::Miss`]: no reason has that number.
const MISS: i32 = -1;

#[inline(always)]
fn outcome_to_number(outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Miss => MISS,
        Outcome::Forward => to_number(Ok(())),
        Outcome::Drop(reason) => to_number(Err(reason)),
    }
}

/// Zero, or the reason's number.
#[inline(always)]
fn to_number(result: Result<(), DropReason>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(reason) => i32::from(reason as u8),
    }
}

#[inline(always)]
fn from_number(number: i32) -> Result<(), DropReason> {
    if number == 0 {
        Ok(())
    } else {
        Err(DropReason::from_number(number.cast_unsigned() as u8).unwrap_or(DropReason::Malformed))
    }
}
