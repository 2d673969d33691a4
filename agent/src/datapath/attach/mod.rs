//! Programs to their hooks. Links are pinned, so that they outlive the agent; the next agent puts
//! its own programs into the links it finds, without a packet going past.

mod cgroup;
pub(super) mod clsact;
mod hook;
mod netkit;
mod tcx;
mod xdp;

use std::{collections::BTreeSet, fs};

use anyhow::Context as _;
use aya::{Ebpf, programs::SchedClassifier, util::KernelVersion};

pub(super) use self::hook::Hook;
use super::{
    pins::{Pins, unpin},
    types::{Interface, LoadOptions},
};

/// How tc programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// tcx links, from Linux 6.6 on: beside other programs, and replaced in one step.
    Tcx,
    /// Filters of the clsact qdisc.
    Clsact,
}

impl Way {
    /// The best that the kernel has. `CAUSEWAY_TC=clsact` selects the older one, to test it on any
    /// kernel.
    fn of_this_kernel() -> Self {
        let forced = std::env::var_os("CAUSEWAY_TC").is_some_and(|way| way == "clsact");
        if KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 6, 0))
            && !forced
        {
            Self::Tcx
        } else {
            Self::Clsact
        }
    }
}

/// The programs, and where they are attached.
#[derive(Debug)]
pub(super) struct Attached {
    ebpf: Ebpf,
    pins: Pins,
    instance: String,
    way: Way,
    /// Processes of the host may bind published ports.
    allow_bind: bool,
    put: BTreeSet<(Hook, u32)>,
    /// Uplinks that have the XDP program.
    xdp: BTreeSet<u32>,
}

impl Attached {
    /// Takes the loaded programs, and attaches the cgroup programs.
    pub(super) fn new(ebpf: Ebpf, pins: Pins, options: &LoadOptions) -> anyhow::Result<Self> {
        let way = Way::of_this_kernel();
        let mut attached = Self {
            ebpf,
            pins,
            instance: options.instance.clone(),
            way,
            allow_bind: options.allow_bind,
            put: BTreeSet::new(),
            xdp: BTreeSet::new(),
        };
        attached.put_sockets()?;
        Ok(attached)
    }

    /// Attaches to an interface, or replaces the program of an earlier agent.
    pub(super) fn put(&mut self, hook: Hook, interface: &Interface) -> anyhow::Result<()> {
        if self.put.contains(&(hook, interface.index)) {
            return Ok(());
        }
        let program: &mut SchedClassifier = self
            .ebpf
            .program_mut(hook.program())
            .context("the object lacks a tc program")?
            .try_into()?;
        let pin = self.pins.link(&pin_name(hook, interface.index));
        let result = match (self.way, hook) {
            (_, Hook::ContainerSide) => netkit::put(program, interface.index, &pin),
            (Way::Tcx, _) => tcx::put(program, hook, interface, &pin),
            (Way::Clsact, _) => clsact::put(program, hook, interface, &self.instance),
        };
        result.with_context(|| {
            format!("attaching the program '{}' to {}", hook.program(), interface.name)
        })?;
        self.put.insert((hook, interface.index));
        Ok(())
    }

    /// The program that runs at a hook.
    pub(super) fn program(&self, hook: Hook) -> anyhow::Result<&SchedClassifier> {
        Ok(self
            .ebpf
            .program(hook.program())
            .context("the object lacks a tc program")?
            .try_into()?)
    }

    /// Detaches from an interface. Succeeds if absent.
    pub(super) fn remove(&mut self, hook: Hook, index: u32) -> anyhow::Result<()> {
        self.put.remove(&(hook, index));
        match (self.way, hook) {
            (Way::Tcx, _) | (_, Hook::ContainerSide) => {
                unpin(&self.pins.link(&pin_name(hook, index)))
            }
            (Way::Clsact, Hook::Uplink | Hook::UplinkOut) => clsact::remove(hook, index),
            // The kernel removes filters of bridges and host sides with the interface.
            (Way::Clsact, Hook::Bridge | Hook::HostSide) => Ok(()),
        }
    }

    /// Detaches and removes what an agent with another layout of the maps has left.
    pub(super) fn remove_other_layouts(&self) -> anyhow::Result<()> {
        self.pins.remove_other_layouts()
    }

    /// Detaches from interfaces to which an earlier agent has attached and this one has not.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        let folder = self.pins.links();
        for entry in
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
            let found = entry.file_name();
            let found = found.to_string_lossy();
            let parsed = Hook::ALL.into_iter().find_map(|hook| {
                let index = found.strip_prefix(hook.label())?.strip_prefix('-')?.parse().ok()?;
                Some((hook, index))
            });
            if let Some(place) = parsed
                && !self.put.contains(&place)
            {
                unpin(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn pin_name(hook: Hook, index: u32) -> String {
    format!("{}-{index}", hook.label())
}
