//! Addresses and ports in network order. Only this module knows how the families differ in size.
//!
//! A value holds the packet's bytes as machine words, so that the packet path copies and compares
//! words. `octets` and `get` give the value in host order.

use bytemuck::{Pod, Zeroable};
use core::{fmt::Debug, hash::Hash};

/// An address of either family.
pub trait Address: Copy + Debug + Eq + Hash + Ord + Pod {
    /// `AF_INET` or `AF_INET6`.
    const FAMILY: u8;
    /// The unspecified address.
    const UNSPECIFIED: Self;

    /// Whether it is a multicast address, or IPv4's limited broadcast.
    fn is_multicast(&self) -> bool;

    /// Whether no packet on a wire may have it as source: unspecified, loopback, multicast,
    /// broadcast (RFC 1122 section 3.2.1.3).
    fn is_martian_source(&self) -> bool;

    /// Whether it is a loopback address.
    fn is_loopback(&self) -> bool;

    /// Whether it is in the subnet.
    fn is_in(&self, subnet: &Self, mask: &Self) -> bool;

    /// Whether it is the broadcast address of the subnet. IPv6 has none.
    fn is_broadcast_of(&self, subnet: &Self, mask: &Self) -> bool;

    /// Whether it is an IPv6 link-local address (RFC 4291 section 2.5.6). False for IPv4's, which
    /// are routed like any other.
    fn stays_on_link(&self) -> bool;

    /// Whether it is an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2). No packet on a wire
    /// has one.
    fn is_v4_mapped(&self) -> bool;

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
    fn is_loopback(&self) -> bool {
        self.octets()[0] == 127
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
    fn is_v4_mapped(&self) -> bool {
        false
    }

    #[inline(always)]
    fn sum(&self) -> u32 {
        (self.0 & 0xffff) + (self.0 >> 16)
    }
}

/// The third word of an IPv4-mapped address, after two words of zero.
const V4_MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

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

    /// The IPv4-mapped address.
    #[inline(always)]
    pub const fn v4_mapped(address: V4) -> Self {
        Self([0, 0, V4_MAPPED, address.word()])
    }

    /// The IPv4 address of an IPv4-mapped one.
    #[inline(always)]
    pub fn to_v4(self) -> Option<V4> {
        if self.is_v4_mapped() { Some(V4::from_word(self.0[3])) } else { None }
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

    /// From the bytes in network order, copied at once. [`Self::new`] compiles to byte loads where
    /// they are not constant.
    #[inline(always)]
    pub(crate) fn from_octets(octets: [u8; 16]) -> Self {
        Self(bytemuck::must_cast(octets))
    }

    /// The bytes in network order.
    #[inline(always)]
    pub fn octets(self) -> [u8; 16] {
        bytemuck::must_cast(self.0)
    }
}

impl Address for V6 {
    const FAMILY: u8 = 10;
    const UNSPECIFIED: Self = Self([0; 4]);

    #[inline(always)]
    fn is_multicast(&self) -> bool {
        self.0[0].to_ne_bytes()[0] == 0xff
    }

    #[inline(always)]
    fn is_martian_source(&self) -> bool {
        self.is_multicast()
            || (self.0[0] | self.0[1] | self.0[2] == 0
                && matches!(self.octets()[12..], [0, 0, 0, 0 | 1]))
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        self.0[0] | self.0[1] | self.0[2] == 0 && self.0[3] == 1_u32.to_be()
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
    fn is_v4_mapped(&self) -> bool {
        self.0[0] | self.0[1] == 0 && self.0[2] == V4_MAPPED
    }

    #[inline(always)]
    fn sum(&self) -> u32 {
        let entry = |word: u32| (word & 0xffff) + (word >> 16);
        entry(self.0[0]) + entry(self.0[1]) + entry(self.0[2]) + entry(self.0[3])
    }
}

/// A 16-bit field in network order: a port, or an ICMP echo identifier.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
pub struct Port(u16);

impl Port {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// From the number in host order.
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// From a word that already holds the bytes in network order.
    #[inline(always)]
    pub const fn from_word(word: u16) -> Self {
        Self(word)
    }

    /// The number in host order.
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
    use crate::{
        testing::fixture::{Fixture, families},
        wire::checksum,
    };

    #[test]
    fn words_hold_packet_bytes() {
        assert_eq!(bytemuck::bytes_of(&V4::new([172, 18, 0, 2])), [172, 18, 0, 2]);
        assert_eq!(bytemuck::bytes_of(&Port::new(5000)), [0x13, 0x88]);
        let octets = core::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(bytemuck::bytes_of(&V6::new(octets)), octets);
        assert_eq!(V6::new(octets).octets(), octets);
    }

