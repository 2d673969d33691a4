//! The MAC addresses of an Ethernet header.

use bytemuck::{Pod, Zeroable};

/// The MACs of an Ethernet header, as its first twelve bytes stand in words: written to a frame by
/// three stores.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct Macs([u32; 3]);

impl Macs {
    /// From the bytes.
    pub const fn new(d: [u8; 6], s: [u8; 6]) -> Self {
        Self([
            u32::from_ne_bytes([d[0], d[1], d[2], d[3]]),
            u32::from_ne_bytes([d[4], d[5], s[0], s[1]]),
            u32::from_ne_bytes([s[2], s[3], s[4], s[5]]),
        ])
    }

    /// As words.
    #[inline(always)]
    pub const fn words(&self) -> [u32; 3] {
        self.0
    }

    /// Looked for in vain: nobody's either.
    pub const FAILED: Self = Self([0, 0, 1]);

    /// Whether they are anybody's. While one CPU writes them another may see some of the words:
    /// then they are nobody's yet. So are those that have a word of zeroes, which goes the longer
    /// way and is right.
    #[inline(always)]
    pub const fn is_resolved(&self) -> bool {
        self.0[0] != 0 && self.0[1] != 0 && self.0[2] != 0
    }

    /// Whether nobody has looked for them.
    #[inline(always)]
    pub const fn is_unresolved(&self) -> bool {
        self.0[0] | self.0[1] | self.0[2] == 0
    }

    /// The destination's bytes.
    #[inline(always)]
    pub const fn destination(&self) -> [u8; 6] {
        let (first, last) = (self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes());
        [first[0], first[1], first[2], first[3], last[0], last[1]]
    }
}
