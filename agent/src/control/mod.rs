//! The one task that owns everything: it decides what exists, makes it, and writes it into the
//! datapath.
//!
//! Requests are answered one after the other, so nothing here is shared or locked. What each does
//! follows one rule: all is checked before anything is touched, the state file names a thing before
//! it is made, and what fails half-way is taken back.

mod adopt;
mod containers;
mod declare;
mod endpoint;
mod flows;
mod forwarding;
mod host;
mod host_sockets;
mod ipv6;
mod moves;
mod networks;
mod plan;
mod presence;
mod publishes;
mod sockets;
pub mod teardown;
mod view;
mod xdp;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    pin::pin,
    time::Duration,
};

use anyhow::ensure;
use causeway_api::{
    Error, Removed, Reply, Request, messages,
    types::{device::Device, publish::PublishPorts, xdp::Xdp},
};
use causeway_netlink::{Netlink, Netns};
use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot},
    time::{self, MissedTickBehavior},
};
use tracing::{error, warn};

use self::host::Host;
use crate::{
    config_file::{Config, DEFAULT_FLOWS},
    datapath::{Datapath, LoadOptions, PublishTarget},
    instance::Instance,
    server::PendingRequest,
    state::State,
};

/// How often the flow table is swept. An entry that has ended counts as absent until then, so this
/// is about room only.
const SWEEP: Duration = Duration::from_secs(5);

/// What an agent starts from.
#[derive(Debug)]
pub struct Start {
    /// Whose agent it is. The caller holds its lock.
    pub instance: Instance,
    /// The host, which every thread of this process is in.
    pub netns: Netns,
    /// Where another process finds the host.
    pub netns_path: PathBuf,
    /// The uplinks' names; those of the default route if empty.
    pub uplinks: Vec<String>,
    /// A port may be both published and a process's of the host, which is else refused to whoever
    /// comes second.
    pub allow_bind: bool,
    /// Whether uplinks' drivers run a program of ours; as the configuration file says if none.
    pub xdp: Option<Xdp>,
    /// What connects containers that are made from now on; what the configuration says, else veth,
    /// if none.
    pub device: Option<Device>,
    /// What the host is brought to.
    pub config: Option<Config>,
}

/// Why an agent's [`Agent::run`] came to its end.
#[derive(Debug)]
pub enum End {
    /// It was told to stop; what it made works on.
    Stopped,
    /// It was asked to remove everything, and the answer goes there.
    Down(oneshot::Sender<Reply>),
}

/// All that an instance has, as it is in the kernel.
#[derive(Debug)]
pub struct Agent {
    instance: Instance,
    host: Host,
    datapath: Datapath,
    state: State,
    /// The bridges' indexes by their networks' names.
    bridges: BTreeMap<String, u32>,
    /// The addresses of the endpoints that were put into the datapath.
    endpoints: BTreeSet<IpAddr>,
    /// The publishes that were put into the datapath.
    publishes: BTreeMap<PublishPorts, PublishTarget>,
    /// The networks whose bridges were said to be gone.
    lost_bridges: BTreeSet<String>,
    /// The networks whose bridges were said to forward no longer.
    said_no_forwarding: BTreeSet<String>,
    /// It was said that this kernel cannot end sockets.
    said_no_destroy: bool,
}

