//! What the agent hands to the datapath, and what it gets back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use causeway_api::types::{device::Device, flow::FlowState, mac::Mac, publish::PortRange};
use causeway_common::abi::{Network, state::Timer};
use ipnet::IpNet;

/// What the programs are loaded with.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The instance's name: its pins' folder.
    pub instance: String,
    /// The host's namespace ([`causeway_netlink::netns::Netns::cookie`]).
    pub host_cookie: u64,
    /// How many flows there is to be room for, in each family.
    pub flows: u32,
    /// Processes of the host may bind published ports.
    pub allow_bind: bool,
}

/// An interface to attach to. The calling thread must be in its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// One address of a container on one network, as the programs need it. All of them at one host side
/// are one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointEntry {
    /// Of either family. An IPv4-mapped one is where IPv6 clients of a container find it that has
    /// IPv4 alone.
    pub address: IpAddr,
    /// The gateway's address on the network, of the address's family.
    pub gateway: IpAddr,
    /// The network's subnet of that family.
    pub subnet: IpNet,
    /// The container side's.
    pub mac: Mac,
    /// The bridge's.
    pub bridge_mac: Mac,
    /// The host side's index.
    pub host_side: u32,
    /// The bridge's index: also what tells networks apart.
    pub bridge: u32,
    /// The network's `masquerade`.
    pub masquerade: bool,
    /// The network's `internal`.
    pub internal: bool,
    /// The network's `icc`.
    pub icc: bool,
    /// The network's, in bytes.
    pub mtu: u32,
    /// What its host side is.
    pub device: Device,
}

/// How the flows of a network are kept and translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Seconds, where they are not the default.
    pub timeouts: Vec<(Timer, u32)>,
    /// What masquerade picks from, where a flow's own port is taken.
    pub ports: PortRange,
    /// Mapping and filtering do not depend on the other side (RFC 4787 REQ-1 and REQ-8).
    pub full_cone: bool,
    /// How many each endpoint may have.
    pub max_flows: u32,
}

impl Default for Terms {
    fn default() -> Self {
        let (first, last) =
            (Network::DEFAULT.first_port as u16, Network::DEFAULT.last_port() as u16);
        let ports = PortRange::new(first, last).expect("the default ports are a range");
        Self {
            timeouts: Vec::new(),
            ports,
            full_cone: false,
            max_flows: Network::DEFAULT.max_flows,
        }
    }
}

/// Where a publish leads: the addresses by which the clients of each family reach its container.
/// Endpoints with these addresses must have been put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishTarget {
    /// For IPv4 clients.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6 clients: IPv4-mapped if the container has IPv4 alone.
    pub v6: Option<Ipv6Addr>,
}

impl PublishTarget {
    /// The container's addresses.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        self.written().map(|address| address.to_canonical())
    }

    /// The addresses as they are in the maps.
    pub(super) fn written(self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// A socket of the host's that a published port connected with a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostSocket {
    /// Its number in the kernel.
    pub cookie: u64,
    /// Where it speaks. An IPv4-mapped address is here as IPv4.
    pub container: SocketAddr,
    /// What its process addressed.
    pub meant: SocketAddr,
}

/// A live flow. IPv4-mapped addresses are here as IPv4.
#[derive(Clone, Debug)]
pub struct FlowRecord {
    /// IANA number.
    pub protocol: u8,
    /// Its state.
    pub state: FlowState,
    /// Of the endpoint it belongs to.
    pub container: IpAddr,
    /// Source and destination as the side that began it sends.
    pub forward: (SocketAddr, SocketAddr),
    /// Source and destination as the other side answers.
    pub reply: (SocketAddr, SocketAddr),
    /// Both directions together.
    pub packets: u64,
    /// Both directions together, from the IP header on.
    pub bytes: u64,
    /// Seconds until it ends if nothing more is sent.
    pub expires_in_s: u64,
}
