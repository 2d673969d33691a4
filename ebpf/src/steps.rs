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
    abi::{Translation, exit},
    address::{V4, V6},
    plan::First,
    reason::Reason,
    tuple::side,
};

use crate::{
    crossing,
    maps::Mapped as _,
    programs::{self, UNDECIDED},
};

/// A family's steps. What they share is in this CPU's place for the first packet of a flow.
pub(crate) trait Steps: Sized {
    /// Everything about a packet but the usual; answers the action.
    fn decide(skb: *mut __sk_buff, place: &mut First<Self>) -> i32;
    /// The same for a packet that the host itself sends.
    fn decide_of_host(skb: *mut __sk_buff, place: &mut First<Self>) -> i32;
    /// Decides about a packet of a flow in the table, whose translation is in the place then; none
    /// if it is of no flow.
    fn of_flow(skb: *mut __sk_buff, place: &mut First<Self>) -> Option<Result<(), Reason>>;
    /// Decides what a packet of no flow may begin.
    fn plan(skb: *mut __sk_buff, place: &mut First<Self>) -> Result<(), Reason>;
    /// Begins the planned flow, if need be in the room of another.
    fn begin_with_room(skb: *mut __sk_buff, place: &mut First<Self>) -> Result<(), Reason>;
    /// Begins the planned flow, if there is room.
    fn begin(skb: *mut __sk_buff, place: &mut First<Self>) -> Result<(), Reason>;
    /// Decides about a packet of a flow that is kept among the other family's;
    /// [`programs::UNDECIDED`] if it is of none.
    fn decide_across(skb: *mut __sk_buff, place: &mut First<Self>) -> i32;
    /// Whether what leaves so becomes one of the other family.
    fn crosses(translation: &Translation<Self>) -> bool;
    /// Sends such a packet on.
    fn send_across(skb: *mut __sk_buff, place: &mut First<Self>) -> i32;
    /// Sends such an ICMP error on.
    fn send_error_across(skb: *mut __sk_buff, place: &mut First<Self>) -> i32;
}

