//! Publishes: added and removed.

use causeway_api::{Error, types::publish::PublishPorts};
use tracing::info;

use crate::{
    control::{
        agent::{Agent, log_undo_errors},
        change::Action,
    },
    state::publish::Publish,
};

impl Agent {
    /// Puts a publish into the datapath; `action` records it.
    pub(in crate::control) async fn add_publish(
        &mut self,
        name: &str,
        publish: &Publish,
        action: &Action,
    ) -> anyhow::Result<()> {
        // The address may have been given to the host a moment ago.
        if publish.ports.host_address.is_some() {
            self.sync_host().await?;
        }
        self.installed.put_publish(publish, self.state.container(name)?)?;
        action.record(&mut self.state);
        if let Err(error) = self.save() {
            log_undo_errors(self.installed.drop_publish(publish).err().as_slice());
            self.take_publish(name, &publish.ports);
            return Err(error);
        }
        info!(container = name, publish = %publish.ports, "published");
        Ok(())
    }

    /// Removes a publish from the datapath; `action` records it.
    pub(in crate::control) fn remove_publish(
        &mut self,
        name: &str,
        ports: &PublishPorts,
        action: &Action,
    ) -> anyhow::Result<()> {
        let mut publishes = self.state.container(name)?.publishes.iter();
        let publish = publishes.find(|publish| publish.ports == *ports);
        let publish = publish
            .ok_or_else(|| Error::not_found(format!("container '{name}' has no such publish")))?;
        self.installed.drop_publish(publish)?;
        action.record(&mut self.state);
        self.save()?;
        self.end_stray_sockets();
        info!(container = name, publish = %ports, "no longer published");
        Ok(())
    }

    /// Takes a publish out of the state.
    pub(super) fn take_publish(
        &mut self,
        container: &str,
        ports: &PublishPorts,
    ) -> Option<Publish> {
        let publishes = &mut self.state.containers.get_mut(container)?.publishes;
        let at = publishes.iter().position(|publish| publish.ports == *ports)?;
        Some(publishes.remove(at))
    }
}
