//! Steps that the verifier looks at by themselves, once for each program: what it calls global
//! functions. Every other function it looks at anew for each way that leads to it, and there are
//! many to the beginning of a flow.
//!
//! Such a function has a name of its own in the object and takes nothing but numbers and pointers
//! that may be null, which is why there is a thin one for each family around those that do the
//! work. It is given the packet alone, and asks for this CPU's place again: what a function is
//! given is plain memory to the verifier, of which Linux before 6.2 takes no key and no value of a
//! map.

use core::{arch::asm, ptr};

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, tcx_action_base::TCX_NEXT};
use causeway_common::{
    abi::{Translation, deliver, drop_reason::DropReason},
    scratch::Scratch,
    wire::{
        address::{V4, V6},
        tuple::side,
    },
};

use crate::{
    maps::HasMaps as _,
    nat64,
    programs::{self, UNDECIDED},
};

/// A family's steps. What they share is in this CPU's place for the first packet of a flow.
pub(crate) trait Steps: Sized {
    /// Everything about a packet but the usual; answers the action.
    fn decide(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> i32;
    /// The same for a packet that the host itself sends.
    fn decide_to_uplink(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> i32;
    /// Decides about a packet of a flow in the table, whose translation is in the place then; none
    /// if it is of no flow.
    fn lookup_slow(
        skb: *mut __sk_buff,
        scratch: &mut Scratch<Self>,
    ) -> Option<Result<(), DropReason>>;
    /// Decides what a packet of no flow may begin.
    fn plan(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Result<(), DropReason>;
    /// Begins the planned flow, if need be in the room of another.
    fn create_with_eviction(
        skb: *mut __sk_buff,
        scratch: &mut Scratch<Self>,
    ) -> Result<(), DropReason>;
    /// Begins the planned flow, if there is room.
    fn create(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Result<(), DropReason>;
    /// Decides about a packet of a flow that is kept among the other family's;
    /// [`programs::UNDECIDED`] if it is of none.
    fn decide_nat64(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> i32;
    /// Whether what leaves so becomes one of the other family.
    fn is_nat64(translation: &Translation<Self>) -> bool;
    /// Sends such a packet on.
    fn send_nat64(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> i32;
    /// Sends such an ICMP error on.
    fn send_error_nat64(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> i32;
}

macro_rules! steps_of {
    ($address:ty, $decide:ident, $decide_to_uplink:ident, $lookup_slow:ident, $plan:ident, $create_with_eviction:ident, $create:ident, $($crossing:item)*) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $decide(skb: *mut __sk_buff) -> i32 {
            match <$address>::scratch() {
                Some(scratch) => programs::decide(skb, scratch),
                None => programs::stop(DropReason::Malformed),
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $decide_to_uplink(skb: *mut __sk_buff) -> i32 {
            match <$address>::scratch() {
                Some(scratch) => programs::decide_to_uplink(skb, scratch),
                None => TCX_NEXT,
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $lookup_slow(skb: *mut __sk_buff) -> u32 {
            let known = <$address>::scratch().and_then(|scratch| programs::lookup_slow(skb, scratch));
            known.map_or(NONE, to_number)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $plan(skb: *mut __sk_buff) -> u32 {
            match <$address>::scratch() {
                Some(scratch) => to_number(programs::plan(skb, scratch)),
                None => to_number(Err(DropReason::Malformed)),
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $create(skb: *mut __sk_buff) -> u32 {
            match <$address>::scratch() {
                Some(scratch) => to_number(programs::create(skb, scratch)),
                None => to_number(Err(DropReason::Malformed)),
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $create_with_eviction(skb: *mut __sk_buff) -> u32 {
            match <$address>::scratch() {
                Some(scratch) => to_number(programs::create_with_eviction(skb, scratch)),
                None => to_number(Err(DropReason::Malformed)),
            }
        }

        impl Steps for $address {
            #[inline(always)]
            fn decide(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> i32 {
                $decide(expose_scratch(skb, scratch))
            }

            #[inline(always)]
            fn decide_to_uplink(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> i32 {
                $decide_to_uplink(expose_scratch(skb, scratch))
            }

            #[inline(always)]
            fn lookup_slow(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Option<Result<(), DropReason>> {
                match $lookup_slow(expose_scratch(skb, scratch)) {
                    NONE => None,
                    number => Some(from_number(number)),
                }
            }

            #[inline(always)]
            fn plan(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Result<(), DropReason> {
                from_number($plan(expose_scratch(skb, scratch)))
            }

            #[inline(always)]
            fn create_with_eviction(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Result<(), DropReason> {
                from_number($create_with_eviction(expose_scratch(skb, scratch)))
            }

            #[inline(always)]
            fn create(skb: *mut __sk_buff, scratch: &mut Scratch<Self>) -> Result<(), DropReason> {
                from_number($create(expose_scratch(skb, scratch)))
            }

            $($crossing)*
        }
    };
}

steps_of! {
    V4, decide4, decide_to_uplink4, lookup_slow4, plan4, create_with_eviction4, create4,

    #[inline(always)]
    fn decide_nat64(skb: *mut __sk_buff, scratch: &mut Scratch<V4>) -> i32 {
        // What is kept among IPv6's is addressed to containers.
        if scratch.packet.tuple.side == side::CONTAINER { decide4_nat64(expose_scratch(skb, scratch)) } else { UNDECIDED }
    }

    #[inline(always)]
    fn is_nat64(_: &Translation<V4>) -> bool {
        false
    }

    #[inline(always)]
    fn send_nat64(_: *mut __sk_buff, _: &mut Scratch<V4>) -> i32 {
        TC_ACT_SHOT
    }

    #[inline(always)]
    fn send_error_nat64(_: *mut __sk_buff, _: &mut Scratch<V4>) -> i32 {
        TC_ACT_SHOT
    }
}

steps_of! {
    V6, decide6, decide_to_uplink6, lookup_slow6, plan6, create_with_eviction6, create6,

    #[inline(always)]
    fn decide_nat64(_: *mut __sk_buff, _: &mut Scratch<V6>) -> i32 {
        UNDECIDED
    }

    #[inline(always)]
    fn is_nat64(translation: &Translation<V6>) -> bool {
        translation.deliver == deliver::CONTAINER_NAT64
    }

    #[inline(always)]
    fn send_nat64(skb: *mut __sk_buff, scratch: &mut Scratch<V6>) -> i32 {
        send6_nat64(expose_scratch(skb, scratch))
    }

    #[inline(always)]
    fn send_error_nat64(skb: *mut __sk_buff, scratch: &mut Scratch<V6>) -> i32 {
        send_error6_nat64(expose_scratch(skb, scratch))
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn decide4_nat64(skb: *mut __sk_buff) -> i32 {
    match V4::scratch() {
        Some(scratch) => nat64::decide(skb, scratch),
        None => UNDECIDED,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send6_nat64(skb: *mut __sk_buff) -> i32 {
    match V6::scratch() {
        Some(scratch) => nat64::send_as_ipv4(skb, scratch),
        None => TC_ACT_SHOT,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_error6_nat64(skb: *mut __sk_buff) -> i32 {
    match V6::scratch() {
        Some(scratch) => nat64::send_error_as_ipv4(skb, scratch),
        None => TC_ACT_SHOT,
    }
}

/// The packet for a step, to which the place is lent: it finds it for itself, so the compiler is
/// told that somebody may.
#[inline(always)]
fn expose_scratch<A>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> *mut __sk_buff {
    // An instruction that does nothing: without one, two lines of the source would be at the same,
    // which the kernel refuses. SAFETY: a register keeps what it has.
    unsafe { asm!("{0} = {0}", in(reg) ptr::from_mut(scratch), options(nostack)) };
    skb
}

/// What stands for none: no reason has that number.
const NONE: u32 = u32::MAX;

/// Zero, or the reason's number.
#[inline(always)]
fn to_number(result: Result<(), DropReason>) -> u32 {
    match result {
        Ok(()) => 0,
        Err(reason) => reason as u32,
    }
}

#[inline(always)]
fn from_number(number: u32) -> Result<(), DropReason> {
    if number == 0 {
        Ok(())
    } else {
        Err(DropReason::from_number(number as u8).unwrap_or(DropReason::Malformed))
    }
}
