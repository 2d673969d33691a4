//! `cargo xtask setup`: installs what building and testing need.

use std::process::ExitCode;

use anyhow::Result;

use crate::setup::{self, Needs};
use crate::workspace::Workspace;

/// Sets up, and prints what was found or installed.
pub(crate) fn verb(workspace: &Workspace) -> Result<ExitCode> {
    let toolchain = setup::ensure(workspace, Needs::Programs)?;
    let programs: Vec<&str> = setup::programs_of_tests().collect();
    println!("eBPF toolchain: {toolchain}");
    println!("programs: {}", programs.join(" "));
    println!(
        "everything is there; next: cargo xtask run, cargo xtask test, cargo xtask lab, cargo xtask bench"
    );
    Ok(ExitCode::SUCCESS)
}
