//! Making changes: the state names an object before it is made, and what fails half-way is taken
//! back.

use tracing::{info, warn};

use super::{
    agent::{Agent, log_undo_errors},
    change::{Action, Change, Origin},
    validate::{bridge_gone, check_ports_free},
    warn_once::Warning,
};

impl Agent {
    /// Makes changes in their order, and stops at the first that fails. They have been validated.
    pub(super) async fn apply(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        for change in changes {
            let made = Box::pin(self.make(&change.action, &change.origin)).await;
            change.context(made)?;
        }
        Ok(())
    }

    async fn make(&mut self, action: &Action, origin: &Origin) -> anyhow::Result<()> {
        match action {
            Action::EnableForwarding => self.enable_forwarding().await,
            Action::KeepDrains => {
                self.keep_drains();
                Ok(())
            }
            Action::AdoptNetwork { name, bridge, up } => {
                self.adopt_network(name, *bridge, *up).await
            }
            Action::AdoptContainer { name, host_sides, has_path } => {
                self.adopt_container(name, host_sides, *has_path).await
            }
            Action::DropNetwork { name } => {
                warn!(network = name, "network dropped: its bridge is gone");
                action.record(&mut self.state);
                Ok(())
            }
            Action::DropContainer { name, why } => {
                warn!(container = name, error = why, "container dropped");
                self.drop_container(name).await;
                action.record(&mut self.state);
                Ok(())
            }
            Action::RemoveInterface { name, index } => {
                warn!(interface = name, "an interface that belongs to no container is removed");
                let removed = self.host.handles.netlink.delete_link(*index).await;
                log_undo_errors(removed.err().as_slice());
                Ok(())
            }
            Action::DropStale => {
                self.save()?;
                self.sync_host().await?;
                self.installed.datapath.settle()
            }
            Action::RestoreNetwork { name, bridge } => {
                self.restore_network(name, *bridge).await;
                Ok(())
            }
            Action::ForwardIpv6 { network } => self.forward_ipv6(network),
            Action::ReportNotForwarding { network } => {
                self.report_not_forwarding(network);
                Ok(())
            }
            Action::ReportBridgeGone { network } => {
                if self.warned.is_due(Warning::BridgeGone(network.clone())) {
                    let gone = bridge_gone(self.state.network(network)?);
                    warn!("{}", gone.line(self.instance.name()));
                }
                Ok(())
            }
            Action::DisableIpv6 { interface } => {
                self.disable_ipv6_again(interface);
                Ok(())
            }
            Action::ForgetEndpoints { container, gone } => self.forget_endpoints(container, gone),
            Action::CreateNetwork(network) => self.create_network(network, action).await,
            Action::UpdateNetwork { name, .. } => {
                action.record(&mut self.state);
                self.update_network(name)
            }
            Action::RemoveNetwork { name } => {
                if matches!(origin, Origin::File(_)) {
                    info!(network = name, "no longer declared so");
                }
                self.remove_network(name, action).await
            }
            Action::CreateContainer { container, .. } => {
                for publish in &container.publishes {
                    let network = self.state.network_of(container)?;
                    check_ports_free(&self.host, &publish.ports, network)?;
                }
                self.create_container(container, action).await
            }
            Action::RemoveContainer { name } => {
                if matches!(origin, Origin::File(_)) {
                    info!(container = name, "no longer declared so");
                }
                self.remove_container(name, action).await
            }
            Action::AddPublish { container, publish } => {
                let network = self.state.network_of(self.state.container(container)?)?;
                check_ports_free(&self.host, &publish.ports, network)?;
                self.add_publish(container, publish, action).await
            }
            Action::RemovePublish { container, ports } => {
                self.remove_publish(container, ports, action)
            }
            Action::MovePublish { ports, from, to, drain_s } => {
                self.move_publish(ports, from, to, *drain_s)
            }
            Action::Declare(_) | Action::ForgoDefaultNetwork => {
                action.record(&mut self.state);
                self.save()
            }
        }
    }
}
