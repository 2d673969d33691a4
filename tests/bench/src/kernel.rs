//! The BPF programs of the benchmark (generator and counter) and their configuration. This module
//! and `programs.rs` are the only ones here that use aya.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Array, PerCpuArray},
    programs::{
        LinkOrder, SchedClassifier, TcAttachType, TestRun as _, TestRunAttrs, TestRunOptions, Xdp,
        XdpMode,
        tc::{SchedClassifierLink, TcAttachOptions},
        xdp::XdpLink,
    },
};
use aya_obj::programs::XdpAttachType;
use causeway_bench_ebpf::{Exit, Expected, Traffic, count, name};
use causeway_tests::family::{Family, V4, V6};

use crate::traffic;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.bpf.o"));

/// Frames per batch, as in a driver's NAPI poll.
const BATCH: u32 = 64;

/// Map values as words: aya accepts integers and arrays of up to 32 of them.
const TRAFFIC: usize = size_of::<Traffic>() / 8;
const EXPECTED: usize = size_of::<Expected>() / 4;
const EXIT: usize = size_of::<Exit>() / 4;

/// Offsets in `struct xdp_md` (`linux/bpf.h`).
pub(crate) mod xdp_md {
    const DATA_END: usize = 4;
    const INGRESS_IFINDEX: usize = 12;
    const SIZE: usize = 24;

    /// The context of a frame of `length` bytes at an interface.
    pub(crate) fn at(index: u32, length: usize) -> anyhow::Result<[u8; SIZE]> {
        let mut context = [0; SIZE];
        context[DATA_END..][..4].copy_from_slice(&u32::try_from(length)?.to_ne_bytes());
        context[INGRESS_IFINDEX..][..4].copy_from_slice(&index.to_ne_bytes());
        Ok(context)
    }
}

/// Offsets in `struct __sk_buff` (`linux/bpf.h`).
pub(crate) mod skb {
    const IFINDEX: usize = 40;
    const SIZE: usize = 192;

    /// The context of a frame at an interface.
    pub(crate) fn at(index: u32) -> [u8; SIZE] {
        let mut context = [0; SIZE];
        context[IFINDEX..][..4].copy_from_slice(&index.to_ne_bytes());
        context
    }
}

/// The loaded programs. Only one run at a time, since they share one set of maps.
pub struct Kernel {
    ebpf: Ebpf,
}

/// Keeps a program attached.
#[derive(Debug)]
pub struct Attached {
    _link: Link,
}

#[derive(Debug)]
#[expect(dead_code, reason = "it is held, and dropped")]
enum Link {
    Entry(XdpLink),
    Classifier(SchedClassifierLink),
}

/// Frames at a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// As expected.
    pub arrived: u64,
    /// With unexpected addresses.
    pub wrong: u64,
}

/// The result of a run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Frames generated.
    pub frames: u64,
    /// Frames counted.
    pub counts: Counts,
    /// Time from the generation of the first frame to the arrival of the last.
    pub elapsed: Duration,
}

impl Run {
    /// The same for frames that must not arrive.
    #[must_use]
    pub fn none_may_arrive(self) -> Self {
        let wrong = self.counts.arrived + self.counts.wrong;
        Self { counts: Counts { arrived: self.frames - wrong, wrong }, ..self }
    }

    /// Frames that never arrived.
    pub fn lost(&self) -> u64 {
        self.frames.saturating_sub(self.counts.arrived + self.counts.wrong)
    }
}

/// Silence after which missing frames count as lost.
const SILENCE: Duration = Duration::from_millis(50);

impl Kernel {
    /// Loads the programs.
    pub fn load() -> anyhow::Result<Self> {
        let mut ebpf = Ebpf::load(OBJECT).context("cannot load the generator and the counter")?;
        for program in [name::GENERATE4, name::GENERATE6, name::PASS] {
            let program: &mut Xdp =
                ebpf.program_mut(program).context("the object lacks an XDP program")?.try_into()?;
            program.load()?;
        }
        for program in [name::COUNT, name::REDIRECT, name::NOTHING] {
            let program: &mut SchedClassifier =
                ebpf.program_mut(program).context("the object lacks a tc program")?.try_into()?;
            program.load()?;
        }
        Ok(Self { ebpf })
    }

    /// Prepares an interface for generated frames. The calling thread must be in its namespace.
    pub fn open(&mut self, interface: &str) -> anyhow::Result<Attached> {
        let program: &mut Xdp = self
            .ebpf
            .program_mut(name::PASS)
            .context("the object lacks an XDP program")?
            .try_into()?;
        let id = program.attach(interface, XdpMode::Driver);
        let id = id.with_context(|| format!("cannot attach an XDP program to {interface}"))?;
        Ok(Attached { _link: Link::Entry(program.take_link(id)?) })
    }

    /// Attaches the counter to an interface. The calling thread must be in its namespace.
    pub fn count_at(&mut self, interface: &str) -> anyhow::Result<Attached> {
        self.attach(name::COUNT, interface)
    }

