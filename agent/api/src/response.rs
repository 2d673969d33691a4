//! Replies, and the objects in them: what `--json` prints, so their field names are a contract.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::types::{
    device::Device,
    flow::{FlowProtocol, FlowState},
    flow_options::{Mapping, Timeout},
    mac::Mac,
    masquerade::Masquerade,
    publish::{PortRange, Protocol},
};

/// The agent's answer to one request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The request succeeded: the object or list that its documentation names.
    Done(serde_json::Value),
    /// The request failed.
    Failed(Failure),
}

/// An error in JSON: in a reply, and in the object `{"error": ...}` that a verb prints to stderr
/// with `--json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure it is.
    pub code: ErrorCode,
    /// What was tried, on what, and why it failed. One line.
    pub message: String,
    /// What to do about it; null if there is nothing to do.
    #[serde(default)]
    pub remedy: Option<String>,
}

/// A network as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
    /// The bridge's addresses, which are the containers' gateways.
    pub gateways: Vec<IpAddr>,
    /// The bridge's name.
    pub bridge: String,
    /// In bytes.
    pub mtu: u32,
    /// Nothing leaves or enters the network, the host excepted.
    pub internal: bool,
    /// For which families source addresses are translated to the uplink's: true, false, `"ipv4"` or
    /// `"ipv6"`.
    pub masquerade: Masquerade,
    /// Containers of the network reach each other.
    pub icc: bool,
    /// How long flows last after their last packet, in seconds, by the names of `--timeout`.
    pub timeouts: BTreeMap<Timeout, u32>,
    /// `LO-HI`: where masquerade takes a source port from when the container's own is taken.
    pub ports: PortRange,
    /// `symmetric` or `full-cone`.
    pub mapping: Mapping,
    /// How many flows a container may have at once; null for half of the flow table.
    pub max_flows: Option<u32>,
    /// The names of the containers on it.
    pub containers: Vec<String>,
}

/// Whether a container is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerState {
    /// It is, and it has its link; nothing is said of the processes in it.
    Running,
    /// Its namespace or its host side was removed by hand, or ended with its last process;
    /// `container rm` removes the rest.
    Gone,
}

/// A container as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// `running` or `gone`.
    pub state: ContainerState,
    /// The path of its network namespace.
    pub netns: PathBuf,
    /// One for each network it is on.
    pub endpoints: Vec<Endpoint>,
    /// What leads to it from outside.
    pub publishes: Vec<Publish>,
}

/// One container's place on one network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// Each with its subnet's prefix length.
    pub addresses: Vec<IpNet>,
    /// The default routes' next hops.
    pub gateways: Vec<IpAddr>,
    /// Of the container side.
    pub mac: Mac,
    /// The container side's name, in the container.
    pub interface: String,
    /// The host side's name, on the host.
    pub host_side: String,
    /// `veth` or `netkit`: what both sides are.
    pub device: Device,
    /// In bytes.
    pub mtu: u32,
}

/// A published port or range.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Publish {
    /// The container's name.
    pub container: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Protocol,
    /// Null for any address of the host.
    pub host_address: Option<IpAddr>,
    /// `N` or `N-M`.
    pub host_port: PortRange,
    /// `N` or `N-M`.
    pub container_port: PortRange,
    /// Clients that may use it; any if empty.
    pub from: Vec<IpNet>,
    /// Where it led before it was moved, and flows may finish. Absent if there is nothing of that
    /// kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<Draining>,
}

/// Flows that finish in a container that a publish was moved away from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Draining {
    /// The container's name.
    pub container: String,
    /// Seconds until what is left of them ends.
    pub ends_in_s: u64,
}

/// A connection or exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flow {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp` or an IANA number.
    pub protocol: FlowProtocol,
    /// The state's name.
    pub state: FlowState,
    /// The container it belongs to; null if that is gone.
    pub container: Option<String>,
    /// The network it belongs to; null if that is gone.
    pub network: Option<String>,
    /// As the side that began it sends.
    pub forward: Direction,
    /// As the other side answers.
    pub reply: Direction,
    /// Both directions together.
    pub packets: u64,
    /// Both directions together, from the IP header on.
    pub bytes: u64,
    /// Seconds until it ends if nothing more is sent.
    pub expires_in_s: u64,
}

/// One direction of a flow. For ICMP echo the port is the identifier.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Direction {
    /// `ADDRESS:PORT`, an IPv6 address in brackets.
    pub source: SocketAddr,
    /// `ADDRESS:PORT`, an IPv6 address in brackets.
    pub destination: SocketAddr,
}

/// The answer to [`Request::Stats`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// Every reason, with the number of packets it ended, since the datapath was loaded.
    pub reasons: BTreeMap<String, u64>,
    /// The host's.
    pub uplinks: Vec<Uplink>,
}

/// An interface that leads outside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Uplink {
    /// Its name.
    pub interface: String,
    /// Whether its driver runs a program of ours.
    pub xdp: XdpMode,
    /// Why not; null if it does.
    pub why: Option<String>,
}

/// How a program is run early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// By the driver.
    Native,
    /// Not at all.
    Off,
}

