//! Values of the uplink tables.

use bytemuck::{Pod, Zeroable};

/// One family's side of an uplink.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Uplink<A> {
    /// The address that masqueraded flows get.
    pub address: A,
    /// MTU in bytes, from the IP header on; at most 65,535.
    pub mtu: u32,
}

/// The entries of [`super::maps::UPLINK_MACS`]. Of two uplinks whose indexes are the same modulo
/// this number, one can have XDP.
pub const UPLINK_MACS: u32 = 256;

/// An uplink's MAC. XDP passes on frames with another destination.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct UplinkMac {
    /// Interface index; zero for an unused entry.
    pub index: u32,
    /// The interface's MAC.
    pub mac: [u8; 6],
    /// Zero.
    pub _pad: u16,
}
