//! Programs to their hooks. Links are pinned, so that they outlive the agent; the next agent puts
//! its own programs into the links it finds, without a packet going past.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io, mem,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use aya::{
    Ebpf,
    programs::{
        CgroupAttachMode, CgroupSockAddr, LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
    },
    util::KernelVersion,
};
use causeway_common::abi::programs::{self, Attachment};
use nix::errno::Errno;

use super::{Interface, LoadOptions, load, netkit, pins::Pins};

/// A place where a tc program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hook {
    /// Ingress of an uplink.
    Uplink,
    /// Egress of an uplink.
    UplinkOut,
    /// Egress of a bridge.
    Bridge,
    /// Ingress of a host side.
    HostSide,
    /// What a container sends, where it sends it: the other end of a host side that is netkit. The
    /// host side's ingress gets what was not decided there.
    ContainerSide,
}

impl Hook {
    const ALL: [Self; 5] =
        [Self::Uplink, Self::UplinkOut, Self::Bridge, Self::HostSide, Self::ContainerSide];

    /// Those of an interface that was there before us.
    const OF_UPLINK: [Self; 2] = [Self::Uplink, Self::UplinkOut];

    const fn program(self) -> &'static str {
        match self {
            Self::Uplink => programs::FROM_UPLINK,
            Self::UplinkOut => programs::TO_UPLINK,
            Self::Bridge => programs::TO_BRIDGE,
            Self::HostSide | Self::ContainerSide => programs::FROM_CONTAINER,
        }
    }

    /// What its pins are called by.
    const fn label(self) -> &'static str {
        match self {
            Self::ContainerSide => "container_side",
            Self::Uplink | Self::UplinkOut | Self::Bridge | Self::HostSide => self.program(),
        }
    }

    const fn direction(self) -> TcAttachType {
        match self {
            Self::Uplink | Self::HostSide | Self::ContainerSide => TcAttachType::Ingress,
            Self::UplinkOut | Self::Bridge => TcAttachType::Egress,
        }
    }
}

/// How tc programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A link, from Linux 6.6 on: beside other programs, and replaced in one step.
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
}

impl Way {
    /// The best that the kernel has; `CAUSEWAY_TC=clsact` asks for the older one, so that it can be
    /// tried on any kernel.
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

/// What the filters of this program are known by on an interface: fixed, so that a new agent
/// replaces those of the last one.
const FILTER: NlOptions =
    NlOptions { priority: 0xca5e, handle: TcHandle::new(0, 1), classid: None };

/// The programs, and where they are attached.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) ebpf: Ebpf,
    pub(super) pins: Pins,
    instance: String,
    way: Way,
    /// Processes of the host may bind published ports.
    allow_bind: bool,
    put: BTreeSet<(Hook, u32)>,
    /// The uplinks whose drivers run the XDP program.
    pub(super) xdp: BTreeSet<u32>,
}

impl Attached {
    /// Takes the loaded programs, and attaches those for the sockets of the host's processes.
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

    /// Attaches to an interface, or replaces the program of the last agent there.
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
            (Way::Tcx, _) => put_link(program, hook, interface, &pin),
            (Way::Clsact, _) => put_filter(program, hook, interface, &self.instance),
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

    /// Detaches from an interface. One that is gone is done.
    pub(super) fn remove(&mut self, hook: Hook, index: u32) -> anyhow::Result<()> {
        self.put.remove(&(hook, index));
        match (self.way, hook) {
            (Way::Tcx, _) | (_, Hook::ContainerSide) => {
                unpin(&self.pins.link(&pin_name(hook, index)))
            }
            (Way::Clsact, Hook::Uplink | Hook::UplinkOut) => remove_filter_of(hook, index),
            // Filters of bridges and host sides go with the interface.
            (Way::Clsact, Hook::Bridge | Hook::HostSide) => Ok(()),
        }
    }

    /// Detaches from where an earlier agent was attached and this one is not.
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

