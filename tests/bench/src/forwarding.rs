//! Forwarding: generated frames through the host of each contender, in turns.

use std::time::Duration;

use anyhow::Context as _;
use causeway_bench_ebpf::{Exit, Expected, Traffic};
use causeway_netlink::Netns;
use causeway_tests::{family::Family, lab::WORLD_SIDE, place};

use crate::{
    contender::{Contender, Publishes},
    kernel::{Attached, Kernel, Run},
    processor,
    rig::{Interface, Rig},
    traffic::{self, CONTAINER_PORT, Ends, Flows, HOST_PORT, Way, outside},
};

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The path of the frames.
    pub way: Way,
    /// The family of the frames.
    pub family: Family,
    /// The number of flows.
    pub flows: Flows,
    /// The published ports.
    pub publishes: Publishes,
}

impl Comparison {
    /// Whether both differ only in family, so that they take turns.
    pub fn is_beside(&self, other: &Self) -> bool {
        Self { family: other.family, ..*self } == *other
    }
}

/// Length and number of turns.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Turns per contender.
    pub rounds: u32,
    /// Approximate length of a turn.
    pub turn: Duration,
    /// The largest number of new flows in a turn.
    pub new_flows: u32,
}

/// The turns of one contender.
#[derive(Clone, Debug)]
pub struct Turns {
    /// The contender.
    pub contender: Contender,
    /// One run per round.
    pub runs: Vec<Run>,
}

impl Turns {
    /// Nanoseconds per arrived frame, for each round.
    pub fn costs(&self) -> Vec<f64> {
        self.runs
            .iter()
            .map(|run| run.elapsed.as_nanos() as f64 / run.counts.arrived as f64)
            .collect()
    }

    /// Frames that did not arrive, or not as expected.
    pub fn lost(&self) -> u64 {
        self.runs.iter().map(|run| run.lost() + run.counts.wrong).sum()
    }

    /// Generated frames.
    pub fn frames(&self) -> u64 {
        self.runs.iter().map(|run| run.frames).sum()
    }
}

/// The host of a contender, ready for frames.
struct Course<'a> {
    rig: &'a Rig,
    comparison: Comparison,
    /// Index of the comparison.
    number: usize,
    entry: Interface,
    traffic: Traffic,
    expected: Expected,
    /// Frames per turn.
    frames: u32,
    runs: Vec<Run>,
}

/// Gives every contender a turn at every comparison in every round; `tick` is called after each
/// round with the index of the comparison. All comparisons must have the same path, and so the same
/// interfaces in each host. Results are in the order of the comparisons.
pub fn compare(
    kernel: &mut Kernel,
    rigs: &[Rig],
    comparisons: &[Comparison],
    effort: &Effort,
    mut tick: impl FnMut(usize, Contender),
) -> anyhow::Result<Vec<Vec<Turns>>> {
    let takes_part = |rig: &Rig, comparison| rig.contender.takes_part(comparison);
    let rigs: Vec<&Rig> = rigs
        .iter()
        .filter(|rig| comparisons.iter().any(|comparison| takes_part(rig, comparison)))
        .collect();
    let Some(way) = comparisons.first().map(|comparison| comparison.way) else {
        return Ok(Vec::new());
    };
    let mut courses = Vec::new();
    let mut attached = Vec::new();
    for rig in rigs.iter().copied() {
        let prepared = attach(kernel, rig, way)
            .with_context(|| format!("cannot prepare {} for frames", rig.contender));
        attached.extend(prepared?);
        for (number, comparison) in
            comparisons.iter().enumerate().filter(|(_, comparison)| takes_part(rig, comparison))
        {
            let mut course = Course::new(rig, comparison, number)?;
            course.calibrate(kernel, effort).with_context(|| rig.contender.to_string())?;
            tick(number, rig.contender);
            courses.push(course);
        }
    }
    for round in 0..effort.rounds as usize {
        // No contender is always first, or always after the same one.
        for place in 0..courses.len() {
            let at = (place + round) % courses.len();
            let course = &mut courses[at];
            let contender = course.rig.contender;
            course.turn(kernel).with_context(|| contender.to_string())?;
            tick(course.number, contender);
        }
    }
    let mut all = vec![Vec::new(); comparisons.len()];
    for course in courses {
        all[course.number].push(Turns { contender: course.rig.contender, runs: course.runs });
    }
    for rig in rigs {
        rig.forget_flows()?;
        if way.is_wire() {
            rig.receive_by_napi(false)?;
        }
    }
    Ok(all)
}

/// Entry point and frames of a comparison.
pub fn entering(rig: &Rig, comparison: &Comparison) -> anyhow::Result<(Interface, Traffic)> {
    let [c1, c2] = &rig.containers;
    let Comparison { way, family, .. } = *comparison;
    let translated = rig.contender.translates();
    let ends = match way {
        Way::Inwards | Way::Wire | Way::Martian => Ends {
            source_mac: rig.world_side.mac,
            destination_mac: rig.uplink.mac,
            source: outside(family),
            destination: if translated { family.host() } else { c1.address(family)? },
            port: if translated { HOST_PORT } else { CONTAINER_PORT },
            ports: comparison.publishes.ports().into(),
        },
        Way::Outwards | Way::Across => Ends {
            source_mac: c1.mac,
            destination_mac: if way == Way::Across { c2.mac } else { rig.gateway_mac },
            source: c1.address(family)?,
            destination: if way == Way::Across { c2.address(family)? } else { outside(family) },
            port: 53,
            ports: 1,
        },
    };
    Ok((entry(rig, way).clone(), traffic::frames(way, comparison.flows, &ends)))
}

