//! Networks: a bridge and its policy, made, adopted, changed and removed.

use anyhow::ensure;
use causeway_api::{Error, types::subnet};
use ipnet::IpNet;
use tracing::{info, warn};

use crate::{
    control::{
        agent::{Agent, log_undo_errors},
        change::Action,
    },
    state::network::Network,
};

impl Agent {
    /// Makes a network; `action` records it. What was made is removed again if it fails.
    pub(in crate::control) async fn create_network(
        &mut self,
        network: &Network,
        action: &Action,
    ) -> anyhow::Result<()> {
        // Recorded before it is made, so that the next agent knows it if this one dies in between.
        action.record(&mut self.state);
        let built = match self.save() {
            Ok(()) => self.build_network(network).await,
            Err(error) => Err(error),
        };
        if let Err(error) = built {
            log_undo_errors(&self.dismantle_network(network).await);
            self.state.networks.remove(&network.name);
            log_undo_errors(self.save().err().as_slice());
            return Err(error);
        }
        warn_below_floors(network);
        info!(
            network = network.name,
            subnet = subnet::join(&network.subnets),
            bridge = network.bridge,
            "network created"
        );
        Ok(())
    }

    /// Puts the flow policy that the state has of a network into the datapath.
    pub(in crate::control) fn update_network(&mut self, name: &str) -> anyhow::Result<()> {
        let network = self.state.network(name)?;
        warn_below_floors(network);
        if let Some(index) = self.installed.bridges.get(name).copied() {
            self.installed.put_network(network, index)?;
        }
        info!(network = name, "flow policy of the network changed");
        self.save()
    }

    /// Removes a network; `action` records it.
    pub(in crate::control) async fn remove_network(
        &mut self,
        name: &str,
        action: &Action,
    ) -> anyhow::Result<()> {
        let network = self.state.network(name)?.clone();
        let errors = self.dismantle_network(&network).await;
        ensure!(errors.is_empty(), Error::all(&errors));
        action.record(&mut self.state);
        self.save()?;
        self.sync_host().await?;
        info!(network = name, "network removed");
        Ok(())
    }

    /// Puts a network of an earlier agent into the datapath, and what it may lack on its bridge.
    pub(in crate::control) async fn adopt_network(
        &mut self,
        name: &str,
        bridge: u32,
        up: bool,
    ) -> anyhow::Result<()> {
        let network = self.state.network(name)?.clone();
        self.installed.bridges.insert(network.name.clone(), bridge);
        if !up {
            self.host.handles.netlink.set_up(bridge).await?;
        }
        self.finish_bridge(&network, bridge).await?;
        info!(network = name, "network taken over");
        Ok(())
    }

    /// Gives a bridge its addresses and IPv6 settings again. That it fails is logged, and tried
    /// again at the host's next change.
    pub(in crate::control) async fn restore_network(&mut self, name: &str, bridge: u32) {
        let Some(network) = self.state.networks.get(name).cloned() else { return };
        match self.finish_bridge(&network, bridge).await {
            Ok(()) => info!(network = name, "its bridge has its IPv6 again as it had"),
            Err(error) => warn!(
                network = name,
                error = self.instance.line(&error),
                "its bridge cannot be restored"
            ),
        }
    }

    async fn build_network(&mut self, network: &Network) -> anyhow::Result<()> {
        let index = self.create_bridge(network, network.bridge_mac()?).await?;
        self.installed.bridges.insert(network.name.clone(), index);
        self.finish_bridge(network, index).await?;
        self.sync_host().await
    }

    /// Gives a bridge its program, IPv6 settings and addresses. Idempotent.
    async fn finish_bridge(&mut self, network: &Network, index: u32) -> anyhow::Result<()> {
        // The program comes before the addresses, so before anything is forwarded into the bridge.
        self.installed.put_network(network, index)?;
        self.set_bridge_ipv6(network)?;
        for (subnet, gateway) in network.subnets.iter().zip(&network.gateways) {
            let address = IpNet::new(*gateway, subnet.prefix_len())?;
            self.host.handles.netlink.add_address(index, address).await?;
        }
        Ok(())
    }

    /// Removes a network as far as it is there.
    async fn dismantle_network(&mut self, network: &Network) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        if let Some(index) = self.installed.bridges.get(&network.name).copied() {
            errors.extend(self.host.handles.netlink.delete_link(index).await.err());
            let removed = self.installed.datapath.remove_bridge(index, &network.subnets);
            errors.extend(removed.err());
            if errors.is_empty() {
                self.installed.bridges.remove(&network.name);
            }
        }
        errors
    }
}

/// Warns of timeouts that are shorter than an RFC requires.
fn warn_below_floors(network: &Network) {
    for line in network.flows.policy().below_floors() {
        warn!(network = network.name, "{line}");
    }
}
