//! NAT64: the headers that a packet gets in the other family.

use bytemuck::Zeroable;

use network_types::icmp::Icmpv4Hdr;

use crate::wire::{checksum, ipv4::Ipv4, ipv6::Ipv6, layout::word};

pub(crate) const HEADER4: usize = size_of::<Ipv4>();

pub(crate) const HEADER6: usize = size_of::<Ipv6>();

/// By how many bytes a packet grows from IPv4 to IPv6.
pub const HEADER_GROWTH: u32 = (HEADER6 - HEADER4) as u32;

/// The headers of a packet in the other family, for an ICMP error up to the quoted payload. They
/// are built in place, in the kernel in a map value: BPF's stack has no room for them.
#[derive(Clone, Copy, Debug)]
pub struct Head<H> {
    /// The IP header.
    pub outer: H,
    /// The ICMP header of an error.
    pub icmp: Icmp,
    /// The IP header of the quoted packet.
    pub quoted: H,
    /// What the translation of the quoted payload adds to a sum over it.
    pub payload_delta: u16,
}

impl<H: Zeroable> Head<H> {
    /// All zero.
    pub fn none() -> Self {
        Self { outer: H::zeroed(), icmp: Icmp::zeroed(), quoted: H::zeroed(), payload_delta: 0 }
    }
}

pub use super::layout::Icmp;

impl Icmp {
    /// An error without its checksum. `value` is the MTU of a packet that is too long (RFC 1191,
    /// RFC 4443 section 3.2), or the pointer of a parameter problem of IPv6.
    #[inline(always)]
    pub(crate) const fn error(kind: u8, code: u8, value: u16) -> Self {
        let [high, low] = value.to_be_bytes();
        Self(Icmpv4Hdr { type_: kind, code, check: [0; 2], data: [0, 0, high, low] })
    }

    /// The two words after the checksum, in the frame's byte order.
    #[inline(always)]
    pub(crate) const fn rest(self) -> [u16; 2] {
        let [a, b, c, d] = self.0.data;
        [word([a, b]), word([c, d])]
    }

    /// Updates the checksum after a change that adds `delta` to the sum over the message.
    #[inline(always)]
    pub(crate) fn update_checksum(&mut self, delta: u32) {
        self.0.check = checksum::update(word(self.0.check), delta).to_ne_bytes();
    }

    /// The one's complement sum over the header without its checksum, not folded.
    #[inline(always)]
    pub(crate) fn sum(self) -> u32 {
        let [high, low] = self.rest();
        u32::from(word([self.0.type_, self.0.code])) + u32::from(high) + u32::from(low)
    }
}
