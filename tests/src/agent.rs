//! The agent's process.

use std::{
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use crate::{undo, verb, wait::DEADLINE};

/// Names the device (`veth` or `netkit`) that an agent of a lab uses unless the test names one.
const DEVICE: &str = "CAUSEWAY_LAB_DEVICE";

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts `causeway up ARGUMENTS` with the program at `program`, and returns when it is ready.
    /// An error carries the last line of its log. Unless `keep` is set, the agent is killed when
    /// the calling thread ends.
    pub fn start(
        program: &Path,
        instance: &str,
        arguments: &[&str],
        keep: bool,
    ) -> anyhow::Result<Self> {
        let log = undo::folder(instance).join("agent.log");
        let file = File::options().create(true).append(true).open(&log);
        let device = env::var(DEVICE).ok().filter(|_| !arguments.contains(&"--device"));
        let device: Vec<&str> = device.iter().flat_map(|device| ["--device", device]).collect();
        let mut command = verb::command(program, instance, &[&["up"], arguments, &device].concat());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file.with_context(|| format!("cannot write {}", log.display()))?)
            // Ctrl-C must reach the lab only, which ends the agent in the right order.
            .process_group(0);
        if !keep {
            // SAFETY: prctl is a plain system call; nothing is allocated and no lock is taken
            // between fork and exec.
            unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)) };
        }
        let mut child = command.spawn().context("cannot start causeway up")?;
        let stdout = child.stdout.take().context("its stdout is a pipe")?;
        let mut agent = Self { child, log };
        if let Err(error) = agent.wait_ready(stdout) {
            agent.kill();
            let log = fs::read_to_string(&agent.log).unwrap_or_default();
            return Err(match log.lines().last() {
                Some(last) => error.context(last.to_owned()),
                None => error,
            });
        }
        Ok(agent)
    }

    /// The process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        // Fails only if the process has already been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it with SIGTERM and checks that it exits successfully.
    pub fn end(&mut self) {
        let pid = Pid::from_raw(self.pid().try_into().expect("a pid fits its own type"));
        kill(pid, Signal::SIGTERM).expect("the process has not been reaped");
        assert!(
            self.wait().is_some_and(|status| status.success()),
            "the agent failed after SIGTERM; {}",
            self.log()
        );
    }

    /// Waits until it ends by itself. `None` after [`DEADLINE`].
    pub fn wait(&mut self) -> Option<ExitStatus> {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().ok()? {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// The log on stderr, of this agent and of earlier ones of the instance.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_else(|error| error.to_string());
        format!("the agent's log:\n{text}")
    }

    fn wait_ready(&mut self, stdout: ChildStdout) -> anyhow::Result<()> {
        let (sender, receiver) = mpsc::channel();
        // Keeps reading after `ready`, so that the agent never blocks on a full pipe.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The receiver is dropped once `ready` has been seen.
                let _ = sender.send(line);
            }
        });
        let end = Instant::now() + DEADLINE;
        loop {
            match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line == "ready" => return Ok(()),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    bail!("the agent did not say 'ready' within {DEADLINE:?}")
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!("the agent ended ({status}) before it was ready")
                }
            }
        }
    }
}
