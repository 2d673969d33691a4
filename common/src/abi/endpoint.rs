//! One container's place on one network.

use crate::abi::macs::Macs;

/// What the datapath knows of an endpoint.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Endpoint<A> {
    /// The network's subnet.
    pub subnet: A,
    /// Its mask.
    pub mask: A,
    /// The gateway's address on the network.
    pub gateway: A,
    /// The host side's index.
    pub host_side: u32,
    /// The bridge's index, which also tells networks apart.
    pub bridge: u32,
    /// Its slot.
    pub slot: u32,
    /// Bits of [`network`].
    pub network: u32,
    /// The network's number in [`name::NETWORKS`].
    pub network_number: u32,
    /// The network's MTU in bytes, from the IP header on; at most 65,535.
    pub mtu: u32,
    /// The container side's and the bridge's: what a packet for the container carries.
    pub macs: Macs,
}
