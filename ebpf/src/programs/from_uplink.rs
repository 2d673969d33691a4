//! tc ingress on an uplink: replies, and published ports.

use aya_ebpf::{macros::classifier, programs::TcContext};
use causeway_common::{abi::programs, pipeline};

use crate::{steps::Tc, trace};

/// See the module.
#[classifier]
pub(crate) fn from_uplink(ctx: TcContext) -> i32 {
    trace::begin();
    let verdict = pipeline::from_uplink(&Tc::new(&ctx));
    trace::end(programs::FROM_UPLINK, verdict);
    verdict.action()
}
