//! `cargo xtask ci`: everything that gates a change. A failure does not stop the run, so that one
//! run finds every failure.
//!
//! Checks that take seconds come first. On the host the kernel side is an empty program, which
//! clippy of the workspace cannot check. So it is built for BPF, without warnings, and checked by
//! clippy of the same toolchain. Set-up installs that for Debian's compiler; for a rustup nightly
//! without clippy the table says that it was not checked.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::checks::{Check, Outcome};
use crate::interrupt;
use crate::kernels::{MATRIX, Wanted};
use crate::recipe::{self, Build, Toolchain};
use crate::setup::{self, Needs};
use crate::verbs::fuzz::{self, Target};
use crate::verbs::test;
use crate::workspace::Workspace;

/// The longest run of a fuzz target.
const FUZZ_SECONDS: u32 = 30;

/// Flags of rustdoc: those of `.cargo/config.toml`, which the variable overrides, and no warnings.
const DOC: &str = "--document-private-items -Dwarnings";

/// Runs every check and prints a table of them.
pub(crate) fn verb(workspace: &Workspace, xtask: &clap::Command) -> Result<ExitCode> {
    let toolchain = setup::ensure(workspace, Needs::Lints)?;
    interrupt::note()?;
    let mut checks = Checks::default();

    checks.add("format", || succeeds(workspace.cargo().args(["fmt", "--all", "--check"])));
    let (last, first): (Vec<Check>, Vec<Check>) =
        Check::ALL.into_iter().partition(|check| *check == Check::Documents);
    for check in first {
        checks.add_check(check, workspace, xtask);
    }
    let (datapath, bench) = (workspace.object(recipe::DATAPATH), workspace.object(recipe::BENCH));
    let trace = Build { trace: true, ..workspace.object(recipe::DATAPATH) };
    checks.add("ebpf", || Ok(builds_without_warnings(&toolchain, &datapath)));
    checks.add("bench", || Ok(builds_without_warnings(&toolchain, &bench)));
    for (name, object) in
        [("clippy, ebpf", &datapath), ("clippy, trace", &trace), ("clippy, bench", &bench)]
    {
        match toolchain.clippy(object) {
            Some(mut clippy) => {
                checks.add(name, || succeeds(clippy.args(["--", "-D", "warnings"])));
            }
            None => checks.skip(name, "not checked, this toolchain has no clippy"),
        }
    }
    checks.add("clippy", || {
        let mut clippy = workspace.cargo();
        succeeds(clippy.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    checks.add("agent, trace", || {
        let mut clippy = workspace.cargo();
        clippy.args(["clippy", "--package", "causeway", "--features", "trace", "--all-targets"]);
        // Any object will do to check the agent, and this one is built already.
        clippy.env("CAUSEWAY_BPF_OBJECT", datapath.path());
        succeeds(clippy.args(["--", "-D", "warnings"]))
    });
    checks.add("doc", || {
        let mut doc = workspace.cargo();
        succeeds(doc.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", DOC))
    });
    for check in last {
        checks.add_check(check, workspace, xtask);
    }
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
    checks.add("trace", || {
        let mut test = workspace.cargo();
        test.args(["test", "--package", "causeway", "--features", "trace", "--lib", "datapath::"]);
        succeeds(&mut test)
    });

    Ok(checks.report())
}

fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    Ok(status.success())
}

fn builds_without_warnings(toolchain: &Toolchain, object: &Build<'_>) -> bool {
    match toolchain.build(object) {
        // cargo repeats the warnings of crates that it does not build again.
        Ok((_, output)) if !output.lines().any(|line| line.starts_with("warning")) => true,
        Ok((_, output)) | Err(output) => {
            eprintln!("{output}");
            false
        }
    }
}

#[derive(Default)]
struct Checks(Vec<Row>);

/// A row of the table at the end.
struct Row {
    name: String,
    outcome: Outcome,
    took: Duration,
}

impl Checks {
    fn add(&mut self, name: &str, check: impl FnOnce() -> Result<bool>) {
        self.run(name, || Ok(Outcome { passed: check()?, unchecked: None }));
    }

    fn add_check(&mut self, check: Check, workspace: &Workspace, xtask: &clap::Command) {
        self.run(check.name(), || check.run(workspace, xtask));
    }

    fn skip(&mut self, name: &str, why: &str) {
        self.run(name, || Ok(Outcome { passed: true, unchecked: Some(why.to_owned()) }));
    }

    fn run(&mut self, name: &str, check: impl FnOnce() -> Result<Outcome>) {
        if interrupt::noted() {
            return;
        }
        println!("== {name}");
        let started = Instant::now();
        let outcome = check().unwrap_or_else(|error| {
            eprintln!("xtask: {error:#}");
            Outcome { passed: false, unchecked: None }
        });
        self.0.push(Row { name: name.to_owned(), outcome, took: started.elapsed() });
    }

    fn report(&self) -> ExitCode {
        println!("== result");
        for Row { name, outcome, took } in &self.0 {
            let verdict = if outcome.passed { "ok" } else { "FAILED" };
            let unchecked = outcome.unchecked.as_deref().unwrap_or_default();
            let line = format!("{name:<14}{verdict:<8}{:>6.1} s  {unchecked}", took.as_secs_f32());
            println!("{}", line.trim_end());
        }
        let all: Duration = self.0.iter().map(|row| row.took).sum();
        println!("{:<22}{:>6.1} s", "all", all.as_secs_f32());
        if interrupt::noted() {
            eprintln!("xtask: interrupted");
            return ExitCode::from(130);
        }
        if self.0.iter().all(|row| row.outcome.passed) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
