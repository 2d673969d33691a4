//! What is, as the objects that cross the socket.

use std::{collections::BTreeSet, net::IpAddr};

use causeway_api as api;

use super::{Agent, moves::since_boot, presence::what_is_gone};
use crate::state::{
    container::{Container, Endpoint},
    network::Network,
    publish::{Drain, Publish},
};

impl Agent {
    pub(super) fn view_network(&self, network: &Network) -> api::Network {
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
            containers: self.containers_on(&network.name),
        }
    }

    pub(super) fn view_container(
        &self,
        container: &Container,
        links: &BTreeSet<String>,
    ) -> api::Container {
        let gone = what_is_gone(container, links).is_some();
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

pub(super) fn view_publish(container: &str, publish: &Publish) -> api::Publish {
    let ports = publish.ports;
    api::Publish {
        container: container.to_owned(),
        protocol: ports.protocol,
        host_address: ports.host_address,
        host_port: ports.host_ports,
        container_port: ports.container_ports,
        from: publish.options.from.clone(),
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
