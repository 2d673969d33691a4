//! Ethernet II headers.

use bytemuck::{Pod, Zeroable};

use crate::wire::frame::Frame;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// Types of Ethernet frames, as the frame's bytes stand in a word.
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800_u16.to_be();
    /// ARP.
    pub const ARP: u16 = 0x0806_u16.to_be();
    /// IPv6.
    pub const IPV6: u16 = 0x86dd_u16.to_be();
}

/// An Ethernet header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Ethernet {
    /// Destination MAC.
    pub destination: [u8; 6],
    /// Source MAC.
    pub source: [u8; 6],
    /// As the frame's bytes stand in a word.
    pub ether_type: u16,
}

/// The frame's source MAC; zero if it ends before that.
#[inline(always)]
pub fn source_mac(frame: &(impl Frame + ?Sized)) -> [u8; 6] {
    match frame.read::<Ethernet>(0) {
        Some(header) => header.source,
        None => [0; 6],
    }
}
