//! Publishes that are led to another container, and the flows that finish where they were.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use causeway_api as api;
use causeway_api::{
    PublishMove,
    types::{host_ports::HostPorts, publish::PublishPorts},
};
use nix::time::{ClockId, clock_gettime};
use tokio::time;
use tracing::info;

use super::{Agent, presence::what_is_gone, publishes::target_of, view::view_publish, warn_all};
use crate::{
    datapath::PublishTarget,
    state::publish::{Drain, Publish},
};

impl Agent {
    pub(super) async fn publish_move(
        &mut self,
        wanted: &PublishMove,
    ) -> anyhow::Result<api::Publish> {
        let (owner, before) = self.find_publish(&wanted.ports)?;
        let target = wanted.container.as_str();
        let to = self.check_move(&owner, target).await?;
        let mut moved = before.clone();
        let resumed = moved.drains.iter().position(|drain| drain.container == target);
        let resumed = resumed.map(|position| moved.drains.remove(position).slot);
        let slot = self
            .datapath
            .publish_slot(&before.ports)
            .context("it is not in the datapath; restart the agent")?;
        let mut ended = Vec::new();
        if let Some(seconds) = wanted.drain_s {
            let until = since_boot()? + 1000 * u64::from(seconds);
            moved.drains.push(Drain { container: owner.clone(), slot, until });
        } else {
            ended.extend(moved.drains.drain(..).map(|drain| drain.slot).chain([slot]));
        }
        // Noted before it is made: an agent that dies in between leaves what the next one can
        // finish.
        self.hand_over(&owner, target, &moved);
        if let Err(error) =
            self.save().and_then(|()| self.datapath.move_publish(&before.ports, to, resumed))
        {
            self.hand_over(target, &owner, &before);
            warn_all(self.save().err().as_slice());
            return Err(error);
        }
        self.publishes.insert(before.ports, to);
        for slot in ended {
            self.datapath.end_draining(slot)?;
        }
        self.end_stray_sockets();
        info!(publish = %before.ports, from = owner, to = target, drain_s = wanted.drain_s, "publish moved");
        Ok(view_publish(target, &moved))
    }

    /// When the next drain is over, in milliseconds since the machine started; none if nothing
    /// drains.
    pub(super) fn next_drain_end(&self) -> Option<u64> {
        let publishes = self.state.containers.values().flat_map(|container| &container.publishes);
        publishes.flat_map(|publish| &publish.drains).map(|drain| drain.until).min()
    }

    /// Ends what has drained for long enough.
    pub(super) fn end_drains(&mut self) -> anyhow::Result<()> {
        let now = since_boot()?;
        self.end_drains_of(|drain| drain.until <= now)?;
        self.end_stray_sockets();
        self.save()
    }

    /// Ends the flows that finish in a container that goes.
    pub(super) fn end_drains_in(&mut self, container: &str) -> anyhow::Result<()> {
        self.end_drains_of(|drain| drain.container == container)
    }

    /// Makes the slots known that drain since an earlier agent.
    pub(super) fn adopt_drains(&mut self) {
        let publishes = self.state.containers.values().flat_map(|container| &container.publishes);
        for drain in publishes.flat_map(|publish| &publish.drains) {
            self.datapath.keep_draining(drain.slot);
        }
    }

    /// The publish of exactly those ports, and its container's name.
    fn find_publish(&self, ports: &HostPorts) -> anyhow::Result<(String, Publish)> {
        let containers = self.state.containers.values();
        let publishes = containers.flat_map(|container| {
            container.publishes.iter().map(|publish| (&container.name, publish))
        });
        let mut overlapping = Vec::new();
        for (owner, publish) in publishes {
            let theirs = HostPorts::of(&publish.ports);
            if theirs == *ports {
                return Ok((owner.clone(), publish.clone()));
            }
            if theirs.overlap(ports) {
                overlapping.push(theirs.to_string());
            }
        }
        match overlapping.as_slice() {
            [] => bail!(
                "{ports} is not published; 'causeway publish ls' lists what is, and 'causeway publish add' publishes it"
            ),
            [one] => {
                bail!(
                    "{ports} is not what is published, which is {one}; a publish is moved as a whole, so give that"
                )
            }
            several => bail!(
                "{ports} is not what is published, which is {}; a publish is moved as a whole, so give one of those",
                several.join(" and ")
            ),
        }
    }

    /// Where the publish is to lead.
    async fn check_move(&self, owner: &str, target: &str) -> anyhow::Result<PublishTarget> {
        let (leaving, entering) = (self.container(owner)?, self.container(target)?);
        ensure!(owner != target, "it leads to container '{target}' already; name another one");
        let networks = (self.network_of(leaving)?, self.network_of(entering)?);
        ensure!(
            networks.0.name == networks.1.name,
            "container '{target}' is on network '{}', and '{owner}', where it leads, on '{}'; name a container of that network, or end it with 'causeway \
             publish rm' and publish it anew with 'causeway publish add'",
            networks.1.name,
            networks.0.name
        );
        if let Some(gone) = what_is_gone(entering, &self.link_names().await?) {
            bail!(
                "{gone}; remove the container with 'causeway container rm {target}', and make it again"
            );
        }
        Ok(target_of(entering))
    }

    /// Notes that a publish is another container's.
    fn hand_over(&mut self, from: &str, to: &str, publish: &Publish) {
        self.forget_publish(from, &publish.ports);
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
            self.datapath.end_draining(drain.slot)?;
            info!(%publish, container = drain.container, "drained");
        }
        Ok(())
    }
}

/// Comes back at that time, in milliseconds since the machine started; never if there is none.
pub(super) async fn until(time: Option<u64>) {
    match time {
        Some(time) => {
            let left = time.saturating_sub(since_boot().unwrap_or(time));
            time::sleep(Duration::from_millis(left)).await;
        }
        None => std::future::pending().await,
    }
}

/// In milliseconds, by the clock that counts sleep too and that nobody sets.
pub(super) fn since_boot() -> anyhow::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).context("cannot read the clock")?;
    Ok(Duration::from(time).as_millis().try_into()?)
}
