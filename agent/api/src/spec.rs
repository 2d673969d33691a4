//! What a request asks for, with what is left open.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::types::{
    flow_options::FlowOptions, host_ports::HostPorts, mac::Mac, masquerade::Masquerade,
    publish::PublishSpec,
};

/// The network that `up` makes when no configuration file declares one, and that a container is on
/// when it names none.
pub const DEFAULT_NETWORK: &str = "default";

/// What `network create` asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// The network's name.
    pub name: String,
    /// One of IPv4, one of IPv6, or both; addresses are given from each.
    pub subnets: Vec<IpNet>,
    /// The bridge's name; `cwN` with the lowest free N if absent.
    #[serde(default)]
    pub bridge: Option<String>,
    /// At most one for each subnet; the subnet's first address if absent.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// In bytes; the uplink's if absent.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Nothing leaves or enters the network, the host excepted.
    #[serde(default)]
    pub internal: bool,
    /// For which families source addresses are translated to the uplink's: true, false, `"ipv4"` or
    /// `"ipv6"`.
    #[serde(default = "both")]
    pub masquerade: Masquerade,
    /// Containers of the network reach each other.
    #[serde(default = "yes")]
    pub icc: bool,
    /// How its flows are kept.
    #[serde(default)]
    pub flows: FlowOptions,
}

/// What `container create` and `container attach` ask for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The container's name.
    pub name: String,
    /// The network's name; `default` if absent.
    #[serde(default)]
    pub network: Option<String>,
    /// At most one of each family; of a family of the network without one, the next free one.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Derived from the first address if absent.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Published once the container is there.
    #[serde(default)]
    pub publishes: Vec<PublishSpec>,
}

/// What `publish add` asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublishAdd {
    /// The container's name.
    pub container: String,
    /// What is published.
    pub publish: PublishSpec,
}

/// What `publish move` asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublishMove {
    /// All host ports of one publish.
    pub ports: HostPorts,
    /// The name of the container that they are to lead to.
    pub container: String,
    /// For how many seconds at most flows may finish where they are; at once if absent.
    #[serde(default)]
    pub drain_s: Option<u32>,
}

impl NetworkSpec {
    /// What the default network is made from.
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
    fn what_a_specification_leaves_out_has_its_default() {
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
