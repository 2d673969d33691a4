//! Packets per second: generated frames through each contender's host, in turns.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Context as _;
use causeway::net::netns::Netns;
use causeway_bench_ebpf::{Exit, Expected, Traffic};
use causeway_tests::{lab::WORLD_SIDE, place};

use crate::{
    address::HOST,
    contender::{Contender, Publishes},
    kernel::{Attached, Kernel, Run},
    processor,
    rig::{Interface, Rig},
    traffic::{self, CONTAINER_PORT, Ends, Flows, HOST_PORT, OUTSIDE, Way},
};

/// One thing to compare.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// Where frames go.
    pub way: Way,
    /// How many flows they are of.
    pub flows: Flows,
    /// What is published meanwhile.
    pub publishes: Publishes,
}

/// How long a turn is, and how many there are.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Of each contender.
    pub rounds: u32,
    /// About.
    pub turn: Duration,
    /// The most flows that begin in a turn.
    pub new_flows: u32,
}

/// The turns of one contender.
#[derive(Clone, Debug)]
pub struct Turns {
    /// Whose.
    pub contender: Contender,
    /// One for each round.
    pub runs: Vec<Run>,
}

impl Turns {
    /// Nanoseconds for each frame that arrived, of each round.
    pub fn costs(&self) -> Vec<f64> {
        self.runs.iter().map(|run| run.elapsed.as_nanos() as f64 / run.counts.arrived as f64).collect()
    }

    /// Frames that did not arrive, or not as they should.
    pub fn lost(&self) -> u64 {
        self.runs.iter().map(|run| run.lost() + run.counts.wrong).sum()
    }

    /// Frames that were generated.
    pub fn frames(&self) -> u64 {
        self.runs.iter().map(|run| run.frames).sum()
    }
}

/// A contender's host, ready for frames.
struct Course<'a> {
    rig: &'a Rig,
    way: Way,
    entry: Interface,
    traffic: Traffic,
    expected: Expected,
    /// Frames of a turn.
    frames: u32,
    _attached: Vec<Attached>,
}

/// Lets every contender have its turn in every round; `tick` is called after each.
pub fn compare(
    kernel: &mut Kernel,
    rigs: &[Rig],
    comparison: &Comparison,
    effort: &Effort,
    mut tick: impl FnMut(Contender),
) -> anyhow::Result<Vec<Turns>> {
    let rigs: Vec<&Rig> = rigs.iter().filter(|rig| rig.contender.takes_part(comparison.way)).collect();
    let mut courses = Vec::new();
    for rig in rigs.iter().copied() {
        let mut course = Course::prepare(kernel, rig, comparison)
            .with_context(|| format!("cannot prepare {} for frames", rig.contender))?;
        course.calibrate(kernel, comparison, effort).with_context(|| rig.contender.to_string())?;
        tick(rig.contender);
        courses.push(course);
    }
    let mut all: Vec<Turns> = rigs.iter().map(|rig| Turns { contender: rig.contender, runs: Vec::new() }).collect();
    for round in 0..effort.rounds as usize {
        // Nobody is always the first or always behind the same one.
        for place in 0..courses.len() {
            let at = (place + round) % courses.len();
            let run = courses[at].turn(kernel, comparison).with_context(|| all[at].contender.to_string())?;
            tick(all[at].contender);
            all[at].runs.push(run);
        }
    }
    for course in &courses {
        course.rig.forget_flows()?;
        if comparison.way.is_wire() {
            course.rig.receive_by_napi(false)?;
        }
    }
    Ok(all)
}

/// Where the frames of a comparison enter a host, and what they are.
pub fn entering(rig: &Rig, comparison: &Comparison) -> (Interface, Traffic) {
    let [c1, c2] = &rig.containers;
    let translated = rig.contender.translates();
    let (entry, ends) = match comparison.way {
        Way::Inwards | Way::Wire | Way::Martian => (
            if comparison.way.is_wire() { &rig.world_side } else { &rig.uplink },
            Ends {
                source_mac: rig.world_side.mac,
                destination_mac: rig.uplink.mac,
                source: OUTSIDE,
                destination: if translated { HOST } else { c1.address },
                port: if translated { HOST_PORT } else { CONTAINER_PORT },
                ports: comparison.publishes.ports().into(),
            },
        ),
        Way::Outwards | Way::Across => (
            &c1.host_side,
            Ends {
                source_mac: c1.mac,
                destination_mac: if comparison.way == Way::Across { c2.mac } else { rig.gateway_mac },
                source: c1.address,
                destination: if comparison.way == Way::Across { c2.address } else { OUTSIDE },
                port: 53,
                ports: 1,
            },
        ),
    };
    (entry.clone(), traffic::frames(comparison.way, comparison.flows, &ends))
}

