//! One frame through a loaded program, with the live maps, and without sending anything
//! (`BPF_PROG_TEST_RUN`).

use anyhow::Context as _;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, TestRunResult};
use causeway_common::abi::QUEUED_FRAME_BYTES;

use super::attach::{Attached, Hook};

/// The program that a frame enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Ingress of a host side: a container sent the frame.
    HostSide,
    /// Ingress of an uplink.
    Uplink,
    /// XDP on an uplink, which must have been attached.
    UplinkXdp,
    /// Egress of an uplink.
    UplinkOut,
    /// Egress of a bridge.
    Bridge,
}

/// The action of a program, of either numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The packet goes on as it is: `TCX_NEXT`, `XDP_PASS`.
    Pass,
    /// `TCX_DROP`, `XDP_DROP`.
    Drop,
    /// The frame is sent to another interface, or back: `TCX_REDIRECT`, `XDP_REDIRECT`.
    Redirect,
}

impl Action {
    /// Numbers of `enum tcx_action_base`, which those of clsact share.
    const fn of_tc(number: i32) -> Option<Self> {
        match number {
            -1 => Some(Self::Pass),
            2 => Some(Self::Drop),
            7 => Some(Self::Redirect),
            _ => None,
        }
    }

    /// Numbers of `enum xdp_action`.
    const fn of_xdp(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Drop),
            2 => Some(Self::Pass),
            4 => Some(Self::Redirect),
            _ => None,
        }
    }
}

/// The result of a program for one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The action that it returned.
    pub action: Action,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// Offsets in `struct __sk_buff` (`linux/bpf.h`).
mod skb {
    pub(super) const INGRESS_IFINDEX: usize = 36;
    pub(super) const IFINDEX: usize = 40;
    pub(super) const SIZE: usize = 192;
}

/// Offsets in `struct xdp_md`.
mod xdp_md {
    pub(super) const DATA_END: usize = 4;
    pub(super) const INGRESS_IFINDEX: usize = 12;
    pub(super) const SIZE: usize = 24;
}

impl Attached {
    /// See [`Datapath::try_frame`](super::Datapath::try_frame).
    pub(super) fn try_frame(
        &self,
        entry: Entry,
        index: u32,
        came_by: u32,
        frame: &[u8],
    ) -> anyhow::Result<Trial> {
        // An ICMP error or a fragment of the queue may be longer than the frame.
        let mut out = vec![0; frame.len().max(QUEUED_FRAME_BYTES) + 256];
        let what = || format!("running a frame of {} bytes through '{entry:?}'", frame.len());
        let result = self.run(entry, index, came_by, frame, &mut out).with_context(what)?;
        out.truncate(result.data_size_out as usize);
        let number = result.return_value.cast_signed();
        let of_hook = if entry == Entry::UplinkXdp { Action::of_xdp } else { Action::of_tc };
        let action = of_hook(number)
            .with_context(|| format!("the program returned {number}, which is no action of ours"))
            .with_context(what)?;
        Ok(Trial { action, frame: out })
    }

    fn run(
        &self,
        entry: Entry,
        index: u32,
        came_by: u32,
        frame: &[u8],
        out: &mut [u8],
    ) -> anyhow::Result<TestRunResult> {
        let hook = match entry {
            Entry::HostSide => Hook::HostSide,
            Entry::Uplink => Hook::Uplink,
            Entry::UplinkOut => Hook::UplinkOut,
            Entry::Bridge => Hook::Bridge,
            Entry::UplinkXdp => {
                let mut context = [0; xdp_md::SIZE];
                context[xdp_md::DATA_END..][..4]
                    .copy_from_slice(&u32::try_from(frame.len())?.to_ne_bytes());
                context[xdp_md::INGRESS_IFINDEX..][..4].copy_from_slice(&index.to_ne_bytes());
                return Ok(self.xdp_program()?.test_run(options(frame, out, &context))?);
            }
        };
        let program: &SchedClassifier = self.program(hook)?;
        let mut context = [0; skb::SIZE];
        context[skb::INGRESS_IFINDEX..][..4].copy_from_slice(&came_by.to_ne_bytes());
        context[skb::IFINDEX..][..4].copy_from_slice(&index.to_ne_bytes());
        Ok(program.test_run(options(frame, out, &context))?)
    }
}

fn options<'a>(frame: &'a [u8], out: &'a mut [u8], context: &'a [u8]) -> TestRunOptions<'a> {
    TestRunOptions {
        data_in: Some(frame),
        data_out: Some(out),
        ctx_in: Some(context),
        ..TestRunOptions::new()
    }
}
