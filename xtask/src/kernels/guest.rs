//! The first process of the virtual machine: mounts file systems, loads modules, runs the test
//! programs one after the other, and powers the machine off.
//!
//! The output of the tests goes to a serial line unchanged. Between it are lines of this process,
//! each starting with [`MARK`].

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::resource::{Resource, setrlimit};

use super::suite::Suite;

/// Paths in the archive.
pub(crate) const INIT: &str = "/init";
pub(crate) const CAUSEWAY: &str = "/causeway";
pub(crate) const TESTS: &str = "/tests";
pub(crate) const PROGRAMS: &str = "/bin";
pub(crate) const MODULES: &str = "/modules";
pub(crate) const ORDER: &str = "/modules/order";
pub(crate) const ARGUMENTS: &str = "/arguments";
pub(crate) const MOUNT_POINTS: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/// Starts a line of the first process: the record separator of ASCII, which no test prints.
pub(crate) const MARK: char = '\u{1e}';

/// The serial line of the results. Kernel messages take the first one.
const RESULTS: &str = "/dev/ttyS1";
const OPEN_FILES: u64 = 1 << 19;
const REPORT: &str = "/tmp/report";
/// The variable that tells tests to repeat less, because the processor is emulated.
pub(crate) const EMULATED: &str = "CAUSEWAY_EMULATED";

/// A line of the first process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The machine is up; the kernel's release.
    Here(String),
    /// This test program starts.
    Begin(String),
    /// A line of the report (`results/report.rs`).
    Report(String),
    /// This test program has ended; whether it passed.
    End(String, bool),
    /// An error outside of the tests.
    Problem(String),
    /// The last line.
    Done,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(release) => write!(f, "here {release}"),
            Self::Begin(name) => write!(f, "begin {name}"),
            Self::Report(line) => write!(f, "report {line}"),
            Self::End(name, true) => write!(f, "passed {name}"),
            Self::End(name, false) => write!(f, "failed {name}"),
            Self::Problem(text) => write!(f, "problem {text}"),
            Self::Done => f.write_str("done "),
        }
    }
}

impl Line {
    /// Parses what follows the mark.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(' ')?;
        let rest = rest.to_owned();
        Some(match kind {
            "here" => Self::Here(rest),
            "begin" => Self::Begin(rest),
            "report" => Self::Report(rest),
            "passed" => Self::End(rest, true),
            "failed" => Self::End(rest, false),
            "problem" => Self::Problem(rest),
            "done" => Self::Done,
            _ => return None,
        })
    }
}

/// The tests to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The test programs.
    pub(crate) suites: Vec<Suite>,
    /// Arguments of each.
    pub(crate) harness: Vec<String>,
}

impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.suites.iter().try_for_each(|suite| writeln!(f, "suite {suite}"))?;
        self.harness.iter().try_for_each(|word| writeln!(f, "harness {word}"))
    }
}

impl Arguments {
    fn parse(text: &str) -> Self {
        let of = |kind: &str| -> Vec<String> {
            let rest = |line: &str| Some(line.strip_prefix(kind)?.strip_prefix(' ')?.to_owned());
            text.lines().filter_map(rest).collect()
        };
        Self {
            suites: of("suite").iter().map(|text| Suite::parse(text)).collect(),
            harness: of("harness"),
        }
    }
}

/// Whether this process is the first one of the virtual machine.
pub(crate) fn is_this() -> bool {
    std::process::id() == 1 && std::env::args_os().next().is_some_and(|name| name == INIT)
}

/// Runs the tests and powers off. The kernel panics if the first process ends.
pub(crate) fn run_all() -> ExitCode {
    if let Err(error) = run() {
        eprintln!("xtask: {error:#}");
        if let Ok(mut results) = results() {
            // If this fails too, the host shows the console, which has the error above.
            let _ = say(&mut results, &Line::Problem(format!("{error:#}")));
        }
    }
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    eprintln!("xtask: cannot power the machine off: {error}");
    ExitCode::FAILURE
}

fn run() -> Result<()> {
    for (kind, place) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
    ] {
        mount_on(kind, place)?;
    }
    mount_on("cgroup2", "/sys/fs/cgroup")?;
    let mut results = results()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("cannot read the kernel's release")?;
    say(&mut results, &Line::Here(release.trim().to_owned()))?;
    load_modules()?;
    // The limit of a distribution's services; some tests open thousands of connections.
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)
        .context("cannot raise the limit of open files")?;
    let arguments =
        fs::read_to_string(ARGUMENTS).with_context(|| format!("cannot read {ARGUMENTS}"))?;
    let Arguments { suites, harness } = Arguments::parse(&arguments);
    for suite in suites {
        say(&mut results, &Line::Begin(suite.to_string()))?;
        let status = test(&suite, &harness, &results)?;
        for line in fs::read_to_string(REPORT).unwrap_or_default().lines() {
            say(&mut results, &Line::Report(line.to_owned()))?;
        }
        // It does not exist if the test program had nothing to report.
        let _ = fs::remove_file(REPORT);
        say(&mut results, &Line::End(suite.to_string(), status))?;
    }
    say(&mut results, &Line::Done)
}

fn test(suite: &Suite, harness: &[String], results: &File) -> Result<bool> {
    let program = Path::new(TESTS).join(&suite.program);
    let output = || results.try_clone().context("cannot share the serial line with a test program");
    let status = Command::new(&program)
        .args(harness)
        .env_clear()
        .env("PATH", PROGRAMS)
        .env("TERM", "linux")
        .env("CAUSEWAY_BIN", CAUSEWAY)
        .env("CAUSEWAY_REPORT", REPORT)
        .env("CAUSEWAY_LAB_DEVICE", &suite.device)
        // From the kernel's command line.
        .envs(std::env::var_os(EMULATED).map(|is| (EMULATED, is)))
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output()?)
        .stderr(output()?)
        .status();
    Ok(status.with_context(|| format!("cannot run {}", program.display()))?.success())
}

fn load_modules() -> Result<()> {
    for path in fs::read_to_string(ORDER).with_context(|| format!("cannot read {ORDER}"))?.lines() {
        let module = fs::read(path).with_context(|| format!("cannot read {path}"))?;
        nix::kmod::init_module(&module, c"").with_context(|| format!("cannot load {path}"))?;
    }
    Ok(())
}

fn mount_on(kind: &str, place: &str) -> Result<()> {
    mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount {kind} on {place}"))
}

fn results() -> Result<File> {
    OpenOptions::new().write(true).open(RESULTS).with_context(|| format!("cannot open {RESULTS}"))
}

fn say(results: &mut File, line: &Line) -> Result<()> {
    // One write, so that no output of a test splits the line.
    results
        .write_all(format!("{MARK}{line}\n").as_bytes())
        .with_context(|| format!("cannot write to {RESULTS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip() {
        let lines = [
            Line::Here("6.1.0-56-cloud-amd64".into()),
            Line::Begin("load".into()),
            Line::Report("instructions from_uplink 1".into()),
            Line::End("load".into(), true),
            Line::End("load".into(), false),
            Line::Problem("cannot mount".into()),
            Line::Done,
        ];
        for line in lines {
            assert_eq!(Line::parse(&line.to_string()), Some(line));
        }
        assert_eq!(Line::parse("something else"), None);
    }

    #[test]
    fn arguments_round_trip() {
        let suites = vec![Suite::parse("load"), Suite::parse("packets with netkit")];
        let arguments = Arguments { suites, harness: vec!["--exact".into(), "a name".into()] };
        assert_eq!(Arguments::parse(&arguments.to_string()), arguments);
    }
}
