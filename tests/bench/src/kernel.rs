//! The benchmark's own programs in the kernel: the generator, the counter, and what they are told.
//! With `programs.rs` the only place here that names aya.

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

/// How many frames enter the host at once: as many as a driver's NAPI poll hands up.
const BATCH: u32 = 64;

/// The words of the maps' values: aya knows integers and arrays of them. (bytemuck does so of
/// arrays of up to 32.)
const TRAFFIC: usize = size_of::<Traffic>() / 8;
const EXPECTED: usize = size_of::<Expected>() / 4;
const EXIT: usize = size_of::<Exit>() / 4;

/// Offsets in `struct xdp_md` (`linux/bpf.h`).
pub(crate) mod xdp_md {
    const DATA_END: usize = 4;
    const INGRESS_IFINDEX: usize = 12;
    const SIZE: usize = 24;

    /// Of a frame of so many bytes at an interface.
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

    /// Of a frame at an interface.
    pub(crate) fn at(index: u32) -> [u8; SIZE] {
        let mut context = [0; SIZE];
        context[IFINDEX..][..4].copy_from_slice(&index.to_ne_bytes());
        context
    }
}

/// The loaded programs. One run at a time: they have one place for what is generated and what is
/// counted.
pub struct Kernel {
    ebpf: Ebpf,
}

/// What keeps a program attached.
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

/// Frames that came to a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// As they were expected.
    pub arrived: u64,
    /// With other addresses.
    pub wrong: u64,
}

/// How one run went.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Frames generated.
    pub frames: u64,
    /// Frames counted.
    pub counts: Counts,
    /// From the first frame's making to the last one's arrival.
    pub elapsed: Duration,
}

impl Run {
    /// The same where to arrive is wrong, and not to is right.
    #[must_use]
    pub fn none_may_arrive(self) -> Self {
        let wrong = self.counts.arrived + self.counts.wrong;
        Self { counts: Counts { arrived: self.frames - wrong, wrong }, ..self }
    }

    /// Frames of which nothing was seen any more.
    pub fn lost(&self) -> u64 {
        self.frames.saturating_sub(self.counts.arrived + self.counts.wrong)
    }
}

/// How long nothing may arrive until what is missing counts as lost.
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

    /// Makes an interface one that frames can enter by. The calling thread must be in its
    /// namespace.
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

    /// Counts what arrives at an interface. The calling thread must be in its namespace.
    pub fn count_at(&mut self, interface: &str) -> anyhow::Result<Attached> {
        self.attach(name::COUNT, interface)
    }

    /// Redirects what arrives at an interface, and says where to. The calling thread must be in its
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

    /// Says what the next runs generate, and what is expected to arrive. The first flow comes first
    /// again.
    pub fn aim(&mut self, traffic: &Traffic, expected: &Expected) -> anyhow::Result<()> {
        let mut map: Array<_, [u64; TRAFFIC]> = Array::try_from(self.map(name::TRAFFIC)?)?;
        map.set(0, bytemuck::cast::<_, [u64; TRAFFIC]>(*traffic), 0)?;
        let mut map: Array<_, [u32; EXPECTED]> = Array::try_from(self.map(name::EXPECTED)?)?;
        map.set(0, bytemuck::cast_ref::<_, [u32; EXPECTED]>(expected), 0)?;
        Ok(())
    }

    /// What the last run left for the next: aimed again with it, flows go on where they were.
    pub fn aimed(&mut self) -> anyhow::Result<Traffic> {
        let map: Array<_, [u64; TRAFFIC]> = Array::try_from(self.map(name::TRAFFIC)?)?;
        Ok(bytemuck::cast(map.get(&0, 0)?))
    }

    /// Makes frames of a family enter by an interface, and waits until they have arrived. The
    /// calling thread must be in the interface's namespace, and should not be one that migrates.
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
        // As the kernel measures it: what comes before and after the frames in a call costs it many
        // thousand frames' time.
        let generated = result.duration * frames;
        let (mut elapsed, mut counts) = (generated, Counts::default());
        let returned = Instant::now();
        let mut quiet_since = returned;
        loop {
            let now = self.counts()?;
            let now =
                Counts { arrived: now.arrived - before.arrived, wrong: now.wrong - before.wrong };
            if now != counts {
                // Frames that were still on their way then have taken longer.
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

    /// The program that does nothing.
    pub(crate) fn nothing(&self) -> anyhow::Result<SchedClassifier> {
        let program: &SchedClassifier = self
            .ebpf
            .program(name::NOTHING)
            .context("the object lacks a tc program")?
            .try_into()?;
        Ok(SchedClassifier::from_program_info(program.info()?, name::NOTHING.into())?)
    }

    /// The XDP program that does nothing.
    pub(crate) fn pass(&self) -> anyhow::Result<Xdp> {
        let program: &Xdp =
            self.ebpf.program(name::PASS).context("the object lacks an XDP program")?.try_into()?;
        Ok(Xdp::from_program_info(program.info()?, name::PASS.into(), XdpAttachType::Interface)?)
    }

    /// What was counted since the load.
    pub fn counts(&mut self) -> anyhow::Result<Counts> {
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(self.map(name::COUNTS)?)?;
        let sum = |index| anyhow::Ok(map.get(&index, 0)?.iter().sum());
        Ok(Counts { arrived: sum(count::ARRIVED)?, wrong: sum(count::WRONG)? })
    }

    fn map(&mut self, name: &str) -> anyhow::Result<&mut aya::maps::Map> {
        self.ebpf.map_mut(name).with_context(|| format!("the object lacks the map {name}"))
    }
}
