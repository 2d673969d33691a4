//! Uplinks.

use bytemuck::{Pod, Zeroable};

/// What the datapath knows of an uplink.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Uplink<A> {
    /// The address that masqueraded flows get.
    pub address: A,
    /// In bytes, from the IP header on; at most 65,535.
    pub mtu: u32,
}

/// How many uplinks there can be XDP programs on, and a little more than that: two whose places are
/// one must do with one.
pub const UPLINK_MACS: u32 = 256;

/// An uplink's own MAC: frames with another one are not for the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct UplinkMac {
    /// The interface; zero for none.
    pub index: u32,
    /// Its MAC.
    pub mac: [u8; 6],
    /// Zero.
    pub _pad: u16,
}
