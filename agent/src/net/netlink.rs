//! Links, addresses and routes of one namespace.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{mac::Mac, netns::Netns};

/// A netlink socket in one namespace.
#[derive(Clone, Debug)]
pub struct Netlink {}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// None where it has no Ethernet header (a tunnel).
    pub mac: Option<Mac>,
    /// In bytes.
    pub mtu: u32,
    /// `IFF_UP`.
    pub up: bool,
    /// `veth`, `bridge`, …; none for a physical one.
    pub kind: Option<String>,
    /// The bridge it is a port of.
    pub controller: Option<u32>,
    /// `IFLA_IFALIAS`.
    pub alias: Option<String>,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `0.0.0.0/0` for a default route.
    pub destination: IpNet,
    /// The interface it leaves through.
    pub output: Option<u32>,
    /// The next hop; none if on link.
    pub gateway: Option<IpAddr>,
    /// Smaller is preferred.
    pub metric: u32,
}

/// A veth pair to make.
#[derive(Debug)]
pub struct VethSpec<'a> {
    /// The host side's name.
    pub host_side: &'a str,
    /// The bridge the host side becomes a port of.
    pub controller: u32,
    /// Port isolation: no traffic to other isolated ports of the bridge.
    pub isolated: bool,
    /// The container side's name.
    pub container_side: &'a str,
    /// Where the container side is born.
    pub container: &'a Netns,
    /// The container side's.
    pub mac: Mac,
    /// In bytes, of both sides.
    pub mtu: u32,
    /// `IFLA_IFALIAS` of the host side: the container's name for people who look.
    pub alias: &'a str,
}

impl Netlink {
    /// Opens a socket in `netns`; its connection task runs on the current tokio runtime.
    pub async fn open(_netns: &Netns) -> anyhow::Result<Self> { unimplemented!() }
    /// Every interface.
    pub async fn links(&self) -> anyhow::Result<Vec<Link>> { unimplemented!() }
    /// The interface of that name.
    pub async fn link(&self, _name: &str) -> anyhow::Result<Option<Link>> { unimplemented!() }
    /// Makes a bridge, up, and answers its index. The MAC is set, so that it does not change as ports come and go.
    pub async fn create_bridge(&self, _name: &str, _mac: Mac, _mtu: u32) -> anyhow::Result<u32> { unimplemented!() }
    /// Makes a pair with its container side already in the container's namespace, both ends up, and answers the host side's index.
    pub async fn create_veth(&self, _spec: &VethSpec<'_>) -> anyhow::Result<u32> { unimplemented!() }
    /// Makes a pair with both ends here, both up (labs need it). Answers both indexes.
    pub async fn create_veth_between(&self, _name: &str, _peer: &str, _peer_netns: &Netns) -> anyhow::Result<u32> { unimplemented!() }
    /// Removes an interface. Absent is done.
    pub async fn delete_link(&self, _index: u32) -> anyhow::Result<()> { unimplemented!() }
    /// Sets an interface up.
    pub async fn set_up(&self, _index: u32) -> anyhow::Result<()> { unimplemented!() }
    /// Adds an address with its prefix length (IPv4 with the subnet's broadcast address). Present is done.
    pub async fn add_address(&self, _index: u32, _address: IpNet) -> anyhow::Result<()> { unimplemented!() }
    /// Every address, with the interface it is on.
    pub async fn addresses(&self) -> anyhow::Result<Vec<(u32, IpNet)>> { unimplemented!() }
    /// Adds a default route.
    pub async fn add_default_route(&self, _gateway: IpAddr, _output: u32) -> anyhow::Result<()> { unimplemented!() }
    /// Adds a route through a gateway.
    pub async fn add_route(&self, _destination: IpNet, _gateway: IpAddr) -> anyhow::Result<()> { unimplemented!() }
    /// The unicast routes of the main table, both families.
    pub async fn routes(&self) -> anyhow::Result<Vec<Route>> { unimplemented!() }
}
