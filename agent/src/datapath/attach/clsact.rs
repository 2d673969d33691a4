//! tc programs by filters of the clsact qdisc, before Linux 6.6.

use std::{collections::BTreeMap, fs, mem, path::PathBuf};

use anyhow::Context as _;
use aya::programs::{
    ProgramError, SchedClassifier,
    links::Link as _,
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
};
use nix::errno::Errno;

use super::hook::Hook;
use crate::datapath::types::Interface;

/// Priority and handle of the filters. They are fixed, so that a new agent replaces the filters of
/// the last one.
const FILTER: NlOptions =
    NlOptions { priority: 0xca5e, handle: TcHandle::new(0, 1), classid: None };

/// Removes the filters of uplinks, which stay when the instance goes. Returns the uplinks whose
/// clsact qdisc was added for them.
pub(in crate::datapath) fn remove_filters(instance: &str) -> anyhow::Result<Vec<u32>> {
    let mut notes = FilterNotes::read(instance);
    for index in notes.0.keys() {
        for hook in Hook::OF_UPLINK {
            remove(hook, *index)?;
        }
    }
    notes.0.retain(|_, made| *made);
    let path = FilterNotes::path(instance);
    if path.exists() {
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(notes.0.into_keys().collect())
}

/// The uplinks that have filters, and whether their clsact qdisc was added for that. Unlike links,
/// filters have no pins that list them.
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
        // Without an agent, in tests, the folder does not exist yet.
        fs::create_dir_all("/run/causeway").context("making the folder /run/causeway")?;
        let line = |(index, made): (&u32, &bool)| {
            format!("{index} {}\n", if *made { "made" } else { "found" })
        };
        fs::write(&path, self.0.iter().map(line).collect::<String>())
            .with_context(|| format!("writing the list of filters {}", path.display()))
    }
}

/// Attaches the program, or replaces that of the last agent's filter.
pub(super) fn put(
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
    // A filter of the last agent takes the new program in one step.
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
    // Dropped, the link would remove the filter, which must outlive the agent.
    mem::forget(program.take_link(id)?);
    Ok(())
}

/// Detaches the program. Succeeds if the interface or the filter does not exist.
///
/// The filter is found by priority and handle: an agent of another layout may have given its
/// program another name.
pub(super) fn remove(hook: Hook, index: u32) -> anyhow::Result<()> {
    let Ok(name) = nix::net::if_::if_indextoname(index) else { return Ok(()) };
    let name = name.to_string_lossy();
    let filter = SchedClassifierLink::attached(
        &name,
        hook.direction(),
        FILTER.priority,
        FILTER.handle,
        FILTER.classid,
    );
    // The interface may have gone since.
    let Ok(filter) = filter else { return Ok(()) };
    match filter.detach() {
        Err(ProgramError::NetlinkError(error)) if is_absent(error.raw_os_error()) => Ok(()),
        result => result.with_context(|| format!("removing the filter from {name}")),
    }
}

/// Whether the kernel says so that there is no such filter, or no clsact qdisc to hold one.
fn is_absent(error: Option<i32>) -> bool {
    matches!(error.map(Errno::from_raw), Some(Errno::ENOENT | Errno::EINVAL))
}
