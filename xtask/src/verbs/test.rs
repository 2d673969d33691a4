//! `cargo xtask test`: runs every test, and prints the total in one line.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{ErrorKind, IsTerminal, Read, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::interrupt;
use crate::kernels::{self, Wanted};
use crate::privilege;
use crate::results::kernel::{Build, Kernel};
use crate::results::outcome::{self, Outcome};
use crate::results::report::Report;
use crate::results::tally::{Listing, Tally};
use crate::setup::{self, Needs};
use crate::workspace::{Profile, Workspace};

/// Runs the tests on this kernel. Fails if a test failed, or if no test matches the filter.
pub(crate) fn verb(workspace: &Workspace, filter: &[OsString]) -> Result<ExitCode> {
    interrupt::note()?;
    let outcome = run_here(workspace, filter)?;
    if interrupt::noted() {
        eprintln!("xtask: interrupted");
        return Ok(ExitCode::from(130));
    }
    Ok(if outcome.right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs tests on other kernels. Fails if a test failed.
pub(crate) fn on_kernels(
    workspace: &Workspace,
    kernels: &[&str],
    wanted: Wanted<'_>,
) -> Result<ExitCode> {
    interrupt::note()?;
    let outcomes = kernels::run(workspace, kernels, wanted)?;
    if interrupt::noted() {
        eprintln!("xtask: interrupted");
        return Ok(ExitCode::from(130));
    }
    if let [_, _, ..] = outcomes[..] {
        print!("{}", outcome::table(&outcomes));
    }
    Ok(if outcomes.iter().all(|outcome| outcome.right) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the quick suites on the kernels of the matrix, and all tests on this one.
pub(crate) fn everywhere(workspace: &Workspace, filter: &[OsString]) -> Result<ExitCode> {
    interrupt::note()?;
    let mut outcomes = kernels::run(
        workspace,
        &kernels::MATRIX,
        Wanted { filter, quick: true, ..Wanted::default() },
    )?;
    if !interrupt::noted() {
        println!("xtask test: on the running kernel, {}", Kernel::running()?);
        outcomes.push(run_here(workspace, filter)?);
        Report::read(&report(workspace)).record(workspace, Kernel::running()?)?;
    }
    if interrupt::noted() {
        eprintln!("xtask: interrupted");
        return Ok(ExitCode::from(130));
    }
    print!("{}", outcome::table(&outcomes));
    Ok(if outcomes.iter().all(|outcome| outcome.right) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the tests on this kernel.
fn run_here(workspace: &Workspace, filter: &[OsString]) -> Result<Outcome> {
    let started = Instant::now();
    setup::ensure(workspace, Needs::Programs)?;
    // Before the tests that need no root: fail early if there is no way to become root.
    let prefix = privilege::prefix("the tests that need a lab")?;

    let report = report(workspace);
    remove(&report)?;
    workspace.build(Profile::Dev, &[("causeway", "causeway")])?;
    raise_open_files()?;
    let mut total = run(harness(workspace.cargo().args(["test", "--no-fail-fast"]), filter))?;
    if !interrupt::noted() {
        let causeway = workspace.binary(Profile::Dev, "causeway");
        let binary = ("CAUSEWAY_BIN", causeway.as_os_str());
        let mut tests =
            in_lab(workspace, &prefix, &[binary, ("CAUSEWAY_REPORT", report.as_os_str())]);
        total += run(harness(&mut tests, filter).arg("--test-threads=1"))?;
        // The hook of kernels before 6.6, on any kernel.
        if !interrupt::noted() {
            println!("xtask test: again with clsact instead of tcx");
            let mut tests =
                in_lab(workspace, &prefix, &[binary, ("CAUSEWAY_TC", OsStr::new("clsact"))]);
            let tests = tests.args(OLDER_HOOK.into_iter().flat_map(|name| ["--test", name]));
            total += run(harness(tests, filter).arg("--test-threads=1"))?;
        }
    }

    let kernel = Kernel::running()?;
    let reported = Report::read(&report);
    let problems = reported.check(workspace, kernel, &Build::running())?;
    for problem in &problems {
        eprintln!("xtask: {problem}");
    }
    let took = started.elapsed();
    let right = total.clean && problems.is_empty();
    let mut outcome = Outcome {
        kernel: Kernel::release()?,
        tally: total,
        skipped: reported.skips(),
        took,
        right,
    };
    let Tally { failed, ignored, of_family, .. } = total;
    println!(
        "xtask test: {} passed, {failed} failed, {ignored} ignored, {} skipped, in {:.0} s",
        outcome.passed(),
        outcome.skipped,
        took.as_secs_f32()
    );
    let [[four, six], [four_rows, six_rows]] = [of_family.map(u64::from), reported.rows()];
    println!(
        "of these for IPv4 only {four}, for IPv6 only {six}; \
         rows of packet tables: IPv4 {four_rows}, IPv6 {six_rows}"
    );
    let named = filter.iter().any(|word| !word.to_string_lossy().starts_with('-'));
    if right && named && total.passed + failed + ignored == 0 && !interrupt::noted() {
        eprintln!(
            "xtask: no test matches the filter: run without one to see the names of all tests"
        );
        outcome.right = false;
    }
    Ok(outcome)
}

/// The report of the tests on this kernel.
fn report(workspace: &Workspace) -> PathBuf {
    workspace.target_dir().join("tests-report.txt")
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Raises the soft limit of open files to the hard limit: some tests open thousands of connections.
fn raise_open_files() -> Result<()> {
    let what = "cannot raise the limit of open files";
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context(what)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context(what)
}

/// The test programs that behave differently with clsact and tcx.
const OLDER_HOOK: [&str; 3] = ["lifecycle", "packets", "smoke"];

/// The tests of the packages `causeway-tests` and `causeway-bench`, with variables set. cargo
/// builds them as the current user and starts them as root.
fn in_lab(workspace: &Workspace, prefix: &[OsString], variables: &[(&str, &OsStr)]) -> Command {
    let mut command = workspace.cargo();
    command.args([
        "test",
        "--no-fail-fast",
        "--package",
        "causeway-tests",
        "--package",
        "causeway-bench",
    ]);
    let backtrace = std::env::var_os("RUST_BACKTRACE").unwrap_or_else(|| "0".into());
    let variables = [variables, &[("RUST_BACKTRACE", &backtrace)]].concat();
    if prefix.is_empty() {
        command.envs(variables).env("PATH", privilege::path());
    } else {
        let words = prefix.iter().cloned().chain(privilege::with_variables(&variables));
        let list: Vec<String> = words.map(|word| format!("{:?}", word.to_string_lossy())).collect();
        command.arg("--config").arg(format!("target.\"cfg(unix)\".runner=[{}]", list.join(",")));
    }
    command
}

/// Adds arguments of the test harness, which takes several filters where cargo takes one.
fn harness<'a>(command: &'a mut Command, filter: &[OsString]) -> &'a mut Command {
    command.arg("--");
    if stdout().is_terminal() {
        command.arg("--color=always"); // The harness sees a pipe.
    }
    command.args(filter)
}

/// Runs one `cargo test`, forwards its output as it comes, and adds up its results.
fn run(command: &mut Command) -> Result<Tally> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let mut pipe = child.stdout.take().context("cargo test has no output")?;
    let (mut listing, mut buffer) = (Listing::shown(), [0; 8192]);
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => listing.show(&buffer[..read])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot read what cargo test prints"),
        }
    }
    if !child.wait().context("cannot wait for cargo test")?.success() {
        listing.failed();
    }
    listing.end()
}
