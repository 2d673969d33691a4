//! Progress of set-up: a live line for each step on a terminal, two plain lines in a log.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};

use crate::recipe;

const TICK: Duration = Duration::from_millis(100);

/// The steps of one set-up, and the log of their commands.
pub(crate) struct Steps {
    log: PathBuf,
}

impl Steps {
    /// Starts a new log at `log`.
    pub(crate) fn new(log: PathBuf) -> Result<Self> {
        File::create(&log).with_context(|| format!("cannot write the log {}", log.display()))?;
        Ok(Self { log })
    }

    /// Runs one command as a step called `name`, with its output in the log. The error has the line
    /// of the output that tells why it failed, and the path of the log.
    pub(crate) fn run(&self, name: &str, command: &mut Command) -> Result<()> {
        let mut log = OpenOptions::new()
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot write the log {}", self.log.display()))?;
        writeln!(log, "\n$ {command:?}").context("cannot write the log")?;
        let begin = log.seek(SeekFrom::End(0)).context("cannot seek in the log")?;
        let program = Path::new(command.get_program()).display().to_string();
        let output = |log: &File| log.try_clone().context("cannot share the log with a command");
        command.stdin(Stdio::null()).stdout(output(&log)?).stderr(output(&log)?);

        let line = Line::start(name);
        let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
        let status = loop {
            if let Some(status) =
                child.try_wait().with_context(|| format!("cannot wait for {program}"))?
            {
                break status;
            }
            line.say(self.tail(begin).lines().next_back().unwrap_or_default());
            sleep(TICK);
        };
        line.end(status.success());
        if status.success() {
            return Ok(());
        }
        Err(anyhow!(
            "{}; the whole output is in {}",
            recipe::reason(&self.tail(begin)),
            self.log.display()
        ))
    }

    /// The log from byte `begin`, or its last 16 KiB.
    fn tail(&self, begin: u64) -> String {
        const ENOUGH: u64 = 16 * 1024;
        let read = || -> std::io::Result<Vec<u8>> {
            let mut log = File::open(&self.log)?;
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(begin.max(length.saturating_sub(ENOUGH))))?;
            let mut bytes = Vec::new();
            log.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }
}

struct Line {
    name: String,
    bar: ProgressBar,
    started: Instant,
}

impl Line {
    fn start(name: &str) -> Self {
        // Draws on stderr if that is a terminal.
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template(
            "{spinner:.cyan} {prefix} {elapsed:.dim}  {wide_msg:.dim}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(name.to_string());
        bar.enable_steady_tick(TICK);
        if bar.is_hidden() {
            eprintln!("setup: {name} ...");
        }
        Self { name: name.to_string(), bar, started: Instant::now() }
    }

    fn say(&self, message: &str) {
        self.bar.set_message(message.trim().to_string());
    }

    fn end(self, success: bool) {
        self.bar.finish_and_clear();
        let outcome = if success { "done in" } else { "failed after" };
        eprintln!("setup: {} {outcome} {:.1} s", self.name, self.started.elapsed().as_secs_f32());
    }
}