/// The interface where the generator runs.
fn entry(rig: &Rig, way: Way) -> &Interface {
    match way {
        Way::Inwards => &rig.uplink,
        Way::Wire | Way::Martian => &rig.world_side,
        Way::Outwards | Way::Across => &rig.containers[0].host_side,
    }
}

/// Namespace of that interface.
fn entered(rig: &Rig, way: Way) -> &Netns {
    if way.is_wire() { &rig.lab.world } else { &rig.lab.host }
}

/// The expected frame on arrival.
pub fn expected(rig: &Rig, comparison: &Comparison) -> anyhow::Result<Expected> {
    let [c1, c2] = &rig.containers;
    let family = comparison.family;
    Ok(match comparison.way {
        _ if rig.contender == Contender::Floor => Expected::default(),
        Way::Inwards | Way::Wire | Way::Martian => Expected::new(None, Some(c1.address(family)?)),
        Way::Outwards if rig.contender.translates() => Expected::new(Some(family.host()), None),
        Way::Outwards => Expected::new(Some(c1.address(family)?), None),
        Way::Across => Expected::new(None, Some(c2.address(family)?)),
    })
}

/// Attaches generator and counter.
fn attach(kernel: &mut Kernel, rig: &Rig, way: Way) -> anyhow::Result<Vec<Attached>> {
    let [c1, c2] = &rig.containers;
    let entry = entry(rig, way);
    let received = if way.is_wire() { &rig.uplink.name } else { &entry.name };
    let (place, exit) = match way {
        _ if rig.contender == Contender::Floor => (&rig.lab.host, received.as_str()),
        Way::Inwards | Way::Wire | Way::Martian => (&c1.netns, c1.interface.as_str()),
        Way::Outwards => (&rig.lab.world, WORLD_SIDE),
        Way::Across => (&c2.netns, c2.interface.as_str()),
    };
    if way.is_wire() {
        rig.receive_by_napi(true)?;
    }
    let mut attached = vec![
        place::run(entered(rig, way), || kernel.open(&entry.name))?,
        place::run(place, || kernel.count_at(exit))?,
    ];
    if rig.contender == Contender::Redirect {
        let redirected = match way {
            Way::Inwards | Way::Wire | Way::Martian => Exit { index: c1.host_side.index, peer: 1 },
            Way::Outwards => Exit { index: rig.uplink.index, peer: 0 },
            Way::Across => Exit { index: c2.host_side.index, peer: 1 },
        };
        attached.push(place::run(&rig.lab.host, || kernel.redirect_at(received, &redirected))?);
    }
    Ok(attached)
}

impl<'a> Course<'a> {
    fn new(rig: &'a Rig, comparison: &Comparison, number: usize) -> anyhow::Result<Self> {
        let (entry, traffic) = entering(rig, comparison)?;
        let expected = expected(rig, comparison)?;
        Ok(Self {
            rig,
            comparison: *comparison,
            number,
            entry,
            traffic,
            expected,
            frames: 0,
            runs: Vec::new(),
        })
    }

    /// Finds the number of frames per turn, after all flows have been created.
    fn calibrate(&mut self, kernel: &mut Kernel, effort: &Effort) -> anyhow::Result<()> {
        const TRIAL: u32 = 2_000;
        if let Flows::Of(flows) = self.comparison.flows {
            self.generate(kernel, flows.max(TRIAL))?;
        }
        let trial = self.generate(kernel, TRIAL)?;
        let each = trial.elapsed.as_secs_f64() / f64::from(TRIAL);
        let frames = (effort.turn.as_secs_f64() / each).clamp(1_000.0, 20_000_000.0) as u32;
        self.frames = match self.comparison.flows {
            Flows::New => frames.min(effort.new_flows),
            Flows::Of(_) => frames,
        };
        Ok(())
    }

    fn turn(&mut self, kernel: &mut Kernel) -> anyhow::Result<()> {
        if self.comparison.flows == Flows::New {
            self.rig.forget_flows()?;
        }
        let run = self.generate(kernel, self.frames)?;
        self.runs.push(run);
        Ok(())
    }

    fn generate(&mut self, kernel: &mut Kernel, frames: u32) -> anyhow::Result<Run> {
        kernel.aim(&self.traffic, &self.expected)?;
        let Comparison { way, family, .. } = self.comparison;
        let run = place::run(entered(self.rig, way), || {
            processor::stay();
            kernel.run(family, self.entry.index, frames)
        })?;
        self.traffic = kernel.aimed()?;
        let dropped =
            self.rig.contender != Contender::Floor && self.rig.contender != Contender::Redirect;
        Ok(if way == Way::Martian && dropped { run.none_may_arrive() } else { run })
    }
}
