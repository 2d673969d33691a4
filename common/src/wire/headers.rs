//! The headers that a packet gets in the other family.

use bytemuck::{Pod, Zeroable};

use crate::wire::{ipv4::Ipv4, ipv6::Ipv6};

pub(crate) const HEADER4: usize = size_of::<Ipv4>();

pub(crate) const HEADER6: usize = size_of::<Ipv6>();

/// By how many bytes a packet is longer in IPv6.
pub const HEADER_GROWTH: u32 = (HEADER6 - HEADER4) as u32;

/// What a packet gets in the other family: its header, and what else an ICMP error has before the
/// quoted payload. Made in place, in the kernel in a map: it is too much for BPF's stack.
#[derive(Clone, Copy, Debug)]
pub struct Head<H> {
    /// The header.
    pub outer: H,
    /// ICMP's, of an error.
    pub icmp: Icmp,
    /// The quoted packet's header.
    pub quoted: H,
    /// By how much the quoted payload's bytes now sum to more than before.
    pub payload_delta: u16,
}

impl<H: Zeroable> Head<H> {
    /// Nothing yet.
    pub fn none() -> Self {
        Self { outer: H::zeroed(), icmp: Icmp::zeroed(), quoted: H::zeroed(), payload_delta: 0 }
    }
}

/// The beginning of an ICMP message.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
pub struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) checksum: u16,
    /// In network order: of [`ipv6::icmp::TOO_BIG`] the MTU, of IPv4's fragmentation needed it is
    /// the second of these.
    pub(crate) rest: [u16; 2],
}

impl Icmp {
    /// Without the checksum.
    #[inline(always)]
    pub(crate) fn sum(self) -> u32 {
        u32::from(u16::from_ne_bytes([self.kind, self.code]))
            + u32::from(self.rest[0])
            + u32::from(self.rest[1])
    }
}
