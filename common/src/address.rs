//! Addresses and ports as they stand in a packet: the only place that knows how the families differ in shape.
//!
//! A value holds the packet's bytes in the machine's own word, so that it is copied and compared as one word on the packet path. Nothing
//! computes with that word: `octets` and `get` give the value that people mean.

use core::{fmt::Debug, hash::Hash};

use bytemuck::{Pod, Zeroable};

use crate::abi;

/// An address of either family.
pub trait Address: Copy + Debug + Eq + Hash + Ord + Pod {
    /// `AF_INET` or `AF_INET6`.
    const FAMILY: u8;
    /// The names of its maps.
    const MAPS: abi::name::Maps;
    /// The unspecified address.
    const UNSPECIFIED: Self;

    /// Whether it is multicast, or IPv4's limited broadcast.
    fn is_multicast(&self) -> bool;
    /// Whether no packet on a wire may have it for a source: unspecified, loopback, multicast, broadcast (RFC 1122 section 3.2.1.3).
    fn is_martian_source(&self) -> bool;
    /// Whether it is in the subnet.
    fn is_in(&self, subnet: &Self, mask: &Self) -> bool;
    /// Whether it is the all-ones address of the subnet, which IPv4 calls its broadcast address. Never so for IPv6.
    fn is_broadcast_of(&self, subnet: &Self, mask: &Self) -> bool;
    /// Whether no packet with it leaves its link: IPv6's link-local addresses (RFC 4291 section 2.5.6). IPv4's are nobody's here, and leave as others do.
    fn stays_on_link(&self) -> bool;
    /// Whether it is an IPv4 address in IPv6's form (RFC 4291 section 2.5.5.2): no packet on a wire has it.
    fn is_mapped(&self) -> bool;
    /// The one's complement sum of its 16-bit words, not folded (RFC 1071).
    fn sum(&self) -> u32;
}

/// An IPv4 address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
pub struct V4(u32);

impl V4 {
    /// From the bytes in network order.
    #[inline(always)]
    pub const fn new(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// From a word that already holds the bytes in network order.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// The word that holds the bytes in network order.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.0
    }

    /// The bytes in network order.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

impl Address for V4 {
    const FAMILY: u8 = 2;
    const MAPS: abi::name::Maps = abi::name::V4;
    const UNSPECIFIED: Self = Self(0);

    #[inline(always)]
    fn is_multicast(&self) -> bool {
        self.octets()[0] & 0xf0 == 0xe0 || self.0 == u32::MAX
    }

    #[inline(always)]
    fn is_martian_source(&self) -> bool {
        matches!(self.octets()[0], 0 | 127 | 224..)
    }

    #[inline(always)]
    fn is_in(&self, subnet: &Self, mask: &Self) -> bool {
        self.0 & mask.0 == subnet.0
    }

    #[inline(always)]
    fn is_broadcast_of(&self, subnet: &Self, mask: &Self) -> bool {
        self.0 == subnet.0 | !mask.0
    }

    #[inline(always)]
    fn stays_on_link(&self) -> bool {
        false
    }

    #[inline(always)]
    fn is_mapped(&self) -> bool {
        false
    }

    #[inline(always)]
    fn sum(&self) -> u32 {
        (self.0 & 0xffff) + (self.0 >> 16)
    }
}

/// What stands before the IPv4 address in one of IPv6's form, after eight bytes of zero.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// An IPv6 address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
pub struct V6([u32; 4]);

impl V6 {
    /// From the bytes in network order.
    #[inline(always)]
    pub const fn new(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// An IPv4 address in IPv6's form.
    #[inline(always)]
    pub const fn mapped(address: V4) -> Self {
        Self([0, 0, MAPPED, address.word()])
    }

    /// The IPv4 address, if it is one in IPv6's form.
    #[inline(always)]
    pub fn unmapped(self) -> Option<V4> {
        if self.is_mapped() { Some(V4::from_word(self.0[3])) } else { None }
    }

    /// From words that already hold the bytes in network order.
    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// The words that hold the bytes in network order.
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        self.0
    }

    /// The bytes in network order.
    pub fn octets(self) -> [u8; 16] {
        bytemuck::cast(self.0)
    }
}

impl Address for V6 {
    const FAMILY: u8 = 10;
    const MAPS: abi::name::Maps = abi::name::V6;
    const UNSPECIFIED: Self = Self([0; 4]);

    #[inline(always)]
    fn is_multicast(&self) -> bool {
        self.0[0].to_ne_bytes()[0] == 0xff
    }

