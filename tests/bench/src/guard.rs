//! Cleans up however the benchmark ends: a second process does the work, and the first one cleans
//! up after it.
//!
//! On Ctrl-C and SIGTERM the worker cleans up and ends. If the worker is killed, the first process
//! cleans up. If the first process is killed, the kernel sends the worker SIGTERM.

use std::{
    env,
    fs::File,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    thread,
};

use anyhow::Context as _;
use causeway_tests::undo;
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{conntrack::Room, rig};

/// Locked while a benchmark runs.
const LOCK: &str = "/run/causeway-bench.lock";

/// The variable that marks the worker.
const WORKER: &str = "CAUSEWAY_BENCH_WORKER";

/// Whether this process is the worker.
pub fn is_worker() -> bool {
    env::var_os(WORKER).is_some()
}

/// Runs this program as the worker, and returns its exit status.
pub fn guard() -> anyhow::Result<ExitCode> {
    // Held until this process ends.
    let lock = File::create(LOCK).with_context(|| format!("cannot create {LOCK}"))?;
    lock.try_lock().with_context(|| {
        format!(
            "another benchmark runs on this machine ({LOCK} is locked), and they would \
                 disturb each other: wait until it has ended"
        )
    })?;
    let room = Room::found();
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).env(WORKER, "1");
    // SAFETY: prctl is a plain system call; nothing is allocated and no lock is taken between fork
    // and exec.
    unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?)) };
    let mut worker = command.spawn().context("cannot start this program again")?;
    let pid = Pid::from_raw(worker.id().try_into()?);
    // The worker may have received Ctrl-C too, or may have ended.
    on_signal(move || {
        let _ = kill(pid, Signal::SIGTERM);
    })?;
    let status = worker.wait().context("cannot wait for the measuring process")?;
    undo::sweep();
    room.restore();
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Makes signals clean up and end the worker.
pub fn undo_on_signal() -> anyhow::Result<()> {
    let room = Room::found();
    on_signal(move || {
        eprintln!("bench: interrupted, removing what was made");
        for problem in rig::undo_all() {
            eprintln!("bench: {problem}");
        }
        room.restore();
        std::process::exit(130);
    })
}

fn on_signal(mut then: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _entered = runtime.enter();
        [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]
    };
    thread::spawn(move || {
        loop {
            let [interrupt, terminate, hangup] = &mut signals;
            runtime.block_on(async {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
            });
            then();
        }
    });
    Ok(())
}
