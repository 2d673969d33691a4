//! The heads of the transport protocols, as far as translation reads them.

use bytemuck::{Pod, Zeroable};

use crate::wire::address::Port;

/// Bytes of TCP's header without options: the longest that parsing looks at after the IP header.
pub(crate) const TCP: u32 = 20;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Ports {
    pub(crate) source: Port,
    pub(crate) destination: Port,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct TcpHead {
    pub(super) ports: Ports,
    pub(super) sequence: [u16; 2],
    pub(super) acknowledgment: [u16; 2],
    pub(super) offset: u8,
    pub(super) flags: u8,
}

/// A number of 32 bits as it stands in a header that need not be aligned to it.
#[inline(always)]
pub(crate) const fn number([high, low]: [u16; 2]) -> u32 {
    (u16::from_be(high) as u32) << 16 | u16::from_be(low) as u32
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct IcmpHead {
    pub(super) kind: u8,
    code: u8,
    checksum: u16,
    pub(super) identifier: Port,
}
