//! `cargo xtask bench`: the benchmark is the program of package `causeway-bench`; this builds it and becomes it.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::privilege;
use crate::setup::{self, Needs};
use crate::workspace::{Profile, Workspace};

/// Becomes `bench`, as root.
pub(crate) fn verb(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    setup::ensure(workspace, Needs::Contenders)?;
    workspace.build(Profile::Release, &[("causeway", "causeway"), ("causeway-bench", "bench")])?;
    let causeway = workspace.binary(Profile::Release, "causeway");
    let bench = workspace.binary(Profile::Release, "bench");
    let prefix = privilege::prefix("the benchmark")?;
    let mut command = privilege::as_root(&prefix, &[("CAUSEWAY_BIN", causeway.as_os_str())], bench.as_os_str());
    command.arg("--record").arg(workspace.root().join("tests/bench"));
    command.arg("--report").arg(workspace.target_dir().join("bench"));
    command.args(args);
    Err(privilege::become_it(command))
}
