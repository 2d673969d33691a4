//! `up`: the process that runs the agent.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use causeway_api as api;
use causeway_api::{Error, Removed, Reply, error::command};
use causeway_netlink::{Netns, netns};
use nix::unistd::geteuid;
use tokio::{
    runtime::{self, Runtime},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time,
};

use crate::cli::messages::say;
use crate::{
    cli::args::Up,
    config_file::Config,
    control::{self, Agent, End, Start},
    instance::{Instance, Lock},
    server::Server,
    state::State,
};

/// The requests that are queued while one is answered; more wait in their sockets.
const WAITING: usize = 64;

/// How long clients may take to read their replies before the process ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs the agent until SIGTERM, SIGINT or `down`.
pub fn up(options: &Up, instance: &Instance) -> anyhow::Result<()> {
    let run = || {
        let start = prepare(options, instance)?;
        let Some(lock) = instance.lock()? else {
            let name = instance.name();
            bail!(
                Error::already_exists(format!("an agent of instance '{name}' is running already"))
                    .hint("end it with SIGTERM to start it anew, or give another --instance")
            );
        };
        runtime()?.block_on(serve(start, lock))
    };
    run().context("up")
}

/// The changes that an agent would make. Touches nothing.
pub fn check(options: &Up, instance: &Instance) -> anyhow::Result<Vec<api::Change>> {
    let run = || {
        let start = prepare(options, instance)?;
        runtime()?.block_on(control::check(start))
    };
    run().context("up --check")
}

/// What the agent starts from. The calling thread, and all that come later, are in the host then.
fn prepare(options: &Up, instance: &Instance) -> anyhow::Result<Start> {
    ensure!(
        geteuid().is_root(),
        Error::permission("the agent needs root to make interfaces and load programs")
            .hint("run it as root, for example with sudo")
    );
    refuse_private_sysfs()?;
    let config = options.config_file().map(Config::load).transpose()?;
    // While the process has one thread: later threads inherit the namespace.
    let (netns, netns_path) = enter_host(options.netns.as_deref())?;
    Ok(Start {
        instance: instance.clone(),
        netns,
        netns_path,
        uplinks: options.uplinks.clone(),
        allow_bind: options.allow_bind,
        xdp: options.xdp,
        device: options.device,
        config,
    })
}

/// The agent runs on the thread that it blocks, where it may block; the worker serves sockets.
fn runtime() -> anyhow::Result<Runtime> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.context("cannot start the runtime")
}

async fn serve(start: Start, lock: Lock) -> anyhow::Result<()> {
    let instance = start.instance.clone();
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut agent = match Box::pin(Agent::start(start)).await {
        Ok(agent) => agent,
        Err(error) => {
            if State::load(&instance.state()).is_ok_and(|state| state.is_none()) {
                lock.remove();
            }
            return Err(error);
        }
    };
    let server = Server::bind(&instance)?;
    let (sender, mut requests) = mpsc::channel(WAITING);
    let serving = tokio::spawn(server.serve(sender));
    say_ready();

    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let end = agent.run(&mut requests, stop).await;
    serving.abort();
    // Its file is gone when it has ended.
    let _ = serving.await;
    match end {
        End::Stopped => {
            say(&format!(
                "the agent ends; networks, containers and flows stay, and {} removes them",
                command(&["down"], instance.name())
            ));
            Ok(())
        }
        End::Down(answer) => {
            let (removed, errors) = Box::pin(agent.remove()).await;
            if errors.is_empty() {
                lock.remove();
            }
            let _ = answer.send(down_reply(&removed, &errors, instance.name())?);
            // Ends with the last connection. Requests after `down` are dropped, which is answered
            // as "the agent is ending".
            let answered = async { while requests.recv().await.is_some() {} };
            let _ = time::timeout(FAREWELL, answered).await;
            match left_over(&errors) {
                Some(error) => Err(error.into()),
                None => Ok(()),
            }
        }
    }
}

fn down_reply(
    removed: &Removed,
    errors: &[anyhow::Error],
    instance: &str,
) -> anyhow::Result<Reply> {
    Ok(match left_over(errors) {
        Some(error) => Reply::Failed(error.to_failure(instance)),
        None => Reply::Done(serde_json::to_value(removed)?),
    })
}

/// The error of a removal that left something; none if nothing failed.
pub(super) fn left_over(errors: &[anyhow::Error]) -> Option<Error> {
    if errors.is_empty() {
        return None;
    }
    let error = Error::all(errors);
    Some(error.context("not everything could be removed").hint("try again with").run(["down"]))
}

fn say_ready() {
    let mut stdout = io::stdout().lock();
    // A closed stdout does not keep the agent from serving.
    let _ = writeln!(stdout, "ready").and_then(|()| stdout.flush());
}

/// Enters the host's namespace. Returns it with the path where other processes find it.
fn enter_host(wanted: Option<&Path>) -> anyhow::Result<(Netns, PathBuf)> {
    if let Some(path) = wanted {
        let netns = Netns::open(path)?;
        netns.enter()?;
        return Ok((netns, path.to_owned()));
    }
    let netns = Netns::current()?;
    let path = lasting_path(&netns)?;
    Ok((netns, path))
}

/// A path of the namespace that outlives this process, if one exists.
fn lasting_path(netns: &Netns) -> anyhow::Result<PathBuf> {
    let id = netns.id()?;
    let named =
        fs::read_dir(netns::FOLDER).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut candidates = std::iter::once(PathBuf::from("/proc/1/ns/net")).chain(named);
    let is_it = |path: &PathBuf| {
        Netns::open(path).and_then(|other| other.id()).is_ok_and(|other| other == id)
    };
    Ok(candidates.find(is_it).unwrap_or_else(|| netns.path().to_owned()))
}

fn refuse_private_sysfs() -> anyhow::Result<()> {
    let Some(source) = private_sysfs() else { return Ok(()) };
    bail!(
        Error::unsupported(format!(
            "this is inside 'ip netns exec {source}', where /sys is private: pins would be lost"
        ))
        .hint("outside of it, use")
        .run(["up", "--netns", source.as_str()])
    )
}

/// The namespace's name if this process runs inside `ip netns exec`. That mounts a fresh `/sys`
/// over bpffs and cgroup2 in a mount namespace of its own: pins there end with the process, and
/// mounts there are invisible to other processes.
pub(crate) fn private_sysfs() -> Option<String> {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    if namespace("self").is_some() && namespace("self") == namespace("1") {
        return None;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let source = sysfs_source(&mounts)?;
    netns::named(source).exists().then(|| source.to_owned())
}

/// The source of the last mount on `/sys`, if it is a sysfs: `ip netns exec` sets it to the
/// namespace's name.
fn sysfs_source(mountinfo: &str) -> Option<&str> {
    let last = mountinfo.lines().rev().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        (mount.split(' ').nth(4)? == "/sys").then_some(system)
    })?;
    let mut words = last.split(' ');
    (words.next()? == "sysfs").then(|| words.next())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysfs_source_is_the_namespace_name() {
        let usual = "22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
                     30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(sysfs_source(usual), Some("sysfs"));
        let inside = format!("{usual}99 28 0:77 / /sys rw,relatime - sysfs lab rw\n");
        assert_eq!(sysfs_source(&inside), Some("lab"));
        assert_eq!(sysfs_source("22 28 0:21 / /sys rw - tmpfs lab rw\n"), None);
        assert_eq!(sysfs_source("nonsense\n"), None);
    }
}
