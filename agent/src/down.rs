//! `down`: asks the agent to remove everything, and does it itself when none is running but one left something.

use std::fs;

use anyhow::{Context as _, bail, ensure};
use nix::unistd::geteuid;

use crate::{
    agent::teardown::{Handles, remove_instance},
    api::{Removed, Request},
    client::{self, Failure},
    instance::Instance,
    line,
    net::{netlink::Netlink, netns::Netns},
    state::{HostState, State},
};

/// Removes everything the instance has.
pub fn down(instance: &Instance) -> anyhow::Result<Removed> {
    match client::try_ask(instance, &Request::Down) {
        Ok(removed) => Ok(removed),
        Err(Failure::Other(error)) => Err(error),
        Err(Failure::NoAgent) => remove_left(instance),
    }
    .context("down")
}

fn remove_left(instance: &Instance) -> anyhow::Result<Removed> {
    let nothing = || format!("no agent of instance '{}' is running, and nothing is left by one", instance.name());
    ensure!(instance.state().exists(), nothing());
    ensure!(geteuid().is_root(), "it needs root; run it as root, for example with sudo");
    let Some(lock) = instance.lock()? else {
        bail!("an agent of instance '{}' is just starting or ending; try again", instance.name());
    };
    let Some(state) = State::load(&instance.state())? else {
        lock.remove();
        bail!(nothing());
    };
    let host = find_host(&state.host)?;
    if let Some(netns) = &host {
        // While there is one thread: all that come later are in the host too.
        netns.enter()?;
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let (removed, errors) = runtime.block_on(async {
        let handles = match host {
            Some(netns) => Some(Handles { netlink: Netlink::open(&netns).await?, netns }),
            None => None,
        };
        anyhow::Ok(remove_instance(instance, &state, handles.as_ref()).await)
    })?;
    ensure!(errors.is_empty(), "not everything could be removed ({}); try again", line::of_all(&errors));
    // A dead agent's, if it is there.
    let _ = fs::remove_file(instance.socket());
    lock.remove();
    Ok(removed)
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
