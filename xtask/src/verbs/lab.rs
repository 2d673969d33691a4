//! `cargo xtask lab`: builds the lab, a program of package `causeway-tests`, and runs it.

use std::process::ExitCode;

use anyhow::Result;

use crate::privilege;
use crate::setup::{self, Needs};
use crate::workspace::{Profile, Workspace};

/// Replaces this process with `lab`, as root.
pub(crate) fn verb(workspace: &Workspace, shell: bool, keep: bool) -> Result<ExitCode> {
    setup::ensure(workspace, Needs::Programs)?;
    workspace.build(Profile::Dev, &[("causeway", "causeway"), ("causeway-tests", "lab")])?;
    let causeway = workspace.binary(Profile::Dev, "causeway");
    let lab = workspace.binary(Profile::Dev, "lab");
    let prefix = privilege::prefix("the lab")?;
    let mut command =
        privilege::as_root(&prefix, &[("CAUSEWAY_BIN", causeway.as_os_str())], lab.as_os_str());
    command.args(shell.then_some("--shell")).args(keep.then_some("--keep"));
    Err(privilege::become_it(command))
}
