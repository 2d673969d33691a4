//! `down`: asks the agent to remove everything. Without a running agent it removes what an earlier
//! one left.

use std::{fs, io};

use anyhow::{Context as _, bail, ensure};
use causeway_api::{
    Error, Removed, Request,
    client::{self, AskError},
};
use causeway_netlink::{Netlink, Netns};
use nix::unistd::geteuid;

use crate::cli::messages::say;
use crate::{
    cli::commands::up::{left_over, private_sysfs},
    control::teardown::{Handles, remove_instance},
    datapath::Datapath,
    instance::{Instance, Lock},
    state::{HostState, State},
};

/// Removes everything the instance has.
pub fn down(instance: &Instance) -> anyhow::Result<Removed> {
    match client::try_ask(instance.name(), &Request::Down) {
        Ok(removed) => Ok(removed),
        Err(AskError::Client(error) | AskError::Agent(error)) => Err(error.into()),
        Err(AskError::NoAgent) => remove_left(instance),
    }
    .context("down")
}

fn remove_left(instance: &Instance) -> anyhow::Result<Removed> {
    // Before the search, which shows root alone everything.
    ensure!(
        geteuid().is_root(),
        Error::permission("it needs root").hint("run it as root, for example with sudo")
    );
    let anything =
        instance.state().exists() || instance.has_lock_file() || !instance.traces().is_empty();
    ensure!(
        anything,
        Error::not_found(format!(
            "no agent of instance '{}' is running, and nothing is left by one",
            instance.name()
        ))
    );
    if let Some(source) = private_sysfs() {
        // The pins are hidden here: all but them would be removed.
        bail!(
            Error::unsupported(format!(
                "no agent is running, and this is inside 'ip netns exec {source}', which hides \
                 what it left"
            ))
            .hint("outside of it, use")
            .run(["down"])
        );
    }
    let Some(lock) = instance.lock()? else {
        bail!(
            Error::in_use(format!(
                "an agent of instance '{}' is just starting or ending",
                instance.name()
            ))
            .hint("try again")
        );
    };
    let Some(state) = State::load(&instance.state())? else {
        return remove_traces(instance, lock);
    };
    let host = find_host(&state.host)?;
    if let Some(netns) = &host {
        // While the process has one thread: later threads inherit the namespace.
        netns.enter()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let (removed, errors) = runtime.block_on(async {
        let handles = match host {
            Some(netns) => Some(Handles { netlink: Netlink::open(&netns).await?, netns }),
            None => None,
        };
        anyhow::Ok(remove_instance(instance, &state, handles.as_ref(), false).await)
    })?;
    if let Some(error) = left_over(&errors) {
        return Err(error.into());
    }
    // A socket that is there belongs to a dead agent.
    let _ = fs::remove_file(instance.socket());
    lock.remove();
    Ok(removed)
}

/// Removes what is known without a state file, and tells how to remove the rest.
fn remove_traces(instance: &Instance, lock: Lock) -> anyhow::Result<Removed> {
    let files = instance.traces();
    if files.is_empty() {
        let lock_file = lock.path().to_owned();
        lock.remove();
        return Ok(Removed {
            networks: Vec::new(),
            containers: Vec::new(),
            files: vec![lock_file],
        });
    }
    // Filters on uplinks are reachable only if the host is this namespace.
    Datapath::remove(instance.name())?;
    for file in files.iter().filter(|file| **file != instance.pins()) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                bail!(
                    Error::os(error)
                        .context(format!("cannot remove {}", file.display()))
                        .hint("try again")
                )
            }
            _ => {}
        }
    }
    lock.remove();
    say(&format!(
        "the state file of instance '{}' was gone, so bridges (cwN), host sides (cwvXXXXXXXX), \
         namespaces in /run/netns and ip_forward may be left; if 'ip link' shows links that no \
         other instance has, remove them with 'ip link del NAME'",
        instance.name()
    ));
    Ok(Removed { networks: Vec::new(), containers: Vec::new(), files })
}

/// The host's namespace; none if it has ended, even if its path leads to another.
fn find_host(host: &HostState) -> anyhow::Result<Option<Netns>> {
    let here = Netns::current()?;
    if here.cookie()? == host.cookie {
        return Ok(Some(here));
    }
    match Netns::open(&host.netns) {
        Ok(netns) if netns.cookie()? == host.cookie => Ok(Some(netns)),
        _ => Ok(None),
    }
}
