//! Replies and the objects in them. `--json` prints the same objects, so the names and forms of
//! their fields are a contract.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::types::{
    device::Device,
    flow::{FlowProtocol, FlowState},
    flow_options::{Mapping, Timeout},
    mac::Mac,
    masquerade::Masquerade,
    publish::{PortRange, Protocol, PublishOptions},
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

/// A network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Network {
    /// The network's name.
    pub name: String,
    /// One per family, IPv4 first.
    pub subnets: Vec<IpNet>,
    /// The bridge's addresses, the containers' gateways; one per subnet.
    pub gateways: Vec<IpAddr>,
    /// The bridge's name.
    pub bridge: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// No traffic between the network and the outside; the host reaches it.
    pub internal: bool,
    /// Families whose sources are translated to the uplink's address: true, false, `"ipv4"` or
    /// `"ipv6"`.
    pub masquerade: Masquerade,
    /// Containers of the network reach each other.
    pub icc: bool,
    /// Idle timeouts of flows in seconds, by the names of `--timeout`.
    pub timeouts: BTreeMap<Timeout, u32>,
    /// `LO-HI`: source ports for masquerade, used where the container's own port is taken.
    pub ports: PortRange,
    /// NAT behaviour: `symmetric` or `full-cone`.
    pub mapping: Mapping,
    /// Maximum number of flows per container; null for half of the flow table.
    pub max_flows: Option<u32>,
    /// The names of its containers.
    pub containers: Vec<String>,
}

/// Whether a container's link exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerState {
    /// The namespace and the link exist. It may have no process.
    Running,
    /// The namespace ended, or the namespace or host side was removed by hand. `container rm`
    /// removes the rest.
    Gone,
}

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    /// The container's name.
    pub name: String,
    /// `running` or `gone`.
    pub state: ContainerState,
    /// The path of its network namespace.
    pub netns: PathBuf,
    /// One per network.
    pub endpoints: Vec<Endpoint>,
    /// Its published ports.
    pub publishes: Vec<Publish>,
}

/// One container's place on one network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// Addresses with the prefix length of their subnet.
    pub addresses: Vec<IpNet>,
    /// Next hops of the default routes; empty on an internal network.
    pub gateways: Vec<IpAddr>,
    /// MAC address of the container side.
    pub mac: Mac,
    /// Name of the container side.
    pub interface: String,
    /// Name of the host side.
    pub host_side: String,
    /// Link type of both sides: `veth` or `netkit`.
    pub device: Device,
    /// MTU in bytes.
    pub mtu: u32,
}

/// A published port or range of ports.
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
    /// What it has beside its ports: the keys of [`PublishOptions`].
    #[serde(flatten)]
    pub options: PublishOptions,
    /// Containers that it was moved away from, where flows may finish. Absent if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<Draining>,
}

/// Flows that finish in a container that a publish was moved away from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Draining {
    /// The container's name.
    pub container: String,
    /// Seconds until the remaining flows are ended.
    pub ends_in_s: u64,
}

/// A flow: one connection or exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flow {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp` or an IANA number.
    pub protocol: FlowProtocol,
    /// The state's name.
    pub state: FlowState,
    /// The container's name; null if the container is gone.
    pub container: Option<String>,
    /// The network's name; null if the network is gone.
    pub network: Option<String>,
    /// Packets of the side that began the flow, as they arrive.
    pub forward: Direction,
    /// Packets of the other side, as they arrive.
    pub reply: Direction,
    /// Packets of both directions.
    pub packets: u64,
    /// Bytes of both directions, from the IP header on.
    pub bytes: u64,
    /// Seconds until it expires without further packets.
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

/// The answer to [`Request::Stats`](crate::Request::Stats).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// Packets by drop reason since the datapath was loaded.
    pub reasons: BTreeMap<String, u64>,
    /// The host's uplinks.
    pub uplinks: Vec<Uplink>,
}

/// An interface that leads outside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Uplink {
    /// Interface name.
    pub interface: String,
    /// Whether its driver runs the XDP program.
    pub xdp: XdpMode,
    /// Why XDP is off; null if it is on.
    pub why: Option<String>,
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// Not attached.
    Off,
}

/// The answer to [`Request::Down`](crate::Request::Down).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Removed {
    /// The networks' names.
    pub networks: Vec<String>,
    /// The containers' names.
    pub containers: Vec<String>,
    /// Pins, socket and notes of an agent whose state file was missing: nothing else is known of
    /// it. Absent if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
}

