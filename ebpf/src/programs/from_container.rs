//! tc ingress on a host side: everything a container sends.

use aya_ebpf::{bindings::tcx_action_base::TCX_NEXT, macros::classifier, programs::TcContext};
use causeway_common::{abi::programs, pipeline};

use crate::{ctx::skb::Skb, steps::Tc, trace};

/// At a netkit pair this runs twice: where the container sends, and on the host side for what was
/// passed there. The mark that the first run sets tells the second one to skip the packet. What the
/// second run decides is what was reinjected.
#[classifier]
pub(crate) fn from_container(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    if !skb.is_container_egress() && skb.take_processed_mark() {
        return TCX_NEXT;
    }
    trace::begin();
    let verdict = pipeline::from_container(&Tc::new(&ctx));
    trace::end(programs::FROM_CONTAINER, verdict);
    skb.set_processed_mark();
    verdict.action()
}
