//! Tests on another kernel, in a virtual machine: `cargo xtask test --kernel VERSION`.
//!
//! The kernel is Debian's, unpacked beside the build (`image.rs`). Its root file system is an
//! archive in memory (`initramfs.rs`, `cpio.rs`): the test programs with their libraries, the
//! kernel's modules (`modules.rs`), and this xtask as the first process (`guest.rs`). The output of
//! the tests comes back over a serial line (`machine.rs`) and is shown as if they had run here.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::interrupt;
use crate::results::kernel::{Build, Kernel};
use crate::results::outcome::Outcome;
use crate::results::report::Report;
use crate::results::tally::Tally;
use crate::setup::{self, Needs};
use crate::workspace::{Profile, Workspace};

mod cpio;
pub(crate) mod guest;
mod image;
mod initramfs;
mod machine;
mod modules;
mod suite;

use image::Image;
use machine::Limits;
use suite::Suite;

/// The kernels that CI tests besides the running one: the oldest supported one, and one with tcx.
pub(crate) const MATRIX: [&str; 2] = ["6.1", "6.12"];

/// The tests to run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wanted<'a> {
    /// Names of test programs; all if empty.
    pub(crate) only: &'a [&'a str],
    /// What labs connect containers with, where a test does not choose; veth if `None`.
    pub(crate) device: Option<&'a str>,
    /// Arguments of the test harnesses.
    pub(crate) filter: &'a [OsString],
    /// Run the quick suites instead (see [`Suite::quick`]), on all kernels at once.
    pub(crate) quick: bool,
}

impl Wanted<'_> {
    fn suites(&self, workspace: &Workspace, kernel: Kernel) -> Result<Vec<Suite>> {
        match self {
            Self { quick: true, .. } => Ok(Suite::quick()),
            Self { only: [], device: None, .. } => Suite::all(workspace, kernel),
            Self { only: [], .. } => bail!("--device needs --only, which names the test programs"),
            Self { only, device, .. } => Suite::some(workspace, only, *device),
        }
    }
}

/// Runs tests on the given kernels. Returns the outcome on each.
pub(crate) fn run(
    workspace: &Workspace,
    kernels: &[&str],
    wanted: Wanted<'_>,
) -> Result<Vec<Outcome>> {
    setup::ensure(workspace, Needs::Machine)?;
    let mut guests = Vec::new();
    for kernel in kernels {
        guests.push(Guest::prepare(workspace, Kernel::parse(kernel)?, wanted)?);
    }
    let label =
        |guest: &Guest| (wanted.quick && kernels.len() > 1).then(|| guest.version.to_string());
    let limits = if wanted.quick { Limits::QUICK } else { Limits::PATIENT };
    let run = |guest: &Guest| guest.run(workspace, limits, label(guest).as_deref());
    let outcomes = if wanted.quick {
        // A test rarely keeps more than one processor busy.
        thread::scope(|scope| {
            let running: Vec<_> = guests.iter().map(|guest| scope.spawn(|| run(guest))).collect();
            running
                .into_iter()
                .map(|run| run.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        })
    } else {
        let guests = guests.iter().filter(|_| !interrupt::noted());
        guests.map(run).collect::<Vec<_>>()
    };
    outcomes.into_iter().collect()
}

/// A kernel, and the archive with the tests to run on it.
struct Guest {
    version: Kernel,
    image: Image,
    folder: PathBuf,
    archive: PathBuf,
    /// Keeps other runs from writing to `folder`.
    _lock: File,
}

impl Guest {
    fn prepare(workspace: &Workspace, version: Kernel, wanted: Wanted<'_>) -> Result<Self> {
        let kernel = &version.to_string();
        let suites = wanted.suites(workspace, version)?;
        let folder = workspace.target_dir().join("kernels").join(kernel);
        let lock = lock(&folder)?;
        let image = Image::get(kernel, &folder)?;
        workspace.build(Profile::Dev, &[("causeway", "causeway")])?;
        let mut programs: Vec<String> = suites.iter().map(|suite| suite.program.clone()).collect();
        programs.sort();
        programs.dedup();
        let tests = workspace.tests(&programs)?;

        let archive = folder.join("initramfs.cpio");
        let arguments = guest::Arguments { suites, harness: harness(wanted.filter) };
        let causeway = workspace.binary(Profile::Dev, "causeway");
        initramfs::write(&archive, &image, &causeway, &tests, &arguments)
            .with_context(|| format!("cannot make the file system for Linux {kernel}"))?;
        Ok(Self { version, image, folder, archive, _lock: lock })
    }

    fn run(&self, workspace: &Workspace, limits: Limits, label: Option<&str>) -> Result<Outcome> {
        /// Guards the file of instruction counts.
        static TURN: Mutex<()> = Mutex::new(());
        let started = Instant::now();
        let kernel = self.version;
        let run = machine::run(&self.image, &self.archive, &self.folder, limits, label)?;
        let took = started.elapsed();
        let mut report = Report::default();
        for line in &run.report {
            report.add(line);
        }
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let problems = report.check(workspace, kernel, &Build::Debian)?;
        report.record(workspace, kernel)?;
        for problem in run.problems.iter().chain(&problems) {
            eprintln!("xtask: Linux {kernel}: {problem}");
        }
        let right = run.tally.clean && run.problems.is_empty() && problems.is_empty();
        let release = run.release.unwrap_or_else(|| kernel.to_string());
        let mut outcome =
            Outcome { kernel: release, tally: run.tally, skipped: report.skips(), took, right };
        let Tally { failed, ignored, .. } = outcome.tally;
        println!(
            "xtask test: Linux {}: {} passed, {failed} failed, {ignored} ignored, {} skipped, in {:.0} s",
            outcome.kernel,
            outcome.passed(),
            outcome.skipped,
            took.as_secs_f32()
        );
        if outcome.tally.passed + failed + ignored == 0
            && run.problems.is_empty()
            && !interrupt::noted()
        {
            eprintln!(
                "xtask: no test matches the filter: run without one to see the names of all tests"
            );
            outcome.right = false;
        }
        Ok(outcome)
    }
}

/// Waits until no other run on the same kernel writes to `folder`. The lock is released on drop.
fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            eprintln!("xtask: waiting for another run on this kernel to end");
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn harness(filter: &[OsString]) -> Vec<String> {
    let colour =
        if std::io::IsTerminal::is_terminal(&std::io::stdout()) { "always" } else { "never" };
    let own = ["--test-threads=1".to_owned(), format!("--color={colour}")];
    own.into_iter().chain(filter.iter().map(|word| word.to_string_lossy().into_owned())).collect()
}
