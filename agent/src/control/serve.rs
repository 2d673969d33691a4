//! The agent's loop: it answers requests, follows the host and collects ended flows.

use std::{pin::pin, time::Duration};

use causeway_api::{ContainerSpec, Error, Reply, Request};
use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot},
    time::{self, MissedTickBehavior},
};
use tracing::warn;

use super::{
    agent::Agent,
    change::Action,
    diff::{Verb, Wanted, diff},
    draft::Settings,
    observed::{NamespaceSnapshot, Observed},
    resource::drain,
    validate::validate,
    warn_once::Warning,
};
use crate::server::PendingRequest;

/// The period in which the flow table is collected. An entry that has ended counts as absent until
/// then, so this is about room only.
const COLLECT_PERIOD: Duration = Duration::from_secs(5);

/// Why [`Agent::run`] returned.
#[derive(Debug)]
pub enum End {
    /// The agent was told to stop; what it made works on.
    Stopped,
    /// The agent was asked to remove everything; the reply goes there.
    Down(oneshot::Sender<Reply>),
}

impl Agent {
    /// Runs until `stop` or `down`.
    pub async fn run(
        &mut self,
        requests: &mut mpsc::Receiver<PendingRequest>,
        stop: impl Future<Output = ()>,
    ) -> End {
        let mut stop = pin!(stop);
        let mut collect = time::interval(COLLECT_PERIOD);
        collect.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let drained = drain::until(self.next_drain_end());
            tokio::select! {
                () = &mut stop => return End::Stopped,
                Some((request, reply)) = requests.recv() => {
                    if matches!(request, Request::Down) {
                        return End::Down(reply);
                    }
                    // A client that went away does not want it.
                    let _ = reply.send(self.reply(request).await);
                }
                () = self.host.changed() => {
                    if let Err(error) = self.follow_host().await {
                        let error = self.instance.line(&error);
                        warn!(error, "the host's changes cannot be followed");
                    }
                }
                () = drained => {
                    if let Err(error) = self.end_drains() {
                        let error = self.instance.line(&error);
                        warn!(error, "the flows of a publish that was moved cannot be ended");
                    }
                }
                _ = collect.tick() => {
                    if let Err(error) = self.installed.datapath.collect() {
                        let error = self.instance.line(&error);
                        warn!(error, "ended flows cannot be collected");
                    }
                }
            }
        }
    }

    /// Brings the datapath up to date with the host, and repairs what changed behind the agent's
    /// back.
    pub(super) async fn follow_host(&mut self) -> anyhow::Result<()> {
        let snapshot = self.host.snapshot().await?;
        self.sync_uplinks(&snapshot)?;
        let observed = self.observe_all(snapshot)?;
        let changes = diff(&self.state, &[Wanted::State], &observed, self.settings())?;
        self.warned.retain(|warning| {
            changes.iter().any(|change| match (&change.action, warning) {
                (Action::ReportBridgeGone { network }, Warning::BridgeGone(warned))
                | (Action::ReportNotForwarding { network }, Warning::NotForwarding(warned)) => {
                    network == warned
                }
                _ => false,
            }) || matches!(warning, Warning::NoUplink | Warning::NoSocketDestroy)
        });
        validate(&changes, &self.state, &observed, None, &self.host)?;
        self.apply(&changes).await
    }

    async fn reply(&mut self, request: Request) -> Reply {
        match self.handle(request).await {
            Ok(value) => Reply::Done(value),
            Err(error) => {
                Reply::Failed(Error::from_chain(&*error).to_failure(self.instance.name()))
            }
        }
    }

    async fn handle(&mut self, request: Request) -> anyhow::Result<serde_json::Value> {
        match request {
            Request::Down => anyhow::bail!(Error::not_found("the agent is ending already")),
            Request::NetworkCreate(spec) => {
                self.change(Verb::CreateNetwork(&spec)).await?;
                json(self.network_inspect(&spec.name)?)
            }
            Request::NetworkList => json(self.network_list()),
            Request::NetworkInspect { name } => json(self.network_inspect(&name)?),
            Request::NetworkRemove { name } => {
                let view = self.network_inspect(&name)?;
                self.change(Verb::RemoveNetwork(&name)).await?;
                json(view)
            }
            Request::ContainerCreate(spec) => {
                self.change(Verb::CreateContainer { spec: &spec, attach: None }).await?;
                json(self.container_inspect(&spec.name).await?)
            }
            Request::ContainerAttach { netns, spec } => {
                let attach = NamespaceSnapshot::take(&netns).await?;
                self.attach(&spec, &attach).await?;
                json(self.container_inspect(&spec.name).await?)
            }
            Request::ContainerList => json(self.container_list().await?),
            Request::ContainerInspect { name } => json(self.container_inspect(&name).await?),
            Request::ContainerEnter { name } => json(self.container_enter(&name)?),
            Request::ContainerRemove { name } => {
                let view = self.container_inspect(&name).await?;
                self.change(Verb::RemoveContainer(&name)).await?;
                json(view)
            }
            Request::PublishAdd(add) => {
                let (container, spec) = (add.container.as_str(), &add.publish);
                self.change(Verb::AddPublish { container, spec }).await?;
                json(self.publish_inspect(container, &spec.ports)?)
            }
            Request::PublishRemove { container, publish } => {
                let view = self.publish_inspect(&container, &publish);
                let (container, ports) = (container.as_str(), &publish);
                self.change(Verb::RemovePublish { container, ports }).await?;
                json(view?)
            }
            Request::PublishMove(wanted) => {
                self.change(Verb::MovePublish(&wanted)).await?;
                json(self.moved_publish(&wanted)?)
            }
            Request::PublishList => json(self.publish_list()),
            Request::FlowsList(filter) => json(self.flow_list(&filter)?),
            Request::FlowsFlush(filter) => json(self.flow_flush(&filter)?),
            Request::Stats => json(self.stats()?),
        }
    }

    /// Makes what a verb asks for.
    async fn change(&mut self, verb: Verb<'_>) -> anyhow::Result<()> {
        let removes = matches!(
            verb,
            Verb::RemoveNetwork(_) | Verb::RemoveContainer(_) | Verb::RemovePublish { .. }
        );
        // The host has no say in a removal.
        let observed = if removes { Observed::nothing() } else { self.observe().await? };
        self.carry_out(verb, &observed, None).await
    }

    async fn attach(
        &mut self,
        spec: &ContainerSpec,
        attach: &NamespaceSnapshot,
    ) -> anyhow::Result<()> {
        let observed = self.observe().await?;
        let verb = Verb::CreateContainer { spec, attach: Some(attach) };
        self.carry_out(verb, &observed, Some(attach)).await
    }

    async fn carry_out(
        &mut self,
        verb: Verb<'_>,
        observed: &Observed,
        attach: Option<&NamespaceSnapshot>,
    ) -> anyhow::Result<()> {
        let changes = diff(&self.state, &[Wanted::Verb(verb)], observed, self.settings())?;
        validate(&changes, &self.state, observed, attach, &self.host)?;
        self.apply(&changes).await
    }

    fn settings(&self) -> Settings<'_> {
        Settings { instance: self.instance.name(), device: self.host.device }
    }
}

fn json(answer: impl Serialize) -> anyhow::Result<serde_json::Value> {
    Ok(serde_json::to_value(answer)?)
}
