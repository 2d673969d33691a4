//! The value of the endpoint table.

use crate::abi::macs::Macs;
#[cfg(doc)]
use crate::abi::network::{INTERNAL, MASQUERADE, NO_ICC};

/// One container's place on one network, under one of its addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Endpoint<A> {
    /// The network's subnet.
    pub subnet: A,
    /// The subnet's mask.
    pub mask: A,
    /// The gateway's address on the network.
    pub gateway: A,
    /// Interface index of the host side.
    pub host_side: u32,
    /// Interface index of the bridge. Tells networks apart.
    pub bridge: u32,
    /// Slot, shared by all addresses at one host side.
    pub slot: u32,
    /// Bits: [`MASQUERADE`], [`INTERNAL`], [`NO_ICC`].
    pub network: u32,
    /// The network's index in [`super::maps::NETWORKS`].
    pub network_number: u32,
    /// The network's MTU in bytes, from the IP header on; at most 65,535.
    pub mtu: u32,
    /// Destination and source MAC of a packet for the container: the container side's and the
    /// bridge's.
    pub macs: Macs,
}
