//! `cargo xtask ci`: everything that gates a change. All of it runs even if some of it fails, so
//! that one run tells all.
//!
//! The kernel side is an empty program on the host, so clippy of the workspace sees nothing of it.
//! It is built first and must build without a warning; then it is checked for the BPF target by the
//! clippy of the toolchain that built it. For Debian's that is a package, which is installed; a
//! nightly of rustup without its clippy leaves that check out.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::interrupt;
use crate::kernels::{MATRIX, Wanted};
use crate::recipe::{self, Toolchain};
use crate::setup::{self, Needs};
use crate::verbs::fuzz::{self, Target};
use crate::verbs::test;
use crate::workspace::Workspace;

/// How long each fuzz target runs at most.
const FUZZ_SECONDS: u32 = 30;

/// Runs every check and prints a table of them.
pub(crate) fn verb(workspace: &Workspace) -> Result<ExitCode> {
    let toolchain = setup::ensure(workspace, Needs::Lints)?;
    interrupt::note()?;
    let mut checks = Checks::default();

    checks.add("format", || succeeds(workspace.cargo().args(["fmt", "--all", "--check"])));
    for (package, name, lints) in
        [(recipe::DATAPATH, "ebpf", "clippy, ebpf"), (recipe::BENCH, "bench", "clippy, bench")]
    {
        checks.add(name, || Ok(builds_without_warnings(workspace, &toolchain, package)));
        if let Some(mut clippy) = toolchain.clippy(&workspace.object(package)) {
            checks.add(lints, || succeeds(clippy.args(["--", "-D", "warnings"])));
        }
    }
    checks.add("clippy", || {
        let mut clippy = workspace.cargo();
        succeeds(clippy.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    checks.add("doc", || {
        let mut doc = workspace.cargo();
        succeeds(doc.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-Dwarnings"))
    });
    for target in Target::PURE {
        checks.add(&format!("fuzz {}", target.name()), || {
            fuzz::check(workspace, target, FUZZ_SECONDS)
        });
    }
    checks.add("kernels", || {
        let quick = Wanted { quick: true, ..Wanted::default() };
        Ok(test::on_kernels(workspace, &MATRIX, quick)? == ExitCode::SUCCESS)
    });
    checks.add("test", || Ok(test::verb(workspace, &[])? == ExitCode::SUCCESS));

    Ok(checks.report())
}

fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    Ok(status.success())
}

fn builds_without_warnings(workspace: &Workspace, toolchain: &Toolchain, package: &str) -> bool {
    match toolchain.build(&workspace.object(package)) {
        // cargo repeats the warnings of what it does not build again.
        Ok((_, output)) if !output.lines().any(|line| line.starts_with("warning")) => true,
        Ok((_, output)) | Err(output) => {
            eprintln!("{output}");
            false
        }
    }
}

#[derive(Default)]
struct Checks(Vec<(String, bool, f32)>);

impl Checks {
    fn add(&mut self, name: &str, check: impl FnOnce() -> Result<bool>) {
        if interrupt::noted() {
            return;
        }
        println!("== {name}");
        let started = Instant::now();
        let passed = check().unwrap_or_else(|error| {
            eprintln!("xtask: {error:#}");
            false
        });
        self.0.push((name.to_owned(), passed, started.elapsed().as_secs_f32()));
    }

    fn report(&self) -> ExitCode {
        println!("== result");
        for (name, passed, seconds) in &self.0 {
            println!("{name:<14}{:<8}{seconds:>6.1} s", if *passed { "ok" } else { "FAILED" });
        }
        if interrupt::noted() {
            eprintln!("xtask: interrupted");
            return ExitCode::from(130);
        }
        if self.0.iter().all(|(_, passed, _)| *passed) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
