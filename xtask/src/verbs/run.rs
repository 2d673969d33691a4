//! `cargo xtask run`: sets up, builds and runs the agent on this machine.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::privilege;
use crate::setup::{self, Needs};
use crate::workspace::{Profile, Workspace};

/// Replaces this process with `causeway up ARGS`, as root.
pub(crate) fn verb(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    setup::ensure(workspace, Needs::Toolchain)?;
    workspace.build(Profile::Release, &[("causeway", "causeway")])?;
    let causeway = workspace.binary(Profile::Release, "causeway");
    let prefix = privilege::prefix("`causeway up`")?;
    let mut command = privilege::as_root(&prefix, &[], causeway.as_os_str());
    command.arg("up").args(args);
    Err(privilege::become_it(command))
}
