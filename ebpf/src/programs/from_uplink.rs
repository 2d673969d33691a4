//! tc ingress on an uplink: replies, and published ports.

use aya_ebpf::{macros::classifier, programs::TcContext};
use causeway_common::pipeline;

use crate::steps::Tc;

/// See the module.
#[classifier]
pub(crate) fn from_uplink(ctx: TcContext) -> i32 {
    pipeline::from_uplink(&Tc::new(&ctx)).action()
}
