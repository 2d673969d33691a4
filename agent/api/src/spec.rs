//! Specifications of networks, containers and publishes. Absent fields have defaults.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::types::{
    flow_options::FlowOptions, host_ports::HostPorts, mac::Mac, masquerade::Masquerade,
    publish::PublishSpec,
};

/// The network that `up` makes if no configuration file declares networks, and the network of
/// containers that name none.
pub const DEFAULT_NETWORK: &str = "default";

/// A network to create.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// The network's name.
    pub name: String,
    /// At most one per family. Each container gets an address of each.
    pub subnets: Vec<IpNet>,
    /// The bridge's name. Default: `cwN` with the lowest free N.
    #[serde(default)]
    pub bridge: Option<String>,
    /// The bridge's addresses, at most one per subnet. Default: the subnet's first address.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// MTU in bytes. Default: the smallest of the uplinks.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// No traffic between the network and the outside; the host reaches it.
    #[serde(default)]
    pub internal: bool,
    /// Families whose sources are translated to the uplink's address: true, false, `"ipv4"` or
    /// `"ipv6"`.
    #[serde(default = "both")]
    pub masquerade: Masquerade,
    /// Containers of the network reach each other.
    #[serde(default = "yes")]
    pub icc: bool,
    /// Timeouts, ports, NAT behaviour and limits of its flows.
    #[serde(default)]
    pub flows: FlowOptions,
}

/// A container to create or attach.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The container's name.
    pub name: String,
    /// The network's name. Default: `default`.
    #[serde(default)]
    pub network: Option<String>,
    /// At most one per family. Default: the next free address of each subnet.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// MAC address of the container side. Default: derived from the first address.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Ports to publish.
    #[serde(default)]
    pub publishes: Vec<PublishSpec>,
}

/// A publish to add.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublishAdd {
    /// The container's name.
    pub container: String,
    /// What is published.
    pub publish: PublishSpec,
}

/// A publish to move to another container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublishMove {
    /// All host ports of the publish.
    pub ports: HostPorts,
    /// The name of the new container.
    pub container: String,
    /// Seconds that existing flows may finish in the old container. Default: they end at once.
    #[serde(default)]
    pub drain_s: Option<u32>,
}

impl NetworkSpec {
    /// The default network.
    pub fn default_network() -> Self {
        const SUBNET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 18, 0, 0), 16);
        Self {
            name: DEFAULT_NETWORK.to_owned(),
            subnets: vec![IpNet::V4(SUBNET)],
            bridge: Some("cw0".to_owned()),
            gateways: vec![Ipv4Addr::new(172, 18, 0, 1).into()],
            mtu: None,
            internal: false,
            masquerade: Masquerade::ON,
            icc: true,
            flows: FlowOptions::default(),
        }
    }
}

const fn yes() -> bool {
    true
}

const fn both() -> Masquerade {
    Masquerade::ON
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_fields_have_defaults() {
        let spec: NetworkSpec =
            serde_json::from_value(json!({"name": "front", "subnets": ["10.20.0.0/16"]})).unwrap();
        assert!(
            spec.masquerade == Masquerade::ON
                && spec.icc
                && !spec.internal
                && spec.bridge.is_none()
        );
    }
}
