//! `down`: asks the agent to remove everything, and does it itself when none is running but one
//! left something.

use std::{fs, io};

use anyhow::{Context as _, bail, ensure};
use causeway_api::{
    Removed, Request,
    client::{self, AskError},
    messages,
};
use causeway_netlink::{Netlink, Netns};
use nix::unistd::geteuid;

use crate::cli::messages::say;
use crate::{
    cli::commands::up::private_sysfs,
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
    let nothing = || {
        format!("no agent of instance '{}' is running, and nothing is left by one", instance.name())
    };
    // Before the search, since others do not see all there is.
    ensure!(geteuid().is_root(), "it needs root; run it as root, for example with sudo");
    let anything =
        instance.state().exists() || instance.has_lock_file() || !instance.traces().is_empty();
    ensure!(anything, nothing());
    if let Some(source) = private_sysfs() {
        // The pins are not in sight here: the rest would go, and they would stay.
        bail!(
            "no agent is running, and this is inside 'ip netns exec {source}', where what it left is hidden; use 'causeway down' outside of that"
        );
    }
    let Some(lock) = instance.lock()? else {
        bail!("an agent of instance '{}' is just starting or ending; try again", instance.name());
    };
    let Some(state) = State::load(&instance.state())? else {
        return remove_traces(instance, lock);
    };
    let host = find_host(&state.host)?;
    if let Some(netns) = &host {
        // While there is one thread: all that come later are in the host too.
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
    ensure!(
        errors.is_empty(),
        "not everything could be removed ({}); try again",
        messages::lines(&errors)
    );
    // A dead agent's, if it is there.
    let _ = fs::remove_file(instance.socket());
    lock.remove();
    Ok(removed)
}

/// What can be removed without a state file, and a word on what cannot.
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
    // The uplinks' filters, where there are some, are in this namespace or out of reach.
    Datapath::remove(instance.name())?;
    for file in files.iter().filter(|file| **file != instance.pins()) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                bail!("cannot remove {}: {}; try again", file.display(), messages::plain(&error))
            }
            _ => {}
        }
    }
    lock.remove();
    say(&format!(
        "the state file of instance '{}' was gone, so it is not known which bridges (cwN), host sides (cwvXXXXXXXX) and namespaces in \
         /run/netns the agent had made, nor whether ip_forward was off before; if 'ip link' shows any that no other instance has, remove \
         them with 'ip link del NAME'",
        instance.name()
    ));
    Ok(Removed { networks: Vec::new(), containers: Vec::new(), files })
}

/// The host's namespace; none if it is gone, whatever took its path since.
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
