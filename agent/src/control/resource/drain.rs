//! Publishes that are led to another container, and the flows that finish where they were.

use std::time::Duration;

use anyhow::Context as _;
use causeway_api::{Error, types::publish::PublishPorts};
use nix::time::{ClockId, clock_gettime};
use tokio::time;
use tracing::info;

use crate::{
    control::{
        agent::{Agent, log_undo_errors},
        installed::target_of,
    },
    state::publish::{Drain, Publish},
};

impl Agent {
    /// Leads a publish from container `from` to container `to`. Its flows finish where they are for
    /// at most `drain_s` seconds, or end at once.
    pub(in crate::control) fn move_publish(
        &mut self,
        ports: &PublishPorts,
        from: &str,
        to: &str,
        drain_s: Option<u32>,
    ) -> anyhow::Result<()> {
        let target = target_of(self.state.container(to)?);
        let mut publishes = self.state.container(from)?.publishes.iter();
        let before = publishes.find(|publish| publish.ports == *ports).cloned();
        let (before, slot) =
            before.zip(self.installed.datapath.publish_slot(ports)).ok_or_else(|| {
                Error::internal("it is not in the datapath").hint("restart the agent")
            })?;
        let mut moved = before.clone();
        let resumed = moved.drains.iter().position(|drain| drain.container == to);
        let resumed = resumed.map(|position| moved.drains.remove(position).slot);
        let mut ended = Vec::new();
        if let Some(seconds) = drain_s {
            let until = since_boot()? + 1000 * u64::from(seconds);
            moved.drains.push(Drain { container: from.to_owned(), slot, until });
        } else {
            ended.extend(moved.drains.drain(..).map(|drain| drain.slot).chain([slot]));
        }
        // Recorded before it is made, so that the next agent can finish it if this one dies in
        // between.
        self.hand_over(from, to, &moved);
        let written =
            self.save().and_then(|()| self.installed.datapath.move_publish(ports, target, resumed));
        if let Err(error) = written {
            self.hand_over(to, from, &before);
            log_undo_errors(self.save().err().as_slice());
            return Err(error);
        }
        self.installed.publishes.insert(*ports, target);
        for slot in ended {
            self.installed.datapath.end_draining(slot)?;
        }
        self.end_stray_sockets();
        info!(publish = %ports, from, to, drain_s, "publish moved");
        Ok(())
    }

    /// When the next drain is over, in milliseconds since the machine started; none if nothing
    /// drains.
    pub(in crate::control) fn next_drain_end(&self) -> Option<u64> {
        let publishes = self.state.containers.values().flat_map(|container| &container.publishes);
        publishes.flat_map(|publish| &publish.drains).map(|drain| drain.until).min()
    }

    /// Ends the flows of drains whose time is over.
    pub(in crate::control) fn end_drains(&mut self) -> anyhow::Result<()> {
        let now = since_boot()?;
        self.end_drains_of(|drain| drain.until <= now)?;
        self.end_stray_sockets();
        self.save()
    }

    /// Ends the flows that drain in a container, which is being removed.
    pub(super) fn end_drains_in(&mut self, container: &str) -> anyhow::Result<()> {
        self.end_drains_of(|drain| drain.container == container)
    }

    /// Keeps the slots that drain since an earlier agent.
    pub(in crate::control) fn keep_drains(&mut self) {
        let publishes = self.state.containers.values().flat_map(|container| &container.publishes);
        for drain in publishes.flat_map(|publish| &publish.drains) {
            self.installed.datapath.keep_draining(drain.slot);
        }
    }

    /// Records that a publish is another container's.
    fn hand_over(&mut self, from: &str, to: &str, publish: &Publish) {
        self.take_publish(from, &publish.ports);
        if let Some(container) = self.state.containers.get_mut(to) {
            container.publishes.push(publish.clone());
        }
    }

    fn end_drains_of(&mut self, over: impl Fn(&Drain) -> bool) -> anyhow::Result<()> {
        let publishes =
            self.state.containers.values_mut().flat_map(|container| &mut container.publishes);
        let mut ended: Vec<(PublishPorts, Drain)> = Vec::new();
        for publish in publishes {
            ended.extend(
                publish
                    .drains
                    .extract_if(.., |drain| over(drain))
                    .map(|drain| (publish.ports, drain)),
            );
        }
        for (publish, drain) in ended {
            self.installed.datapath.end_draining(drain.slot)?;
            info!(%publish, container = drain.container, "drained");
        }
        Ok(())
    }
}

/// Returns at a time in milliseconds since the machine started; never if there is none.
pub(in crate::control) async fn until(time: Option<u64>) {
    match time {
        Some(time) => {
            let left = time.saturating_sub(since_boot().unwrap_or(time));
            time::sleep(Duration::from_millis(left)).await;
        }
        None => std::future::pending().await,
    }
}

/// Milliseconds since the machine started, suspend included (`CLOCK_BOOTTIME`, which cannot be
/// set).
pub(in crate::control) fn since_boot() -> anyhow::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_err(Error::os)
        .context("cannot read the clock")?;
    Ok(Duration::from(time).as_millis().try_into()?)
}