    /// Attaches the cgroup programs at the root: they see every socket, and leave alone those of
    /// other namespaces.
    fn put_sockets(&mut self) -> anyhow::Result<()> {
        let Some(root) = cgroup2()? else {
            tracing::warn!(
                "no cgroup2 is mounted: processes of the host do not reach published ports by the host's addresses"
            );
            return Ok(());
        };
        let file =
            File::open(&root).with_context(|| format!("opening the cgroup {}", root.display()))?;
        for name in programs::attached_to(Attachment::SocketAddress) {
            self.put_socket(name, &file, &root)?;
        }
        for name in programs::attached_to(Attachment::SocketBind) {
            let program: &mut CgroupSockAddr = self
                .ebpf
                .program_mut(name)
                .context("the object lacks a cgroup program")?
                .try_into()?;
            if self.allow_bind {
                unpin(&self.pins.link(name))?;
            } else if let Err(error) = program.load() {
                // It asks for more of the kernel than the rest does: its BTF, and an answer of its
                // own to the call.
                tracing::warn!(
                    error = format!("{:#}", load::explain(name, error)),
                    "processes of the host can bind published ports"
                );
            } else {
                self.put_socket(name, &file, &root)?;
            }
        }
        Ok(())
    }

    fn put_socket(&mut self, name: &str, file: &File, root: &Path) -> anyhow::Result<()> {
        let program: &mut CgroupSockAddr =
            self.ebpf.program_mut(name).context("the object lacks a cgroup program")?.try_into()?;
        // The mode is a flag for attachments that are no links; a link is always one of many.
        let link = program
            .attach(file, CgroupAttachMode::Single)
            .and_then(|id| program.take_link(id))
            .with_context(|| {
                format!("attaching the program '{name}' to the cgroup {}", root.display())
            })?;
        // For a moment both agents' programs run: the second finds nothing left to do.
        let pin = self.pins.link(name);
        unpin(&pin)?;
        FdLink::try_from(link)?.pin(&pin).with_context(|| format!("pinning {}", pin.display()))?;
        Ok(())
    }
}

/// Removes filters that no interface's removal takes along, and answers the interfaces that got
/// their clsact qdisc for them. Links end with their pins.
pub(super) fn remove_filters(instance: &str) -> anyhow::Result<Vec<u32>> {
    let mut notes = FilterNotes::read(instance);
    for index in notes.0.keys() {
        for hook in Hook::OF_UPLINK {
            remove_filter_of(hook, *index)?;
        }
    }
    notes.0.retain(|_, made| *made);
    let path = FilterNotes::path(instance);
    if path.exists() {
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(notes.0.into_keys().collect())
}

/// Which uplinks have filters, and whether their clsact qdisc was made for that: unlike links, they
/// leave no pin to know them by.
struct FilterNotes(BTreeMap<u32, bool>);

impl FilterNotes {
    fn path(instance: &str) -> PathBuf {
        PathBuf::from(format!("/run/causeway/{instance}.filters"))
    }

    fn read(instance: &str) -> Self {
        let text = fs::read_to_string(Self::path(instance)).unwrap_or_default();
        let note = |line: &str| {
            let (index, made) = line.split_once(' ')?;
            Some((index.parse().ok()?, made == "made"))
        };
        Self(text.lines().filter_map(note).collect())
    }

    fn write(&self, instance: &str) -> anyhow::Result<()> {
        let path = Self::path(instance);
        // The agent has made the folder for its socket; a datapath alone has not.
        fs::create_dir_all("/run/causeway").context("making the folder /run/causeway")?;
        let line = |(index, made): (&u32, &bool)| {
            format!("{index} {}\n", if *made { "made" } else { "found" })
        };
        fs::write(&path, self.0.iter().map(line).collect::<String>())
            .with_context(|| format!("noting the filters in {}", path.display()))
    }
}

fn put_link(
    program: &mut SchedClassifier,
    hook: Hook,
    interface: &Interface,
    pin: &PathBuf,
) -> anyhow::Result<()> {
    if let Ok(kept) = PinnedLink::from_pin(pin) {
        let link = SchedClassifierLink::try_from(FdLink::from(kept))?;
        // A link whose interface is gone takes no program: its pin is all that is left of it.
        if let Ok(id) = program.attach_to_link(link) {
            drop(program.take_link(id)?);
            return Ok(());
        }
        unpin(pin)?;
    }
    let mut tries = 0;
    let id = loop {
        // Behind the programs of others, which may filter.
        let order = TcAttachOptions::TcxOrder(LinkOrder::default());
        match program.attach_with_options(&interface.name, hook.direction(), order) {
            // A link that has just lost its pin goes a grace period later.
            Err(error) if is_there(&error) && tries < MOST_TRIES => thread::sleep(BETWEEN_TRIES),
            attached => break attached?,
        }
        tries += 1;
    };
    FdLink::try_from(program.take_link(id)?)?
        .pin(pin)
        .with_context(|| format!("pinning {}", pin.display()))?;
    Ok(())
}

const MOST_TRIES: u32 = 100;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// Whether the program is at the hook already.
fn is_there(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error) if error.io_error.kind() == io::ErrorKind::AlreadyExists)
}

