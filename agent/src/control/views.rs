//! Conversions from the state to API objects.

use std::net::IpAddr;
use std::path::Path;

use anyhow::bail;
use causeway_api as api;
use causeway_api::{
    Error, PublishMove,
    types::{host_ports::HostPorts, publish::PublishPorts},
};

use super::{
    agent::Agent,
    observed::{cookie_at, what_is_gone},
    resource::drain::since_boot,
    snapshot::HostSnapshot,
};
use crate::state::{
    container::{Container, Endpoint},
    network::Network,
    publish::{Drain, Publish},
};

impl Agent {
    pub(super) fn network_list(&self) -> Vec<api::Network> {
        self.state.networks.values().map(|network| self.view_network(network)).collect()
    }

    pub(super) fn network_inspect(&self, name: &str) -> anyhow::Result<api::Network> {
        Ok(self.view_network(self.state.network(name)?))
    }

    pub(super) async fn container_list(&self) -> anyhow::Result<Vec<api::Container>> {
        let snapshot = self.links().await?;
        let containers = self.state.containers.values();
        Ok(containers.map(|container| self.view_container(container, &snapshot)).collect())
    }

    pub(super) async fn container_inspect(&self, name: &str) -> anyhow::Result<api::Container> {
        let container = self.state.container(name)?;
        Ok(self.view_container(container, &self.links().await?))
    }

    /// The path of the container's namespace. Fails if the path leads elsewhere by now: a process
    /// number may be reused, and another program may have made a namespace of that name.
    pub(super) fn container_enter(&self, name: &str) -> anyhow::Result<&Path> {
        let container = self.state.container(name)?;
        if cookie_at(&container.netns) != container.cookie {
            let path = container.netns.display();
            bail!(
                Error::not_found(format!("{path} no longer leads to its network namespace"))
                    .hint("remove it with")
                    .run(["container", "rm", name])
                    .hint("and make it again")
            );
        }
        Ok(&container.netns)
    }

    pub(super) fn publish_list(&self) -> Vec<api::Publish> {
        let publishes = self.state.publishes();
        publishes.map(|(container, publish)| view_publish(&container.name, publish)).collect()
    }

    pub(super) fn publish_inspect(
        &self,
        container: &str,
        ports: &PublishPorts,
    ) -> anyhow::Result<api::Publish> {
        let mut publishes = self.state.container(container)?.publishes.iter();
        let publish = publishes.find(|publish| publish.ports == *ports);
        let publish =
            publish.ok_or_else(|| Error::not_found(format!("{ports} is not published")))?;
        Ok(view_publish(container, publish))
    }

    /// A publish after it was moved.
    pub(super) fn moved_publish(&self, moved: &PublishMove) -> anyhow::Result<api::Publish> {
        let mut publishes = self.state.container(&moved.container)?.publishes.iter();
        let publish = publishes.find(|publish| HostPorts::of(&publish.ports) == moved.ports);
        let publish =
            publish.ok_or_else(|| Error::not_found(format!("{} is not published", moved.ports)))?;
        Ok(view_publish(&moved.container, publish))
    }

    /// A snapshot of the host's interfaces alone.
    async fn links(&self) -> anyhow::Result<HostSnapshot> {
        Ok(HostSnapshot::of_links(self.host.handles.netlink.links().await?))
    }

    fn view_network(&self, network: &Network) -> api::Network {
        let flows = network.flows.policy();
        api::Network {
            name: network.name.clone(),
            subnets: network.subnets.clone(),
            gateways: network.gateways.clone(),
            bridge: network.bridge.clone(),
            mtu: network.mtu,
            internal: network.internal,
            masquerade: network.masquerade,
            icc: network.icc,
            timeouts: flows.timeouts,
            ports: flows.ports,
            mapping: flows.mapping,
            max_flows: flows.max_flows,
            containers: self.state.containers_on(&network.name),
        }
    }

    fn view_container(&self, container: &Container, snapshot: &HostSnapshot) -> api::Container {
        let gone = what_is_gone(container, snapshot).is_some();
        api::Container {
            name: container.name.clone(),
            state: if gone { api::ContainerState::Gone } else { api::ContainerState::Running },
            netns: container.netns.clone(),
            endpoints: container
                .endpoints
                .iter()
                .map(|endpoint| self.view_endpoint(endpoint))
                .collect(),
            publishes: container
                .publishes
                .iter()
                .map(|publish| view_publish(&container.name, publish))
                .collect(),
        }
    }

    fn view_endpoint(&self, endpoint: &Endpoint) -> api::Endpoint {
        let network = self.state.networks.get(&endpoint.network);
        let routed = network.filter(|network| !network.internal);
        let gateway_of = |address: IpAddr| {
            routed.and_then(|network| network.place_of(address)).map(|(_, gateway)| gateway)
        };
        api::Endpoint {
            network: endpoint.network.clone(),
            addresses: endpoint.addresses.clone(),
            gateways: endpoint
                .addresses
                .iter()
                .filter_map(|address| gateway_of(address.addr()))
                .collect(),
            mac: endpoint.mac,
            interface: endpoint.interface.clone(),
            host_side: endpoint.host_side.clone(),
            device: endpoint.device,
            mtu: network.map_or(0, |network| network.mtu),
        }
    }
}

fn view_publish(container: &str, publish: &Publish) -> api::Publish {
    let ports = publish.ports;
    api::Publish {
        container: container.to_owned(),
        protocol: ports.protocol,
        host_address: ports.host_address,
        host_port: ports.host_ports,
        container_port: ports.container_ports,
        options: publish.options.clone(),
        draining: publish.drains.iter().map(view_drain).collect(),
    }
}

fn view_drain(drain: &Drain) -> api::Draining {
    let now = since_boot().unwrap_or(drain.until);
    api::Draining {
        container: drain.container.clone(),
        ends_in_s: drain.until.saturating_sub(now).div_ceil(1000),
    }
}
