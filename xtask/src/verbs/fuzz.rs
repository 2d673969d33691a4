//! `cargo xtask fuzz`: libFuzzer drives the targets of `common/fuzz`; the target `frames` sends
//! random frames through the programs in the kernel.
//!
//! Coverage comes from flags of the stable compiler; a C++ compiler builds libFuzzer. Each run
//! starts from the corpus in the checkout. New inputs stay in the target directory.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::privilege;
use crate::setup::{self, Needs};
use crate::workspace::{Profile, Workspace};

/// A fuzz target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// Arbitrary bytes: parsing and decisions.
    Parse,
    /// ICMP errors: creation and translation.
    Errors,
    /// Sequences of packets, with the invariants checked after each.
    History,
    /// Random frames through the programs in the kernel.
    Frames,
}

impl Target {
    /// The targets that libFuzzer drives.
    pub(crate) const PURE: [Self; 3] = [Self::Parse, Self::Errors, Self::History];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Errors => "errors",
            Self::History => "history",
            Self::Frames => "frames",
        }
    }
}

/// Compiler flags that record coverage and comparisons in the form that libFuzzer reads.
const INSTRUMENTED: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                            -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The longest input, in bytes: some dozens of packets of `history`.
const LONGEST: &str = "-max_len=600";

/// Fuzzes one target for at most `seconds`, with a fixed seed and number of runs: whether a change
/// passes must not depend on chance.
pub(crate) fn check(workspace: &Workspace, target: Target, seconds: u32) -> Result<bool> {
    setup::ensure(workspace, Needs::Fuzzer)?;
    build(workspace)?;
    run(workspace, target, seconds, &["-seed=1", "-runs=50000"])
}

/// Fuzzes one target, or each that needs no kernel, for `seconds` each. `count` is the number of
/// frames for [`Target::Frames`].
pub(crate) fn verb(
    workspace: &Workspace,
    target: Option<Target>,
    seconds: u32,
    count: u64,
) -> Result<ExitCode> {
    if target == Some(Target::Frames) {
        return frames(workspace, count);
    }
    setup::ensure(workspace, Needs::Fuzzer)?;
    build(workspace)?;
    let targets = target.map_or(Target::PURE.to_vec(), |target| vec![target]);
    let mut clean = true;
    for target in targets {
        clean &= run(workspace, target, seconds, &[])?;
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    command.args([
        "build",
        "--package",
        "causeway-fuzz",
        "--features",
        "libfuzzer",
        "--bins",
        "--profile",
        "fuzz",
    ]);
    // With --target, build scripts and procedural macros are not instrumented.
    command.args(["--target", &triple()]).arg("--target-dir").arg(directory(workspace));
    let status =
        command.env("RUSTFLAGS", INSTRUMENTED).env_remove("CARGO_ENCODED_RUSTFLAGS").status();
    let status = status.context("cannot run cargo to build the fuzzer")?;
    if !status.success() {
        bail!("the fuzzer did not build ({status}): the compiler's message is above");
    }
    Ok(())
}

/// Runs a target. Returns false if it found a failing input.
fn run(workspace: &Workspace, target: Target, seconds: u32, more: &[&str]) -> Result<bool> {
    let name = target.name();
    let directory = directory(workspace);
    // New inputs of an earlier run would change a reproducible one.
    let grown = directory.join(if more.is_empty() { "corpus" } else { "check" }).join(name);
    let found = directory.join("found");
    if !more.is_empty() && grown.exists() {
        fs::remove_dir_all(&grown).with_context(|| format!("cannot remove {}", grown.display()))?;
    }
    for path in [&grown, &found] {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    let saved = workspace.root().join("common/fuzz/corpus").join(name);
    println!("xtask fuzz: {name} for at most {seconds} s");
    let program = directory.join(triple()).join("fuzz").join(name);
    let mut command = Command::new(&program);
    command.args([LONGEST, "-len_control=20", "-print_final_stats=1"]).args(more);
    command.arg(format!("-max_total_time={seconds}"));
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(found.join(format!("{name}-")));
    command.arg(prefix).arg(grown).arg(&saved);
    let log = directory.join(format!("{name}.log"));
    // libFuzzer prints its progress on stderr; it is shown only after a failure.
    command.stderr(File::create(&log).with_context(|| format!("cannot create {}", log.display()))?);
    let status = command.status().with_context(|| format!("cannot run {}", program.display()))?;
    let said = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let said = String::from_utf8_lossy(&said);
    if status.success() {
        let count = |what: &str| {
            said.lines().find_map(|line| line.strip_prefix(what)).map_or("?", str::trim)
        };
        let (runs, new) =
            (count("stat::number_of_executed_units:"), count("stat::new_units_added:"));
        println!("xtask fuzz: {name} passed {runs} inputs, {new} of them with new coverage");
    } else {
        eprint!("{said}");
        eprintln!(
            "xtask: the fuzz target '{name}' failed, see above: the input is in {}. Move it to {}, \
             where every test run replays it, and fix the cause",
            found.display(),
            saved.display()
        );
    }
    Ok(status.success())
}

/// Runs the test that sends `count` random frames through the kernel.
fn frames(workspace: &Workspace, count: u64) -> Result<ExitCode> {
    setup::ensure(workspace, Needs::Programs)?;
    let prefix = privilege::prefix("running frames through the kernel's programs")?;
    workspace.build(Profile::Dev, &[("causeway", "causeway")])?;
    let [(_, program)] = &workspace.tests(&["frames".to_owned()])?[..] else {
        bail!("cargo did not build exactly one test program 'frames'");
    };
    let count = OsString::from(count.to_string());
    let mut command =
        privilege::as_root(&prefix, &[("CAUSEWAY_FRAMES", &count)], program.as_os_str());
    let status = command.args(["--test-threads=1", "--nocapture"]).status();
    let status = status.with_context(|| format!("cannot run {}", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The directory of the fuzzers and of their findings.
fn directory(workspace: &Workspace) -> PathBuf {
    workspace.target_dir().join("fuzz")
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", env::consts::ARCH)
}
