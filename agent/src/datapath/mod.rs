//! The programs and maps in the kernel: load, pin, attach, write. The only module that names aya.
//!
//! Everything is pinned under `/sys/fs/bpf/causeway/INSTANCE/vN`, so that the datapath works on while no agent runs. A new agent of the
//! same instance loads its programs over the pinned maps, puts again what its state file names, and calls [`Datapath::settle`] to
//! drop the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use crate::{
    model::publish::{PortRange, Protocol},
    net::mac::Mac,
};

/// The loaded datapath of one instance.
#[derive(Debug)]
pub struct Datapath {}

/// What the programs are loaded with.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The instance's name: its pins' folder.
    pub instance: String,
    /// The host's namespace ([`crate::net::netns::Netns::cookie`]).
    pub host_cookie: u64,
    /// How many flows the table has room for.
    pub flows: u32,
}

/// An interface to attach to. The calling thread must be in its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// One container's place on one network, as the programs need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointEntry {
    /// IPv4 only today.
    pub address: IpAddr,
    /// The gateway's address on the network.
    pub gateway: IpAddr,
    /// The network's subnet.
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
}

/// A publish, as the programs need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishEntry {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// None for any of the host's.
    pub host_address: Option<IpAddr>,
    /// Same length as `container_ports`, or `container_ports` is one port.
    pub host_ports: PortRange,
    /// The container's.
    pub container_ports: PortRange,
    /// The container's: an endpoint with it must have been put.
    pub container_address: IpAddr,
    /// Clients that may use it; any if empty.
    pub from: Vec<IpNet>,
}

/// A live flow.
#[derive(Clone, Debug)]
pub struct FlowRecord {
    /// IANA number.
    pub protocol: u8,
    /// Its state's name.
    pub state: &'static str,
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

impl Datapath {
    /// Loads the programs (mounting bpffs on `/sys/fs/bpf` if nothing is), reusing what an earlier agent of the instance left.
    pub fn load(_options: &LoadOptions) -> anyhow::Result<Self> { unimplemented!() }
    /// Removes all that the instance has in the kernel: links, programs, maps, pins. Nothing there is done. Needs no loaded datapath.
    pub fn remove(_instance: &str) -> anyhow::Result<()> { unimplemented!() }
    /// Attaches to an uplink; masqueraded flows get `address`. Again with another address is an update.
    pub fn put_uplink(&mut self, _uplink: &Interface, _address: IpAddr) -> anyhow::Result<()> { unimplemented!() }
    /// Detaches from an uplink. One that is gone is done.
    pub fn remove_uplink(&mut self, _index: u32) -> anyhow::Result<()> { unimplemented!() }
    /// Attaches the guard to a bridge. Again is done.
    pub fn put_bridge(&mut self, _bridge: &Interface) -> anyhow::Result<()> { unimplemented!() }
    /// Detaches from a bridge. One that is gone is done.
    pub fn remove_bridge(&mut self, _index: u32) -> anyhow::Result<()> { unimplemented!() }
    /// The addresses that are the host's own, on whatever interface, loopback's 127.0.0.0/8 and ::1 left out.
    pub fn set_local_addresses(&mut self, _addresses: &BTreeSet<IpAddr>) -> anyhow::Result<()> { unimplemented!() }
    /// Attaches to an endpoint's host side and makes it known. Again, unchanged, is done.
    pub fn put_endpoint(&mut self, _endpoint: &EndpointEntry, _host_side: &Interface) -> anyhow::Result<()> { unimplemented!() }
    /// Forgets an endpoint and ends its flows at once. Its publishes must have been removed.
    pub fn remove_endpoint(&mut self, _address: IpAddr) -> anyhow::Result<()> { unimplemented!() }
    /// Publishes. Again, unchanged, is done.
    pub fn put_publish(&mut self, _publish: &PublishEntry) -> anyhow::Result<()> { unimplemented!() }
    /// Ends a publish and its flows at once.
    pub fn remove_publish(&mut self, _publish: &PublishEntry) -> anyhow::Result<()> { unimplemented!() }
    /// Drops what the kernel holds from an earlier agent and was not put again.
    pub fn settle(&mut self) -> anyhow::Result<()> { unimplemented!() }
    /// The live flows.
    pub fn flows(&self) -> anyhow::Result<Vec<FlowRecord>> { unimplemented!() }
    /// Ends every flow; answers how many.
    pub fn flush_flows(&mut self) -> anyhow::Result<u64> { unimplemented!() }
    /// Frees the entries of flows that have ended. Called every few seconds.
    pub fn sweep(&mut self) -> anyhow::Result<()> { unimplemented!() }
    /// Every reason's count since the load.
    pub fn reasons(&self) -> anyhow::Result<BTreeMap<&'static str, u64>> { unimplemented!() }
}
