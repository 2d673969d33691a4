//! causeway's BPF programs: their sizes, and their cost alone and under traffic. This module and
//! `kernel.rs` are the only ones here that use aya.

use std::{collections::BTreeSet, fmt::Write as _, path::Path, time::Duration};

use anyhow::Context as _;
use aya::{
    maps::MapInfo,
    programs::{SchedClassifier, TestRun, TestRunOptions, TestRunResult, Xdp, loaded_programs},
    sys::{Stats, enable_stats},
};
use aya_obj::programs::XdpAttachType;
use causeway_tests::{
    family::{Family, V4},
    place,
};
use serde::{Deserialize, Serialize};

use crate::{
    contender::{Contender, Publishes},
    forwarding::{self, Comparison, Effort},
    kernel::{Kernel, skb, xdp_md},
    processor,
    rig::Rig,
    statistics::quantile,
    suite::by_ipv6,
    traffic::{self, Flows, Way},
};

/// A program of an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// Name in the object.
    pub name: String,
    /// Instructions after the verifier's rewriting.
    pub instructions: u32,
    /// Bytes of machine code.
    pub machine_code: u32,
    /// Instructions processed by the verifier.
    pub verified: u32,
}

/// The cost of running a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Kind of packets.
    pub packets: String,
    /// Name of the program.
    pub program: String,
    /// Nanoseconds per run in `BPF_PROG_TEST_RUN`, less those of an empty program.
    pub alone: f64,
    /// Nanoseconds per run in the kernel's statistics, under generated traffic.
    pub at_work: f64,
}

/// The programs that use the maps of an instance.
pub fn of_instance(instance: &str) -> anyhow::Result<Vec<Program>> {
    let programs = infos(instance)?.into_iter().map(|info| {
        anyhow::Ok(Program {
            name: info.name_as_str().unwrap_or_default().to_owned(),
            instructions: info
                .size_translated()
                .context("the kernel does not say how long a program is")?
                / 8,
            machine_code: info.size_jitted(),
            verified: info.verified_instruction_count().unwrap_or_default(),
        })
    });
    let mut programs: Vec<_> = programs.collect::<Result<_, _>>()?;
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// The text of `programs.txt`.
pub fn record(programs: &[Program]) -> String {
    let mut text = String::from(
        "# What the kernel runs of each program: instructions after the verifier, as `cargo \
         xtask bench` has seen them and written them here.\n\
         # Another compiler or kernel may give other numbers.\n",
    );
    for Program { name, instructions, .. } in programs {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<16}{instructions:>8}");
    }
    text
}

/// Packets, and the first program they meet.
struct Case {
    packets: &'static str,
    way: Way,
    program: &'static str,
    /// Whether they belong to established flows.
    known: bool,
}

const fn case(packets: &'static str, way: Way, program: &'static str, known: bool) -> Case {
    Case { packets, way, program, known }
}

const TC: [Case; 4] = [
    case("published", Way::Inwards, "from_uplink", true),
    case("masquerade", Way::Outwards, "from_container", true),
    case("container to container", Way::Across, "from_container", true),
    case("not published", Way::Inwards, "from_uplink", false),
];

const XDP: [Case; 3] = [
    case("published, from the wire", Way::Wire, "xdp_uplink", true),
    case("not published, from the wire", Way::Wire, "xdp_uplink", false),
    case("martian, from the wire", Way::Martian, "xdp_uplink", false),
];

/// The cost of the first program, for a packet of an established flow and for a foreign one.
pub fn costs(kernel: &mut Kernel, rig: &Rig, publishes: Publishes) -> anyhow::Result<Vec<Cost>> {
    let cases = if rig.contender == Contender::CausewayXdp { &XDP[..] } else { &TC };
    let cases = cases.iter().flat_map(|case| Family::ALL.map(|family| (case, family)));
    let costs = cases.map(|(case, family)| cost(kernel, rig, publishes, case, family)).collect();
    rig.forget_flows()?;
    costs
}