    /// Attaches the redirecting program to an interface. The calling thread must be in its
    /// namespace.
    pub fn redirect_at(&mut self, interface: &str, exit: &Exit) -> anyhow::Result<Attached> {
        let mut map: Array<_, [u32; EXIT]> = Array::try_from(self.map(name::EXIT)?)?;
        map.set(0, bytemuck::cast_ref::<_, [u32; EXIT]>(exit), 0)?;
        self.attach(name::REDIRECT, interface)
    }

    fn attach(&mut self, name: &str, interface: &str) -> anyhow::Result<Attached> {
        let program: &mut SchedClassifier =
            self.ebpf.program_mut(name).context("the object lacks a tc program")?.try_into()?;
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(interface, TcAttachType::Ingress, order);
        let id =
            id.with_context(|| format!("cannot attach the program '{name}' to {interface}"))?;
        Ok(Attached { _link: Link::Classifier(program.take_link(id)?) })
    }

    /// Configures what the next runs generate and expect. Starts again with the first flow.
    pub fn aim(&mut self, traffic: &Traffic, expected: &Expected) -> anyhow::Result<()> {
        let mut map: Array<_, [u64; TRAFFIC]> = Array::try_from(self.map(name::TRAFFIC)?)?;
        map.set(0, bytemuck::cast::<_, [u64; TRAFFIC]>(*traffic), 0)?;
        let mut map: Array<_, [u32; EXPECTED]> = Array::try_from(self.map(name::EXPECTED)?)?;
        map.set(0, bytemuck::cast_ref::<_, [u32; EXPECTED]>(expected), 0)?;
        Ok(())
    }

    /// The state of the generator after the last run, to continue its flows later.
    pub fn aimed(&mut self) -> anyhow::Result<Traffic> {
        let map: Array<_, [u64; TRAFFIC]> = Array::try_from(self.map(name::TRAFFIC)?)?;
        Ok(bytemuck::cast(map.get(&0, 0)?))
    }

    /// Runs the generator at an interface, and waits until the frames have arrived. The calling
    /// thread must be in the interface's namespace, and should be pinned to a CPU.
    pub fn run(&mut self, family: Family, index: u32, frames: u32) -> anyhow::Result<Run> {
        let before = self.counts()?;
        let data = vec![0; traffic::layout(family).frame];
        let generator = match family {
            V4 => name::GENERATE4,
            V6 => name::GENERATE6,
        };
        let context = xdp_md::at(index, data.len())?;
        let program: &Xdp =
            self.ebpf.program(generator).context("the object lacks the generator")?.try_into()?;
        let result = program.test_run(TestRunOptions {
            data_in: Some(&data),
            ctx_in: Some(&context),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        });
        let result = result
            .with_context(|| format!("cannot generate {frames} frames at interface {index}"))?;
        // The kernel's own measurement: set-up and tear-down of a call take as long as many
        // thousand frames.
        let generated = result.duration * frames;
        let (mut elapsed, mut counts) = (generated, Counts::default());
        let returned = Instant::now();
        let mut quiet_since = returned;
        loop {
            let now = self.counts()?;
            let now =
                Counts { arrived: now.arrived - before.arrived, wrong: now.wrong - before.wrong };
            if now != counts {
                // Frames still in flight then have taken longer.
                elapsed = generated
                    + if counts == Counts::default() { Duration::ZERO } else { returned.elapsed() };
                counts = now;
                quiet_since = Instant::now();
            }
            let run = Run { frames: u64::from(frames), counts, elapsed };
            if run.lost() == 0 || quiet_since.elapsed() > SILENCE {
                return Ok(run);
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// The empty tc program.
    pub(crate) fn nothing(&self) -> anyhow::Result<SchedClassifier> {
        let program: &SchedClassifier = self
            .ebpf
            .program(name::NOTHING)
            .context("the object lacks a tc program")?
            .try_into()?;
        Ok(SchedClassifier::from_program_info(program.info()?, name::NOTHING.into())?)
    }

    /// The empty XDP program.
    pub(crate) fn pass(&self) -> anyhow::Result<Xdp> {
        let program: &Xdp =
            self.ebpf.program(name::PASS).context("the object lacks an XDP program")?.try_into()?;
        Ok(Xdp::from_program_info(program.info()?, name::PASS.into(), XdpAttachType::Interface)?)
    }

    /// Counts since the programs were loaded.
    pub fn counts(&mut self) -> anyhow::Result<Counts> {
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(self.map(name::COUNTS)?)?;
        let sum = |index| anyhow::Ok(map.get(&index, 0)?.iter().sum());
        Ok(Counts { arrived: sum(count::ARRIVED)?, wrong: sum(count::WRONG)? })
    }

    fn map(&mut self, name: &str) -> anyhow::Result<&mut aya::maps::Map> {
        self.ebpf.map_mut(name).with_context(|| format!("the object lacks the map {name}"))
    }
}
