//! The program under test, and its runs.

use std::{
    env,
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::wait::DEADLINE;

/// The result of a run of `causeway`.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit status. `None` after a signal.
    pub status: Option<i32>,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
    command: String,
}

impl Output {
    /// Returns itself if the run succeeded, and fails the test otherwise.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, Some(0), "{self}");
        self
    }

    /// Its stdout, parsed as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in what it printed\n{self}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\nstatus {:?}\nstdout: {}\nstderr: {}",
            self.command, self.status, self.stdout, self.stderr
        )
    }
}

/// The path of the program: `$CAUSEWAY_BIN`, or the one in cargo's target folder.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("CAUSEWAY_BIN") {
        let path = std::path::absolute(path).expect("the working folder has a path");
        assert!(path.is_file(), "CAUSEWAY_BIN names {}, which is no file", path.display());
        return path;
    }
    let exe = env::current_exe().expect("a running program has a path");
    let beside = exe
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("causeway"))
        .find(|path| path.is_file());
    beside.expect("there is no causeway beside the tests: run 'cargo xtask test', or build it and set CAUSEWAY_BIN")
}

/// Runs `causeway ARGUMENTS --instance INSTANCE`. Words after `--` stay last.
#[track_caller]
pub fn run(instance: &str, arguments: &[&str]) -> Output {
    run_command(&mut command(&binary(), instance, arguments))
        .unwrap_or_else(|error| panic!("{error:#}"))
}

/// The command of [`run`] with the program at `binary`.
pub fn command(binary: &Path, instance: &str, arguments: &[&str]) -> Command {
    let own = arguments.iter().position(|argument| *argument == "--").unwrap_or(arguments.len());
    let mut command = Command::new(binary);
    command.args(&arguments[..own]).args(["--instance", instance]).args(&arguments[own..]);
    command
}

/// Runs a command, and kills it after [`DEADLINE`].
pub fn run_command(command: &mut Command) -> anyhow::Result<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let text = describe(command);
    let child = child.with_context(|| format!("cannot start {text}"))?;
    let pid = Pid::from_raw(child.id().try_into()?);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(DEADLINE) else {
        // The process has not been reaped, so that the process ID is still valid.
        let _ = kill(pid, Signal::SIGKILL);
        bail!("{text} did not end within {DEADLINE:?}");
    };
    let output = output.with_context(|| format!("cannot read what {text} prints"))?;
    Ok(Output {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        command: text,
    })
}

fn describe(command: &Command) -> String {
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    format!("causeway {}", words.join(" "))
}
