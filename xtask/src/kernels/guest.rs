//! The first process of the virtual machine: mounts, loads the modules, runs the test programs one
//! after the other, and switches the machine off. What the tests print goes to one serial line as
//! it is; between it stand lines of its own, each begun by [`MARK`].

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

/// Where things are in the archive.
pub(crate) const INIT: &str = "/init";
pub(crate) const CAUSEWAY: &str = "/causeway";
pub(crate) const TESTS: &str = "/tests";
pub(crate) const PROGRAMS: &str = "/bin";
pub(crate) const MODULES: &str = "/modules";
pub(crate) const ORDER: &str = "/modules/order";
pub(crate) const ARGUMENTS: &str = "/arguments";
pub(crate) const MOUNT_POINTS: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/// What begins a line that no test has written: the record separator of ASCII.
pub(crate) const MARK: char = '\u{1e}';

/// The serial line of the results. The kernel's own messages take the first one.
const RESULTS: &str = "/dev/ttyS1";
const OPEN_FILES: u64 = 1 << 19;
const REPORT: &str = "/tmp/report";
/// Says that all takes longer: tests do less of what they do often.
pub(crate) const EMULATED: &str = "CAUSEWAY_EMULATED";

/// A line of the first process's own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It runs; the kernel's release.
    Here(String),
    /// What follows is of that test program.
    Begin(String),
    /// A line for the report (`report.rs`).
    Report(String),
    /// That test program has ended, well or not.
    End(String, bool),
    /// Something went wrong that is no test's.
    Problem(String),
    /// There is nothing more to come.
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
    /// Reads what follows the mark.
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

/// What it is to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The test programs.
    pub(crate) suites: Vec<Suite>,
    /// What each is given.
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

/// Whether this process is the first one of such a machine.
pub(crate) fn is_this() -> bool {
    std::process::id() == 1 && std::env::args_os().next().is_some_and(|name| name == INIT)
}

/// Does it all, and does not come back: when the first process ends the kernel panics.
pub(crate) fn run_all() -> ExitCode {
    if let Err(error) = run() {
        eprintln!("xtask: {error:#}");
        if let Ok(mut results) = results() {
            // Without it the host shows the console's last lines, where the same stands.
            let _ = say(&mut results, &Line::Problem(format!("{error:#}")));
        }
    }
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    eprintln!("xtask: cannot switch the machine off: {error}");
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
    // As services of a distribution have it; the kernel's own default is for nobody who has
    // thousands of connections.
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
        // A test program with nothing to report has not made it.
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
        // Of the kernel's command line.
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
    // One write, so that no test's line comes between.
    results
        .write_all(format!("{MARK}{line}\n").as_bytes())
        .with_context(|| format!("cannot write to {RESULTS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let lines = [
            Line::Here("6.1.0-56-cloud-amd64".into()),
            Line::Begin("load".into()),
            Line::Report("instructions uplink 1".into()),
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
    fn arguments_are_read_as_they_were_written() {
        let suites = vec![Suite::parse("load"), Suite::parse("packets with netkit")];
        let arguments = Arguments { suites, harness: vec!["--exact".into(), "a name".into()] };
        assert_eq!(Arguments::parse(&arguments.to_string()), arguments);
    }
}
