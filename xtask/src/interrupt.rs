//! Ctrl-C while a child runs: the child handles it, and xtask stays to report.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes SIGINT set a flag instead of ending xtask. This needs a handler: children would inherit
/// `SIG_IGN`.
pub(crate) fn note() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(handle), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler stores to an atomic and does nothing else, which is async-signal-safe.
    unsafe { sigaction(Signal::SIGINT, &action) }.context("cannot install a handler for SIGINT")?;
    Ok(())
}

/// Whether SIGINT was received.
pub(crate) fn noted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

extern "C" fn handle(_: nix::libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}
