//! One frame through a loaded program, with the live maps, and without sending anything (`BPF_PROG_TEST_RUN`).

use anyhow::Context as _;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};

use super::{Datapath, attach::Hook};

/// Where a frame is to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A host side: a container sent it.
    HostSide,
    /// An uplink.
    Uplink,
    /// An uplink, on its way out.
    UplinkOut,
    /// A bridge, on its way out.
    Bridge,
}

/// What a program made of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The action: -1 passes it on unchanged, 2 drops it, 7 redirects it.
    pub action: i32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

/// Offsets in `struct __sk_buff` (`linux/bpf.h`) of what may be given.
mod skb {
    pub(super) const INGRESS_IFINDEX: usize = 36;
    pub(super) const IFINDEX: usize = 40;
    pub(super) const SIZE: usize = 192;
}

impl Datapath {
    /// Runs a frame through the program at `entry`, as if at the interface `index`, having come to the host by `came_by` (zero: made
    /// there). Flows begin, move and are counted as ever.
    ///
    /// The kernel finds the interface in the calling thread's namespace, and takes no frame shorter than an Ethernet header.
    pub fn try_frame(&self, entry: Entry, index: u32, came_by: u32, frame: &[u8]) -> anyhow::Result<Trial> {
        let hook = match entry {
            Entry::HostSide => Hook::HostSide,
            Entry::Uplink => Hook::Uplink,
            Entry::UplinkOut => Hook::UplinkOut,
            Entry::Bridge => Hook::Bridge,
        };
        let program: &SchedClassifier = self.attached.program(hook)?;
        let mut context = [0; skb::SIZE];
        context[skb::INGRESS_IFINDEX..][..4].copy_from_slice(&came_by.to_ne_bytes());
        context[skb::IFINDEX..][..4].copy_from_slice(&index.to_ne_bytes());
        let mut out = vec![0; frame.len() + 256];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ctx_in: Some(&context),
                ..TestRunOptions::new()
            })
            .with_context(|| format!("running a frame of {} bytes through '{hook:?}'", frame.len()))?;
        out.truncate(result.data_size_out as usize);
        Ok(Trial { action: result.return_value.cast_signed(), frame: out })
    }
}
