//! The MAC addresses of an Ethernet header.

use bytemuck::{Pod, Zeroable};

/// Destination and source MAC: the first twelve bytes of an Ethernet header as three words, so that
/// three stores write them to a frame.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct Macs([u32; 3]);

impl Macs {
    /// From the destination's and the source's bytes.
    pub const fn new(d: [u8; 6], s: [u8; 6]) -> Self {
        Self([
            u32::from_ne_bytes([d[0], d[1], d[2], d[3]]),
            u32::from_ne_bytes([d[4], d[5], s[0], s[1]]),
            u32::from_ne_bytes([s[2], s[3], s[4], s[5]]),
        ])
    }

    /// The three words, in the frame's byte order.
    #[inline(always)]
    pub const fn words(&self) -> [u32; 3] {
        self.0
    }

    /// Resolution failed in this tick.
    pub const FAILED: Self = Self([0, 0, 1]);

    /// Whether they can be written to a frame. One CPU may read some of the words while another
    /// writes them; a word of zero then says that they are incomplete. MACs that have such a word
    /// by chance are never resolved: their packets go by the neighbour table.
    #[inline(always)]
    pub const fn is_resolved(&self) -> bool {
        self.0[0] != 0 && self.0[1] != 0 && self.0[2] != 0
    }

    /// Whether resolution was not tried.
    #[inline(always)]
    pub const fn is_unresolved(&self) -> bool {
        self.0[0] | self.0[1] | self.0[2] == 0
    }

    /// The destination MAC.
    #[inline(always)]
    pub const fn destination(&self) -> [u8; 6] {
        let (first, last) = (self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes());
        [first[0], first[1], first[2], first[3], last[0], last[1]]
    }
}
