//! `cargo xtask check`: the checks of the checkout, without clippy, fuzzing and tests.

use std::process::ExitCode;

use anyhow::Result;

use crate::checks::Check;
use crate::workspace::Workspace;

/// Runs these checks, or all if there are none.
pub(crate) fn verb(
    workspace: &Workspace,
    checks: &[Check],
    xtask: &clap::Command,
) -> Result<ExitCode> {
    let checks = if checks.is_empty() { &Check::ALL[..] } else { checks };
    let mut clean = true;
    for check in checks {
        clean &= check.run(workspace, xtask)?.passed;
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