/// The answer to [`Request::Down`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Removed {
    /// The networks' names.
    pub networks: Vec<String>,
    /// The containers' names.
    pub containers: Vec<String>,
    /// Of an agent whose state file was gone, so that nothing else is known of it: its pinned
    /// datapath, its socket, its notes. Absent else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
}

/// The answer to [`Request::FlowsFlush`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flushed {
    /// How many flows were ended.
    pub flows: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(value: &impl Serialize) -> Vec<String> {
        let value = serde_json::to_value(value).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    }

    fn publish() -> Publish {
        Publish {
            container: "web".to_owned(),
            protocol: Protocol::Tcp,
            host_address: None,
            host_port: "8000-8001".parse().unwrap(),
            container_port: "80-81".parse().unwrap(),
            from: vec!["203.0.113.0/24".parse().unwrap()],
            draining: Vec::new(),
        }
    }

    #[test]
    fn a_network_prints_these_names() {
        let network = Network {
            name: "default".to_owned(),
            subnets: vec!["172.18.0.0/16".parse().unwrap()],
            gateways: vec!["172.18.0.1".parse().unwrap()],
            bridge: "cw0".to_owned(),
            mtu: 1500,
            internal: false,
            masquerade: Masquerade::ON,
            icc: true,
            timeouts: BTreeMap::from([(Timeout::UdpStream, 300)]),
            ports: PortRange::MASQUERADE,
            mapping: Mapping::FullCone,
            max_flows: None,
            containers: vec!["web".to_owned()],
        };
        assert_eq!(
            serde_json::to_value(network).unwrap(),
            json!({
                "name": "default", "subnets": ["172.18.0.0/16"], "gateways": ["172.18.0.1"], "bridge": "cw0", "mtu": 1500,
                "internal": false, "masquerade": true, "icc": true, "timeouts": {"udp-stream": 300}, "ports": "1024-32767",
                "mapping": "full-cone", "max_flows": null, "containers": ["web"],
            })
        );
    }

    #[test]
    fn a_container_prints_these_names() {
        let container = Container {
            name: "web".to_owned(),
            state: ContainerState::Running,
            netns: "/run/netns/web".into(),
            endpoints: vec![Endpoint {
                network: "default".to_owned(),
                addresses: vec!["172.18.0.2/16".parse().unwrap()],
                gateways: vec!["172.18.0.1".parse().unwrap()],
                mac: "02:63:ac:12:00:02".parse().unwrap(),
                interface: "eth0".to_owned(),
                host_side: "cwv01234567".to_owned(),
                device: Device::Netkit,
                mtu: 1500,
            }],
            publishes: vec![publish()],
        };
        assert_eq!(
            serde_json::to_value(container).unwrap(),
            json!({
                "name": "web", "state": "running", "netns": "/run/netns/web",
                "endpoints": [{
                    "network": "default", "addresses": ["172.18.0.2/16"], "gateways": ["172.18.0.1"],
                    "mac": "02:63:ac:12:00:02", "interface": "eth0", "host_side": "cwv01234567", "device": "netkit", "mtu": 1500,
                }],
                "publishes": [{
                    "container": "web", "protocol": "tcp", "host_address": null, "host_port": "8000-8001",
                    "container_port": "80-81", "from": ["203.0.113.0/24"],
                }],
            })
        );
    }

    #[test]
    fn a_publish_that_drains_prints_where_and_how_long() {
        let draining = vec![Draining { container: "old".to_owned(), ends_in_s: 7 }];
        let printed = serde_json::to_value(Publish { draining, ..publish() }).unwrap();
        assert_eq!(printed["draining"], json!([{"container": "old", "ends_in_s": 7}]));
    }

    #[test]
    fn a_flow_prints_these_names() {
        let direction = || Direction {
            source: "10.0.0.1:1".parse().unwrap(),
            destination: "[2001:db8::2]:2".parse().unwrap(),
        };
        let flow = Flow {
            protocol: FlowProtocol(17),
            state: FlowState::Established,
            container: None,
            network: None,
            forward: direction(),
            reply: direction(),
            packets: 1,
            bytes: 2,
            expires_in_s: 3,
        };
        let both = json!({"source": "10.0.0.1:1", "destination": "[2001:db8::2]:2"});
        assert_eq!(
            serde_json::to_value(flow).unwrap(),
            json!({
                "protocol": "udp", "state": "established", "container": null, "network": null, "forward": both, "reply": both,
                "packets": 1, "bytes": 2, "expires_in_s": 3,
            })
        );
    }

    #[test]
    fn the_other_answers_print_these_names() {
        assert_eq!(
            names(&Stats { reasons: BTreeMap::new(), uplinks: Vec::new() }),
            ["reasons", "uplinks"]
        );
        assert_eq!(
            serde_json::to_value(Uplink {
                interface: "eth0".to_owned(),
                xdp: XdpMode::Native,
                why: None
            })
            .unwrap(),
            json!({"interface": "eth0", "xdp": "native", "why": null})
        );
        assert_eq!(names(&Flushed { flows: 1 }), ["flows"]);
        assert_eq!(
            names(&Removed { networks: Vec::new(), containers: Vec::new(), files: Vec::new() }),
            ["containers", "networks"]
        );
    }
}