/// The namespace of the interface that frames are made at.
fn entered(rig: &Rig, way: Way) -> &Netns {
    if way.is_wire() { &rig.lab.world } else { &rig.lab.host }
}

impl<'a> Course<'a> {
    fn prepare(kernel: &mut Kernel, rig: &'a Rig, comparison: &Comparison) -> anyhow::Result<Self> {
        let [c1, c2] = &rig.containers;
        let in_frame = |address: Ipv4Addr| address.to_bits().to_be();
        let (entry, traffic) = entering(rig, comparison);
        let received = if comparison.way.is_wire() { rig.uplink.name.clone() } else { entry.name.clone() };
        let (exit, expected) = match comparison.way {
            _ if rig.contender == Contender::Floor => ((&rig.lab.host, received.as_str()), Expected::default()),
            Way::Inwards | Way::Wire | Way::Martian => {
                ((&c1.netns, c1.interface.as_str()), Expected { source: 0, destination: in_frame(c1.address) })
            }
            Way::Outwards => (
                (&rig.lab.world, WORLD_SIDE),
                Expected {
                    source: in_frame(if rig.contender.translates() { HOST } else { c1.address }),
                    destination: 0,
                },
            ),
            Way::Across => {
                ((&c2.netns, c2.interface.as_str()), Expected { source: 0, destination: in_frame(c2.address) })
            }
        };
        let redirected = match comparison.way {
            Way::Inwards | Way::Wire | Way::Martian => Exit { index: c1.host_side.index, peer: 1 },
            Way::Outwards => Exit { index: rig.uplink.index, peer: 0 },
            Way::Across => Exit { index: c2.host_side.index, peer: 1 },
        };
        if comparison.way.is_wire() {
            rig.receive_by_napi(true)?;
        }
        let mut attached = vec![
            place::run(entered(rig, comparison.way), || kernel.open(&entry.name))?,
            place::run(exit.0, || kernel.count_at(exit.1))?,
        ];
        if rig.contender == Contender::Redirect {
            attached.push(place::run(&rig.lab.host, || kernel.redirect_at(&received, &redirected))?);
        }
        Ok(Self { rig, way: comparison.way, entry, traffic, expected, frames: 0, _attached: attached })
    }

    /// Finds how many frames fill a turn, after every flow has begun.
    fn calibrate(&mut self, kernel: &mut Kernel, comparison: &Comparison, effort: &Effort) -> anyhow::Result<()> {
        const TRIAL: u32 = 2_000;
        if let Flows::Of(flows) = comparison.flows {
            self.generate(kernel, flows.max(TRIAL))?;
        }
        let trial = self.generate(kernel, TRIAL)?;
        let each = trial.elapsed.as_secs_f64() / f64::from(TRIAL);
        let frames = (effort.turn.as_secs_f64() / each).clamp(1_000.0, 20_000_000.0) as u32;
        self.frames = match comparison.flows {
            Flows::New => frames.min(effort.new_flows),
            Flows::Of(_) => frames,
        };
        Ok(())
    }

    fn turn(&mut self, kernel: &mut Kernel, comparison: &Comparison) -> anyhow::Result<Run> {
        if comparison.flows == Flows::New {
            self.rig.forget_flows()?;
        }
        self.generate(kernel, self.frames)
    }

    fn generate(&mut self, kernel: &mut Kernel, frames: u32) -> anyhow::Result<Run> {
        kernel.aim(&self.traffic, &self.expected)?;
        let run = place::run(entered(self.rig, self.way), || {
            processor::stay();
            kernel.run(self.entry.index, frames)
        })?;
        self.traffic = kernel.aimed()?;
        let dropped = self.rig.contender != Contender::Floor && self.rig.contender != Contender::Redirect;
        Ok(if self.way == Way::Martian && dropped { run.none_may_arrive() } else { run })
    }
}
