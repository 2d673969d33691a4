//! tc egress on a bridge: what the host's stack sends into a network.

use aya_ebpf::{macros::classifier, programs::TcContext};
use causeway_common::{abi::programs, pipeline};

use crate::{ctx::skb::Skb, subprograms, trace};

/// Decides from metadata alone; no packet byte is read.
#[classifier]
pub(crate) fn to_bridge(ctx: TcContext) -> i32 {
    trace::begin();
    let verdict = subprograms::stop(pipeline::to_bridge(Skb::new(&ctx).ingress_interface()));
    trace::end(programs::TO_BRIDGE, verdict);
    verdict.action()
}
