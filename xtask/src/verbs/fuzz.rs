//! `cargo xtask fuzz`: libFuzzer drives the targets of `common/fuzz`; random frames go through the
//! programs in the kernel.
//!
//! The compiler that counts where a target has been is the usual one, told so by flags; a C++
//! compiler builds the fuzzer. What is saved in the checkout is where it begins, and what it finds
//! on the way stays in the target directory.

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

/// What can be fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// Any bytes, parsed and decided about.
    Parse,
    /// ICMP errors, made and translated.
    Errors,
    /// Histories of packets, and what must hold after each.
    History,
    /// The same traffic, through the programs in the kernel.
    Frames,
}

impl Target {
    /// Those that libFuzzer drives.
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

/// Tells the compiler to count where a program has been, and what it compares, in the way that
/// libFuzzer reads.
const INSTRUMENTED: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                            -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The longest input, in bytes: some dozens of steps of a history.
const LONGEST: &str = "-max_len=600";

/// Fuzzes one target for so many seconds at most, in a way that does not change from run to run: a
/// change is judged by what it does, and not by what was found this time.
pub(crate) fn check(workspace: &Workspace, target: Target, seconds: u32) -> Result<bool> {
    setup::ensure(workspace, Needs::Fuzzer)?;
    build(workspace)?;
    run(workspace, target, seconds, &["-seed=1", "-runs=50000"])
}

/// Fuzzes one target, or one after another all that need no kernel, for so many seconds each;
/// `count` is for frames.
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
    // With a target named, programs that run while this builds are not instrumented.
    command.args(["--target", &triple()]).arg("--target-dir").arg(directory(workspace));
    let status =
        command.env("RUSTFLAGS", INSTRUMENTED).env_remove("CARGO_ENCODED_RUSTFLAGS").status();
    let status = status.context("cannot run cargo to build the fuzzer")?;
    if !status.success() {
        bail!("the fuzzer did not build ({status}): the compiler's message is above");
    }
    Ok(())
}

/// Runs a target; false if it found something.
fn run(workspace: &Workspace, target: Target, seconds: u32, more: &[&str]) -> Result<bool> {
    let name = target.name();
    let directory = directory(workspace);
    // What an earlier run found new would change this one.
    let grown = directory.join(if more.is_empty() { "corpus" } else { "check" }).join(name);
    let found = directory.join("found");
    if !more.is_empty() && grown.exists() {
        fs::remove_dir_all(&grown).with_context(|| format!("cannot remove {}", grown.display()))?;
    }
    for path in [&grown, &found] {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    let saved = workspace.root().join("common/fuzz/corpus").join(name);
    println!("xtask fuzz: {name}, for {seconds} s");
    let program = directory.join(triple()).join("fuzz").join(name);
    let mut command = Command::new(&program);
    command.args([LONGEST, "-len_control=20", "-print_final_stats=1"]).args(more);
    command.arg(format!("-max_total_time={seconds}"));
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(found.join(format!("{name}-")));
    command.arg(prefix).arg(grown).arg(&saved);
    let log = directory.join(format!("{name}.log"));
    // libFuzzer says much that is of use to nobody, and all of it on stderr.
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
        println!("xtask fuzz: {name} holds, for {runs} inputs, {new} of which led somewhere new");
    } else {
        eprint!("{said}");
        eprintln!(
            "xtask: the target '{name}' does not hold: the input is in {}, and what is wrong is above. Put it into {}, where every test \
             run replays it, and mend what it found",
            found.display(),
            saved.display()
        );
    }
    Ok(status.success())
}

/// Runs the test that sends random frames through the kernel, with that many.
fn frames(workspace: &Workspace, count: u64) -> Result<ExitCode> {
    setup::ensure(workspace, Needs::Programs)?;
    let prefix = privilege::prefix("running frames through the kernel's programs")?;
    workspace.build(Profile::Dev, &[("causeway", "causeway")])?;
    let [(_, program)] = &workspace.tests(&["frames".to_owned()])?[..] else {
        bail!("cargo has built something else than the one test program 'frames'");
    };
    let count = OsString::from(count.to_string());
    let mut command =
        privilege::as_root(&prefix, &[("CAUSEWAY_FRAMES", &count)], program.as_os_str());
    let status = command.args(["--test-threads=1", "--nocapture"]).status();
    let status = status.with_context(|| format!("cannot run {}", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the fuzzer is built, and what it finds.
fn directory(workspace: &Workspace) -> PathBuf {
    workspace.target_dir().join("fuzz")
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", env::consts::ARCH)
}