fn put_filter(
    program: &mut SchedClassifier,
    hook: Hook,
    interface: &Interface,
    instance: &str,
) -> anyhow::Result<()> {
    let made = match tc::qdisc_add_clsact(&interface.name) {
        Ok(()) => true,
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {
            false
        }
        Err(error) => return Err(error).context("adding the clsact qdisc"),
    };
    if Hook::OF_UPLINK.contains(&hook) {
        let mut notes = FilterNotes::read(instance);
        *notes.0.entry(interface.index).or_default() |= made;
        notes.write(instance)?;
    }
    // The last agent's filter, if there is one, takes this program in one step.
    let kept = SchedClassifierLink::attached(
        &interface.name,
        hook.direction(),
        FILTER.priority,
        FILTER.handle,
        FILTER.classid,
    )?;
    let id = match program.attach_to_link(kept) {
        Ok(id) => id,
        Err(_) => program.attach_with_options(
            &interface.name,
            hook.direction(),
            TcAttachOptions::Netlink(FILTER),
        )?,
    };
    // Dropping the link would take the filter away; it is to outlive the agent.
    mem::forget(program.take_link(id)?);
    Ok(())
}

fn remove_filter_of(hook: Hook, index: u32) -> anyhow::Result<()> {
    let Ok(name) = nix::net::if_::if_indextoname(index) else { return Ok(()) };
    let name = name.to_string_lossy();
    match tc::qdisc_detach_program(&name, hook.direction(), hook.program()) {
        Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("removing the filter from {name}")),
    }
}

fn pin_name(hook: Hook, index: u32) -> String {
    format!("{}-{index}", hook.label())
}

pub(super) fn unpin(pin: &PathBuf) -> anyhow::Result<()> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing the pin {}", pin.display()))
        }
        _ => Ok(()),
    }
}

/// The mount point of cgroup2: not always `/sys/fs/cgroup`, where v1 hierarchies may be mounted
/// beside it.
fn cgroup2() -> anyhow::Result<Option<PathBuf>> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    Ok(mounts.lines().find_map(mount_point_of_cgroup2))
}

/// The mount point is the fifth field, the type the first after the separator.
fn mount_point_of_cgroup2(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    if kind.split(' ').next()? != "cgroup2" {
        return None;
    }
    mount.split(' ').nth(4).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_among_mounts() {
        let unified = "31 24 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(mount_point_of_cgroup2(unified), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let v1 = "32 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        assert_eq!(mount_point_of_cgroup2(v1), None);
        assert_eq!(mount_point_of_cgroup2(""), None);
    }
}