impl Agent {
    /// Takes over what an earlier agent of the instance left, and brings the host to what is
    /// declared. A first agent that fails leaves nothing behind.
    pub async fn start(start: Start) -> anyhow::Result<Self> {
        let Start { instance, netns, netns_path, uplinks, allow_bind, xdp, device, config } = start;
        let path = instance.state();
        let cookie = netns.cookie()?;
        let left = State::load(&path)?;
        let first = left.is_none();
        // Without a state file too there can be a datapath at work, which is not for an agent that
        // fails to end.
        let inherited = instance.pins().exists();
        let state = left.unwrap_or_else(|| State::new(netns_path, cookie));
        ensure!(
            state.host.cookie == cookie,
            "an earlier agent of instance '{}' had another host, the network namespace {}; start it there with --netns, or remove \
             what it left with 'causeway down'",
            instance.name(),
            state.host.netns.display()
        );
        let uplinks = match &config {
            Some(config) if uplinks.is_empty() => config.uplinks.clone(),
            _ => uplinks,
        };
        let allow_bind = allow_bind || config.as_ref().is_some_and(|config| config.allow_bind);
        let xdp = xdp.or(config.as_ref().and_then(|config| config.xdp)).unwrap_or_default();
        let device =
            device.or(config.as_ref().and_then(|config| config.device)).unwrap_or_default();
        Netlink::check_device(device).await?;
        let host = Host::open(netns, uplinks, allow_bind, xdp, device).await?;
        if first {
            host.check_wanted().await?;
        }
        {
            // Until the state says that the host is ours, so that of two that begin at once one
            // sees the other.
            let _turn = Instance::turn()?;
            check_alone(&instance, cookie)?;
            let foreseen = adopt::foresee(instance.name(), &host, &state, host.look().await?);
            declare::check(config.as_ref(), foreseen).await?;
            state.save(&path)?;
        }

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
                    warn_all(
                        &teardown::remove_instance(&instance, &state, None, inherited).await.1,
                    );
                }
                return Err(error);
            }
        };
        let mut agent = Self {
            instance,
            host,
            datapath,
            state,
            bridges: BTreeMap::new(),
            endpoints: BTreeSet::new(),
            publishes: BTreeMap::new(),
            lost_bridges: BTreeSet::new(),
            said_no_forwarding: BTreeSet::new(),
            said_no_destroy: false,
        };
        match agent.bring_up(config.as_ref()).await {
            Ok(()) => Ok(agent),
            Err(error) => {
                if first {
                    warn_all(&agent.take_back(inherited).await.1);
                }
                Err(error)
            }
        }
    }

    async fn bring_up(&mut self, config: Option<&Config>) -> anyhow::Result<()> {
        self.end_inheriting()?;
        self.enable_forwarding().await?;
        self.sync_host().await?;
        self.adopt_drains();
        self.adopt().await?;
        self.datapath.settle()?;
        if let Some(config) = config {
            self.declare(config).await?;
        }
        self.ensure_default_network().await?;
        self.end_stray_sockets();
        Ok(())
    }

    /// Answers requests, follows the host's changes and sweeps, until `stop` or `down`.
    pub async fn run(
        &mut self,
        requests: &mut mpsc::Receiver<PendingRequest>,
        stop: impl Future<Output = ()>,
    ) -> End {
        let mut stop = pin!(stop);
        let mut sweep = time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let drained = moves::until(self.next_drain_end());
            tokio::select! {
                () = &mut stop => return End::Stopped,
                Some((request, answer)) = requests.recv() => {
                    if matches!(request, Request::Down) {
                        return End::Down(answer);
                    }
                    let reply = self.answer(request).await;
                    // A client that went away does not want it.
                    let _ = answer.send(reply);
                }
                () = self.host.changed() => {
                    if let Err(error) = self.sync_host().await {
                        warn!(error = messages::line(&error), "the host's changes cannot be followed");
                    }
                }
                () = drained => {
                    if let Err(error) = self.end_drains() {
                        warn!(error = messages::line(&error), "the flows of a publish that was moved cannot be ended");
                    }
                }
                _ = sweep.tick() => {
                    if let Err(error) = self.datapath.sweep() {
                        warn!(error = messages::line(&error), "the flow table cannot be swept");
                    }
                }
            }
        }
    }

    /// Removes everything, and finishes whatever fails on the way.
    pub async fn remove(self) -> (Removed, Vec<anyhow::Error>) {
        self.take_back(false).await
    }

    async fn take_back(mut self, kept: bool) -> (Removed, Vec<anyhow::Error>) {
        if !kept {
            self.publishes.clear();
            self.end_stray_sockets();
        }
        let Self { instance, host, datapath, state, .. } = self;
        // First, or the programs would live on in its descriptors.
        drop(datapath);
        teardown::remove_instance(&instance, &state, Some(&host.handles), kept).await
    }

    async fn answer(&mut self, request: Request) -> Reply {
        match self.handle(request).await {
            Ok(value) => Reply::Done(value),
            Err(error) => {
                let instance = self.instance.name();
                let mut failure = Error::from_chain(&*error).to_failure(instance);
                failure.message = messages::for_instance(&failure.message, instance);
                Reply::Failed(failure)
            }
        }
    }

    async fn handle(&mut self, request: Request) -> anyhow::Result<serde_json::Value> {
        match request {
            Request::Down => anyhow::bail!(Error::not_found("the agent is ending already")),
            Request::NetworkCreate(spec) => json(self.network_create(&spec, false).await?),
            Request::NetworkList => json(self.network_list()),
            Request::NetworkInspect { name } => json(self.network_inspect(&name)?),
            Request::NetworkRemove { name } => json(self.network_remove(&name).await?),
            Request::ContainerCreate(spec) => json(self.container_create(&spec, None).await?),
            Request::ContainerAttach { netns, spec } => {
                json(self.container_create(&spec, Some(&netns)).await?)
            }
            Request::ContainerList => json(self.container_list().await?),
            Request::ContainerInspect { name } => json(self.container_inspect(&name).await?),
            Request::ContainerEnter { name } => json(self.container_enter(&name)?),
            Request::ContainerRemove { name } => json(self.container_remove(&name).await?),
            Request::PublishAdd(add) => json(self.publish_add(&add).await?),
            Request::PublishRemove { container, publish } => {
                json(self.publish_remove(&container, &publish)?)
            }
            Request::PublishMove(wanted) => json(self.publish_move(&wanted).await?),
            Request::PublishList => json(self.publish_list()),
            Request::FlowsList(filter) => json(self.flow_list(&filter)?),
            Request::FlowsFlush(filter) => json(self.flow_flush(&filter)?),
            Request::Stats => json(self.stats()?),
        }
    }

    /// Writes what is wanted, so that a next agent knows it.
    fn save(&self) -> anyhow::Result<()> {
        self.state.save(&self.instance.state())
    }
}

/// Fails if the host is another instance's. Both would have their programs on the same uplink and
/// give flows the same ports, and what one of them takes back at its end the other still needs.
fn check_alone(instance: &Instance, cookie: u64) -> anyhow::Result<()> {
    for other in instance.others() {
        let name = other.name();
        match State::load(&other.state()) {
            // No two namespaces ever have the same cookie, so that it is this one, which is alive.
            Ok(Some(state)) => ensure!(
                state.host.cookie != cookie,
                "this host is that of instance '{name}' already; use that with --instance {name}, or remove it first with 'causeway down \
                 --instance {name}'"
            ),
            Ok(None) => {}
            Err(error) => {
                warn!(
                    instance = name,
                    error = messages::line(&error),
                    "it is not known which host is another instance's"
                );
            }
        }
    }
    Ok(())
}

fn json(answer: impl Serialize) -> anyhow::Result<serde_json::Value> {
    Ok(serde_json::to_value(answer)?)
}

/// For what fails while an error is on its way already, which is the one to tell.
fn warn_all(errors: &[anyhow::Error]) {
    for error in errors {
        error!(error = messages::line(error), "taking back failed");
    }
}
