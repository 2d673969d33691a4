//! Starting an agent: it takes over what an earlier agent of the instance left, and brings the host
//! to what is declared.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use causeway_api as api;
use causeway_api::{
    Error, Removed,
    types::{device::Device, xdp::Xdp},
};
use causeway_netlink::{Netlink, Netns};
use tracing::warn;

use super::{
    agent::{Agent, log_undo_errors},
    change::Change,
    diff::{Wanted, diff},
    draft::Settings,
    host::Host,
    installed::Installed,
    observed::Observed,
    teardown,
    validate::validate,
    warn_once::WarnOnce,
};
use crate::{
    config_file::{Config, DEFAULT_FLOWS},
    datapath::{Datapath, LoadOptions},
    instance::Instance,
    state::State,
};

/// What an agent starts from.
#[derive(Debug)]
pub struct Start {
    /// The agent's instance. Except for [`check`], the caller holds its lock.
    pub instance: Instance,
    /// The host. Every thread of this process is in it.
    pub netns: Netns,
    /// A path of the host that other processes can open.
    pub netns_path: PathBuf,
    /// The uplinks' names; those of the default route if empty.
    pub uplinks: Vec<String>,
    /// A port may be both published and bound by a process of the host, which is otherwise refused
    /// to the second of them.
    pub allow_bind: bool,
    /// Whether uplinks' drivers run the XDP program; as the configuration file says if none.
    pub xdp: Option<Xdp>,
    /// What connects containers that are made from now on; what the configuration file says, else
    /// veth, if none.
    pub device: Option<Device>,
    /// What the host is brought to.
    pub config: Option<Config>,
}

/// A start of which nothing has been made.
struct Prepared {
    instance: Instance,
    host: Host,
    state: State,
    config: Option<Config>,
    /// No earlier agent has left a state.
    first: bool,
}

impl Prepared {
    async fn new(start: Start) -> anyhow::Result<Self> {
        let Start { instance, netns, netns_path, uplinks, allow_bind, xdp, device, config } = start;
        let cookie = netns.cookie()?;
        let left = State::load(&instance.state())?;
        let first = left.is_none();
        let state = left.unwrap_or_else(|| State::new(netns_path, cookie));
        if state.host.cookie != cookie {
            let what = format!(
                "an earlier agent of instance '{}' had another host, the network namespace {}",
                instance.name(),
                state.host.netns.display()
            );
            bail!(
                Error::in_use(what)
                    .hint("start it there with --netns, or remove what it left with")
                    .run(["down"])
            );
        }
        let of_file = config.as_ref();
        let uplinks = match of_file {
            Some(config) if uplinks.is_empty() => config.uplinks.clone(),
            _ => uplinks,
        };
        let allow_bind = allow_bind || of_file.is_some_and(|config| config.allow_bind);
        let xdp = xdp.or(of_file.and_then(|config| config.xdp)).unwrap_or_default();
        let device = device.or(of_file.and_then(|config| config.device)).unwrap_or_default();
        Netlink::check_device(device).await?;
        let host = Host::open(netns, uplinks, allow_bind, xdp, device).await?;
        if first {
            host.check_wanted().await?;
        }
        Ok(Self { instance, host, state, config, first })
    }

    /// The changes that the start makes, validated.
    async fn changes(&self) -> anyhow::Result<Vec<Change>> {
        let Self { instance, host, state, config, .. } = self;
        let observed = Observed::before_start(host, state).await?;
        let wanted = [Wanted::State, config.as_ref().map_or(Wanted::DefaultNetwork, Wanted::File)];
        let settings = Settings { instance: instance.name(), device: host.device };
        let changes = diff(state, &wanted, &observed, settings)?;
        validate(&changes, state, &observed, None, host)?;
        Ok(changes)
    }
}

/// What a start would change. Touches nothing.
pub async fn check(start: Start) -> anyhow::Result<Vec<api::Change>> {
    let prepared = Prepared::new(start).await?;
    check_alone(&prepared.instance, prepared.state.host.cookie)?;
    Ok(prepared.changes().await?.iter().filter_map(Change::describe).collect())
}

impl Agent {
    /// Takes over what an earlier agent of the instance left, and brings the host to what is
    /// declared. A first agent that fails leaves nothing behind.
    pub async fn start(start: Start) -> anyhow::Result<Self> {
        // Without a state file too there can be a datapath at work, which a start that fails must
        // not remove.
        let inherited = start.instance.pins().exists();
        let prepared = Prepared::new(start).await?;
        let cookie = prepared.state.host.cookie;
        let changes = {
            // Held until the state says that the host is this instance's, so that of two agents
            // that start at once one sees the other.
            let _turn = Instance::turn()?;
            check_alone(&prepared.instance, cookie)?;
            let changes = prepared.changes().await?;
            prepared.state.save(&prepared.instance.state())?;
            changes
        };
        let Prepared { instance, host, state, config, first } = prepared;
        let options = LoadOptions {
            instance: instance.name().to_owned(),
            host_cookie: cookie,
            flows: config.as_ref().map_or(DEFAULT_FLOWS, |config| config.flows),
            allow_bind: host.allow_bind,
        };
        let datapath = match Datapath::load(&options) {
            Ok(datapath) => datapath,
            Err(error) => {
                if first {
                    let removed = teardown::remove_instance(&instance, &state, None, inherited);
                    log_undo_errors(&removed.await.1);
                }
                return Err(error);
            }
        };
        let installed = Installed::new(datapath);
        let mut agent = Self { instance, host, installed, state, warned: WarnOnce::new() };
        match agent.bring_up(&changes).await {
            Ok(()) => Ok(agent),
            Err(error) => {
                if first {
                    log_undo_errors(&agent.take_back(inherited).await.1);
                }
                Err(error)
            }
        }
    }

    async fn bring_up(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        self.end_inheriting()?;
        self.sync_host().await?;
        self.apply(changes).await?;
        // The kernel reports no change that was made while no agent ran.
        self.follow_host().await?;
        self.end_stray_sockets();
        Ok(())
    }

    /// Removes everything; goes on after what fails.
    pub async fn remove(self) -> (Removed, Vec<anyhow::Error>) {
        self.take_back(false).await
    }

    async fn take_back(mut self, keep_datapath: bool) -> (Removed, Vec<anyhow::Error>) {
        if !keep_datapath {
            self.installed.publishes.clear();
            self.end_stray_sockets();
        }
        let Self { instance, host, installed, state, .. } = self;
        // First, or the programs would live on in its descriptors.
        drop(installed);
        teardown::remove_instance(&instance, &state, Some(&host.handles), keep_datapath).await
    }
}

/// Fails if the host is another instance's. Both would have their programs on the same uplink and
/// give flows the same ports, and what one of them takes back at its end the other still needs.
fn check_alone(instance: &Instance, cookie: u64) -> anyhow::Result<()> {
    for other in instance.others() {
        let name = other.name();
        match State::load(&other.state()) {
            // No two namespaces ever have the same cookie, so it is this one.
            Ok(Some(state)) => ensure!(
                state.host.cookie != cookie,
                Error::in_use(format!("this host is that of instance '{name}' already"))
                    .hint(format!("use that with --instance {name}, or remove it first with"))
                    .run(["down", "--instance", name])
            ),
            Ok(None) => {}
            Err(error) => {
                warn!(
                    instance = name,
                    error = instance.line(&error),
                    "it is not known which host is another instance's"
                );
            }
        }
    }
    Ok(())
}
