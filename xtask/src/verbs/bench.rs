//! `cargo xtask bench`: builds the benchmark, the program of package `causeway-bench`, and runs it.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::privilege;
use crate::setup::{self, Needs};
use crate::workspace::{Profile, Workspace};

/// The variable with the path of another `causeway` to compare with.
const BEFORE: &str = "CAUSEWAY_BEFORE_BIN";

/// Replaces this process with `bench`, as root.
pub(crate) fn verb(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    setup::ensure(workspace, Needs::Contenders)?;
    workspace.build(Profile::Release, &[("causeway", "causeway"), ("causeway-bench", "bench")])?;
    let causeway = workspace.binary(Profile::Release, "causeway");
    let bench = workspace.binary(Profile::Release, "bench");
    let prefix = privilege::prefix("the benchmark")?;
    let before = env::var_os(BEFORE);
    let before = before.iter().map(|before| (BEFORE, before.as_os_str()));
    let variables: Vec<_> = before.chain([("CAUSEWAY_BIN", causeway.as_os_str())]).collect();
    let mut command = privilege::as_root(&prefix, &variables, bench.as_os_str());
    command.arg("--record").arg(workspace.root().join("tests/bench"));
    command.arg("--report").arg(workspace.target_dir().join("bench"));
    command.args(args);
    Err(privilege::become_it(command))
}