    #[test]
    fn ipv4_subnet_and_broadcast_match() {
        let (subnet, mask) = (V4::new([172, 18, 0, 0]), V4::new([255, 255, 0, 0]));
        assert!(V4::new([172, 18, 255, 1]).is_in(&subnet, &mask));
        assert!(!V4::new([172, 19, 0, 1]).is_in(&subnet, &mask));
        assert!(V4::new([172, 18, 255, 255]).is_broadcast_of(&subnet, &mask));
        assert!(!V4::new([172, 18, 255, 254]).is_broadcast_of(&subnet, &mask));
    }

    #[test]
    fn ipv4_multicast_is_recognized() {
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
    }

    #[test]
    fn loopback_is_recognized() {
        assert!(
            V4::new([127, 0, 0, 1]).is_loopback() && V4::new([127, 255, 255, 255]).is_loopback()
        );
        assert!(
            !V4::new([126, 255, 255, 255]).is_loopback() && !V4::new([128, 0, 0, 0]).is_loopback()
        );
        let ends_in = |octet| {
            let mut octets = [0; 16];
            octets[15] = octet;
            V6::new(octets)
        };
        assert!(ends_in(1).is_loopback() && !ends_in(0).is_loopback() && !ends_in(2).is_loopback());
        assert!(!V6::v4_mapped(V4::new([0, 0, 0, 1])).is_loopback());
    }

    #[test]
    fn ipv6_scopes_follow_prefix() {
        let of = |first: [u8; 2], last: u8| {
            let mut octets = [0; 16];
            octets[..2].copy_from_slice(&first);
            octets[15] = last;
            V6::new(octets)
        };
        let mapped = V6::v4_mapped(V4::new([127, 0, 0, 1]));
        let translated = {
            let mut octets = mapped.octets();
            octets[1] = 1;
            V6::new(octets)
        };
        // Multicast, martian source, link-local, IPv4-mapped.
        for (what, address, expected) in [
            ("unspecified", of([0, 0], 0), [false, true, false, false]),
            ("loopback", of([0, 0], 1), [false, true, false, false]),
            ("beside it", of([0, 0], 2), [false, false, false, false]),
            ("not loopback", of([0, 1], 1), [false, false, false, false]),
            ("multicast of the link", of([0xff, 2], 1), [true, true, false, false]),
            ("multicast of the world", of([0xff, 0x0e], 1), [true, true, false, false]),
            ("link-local", of([0xfe, 0x80], 1), [false, false, true, false]),
            ("the last link-local", of([0xfe, 0xbf], 1), [false, false, true, false]),
            ("beside link-local", of([0xfe, 0x7f], 1), [false, false, false, false]),
            ("site-local", of([0xfe, 0xc0], 1), [false, false, false, false]),
            ("unique local", of([0xfd, 0], 1), [false, false, false, false]),
            ("global", of([0x20, 1], 1), [false, false, false, false]),
            ("mapped", mapped, [false, false, false, true]),
            ("nearly mapped", translated, [false, false, false, false]),
            ("IPv4-compatible", of([0, 0], 9), [false, false, false, false]),
        ] {
            let seen = [
                address.is_multicast(),
                address.is_martian_source(),
                address.stays_on_link(),
                address.is_v4_mapped(),
            ];
            assert_eq!(seen, expected, "{what}");
            assert!(!address.is_broadcast_of(&address, &address), "{what}: there is no broadcast");
        }
        assert_eq!(mapped.to_v4(), Some(V4::new([127, 0, 0, 1])));
        assert_eq!(mapped.octets(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1]);
        assert_eq!(translated.to_v4(), None);
        assert!(
            !V4::new([169, 254, 0, 1]).stays_on_link() && !V4::new([127, 0, 0, 1]).is_v4_mapped()
        );
    }

    families!(subnet_contains_its_prefix_only, sum_equals_sum_of_bytes);

    fn subnet_contains_its_prefix_only<A: Fixture>() {
        let bits = size_of::<A>() * 8;
        for length in 0..=bits {
            let mask = A::of(core::array::from_fn(|i| {
                let set = length.saturating_sub(i * 8).min(8);
                if set == 0 { 0 } else { 0xff << (8 - set) }
            }));
            let address = [0x5a; 16];
            let subnet = A::of(core::array::from_fn(|i| {
                address[i] & bytemuck::bytes_of(&mask)[i.min(bits / 8 - 1)]
            }));
            assert!(A::of(address).is_in(&subnet, &mask), "/{length}");
            for bit in 0..bits {
                let mut other = address;
                other[bit / 8] ^= 0x80 >> (bit % 8);
                assert_eq!(
                    A::of(other).is_in(&subnet, &mask),
                    bit >= length,
                    "/{length}, bit {bit}"
                );
            }
        }
    }

    fn sum_equals_sum_of_bytes<A: Fixture>() {
        let mut state = 5_u64;
        for _ in 0..1000 {
            let address = A::of(core::array::from_fn(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as u8
            }));
            assert_eq!(checksum::fold(address.sum()), checksum::sum(bytemuck::bytes_of(&address)));
        }
    }
}
