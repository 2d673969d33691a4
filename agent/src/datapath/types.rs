//! What the agent hands to the datapath, and what it gets back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use causeway_api::types::{device::Device, flow::FlowState, mac::Mac};
use ipnet::IpNet;

/// What the programs are loaded with.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Name of the instance, part of the path of its pins.
    pub instance: String,
    /// Cookie of the host's network namespace ([`causeway_netlink::netns::Netns::cookie`]).
    pub host_cookie: u64,
    /// Capacity of the flow table in flows, per family.
    pub flows: u32,
    /// Processes of the host may bind published ports.
    pub allow_bind: bool,
}

/// An interface to attach to. The calling thread must be in its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
}

/// One address of a container on one network. All addresses at one host side are one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointEntry {
    /// Address of either family. An IPv4-mapped one is that of an IPv4-only container for IPv6
    /// clients (NAT64).
    pub address: IpAddr,
    /// Address of the gateway, of the same family.
    pub gateway: IpAddr,
    /// Subnet of the network, of the same family.
    pub subnet: IpNet,
    /// MAC of the container side.
    pub mac: Mac,
    /// MAC of the bridge.
    pub bridge_mac: Mac,
    /// Interface index of the host side.
    pub host_side: u32,
    /// Interface index of the bridge. Tells networks apart.
    pub bridge: u32,
    /// The network's `masquerade`.
    pub masquerade: bool,
    /// The network's `internal`.
    pub internal: bool,
    /// The network's `icc`.
    pub icc: bool,
    /// MTU of the network in bytes.
    pub mtu: u32,
    /// Kind of the pair.
    pub device: Device,
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

/// A socket of the host that is connected with a container through a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostSocket {
    /// Cookie of the socket.
    pub cookie: u64,
    /// Address and port of the container. An IPv4-mapped address is given as IPv4.
    pub container: SocketAddr,
    /// Address and port that the process used.
    pub meant: SocketAddr,
}

/// A live flow. IPv4-mapped addresses are given as IPv4.
#[derive(Clone, Debug)]
pub struct FlowRecord {
    /// IANA protocol number.
    pub protocol: u8,
    /// State of the flow.
    pub state: FlowState,
    /// Address of the endpoint that it belongs to.
    pub container: IpAddr,
    /// Source and destination of packets of the side that began it.
    pub forward: (SocketAddr, SocketAddr),
    /// Source and destination of packets of the other side.
    pub reply: (SocketAddr, SocketAddr),
    /// Packets in both directions.
    pub packets: u64,
    /// Bytes in both directions, from the IP header on.
    pub bytes: u64,
    /// Seconds until it expires without another packet.
    pub expires_in_s: u64,
}
