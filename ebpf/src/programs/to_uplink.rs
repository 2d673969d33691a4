//! tc egress on an uplink: what the host itself sends.

use aya_ebpf::{bindings::tcx_action_base::TCX_NEXT, macros::classifier, programs::TcContext};
use causeway_common::{abi::programs, pipeline};

use crate::{ctx::skb::Skb, steps::Tc, trace};

/// Passes what came in elsewhere: it is forwarded, by the stack or by another program of ours.
#[classifier]
pub(crate) fn to_uplink(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    if skb.ingress_interface() != 0 || skb.take_processed_mark() {
        return TCX_NEXT;
    }
    trace::begin();
    let verdict = pipeline::to_uplink(&Tc::new(&ctx));
    trace::end(programs::TO_UPLINK, verdict);
    verdict.action()
}