fn cost(
    kernel: &mut Kernel,
    rig: &Rig,
    publishes: Publishes,
    case: &Case,
    family: Family,
) -> anyhow::Result<Cost> {
    let Case { packets, way, program, known } = *case;
    let comparison =
        Comparison { way, family, flows: Flows::Of(if known { 1_000 } else { 1 }), publishes };
    let (entry, mut traffic) = forwarding::entering(rig, &comparison)?;
    if !known {
        traffic.service = u32::from(traffic::HOST_PORT) - 1;
    }
    let at_work = if known {
        let before = run_time(rig, program)?;
        let stats =
            enable_stats(Stats::RunTime).context("cannot switch the kernel's statistics on")?;
        let effort = Effort { rounds: 5, turn: Duration::from_millis(100), new_flows: 0 };
        forwarding::compare(kernel, std::slice::from_ref(rig), &[comparison], &effort, |_, _| ())?;
        drop(stats);
        let after = run_time(rig, program)?;
        after.0.saturating_sub(before.0).as_nanos() as f64 / (after.1 - before.1) as f64
    } else {
        f64::NAN
    };
    let layout = traffic::layout(family);
    let frame = &traffic.next_frame(layout)[..layout.frame];
    let alone = place::run(&rig.lab.host, || {
        processor::stay();
        if !way.is_wire() {
            let context = skb::at(entry.index);
            return anyhow::Ok(
                alone(&tc(rig, program)?, &context, frame, RUNS)?
                    - alone(&kernel.nothing()?, &context, frame, RUNS)?,
            );
        }
        if known {
            // XDP creates no flows.
            alone(&tc(rig, "from_uplink")?, &skb::at(rig.uplink.index), frame, 1)?;
        }
        let context = xdp_md::at(rig.uplink.index, frame.len())?;
        let found =
            Xdp::from_program_info(info(rig, program)?, program.into(), XdpAttachType::Interface)?;
        Ok(alone(&found, &context, frame, RUNS)? - alone(&kernel.pass()?, &context, frame, RUNS)?)
    })?;
    let packets = if family == V4 { packets.to_owned() } else { by_ipv6(packets) };
    Ok(Cost { packets, program: program.to_owned(), alone, at_work })
}

/// Number of runs in `BPF_PROG_TEST_RUN`.
const RUNS: u32 = 4_000;

fn tc(rig: &Rig, name: &'static str) -> anyhow::Result<SchedClassifier> {
    Ok(SchedClassifier::from_program_info(info(rig, name)?, name.into())?)
}

/// Nanoseconds per run. A program that rewrites its frame gets a fresh copy for each run, so that
/// the packet stays in the same flow. This reads the clock for each run, as it does for the empty
/// program.
fn alone<P>(program: &P, context: &[u8], frame: &[u8], runs: u32) -> anyhow::Result<f64>
where
    P: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>,
{
    let mut figures = Vec::new();
    for _ in 0..runs {
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(context),
            ..TestRunOptions::new()
        });
        figures.push(result.context("cannot run a program by itself")?.duration.as_nanos() as f64);
    }
    figures.sort_by(f64::total_cmp);
    Ok(quantile(&figures, 0.5))
}

fn run_time(rig: &Rig, name: &str) -> anyhow::Result<(Duration, u64)> {
    let info = info(rig, name)?;
    Ok((info.run_time(), info.run_count()))
}

fn info(rig: &Rig, name: &str) -> anyhow::Result<aya::programs::ProgramInfo> {
    let all = infos(&rig.lab.instance)?;
    let found = all.into_iter().find(|info| info.name_as_str() == Some(name));
    found.with_context(|| format!("{} has no program '{name}'", Contender::Causeway))
}

fn infos(instance: &str) -> anyhow::Result<Vec<aya::programs::ProgramInfo>> {
    let mut maps = BTreeSet::new();
    maps_below(&Path::new("/sys/fs/bpf/causeway").join(instance), &mut maps)?;
    let mut found = Vec::new();
    for info in loaded_programs() {
        // A program that has disappeared belongs to another process.
        let Ok(info) = info else { continue };
        if info.map_ids()?.is_some_and(|ids| ids.iter().any(|id| maps.contains(id))) {
            found.push(info);
        }
    }
    Ok(found)
}

/// IDs of the maps pinned in a folder.
fn maps_below(folder: &Path, ids: &mut BTreeSet<u32>) -> anyhow::Result<()> {
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            maps_below(&entry.path(), ids)?;
        } else if folder.ends_with("maps") {
            ids.insert(MapInfo::from_pin(entry.path())?.id());
        }
    }
    Ok(())
}