macro_rules! steps_of {
    ($address:ty, $decide:ident, $decide_of_host:ident, $of_flow:ident, $plan:ident, $begin_with_room:ident, $begin:ident, $($crossing:item)*) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $decide(skb: *mut __sk_buff) -> i32 {
            match <$address>::first() {
                Some(place) => programs::decide(skb, place),
                None => programs::stop(Reason::Malformed),
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $decide_of_host(skb: *mut __sk_buff) -> i32 {
            match <$address>::first() {
                Some(place) => programs::decide_of_host(skb, place),
                None => TCX_NEXT,
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $of_flow(skb: *mut __sk_buff) -> u32 {
            let known = <$address>::first().and_then(|place| programs::of_flow(skb, place));
            known.map_or(NONE, to_number)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $plan(skb: *mut __sk_buff) -> u32 {
            match <$address>::first() {
                Some(place) => to_number(programs::plan(skb, place)),
                None => to_number(Err(Reason::Malformed)),
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $begin(skb: *mut __sk_buff) -> u32 {
            match <$address>::first() {
                Some(place) => to_number(programs::begin(skb, place)),
                None => to_number(Err(Reason::Malformed)),
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $begin_with_room(skb: *mut __sk_buff) -> u32 {
            match <$address>::first() {
                Some(place) => to_number(programs::begin_with_room(skb, place)),
                None => to_number(Err(Reason::Malformed)),
            }
        }

        impl Steps for $address {
            #[inline(always)]
            fn decide(skb: *mut __sk_buff, place: &mut First<Self>) -> i32 {
                $decide(lend(skb, place))
            }

            #[inline(always)]
            fn decide_of_host(skb: *mut __sk_buff, place: &mut First<Self>) -> i32 {
                $decide_of_host(lend(skb, place))
            }

            #[inline(always)]
            fn of_flow(skb: *mut __sk_buff, place: &mut First<Self>) -> Option<Result<(), Reason>> {
                match $of_flow(lend(skb, place)) {
                    NONE => None,
                    number => Some(from_number(number)),
                }
            }

            #[inline(always)]
            fn plan(skb: *mut __sk_buff, place: &mut First<Self>) -> Result<(), Reason> {
                from_number($plan(lend(skb, place)))
            }

            #[inline(always)]
            fn begin_with_room(skb: *mut __sk_buff, place: &mut First<Self>) -> Result<(), Reason> {
                from_number($begin_with_room(lend(skb, place)))
            }

            #[inline(always)]
            fn begin(skb: *mut __sk_buff, place: &mut First<Self>) -> Result<(), Reason> {
                from_number($begin(lend(skb, place)))
            }

            $($crossing)*
        }
    };
}

steps_of! {
    V4, decide4, decide_of_host4, of_flow4, plan4, begin_with_room4, begin4,

    #[inline(always)]
    fn decide_across(skb: *mut __sk_buff, place: &mut First<V4>) -> i32 {
        // What is kept among IPv6's is addressed to containers.
        if place.packet.tuple.side == side::CONTAINER { decide4_across(lend(skb, place)) } else { UNDECIDED }
    }

    #[inline(always)]
    fn crosses(_: &Translation<V4>) -> bool {
        false
    }

    #[inline(always)]
    fn send_across(_: *mut __sk_buff, _: &mut First<V4>) -> i32 {
        TC_ACT_SHOT
    }

    #[inline(always)]
    fn send_error_across(_: *mut __sk_buff, _: &mut First<V4>) -> i32 {
        TC_ACT_SHOT
    }
}

steps_of! {
    V6, decide6, decide_of_host6, of_flow6, plan6, begin_with_room6, begin6,

    #[inline(always)]
    fn decide_across(_: *mut __sk_buff, _: &mut First<V6>) -> i32 {
        UNDECIDED
    }

    #[inline(always)]
    fn crosses(translation: &Translation<V6>) -> bool {
        translation.exit == exit::CROSSING
    }

    #[inline(always)]
    fn send_across(skb: *mut __sk_buff, place: &mut First<V6>) -> i32 {
        send6_across(lend(skb, place))
    }

    #[inline(always)]
    fn send_error_across(skb: *mut __sk_buff, place: &mut First<V6>) -> i32 {
        send_error6_across(lend(skb, place))
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn decide4_across(skb: *mut __sk_buff) -> i32 {
    match V4::first() {
        Some(place) => crossing::decide(skb, place),
        None => UNDECIDED,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send6_across(skb: *mut __sk_buff) -> i32 {
    match V6::first() {
        Some(place) => crossing::send_as_ipv4(skb, place),
        None => TC_ACT_SHOT,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_error6_across(skb: *mut __sk_buff) -> i32 {
    match V6::first() {
        Some(place) => crossing::send_error_as_ipv4(skb, place),
        None => TC_ACT_SHOT,
    }
}

/// The packet for a step, to which the place is lent: it finds it for itself, so the compiler is
/// told that somebody may.
#[inline(always)]
fn lend<A>(skb: *mut __sk_buff, place: &mut First<A>) -> *mut __sk_buff {
    // An instruction that does nothing: without one, two lines of the source would be at the same,
    // which the kernel refuses. SAFETY: a register keeps what it has.
    unsafe { asm!("{0} = {0}", in(reg) ptr::from_mut(place), options(nostack)) };
    skb
}

/// What stands for none: no reason has that number.
const NONE: u32 = u32::MAX;

/// Zero, or the reason's number.
#[inline(always)]
fn to_number(result: Result<(), Reason>) -> u32 {
    match result {
        Ok(()) => 0,
        Err(reason) => reason as u32,
    }
}

#[inline(always)]
fn from_number(number: u32) -> Result<(), Reason> {
    if number == 0 {
        Ok(())
    } else {
        Err(Reason::from_number(number as u8).unwrap_or(Reason::Malformed))
    }
}
