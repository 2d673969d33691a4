//! `cargo xtask build`: set-up, then `cargo build`.

use std::process::ExitCode;

use anyhow::Result;

use crate::setup::{self, Needs};
use crate::workspace::{Profile, Workspace};

/// Builds `causeway` and prints its path.
pub(crate) fn verb(workspace: &Workspace, profile: Profile) -> Result<ExitCode> {
    setup::ensure(workspace, Needs::Toolchain)?;
    workspace.build(profile, &[("causeway", "causeway")])?;
    println!("{}", workspace.binary(profile, "causeway").display());
    Ok(ExitCode::SUCCESS)
}