    #[inline(always)]
    fn is_martian_source(&self) -> bool {
        self.is_multicast()
            || (self.0[0] | self.0[1] | self.0[2] == 0 && matches!(self.octets()[12..], [0, 0, 0, 0 | 1]))
    }

    #[inline(always)]
    fn is_in(&self, subnet: &Self, mask: &Self) -> bool {
        self.0[0] & mask.0[0] == subnet.0[0]
            && self.0[1] & mask.0[1] == subnet.0[1]
            && self.0[2] & mask.0[2] == subnet.0[2]
            && self.0[3] & mask.0[3] == subnet.0[3]
    }

    #[inline(always)]
    fn is_broadcast_of(&self, _subnet: &Self, _mask: &Self) -> bool {
        false
    }

    #[inline(always)]
    fn stays_on_link(&self) -> bool {
        self.0[0] & u32::from_ne_bytes([0xff, 0xc0, 0, 0]) == u32::from_ne_bytes([0xfe, 0x80, 0, 0])
    }

    #[inline(always)]
    fn is_mapped(&self) -> bool {
        self.0[0] | self.0[1] == 0 && self.0[2] == MAPPED
    }

    #[inline(always)]
    fn sum(&self) -> u32 {
        let half = |word: u32| (word & 0xffff) + (word >> 16);
        half(self.0[0]) + half(self.0[1]) + half(self.0[2]) + half(self.0[3])
    }
}

/// A 16-bit field in network order: a port, or an ICMP echo identifier.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
pub struct Port(u16);

impl Port {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// From the number people mean.
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// From a word that already holds the bytes in network order.
    #[inline(always)]
    pub const fn from_word(word: u16) -> Self {
        Self(word)
    }

    /// The number people mean.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The word that holds the bytes in network order.
    #[inline(always)]
    pub const fn word(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_the_bytes_of_the_packet() {
        assert_eq!(bytemuck::bytes_of(&V4::new([172, 18, 0, 2])), [172, 18, 0, 2]);
        assert_eq!(bytemuck::bytes_of(&Port::new(5000)), [0x13, 0x88]);
        let octets = core::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(bytemuck::bytes_of(&V6::new(octets)), octets);
        assert_eq!(V6::new(octets).octets(), octets);
    }

    #[test]
    fn subnets_contain_their_addresses_only() {
        let (subnet, mask) = (V4::new([172, 18, 0, 0]), V4::new([255, 255, 0, 0]));
        assert!(V4::new([172, 18, 255, 1]).is_in(&subnet, &mask));
        assert!(!V4::new([172, 19, 0, 1]).is_in(&subnet, &mask));
        assert!(V4::new([172, 18, 255, 255]).is_broadcast_of(&subnet, &mask));
        assert!(!V4::new([172, 18, 255, 254]).is_broadcast_of(&subnet, &mask));
        let mut net = [0; 16];
        net[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        let mut bits = [0; 16];
        bits[..8].fill(0xff);
        let mut inside = net;
        inside[15] = 1;
        let mut outside = inside;
        outside[7] = 1;
        assert!(V6::new(inside).is_in(&V6::new(net), &V6::new(bits)));
        assert!(!V6::new(outside).is_in(&V6::new(net), &V6::new(bits)));
    }

    #[test]
    fn multicast_is_told_from_unicast() {
        for (octets, multicast) in [
            ([224, 0, 0, 1], true),
            ([239, 255, 0, 1], true),
            ([255; 4], true),
            ([223, 0, 0, 1], false),
            ([240, 0, 0, 1], false),
        ] {
            assert_eq!(V4::new(octets).is_multicast(), multicast, "{octets:?}");
        }
        for (octets, martian) in [
            ([0, 0, 0, 0], true),
            ([0, 1, 2, 3], true),
            ([127, 0, 0, 1], true),
            ([224, 0, 0, 1], true),
            ([240, 0, 0, 1], true),
            ([255; 4], true),
            ([10, 0, 2, 2], false),
            ([223, 255, 255, 255], false),
        ] {
            assert_eq!(V4::new(octets).is_martian_source(), martian, "{octets:?}");
        }
        let ends_in = |octet| {
            let mut octets = [0; 16];
            octets[15] = octet;
            V6::new(octets)
        };
        assert!(ends_in(0).is_martian_source() && ends_in(1).is_martian_source() && !ends_in(2).is_martian_source());
        assert!(V6::new([0xff; 16]).is_multicast());
        assert!(!V6::new([0xfe; 16]).is_multicast());
    }
}