/// One change that `up --check` prints: what `up` would do to an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What is done.
    pub action: ChangeAction,
    /// The kind of the object.
    pub object: ChangedObject,
    /// The object's name; the ports of a publish, the key of a sysctl.
    pub name: String,
    /// The container of a publish; absent for other objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What the object gets, or why it is changed; null if there is nothing to say.
    pub details: Option<String>,
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeAction {
    /// A publish is added.
    Add,
    /// A network or container is made.
    Create,
    /// An object that was added by command is the file's from then on: it is removed when the file
    /// no longer has it.
    Declare,
    /// A publish leads to another container.
    Move,
    /// The object is removed.
    Remove,
    /// Settings that were changed by another program are set again.
    Restore,
    /// A sysctl is set.
    Set,
    /// The object is changed and its flows go on.
    Update,
}

/// The kind of a changed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangedObject {
    /// A network.
    Network,
    /// A container.
    Container,
    /// A publish.
    Publish,
    /// An interface of the host.
    Interface,
    /// A sysctl of the host.
    Sysctl,
}

impl ChangeAction {
    /// The action in JSON and in text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Create => "create",
            Self::Declare => "declare",
            Self::Move => "move",
            Self::Remove => "remove",
            Self::Restore => "restore",
            Self::Set => "set",
            Self::Update => "update",
        }
    }
}

impl ChangedObject {
    /// The kind in JSON and in text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Container => "container",
            Self::Publish => "publish",
            Self::Interface => "interface",
            Self::Sysctl => "sysctl",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.action.name(), self.object.name(), self.name)?;
        if let Some(container) = &self.container {
            write!(f, " of container {container}")?;
        }
        self.details.as_ref().map_or(Ok(()), |details| write!(f, ": {details}"))
    }
}

/// The answer to [`Request::FlowsFlush`](crate::Request::FlowsFlush).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flushed {
    /// Number of flows that were ended.
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
            options: serde_json::from_value(json!({"from": ["203.0.113.0/24"]})).unwrap(),
            draining: Vec::new(),
        }
    }

    #[test]
    fn network_fields() {
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
                "name": "default", "subnets": ["172.18.0.0/16"], "gateways": ["172.18.0.1"],
                "bridge": "cw0", "mtu": 1500,
                "internal": false, "masquerade": true, "icc": true,
                "timeouts": {"udp-stream": 300}, "ports": "1024-32767",
                "mapping": "full-cone", "max_flows": null, "containers": ["web"],
            })
        );
    }

    #[test]
    fn container_fields() {
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
                    "mac": "02:63:ac:12:00:02", "interface": "eth0", "host_side": "cwv01234567",
                    "device": "netkit", "mtu": 1500,
                }],
                "publishes": [{
                    "container": "web", "protocol": "tcp", "host_address": null, "host_port": "8000-8001",
                    "container_port": "80-81", "from": ["203.0.113.0/24"],
                }],
            })
        );
    }

    #[test]
    fn draining_fields() {
        let draining = vec![Draining { container: "old".to_owned(), ends_in_s: 7 }];
        let printed = serde_json::to_value(Publish { draining, ..publish() }).unwrap();
        assert_eq!(printed["draining"], json!([{"container": "old", "ends_in_s": 7}]));
    }

    #[test]
    fn flow_fields() {
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
                "protocol": "udp", "state": "established", "container": null, "network": null,
                "forward": both, "reply": both,
                "packets": 1, "bytes": 2, "expires_in_s": 3,
            })
        );
    }

    #[test]
    fn a_change_is_one_line() {
        let change = Change {
            action: ChangeAction::Add,
            object: ChangedObject::Publish,
            name: "8080:80/tcp".to_owned(),
            container: Some("web".to_owned()),
            details: Some("from 10.0.0.0/8".to_owned()),
        };
        let line = "add publish 8080:80/tcp of container web: from 10.0.0.0/8";
        assert_eq!(change.to_string(), line);
        assert_eq!(
            serde_json::to_value(&change).unwrap(),
            json!({
                "action": "add", "object": "publish", "name": "8080:80/tcp", "container": "web",
                "details": "from 10.0.0.0/8",
            })
        );
        let change = Change { container: None, details: None, ..change };
        assert_eq!(change.to_string(), "add publish 8080:80/tcp");
        for action in [ChangeAction::Declare, ChangeAction::Restore, ChangeAction::Update] {
            assert_eq!(serde_json::to_value(action).unwrap(), action.name());
        }
        for object in [ChangedObject::Interface, ChangedObject::Sysctl] {
            assert_eq!(serde_json::to_value(object).unwrap(), object.name());
        }
    }

    #[test]
    fn other_fields() {
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
