//! What crosses the socket: one request, one reply, each a line of JSON. The objects in the replies are what `--json` prints, so
//! their field names are a contract.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::publish::PublishSpec;

/// One request to the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// Removes everything the agent made, and ends it. Answers [`Removed`].
    Down,
    /// Answers the new [`Network`].
    NetworkCreate(NetworkSpec),
    /// Answers a list of [`Network`].
    NetworkList,
    /// Answers a [`Network`].
    NetworkInspect {
        /// The network's.
        name: String,
    },
    /// Answers the [`Network`] that was removed.
    NetworkRemove {
        /// The network's.
        name: String,
    },
    /// Answers the new [`Container`].
    ContainerCreate(ContainerSpec),
    /// Answers the new [`Container`].
    ContainerAttach {
        /// The path of the namespace.
        netns: PathBuf,
        /// What a new one would have, too.
        spec: ContainerSpec,
    },
    /// Answers a list of [`Container`].
    ContainerList,
    /// Answers a [`Container`].
    ContainerInspect {
        /// The container's.
        name: String,
    },
    /// Answers the [`Container`] that was removed.
    ContainerRemove {
        /// The container's.
        name: String,
    },
    /// Answers the new [`Publish`].
    PublishAdd(PublishAdd),
    /// Answers the [`Publish`] that was removed.
    PublishRemove {
        /// The container's name.
        container: String,
        /// As it was added.
        publish: PublishSpec,
    },
    /// Answers a list of [`Publish`].
    PublishList,
    /// Answers a list of [`Flow`].
    FlowsList,
    /// Ends every flow. Answers [`Flushed`].
    FlowsFlush,
    /// Answers [`Stats`].
    Stats,
}

impl Request {
    /// What a person typed for it, as it begins the line that says why it failed.
    pub fn describe(&self) -> String {
        match self {
            Self::Down => "down".to_owned(),
            Self::NetworkCreate(spec) => format!("network create {}", spec.name),
            Self::NetworkList => "network ls".to_owned(),
            Self::NetworkInspect { name } => format!("network inspect {name}"),
            Self::NetworkRemove { name } => format!("network rm {name}"),
            Self::ContainerCreate(spec) => format!("container create {}", spec.name),
            Self::ContainerAttach { spec, .. } => format!("container attach {}", spec.name),
            Self::ContainerList => "container ls".to_owned(),
            Self::ContainerInspect { name } => format!("container inspect {name}"),
            Self::ContainerRemove { name } => format!("container rm {name}"),
            Self::PublishAdd(add) => format!("publish add {} {}", add.container, add.publish),
            Self::PublishRemove { container, publish } => format!("publish rm {container} {publish}"),
            Self::PublishList => "publish ls".to_owned(),
            Self::FlowsList => "flows ls".to_owned(),
            Self::FlowsFlush => "flows flush".to_owned(),
            Self::Stats => "stats".to_owned(),
        }
    }
}

/// The agent's answer to one request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It was done; the object or list that the request asks for.
    Done(serde_json::Value),
    /// It failed: one line that says what was tried, on what, why it failed and what to do.
    Failed(String),
}

/// What `network create` asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// The network's name.
    pub name: String,
    /// At least one; addresses are given from it.
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
    /// Source addresses are translated to the uplink's.
    #[serde(default = "yes")]
    pub masquerade: bool,
    /// Containers of the network reach each other.
    #[serde(default = "yes")]
    pub icc: bool,
}

/// What `container create` and `container attach` ask for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The container's name.
    pub name: String,
    /// The network's name; `default` if absent.
    #[serde(default)]
    pub network: Option<String>,
    /// At most one of each family; the next free one of the subnet if absent.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// `02:63:` and the IPv4 address if absent.
    #[serde(default)]
    pub mac: Option<String>,
    /// Published once the container is there.
    #[serde(default)]
    pub publishes: Vec<PublishSpec>,
}

/// What `publish add` asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublishAdd {
    /// The container's name.
    pub container: String,
    /// Which host ports lead to which container ports.
    pub publish: PublishSpec,
    /// Clients that may use it; any if empty.
    #[serde(default)]
    pub from: Vec<IpNet>,
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
    /// Source addresses are translated to the uplink's.
    pub masquerade: bool,
    /// Containers of the network reach each other.
    pub icc: bool,
    /// The names of the containers on it.
    pub containers: Vec<String>,
}

/// A container as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: String,
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
    pub mac: String,
    /// The container side's name, in the container.
    pub interface: String,
    /// The host side's name, on the host.
    pub host_side: String,
    /// In bytes.
    pub mtu: u32,
}

/// A published port or range.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Publish {
    /// The container's name.
    pub container: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Null for any address of the host.
    pub host_address: Option<IpAddr>,
    /// `N` or `N-M`.
    pub host_port: String,
    /// `N` or `N-M`.
    pub container_port: String,
    /// Clients that may use it; any if empty.
    pub from: Vec<IpNet>,
}

/// A connection or exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flow {
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// As `common::flow::State` names it.
    pub state: String,
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
    /// `ADDRESS:PORT`.
    pub source: String,
    /// `ADDRESS:PORT`.
    pub destination: String,
}

/// The answer to [`Request::Stats`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// Every reason, with the number of packets it ended, since the datapath was loaded.
    pub reasons: BTreeMap<String, u64>,
}

/// The answer to [`Request::Down`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Removed {
    /// The networks' names.
    pub networks: Vec<String>,
    /// The containers' names.
    pub containers: Vec<String>,
}

/// The answer to [`Request::FlowsFlush`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flushed {
    /// How many flows were ended.
    pub flows: u64,
}

fn yes() -> bool {
    true
}
