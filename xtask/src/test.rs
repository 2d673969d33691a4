//! `cargo xtask test`: every test there is, and their sum in one line.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, IsTerminal, Read, Write, stdout};
use std::ops::AddAssign;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::interrupt;
use crate::privilege;
use crate::setup::{self, Needs};
use crate::workspace::{Profile, Workspace};

/// Runs the tests and exits with failure if one failed, or if a filter left nothing to run.
pub(crate) fn verb(workspace: &Workspace, filter: &[OsString]) -> Result<ExitCode> {
    let started = Instant::now();
    setup::ensure(workspace, Needs::Programs)?;
    // Now, and not after the tests that need no root: a run that cannot be whole is not begun.
    let prefix = privilege::prefix("the tests that need a lab")?;
    interrupt::note()?;

    workspace.build(Profile::Dev, &[("causeway", "causeway")])?;
    let mut total = run(harness(workspace.cargo().args(["test", "--no-fail-fast"]), filter))?;
    if !interrupt::noted() {
        let causeway = workspace.binary(Profile::Dev, "causeway");
        let binary = ("CAUSEWAY_BIN", causeway.as_os_str());
        let mut tests = in_lab(workspace, &prefix, &[binary]);
        total += run(harness(&mut tests, filter).arg("--test-threads=1"))?;
        // Once more for the hook of kernels before 6.6, on any kernel.
        if !interrupt::noted() {
            println!("xtask test: again with clsact instead of tcx");
            let mut tests = in_lab(workspace, &prefix, &[binary, ("CAUSEWAY_TC", OsStr::new("clsact"))]);
            let tests = tests.args(OLDER_HOOK.into_iter().flat_map(|name| ["--test", name]));
            total += run(harness(tests, filter).arg("--test-threads=1"))?;
        }
    }

    let Tally { passed, failed, ignored, clean } = total;
    println!(
        "xtask test: {passed} passed, {failed} failed, {ignored} ignored, in {:.0} s",
        started.elapsed().as_secs_f32()
    );
    if interrupt::noted() {
        eprintln!("xtask: interrupted");
        return Ok(ExitCode::from(130));
    }
    let named = filter.iter().any(|word| !word.to_string_lossy().starts_with('-'));
    if clean && named && passed + failed + ignored == 0 {
        eprintln!("xtask: no test is called anything like that: leave out the filter to see their names");
        return Ok(ExitCode::FAILURE);
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tests that tell one way to attach tc programs from the other.
const OLDER_HOOK: [&str; 3] = ["articles", "lifecycle", "packets"];

/// The tests of package `causeway-tests`, with variables set. cargo builds them as whoever runs this and starts them as root.
fn in_lab(workspace: &Workspace, prefix: &[OsString], variables: &[(&str, &OsStr)]) -> Command {
    let mut command = workspace.cargo();
    command.args(["test", "--no-fail-fast", "--package", "causeway-tests"]);
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

/// Adds what goes to the test harness. It takes several filters, cargo itself only one.
fn harness<'a>(command: &'a mut Command, filter: &[OsString]) -> &'a mut Command {
    command.arg("--");
    if stdout().is_terminal() {
        command.arg("--color=always"); // it sees a pipe
    }
    command.args(filter)
}

/// Runs one `cargo test`, passes its output on as it comes, and adds up its results.
fn run(command: &mut Command) -> Result<Tally> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let mut pipe = child.stdout.take().context("cargo test has no output")?;
    // A person sees the name of a test while it runs. A log gets whole lines, which cargo's own cannot split.
    let whole_lines = !stdout().is_terminal();
    let (mut total, mut line, mut buffer) = (Tally::default(), Vec::new(), [0; 8192]);
    loop {
        let read = match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("cannot read what cargo test prints"),
        };
        if !whole_lines {
            print(&buffer[..read])?;
        }
        for byte in &buffer[..read] {
            line.push(*byte);
            if *byte == b'\n' {
                if whole_lines {
                    print(&line)?;
                }
                total += Tally::of(&String::from_utf8_lossy(&line)).unwrap_or_default();
                line.clear();
            }
        }
    }
    if whole_lines {
        print(&line)?;
    }
    total.clean = child.wait().context("cannot wait for cargo test")?.success();
    Ok(total)
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("cannot print the tests' output")
}

/// What a test harness reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tally {
    passed: u32,
    failed: u32,
    ignored: u32,
    /// Whether everything was built, run and passed.
    clean: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Self { passed: 0, failed: 0, ignored: 0, clean: true }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.clean &= other.clean;
    }
}

impl Tally {
    /// Reads a line `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; any other line is none.
    fn of(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |word: &str| {
            counts.split("; ").find_map(|part| part.strip_suffix(word)?.trim().parse::<u32>().ok()).unwrap_or(0)
        };
        let (passed, failed, ignored) = (count("passed"), count("failed"), count("ignored"));
        Some(Self { passed, failed, ignored, clean: failed == 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn a_result_line_is_counted() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.01s";
        assert_eq!(Tally::of(line), Some(Tally { passed: 3, failed: 2, ignored: 1, clean: false }));
    }

    #[test]
    fn colours_around_the_verdict_do_not_matter() {
        let line = "test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 12 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(Tally::of(line), Some(Tally { passed: 12, failed: 0, ignored: 0, clean: true }));
    }

    #[test]
    fn other_lines_are_not_results() {
        assert_eq!(Tally::of("test lab::ping ... ok"), None);
    }
}
