//! Removes flows. The agent runs it, with a frame of its own making.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::__sk_buff, helpers::generated::bpf_loop, macros::classifier, programs::TcContext,
};
use causeway_common::{
    flow::collect::{self, Collect},
    wire::{
        address::{V4, V6},
        ethernet::ETHERNET,
        tuple::Tuple,
    },
};

use crate::{env::KernelEnv, family::Family};

/// The first byte of the frame says which flows ([`Collect`]), the second one of which family
/// ([`Family::NUMBER`]), and after the Ethernet header are their keys. Returns how many flows were
/// removed.
#[classifier]
pub(crate) fn flow_gc(ctx: TcContext) -> i32 {
    match ctx.load::<u8>(1) {
        Ok(V6::NUMBER) => collect_family::<V6>(&ctx),
        _ => collect_family::<V4>(&ctx),
    }
}

#[inline(always)]
fn collect_family<A: Family>(ctx: &TcContext) -> i32 {
    let which = ctx.load::<u8>(0).unwrap_or(Collect::Ended as u8);
    let mut run = GcRun { skb: ctx.skb.skb, which, removed: 0 };
    // SAFETY: the function has the signature that the helper wants, and what it is given lives
    // until the loop is over.
    unsafe {
        bpf_loop(
            collect::KEYS_PER_RUN as u32,
            collect_one::<A> as *mut c_void,
            (&raw mut run).cast(),
            0,
        );
    }
    run.removed
}

/// What one turn of the loop over the keys needs.
struct GcRun {
    skb: *mut __sk_buff,
    which: u8,
    removed: i32,
}

/// One turn of the loop over the keys; 1 ends it.
extern "C" fn collect_one<A: Family>(turn: u64, run: *mut GcRun) -> u64 {
    // SAFETY: `collect_family` gives it a run that lives, and looks at it no more until the loop is
    // over.
    let run = unsafe { &mut *run };
    let context = TcContext::new(run.skb);
    let at = ETHERNET + (turn as usize % collect::KEYS_PER_RUN) * size_of::<Tuple<A>>();
    let Ok(key) = context.load::<Tuple<A>>(at) else { return 1 };
    let which = if run.which == Collect::Any as u8 { Collect::Any } else { Collect::Ended };
    run.removed += i32::from(collect::collect(&KernelEnv::new(&context), &key, which));
    0
}
