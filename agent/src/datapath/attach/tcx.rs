//! tc programs by tcx links, from Linux 6.6 on.

use std::{io, path::Path, thread, time::Duration};

use anyhow::Context as _;
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
};

use super::hook::Hook;
use crate::datapath::{pins::unpin, types::Interface};

/// Attaches the program and pins its link, or replaces the program of the link that is pinned.
pub(super) fn put(
    program: &mut SchedClassifier,
    hook: Hook,
    interface: &Interface,
    pin: &Path,
) -> anyhow::Result<()> {
    if let Ok(kept) = PinnedLink::from_pin(pin) {
        let link = SchedClassifierLink::try_from(FdLink::from(kept))?;
        // A link whose interface is gone accepts no program. Only its pin is left.
        if let Ok(id) = program.attach_to_link(link) {
            drop(program.take_link(id)?);
            return Ok(());
        }
        unpin(pin)?;
    }
    let mut tries = 0;
    let id = loop {
        // Last, after programs of others, which may filter.
        let order = TcAttachOptions::TcxOrder(LinkOrder::default());
        match program.attach_with_options(&interface.name, hook.direction(), order) {
            // R23: a link that has just lost its pin is freed a grace period later.
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

/// Whether the kernel says that the program is attached already.
fn is_there(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error) if error.io_error.kind() == io::ErrorKind::AlreadyExists)
}
