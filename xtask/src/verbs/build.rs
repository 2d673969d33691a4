//! `cargo xtask build`: set-up, then `cargo build`.

use std::process::ExitCode;

use anyhow::Result;

use crate::setup::{self, Needs};
use crate::workspace::{Profile, Workspace};

/// Builds `causeway` and prints its path. With `trace` its object logs a line for each packet.
pub(crate) fn verb(workspace: &Workspace, profile: Profile, trace: bool) -> Result<ExitCode> {
    setup::ensure(workspace, Needs::Toolchain)?;
    let features: &[&str] = if trace { &["causeway/trace"] } else { &[] };
    workspace.build_with(profile, &[("causeway", "causeway")], features)?;
    println!("{}", workspace.binary(profile, "causeway").display());
    Ok(ExitCode::SUCCESS)
}
