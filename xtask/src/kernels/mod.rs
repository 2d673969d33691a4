//! `cargo xtask test --kernel VERSION`: the tests on another kernel, in a virtual machine that has nothing else in it.
//!
//! The kernel is Debian's, unpacked beside the build. Its root file system is an archive in memory: the tests' programs and
//! the libraries they load, the kernel's modules, and this xtask as the first process (`guest.rs`). What the tests
//! print comes back over a serial line and is shown as if they had run here.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::interrupt;
use crate::report::{Kernel, Report};
use crate::setup::{self, Needs};
use crate::tally::Tally;
use crate::workspace::{Profile, Workspace};

mod cpio;
pub(crate) mod guest;
mod image;
mod initramfs;
mod machine;
mod modules;

use image::Image;
pub(crate) use machine::QEMU;

/// The kernels that every change is tried on besides the running one: the oldest that is promised, and one with tcx.
pub(crate) const MATRIX: [&str; 2] = ["6.1", "6.12"];

/// The test programs that run there: all programs load and attach, the packet tables, and real traffic of every kind.
/// What takes long and depends on no kernel stays outside.
const SUITES: [&str; 7] = ["load", "packets", "articles", "published", "outgoing", "icmp", "lifecycle"];

/// What a gate has time for.
pub(crate) const QUICK: [&str; 2] = ["load", "packets"];

/// Runs the tests on the given kernels, all of [`SUITES`] or `only` some; exits with failure if one failed.
pub(crate) fn verb(workspace: &Workspace, kernels: &[&str], only: &[&str], filter: &[OsString]) -> Result<ExitCode> {
    interrupt::note()?;
    let versions = kernels.iter().map(|kernel| Kernel::parse(kernel)).collect::<Result<Vec<_>>>()?;
    let mut failed = Vec::new();
    for kernel in versions {
        if !interrupt::noted() && !run(workspace, kernel, only, filter)? {
            failed.push(kernel.to_string());
        }
    }
    if interrupt::noted() {
        eprintln!("xtask: interrupted");
        return Ok(ExitCode::from(130));
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("xtask: failed on Linux {}", failed.join(" and "));
    Ok(ExitCode::FAILURE)
}

/// Whether everything was right on one kernel.
fn run(workspace: &Workspace, version: Kernel, only: &[&str], filter: &[OsString]) -> Result<bool> {
    let kernel = &version.to_string();
    let started = Instant::now();
    let suites = suites(workspace, only)?;
    setup::ensure(workspace, Needs::Machine)?;
    let folder = workspace.target_dir().join("kernels").join(kernel);
    let _lock = lock(&folder)?;
    let image = Image::get(kernel, &folder)?;
    workspace.build(Profile::Dev, &[("causeway", "causeway")])?;
    let tests = workspace.tests(&suites)?;

    let archive = folder.join("initramfs.cpio");
    let arguments = guest::Arguments { suites: suites.clone(), harness: harness(filter) };
    let causeway = workspace.binary(Profile::Dev, "causeway");
    initramfs::write(&archive, &image, &causeway, &tests, &arguments)
        .with_context(|| format!("cannot make the file system for Linux {kernel}"))?;
    let run = machine::run(&image, &archive, &folder)?;
    if interrupt::noted() {
        return Ok(false);
    }

    let mut report = Report::default();
    for line in &run.report {
        report.add(line);
    }
    let problems = report.check(workspace, version)?;
    report.record(workspace, version)?;
    for problem in run.problems.iter().chain(&problems) {
        eprintln!("xtask: Linux {kernel}: {problem}");
    }
    let Tally { passed, failed, ignored, .. } = run.tally;
    let skipped = report.skips();
    println!(
        "xtask test: Linux {}: {} passed, {failed} failed, {ignored} ignored, {skipped} skipped, in {:.0} s",
        run.release.as_deref().unwrap_or(kernel),
        passed.saturating_sub(skipped), // a harness knows no skips
        started.elapsed().as_secs_f32()
    );
    if passed + failed + ignored == 0 && run.problems.is_empty() {
        eprintln!("xtask: no test is called anything like that: leave out the filter to see their names");
        return Ok(false);
    }
    Ok(run.tally.clean && run.problems.is_empty() && problems.is_empty())
}

/// Holds off a second run on the same kernel, which would write the same files, until the first is done. Released when
/// dropped.
fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => eprintln!("xtask: waiting for another run on this kernel to end"),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// The test programs to run, each of which there is.
fn suites(workspace: &Workspace, only: &[&str]) -> Result<Vec<String>> {
    if only.is_empty() {
        return Ok(SUITES.map(str::to_owned).to_vec());
    }
    let folder = workspace.root().join("tests/tests");
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = PathBuf::from(entry.context("cannot read a name in it")?.file_name());
        there.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    if let Some(unknown) = only.iter().find(|name| !there.contains(**name)) {
        let there: Vec<_> = there.into_iter().collect();
        bail!("no test program is called '{unknown}': there are {}", there.join(", "));
    }
    Ok(only.iter().map(|name| (*name).to_owned()).collect())
}

fn harness(filter: &[OsString]) -> Vec<String> {
    let colour = if std::io::IsTerminal::is_terminal(&std::io::stdout()) { "always" } else { "never" };
    let own = ["--test-threads=1".to_owned(), format!("--color={colour}")];
    own.into_iter().chain(filter.iter().map(|word| word.to_string_lossy().into_owned())).collect()
}
