//! Ethernet II headers.

use network_types::eth::{EthHdr, EtherType};

use crate::wire::frame::Frame;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = EthHdr::LEN;

/// EtherTypes, in the frame's byte order.
pub mod ether_type {
    use super::EtherType;

    /// IPv4.
    pub const IPV4: u16 = EtherType::Ipv4 as u16;
    /// ARP.
    pub const ARP: u16 = EtherType::Arp as u16;
    /// IPv6.
    pub const IPV6: u16 = EtherType::Ipv6 as u16;
}

pub use super::layout::Ethernet;

impl Ethernet {
    /// Destination MAC.
    #[inline(always)]
    pub const fn destination(&self) -> [u8; 6] {
        self.0.dst_addr
    }

    /// Source MAC.
    #[inline(always)]
    pub const fn source(&self) -> [u8; 6] {
        self.0.src_addr
    }

    /// The EtherType, in the frame's byte order: see [`ether_type`].
    #[inline(always)]
    pub const fn ether_type(&self) -> u16 {
        self.0.ether_type
    }

    /// The header of a reply: source and destination exchanged.
    #[inline(always)]
    pub(crate) const fn reversed(&self) -> Self {
        let EthHdr { dst_addr, src_addr, ether_type } = self.0;
        Self(EthHdr { dst_addr: src_addr, src_addr: dst_addr, ether_type })
    }
}

/// The source MAC of a frame; zero if the frame is too short.
#[inline(always)]
pub fn source_mac(frame: &(impl Frame + ?Sized)) -> [u8; 6] {
    match frame.read::<Ethernet>(0) {
        Some(header) => header.source(),
        None => [0; 6],
    }
}
