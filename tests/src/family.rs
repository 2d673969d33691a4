//! IPv4 and IPv6: the addresses of the lab, and tests that run once for each family.
//!
//! ```text
//!              IPv4                     IPv6
//!   far        203.0.113.10             2001:db8:113::10           world, lo
//!   router     10.0.2.2/24              2001:db8:2::2/64           world, world0
//!   host       10.0.2.15/24             2001:db8:2::15/64          host, uplink0
//!   network    default, 172.18.0.0/16   dual, 2001:db8:18::/64     containers (and 172.27.0.0/16)
//!   other      203.0.113.66             2001:db8:113:1::66         a second host outside
//!   near hop   203.0.113.129            2001:db8:113:2::1          world, on the narrow link
//!   hop        203.0.113.130            2001:db8:113:2::2          the router behind the world
//!   far hop    203.0.113.193            2001:db8:113:3::1          that router, toward beyond
//!   beyond     203.0.113.194            2001:db8:113:3::194        a host behind the narrow link
//! ```

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

pub use Family::{V4, V6};

/// Makes tests `v4::NAME` and `v6::NAME` of each function, which takes the family. Functions after
/// `V4:` or `V6:` get that family only.
#[macro_export]
macro_rules! families {
    (
        $($both:ident),* $(,)?
        $(; V4: $($four:ident),+ $(,)?)?
        $(; V6: $($six:ident),+ $(,)?)?
    ) => {
        mod v4 {
            $(#[test] fn $both() { super::$both($crate::family::V4); })*
            $($(#[test] fn $four() { super::$four($crate::family::V4); })+)?
        }
        mod v6 {
            $(#[test] fn $both() { super::$both($crate::family::V6); })*
            $($(#[test] fn $six() { super::$six($crate::family::V6); })+)?
        }
    };
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [V4, V6];

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => V4,
            IpAddr::V6(_) => V6,
        }
    }

    const fn pick(self, four: [u8; 4], six: [u16; 8]) -> IpAddr {
        match self {
            V4 => IpAddr::V4(Ipv4Addr::from_octets(four)),
            V6 => IpAddr::V6(Ipv6Addr::from_segments(six)),
        }
    }

    /// The host's address on the uplink.
    pub const fn host(self) -> IpAddr {
        self.pick([10, 0, 2, 15], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x15])
    }

    /// The world's address on the uplink's other end: the host's router.
    pub const fn router(self) -> IpAddr {
        self.pick([10, 0, 2, 2], [0x2001, 0xdb8, 2, 0, 0, 0, 0, 2])
    }

    /// An address of the rest of the world.
    pub const fn far(self) -> IpAddr {
        self.pick([203, 0, 113, 10], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10])
    }

    /// A subnet that contains [`Self::far`] but not [`Self::router`].
    pub const fn outside(self) -> &'static str {
        match self {
            V4 => "203.0.113.0/24",
            V6 => "2001:db8:113::/48",
        }
    }

    /// A second host outside.
    pub const fn other(self) -> IpAddr {
        self.pick([203, 0, 113, 66], [0x2001, 0xdb8, 0x113, 1, 0, 0, 0, 0x66])
    }

    /// The world's address on the link to [`Self::other`].
    pub const fn near_other(self) -> IpAddr {
        self.pick([203, 0, 113, 65], [0x2001, 0xdb8, 0x113, 1, 0, 0, 0, 1])
    }

    /// The world's address on the narrow link.
    pub const fn near_hop(self) -> IpAddr {
        self.pick([203, 0, 113, 129], [0x2001, 0xdb8, 0x113, 2, 0, 0, 0, 1])
    }

    /// The address of the router behind the world.
    pub const fn hop(self) -> IpAddr {
        self.pick([203, 0, 113, 130], [0x2001, 0xdb8, 0x113, 2, 0, 0, 0, 2])
    }

    /// The address of [`Self::hop`]'s router toward the host behind it.
    pub const fn far_hop(self) -> IpAddr {
        self.pick([203, 0, 113, 193], [0x2001, 0xdb8, 0x113, 3, 0, 0, 0, 1])
    }

    /// A host behind the narrow link.
    pub const fn beyond(self) -> IpAddr {
        self.pick([203, 0, 113, 194], [0x2001, 0xdb8, 0x113, 3, 0, 0, 0, 0x194])
    }

    /// One of 131,072 outside addresses that no host answers for.
    pub const fn stranger(self, number: u32) -> IpAddr {
        let number = number & 0x1_ffff;
        let [_, b, c, d] = number.to_be_bytes();
        self.pick(
            [198, 18 + b, c, d],
            [0x2001, 0xdb8, 0x198, 0, 0, 0, (number >> 16) as u16, number as u16],
        )
    }

    /// The default network of containers in tests.
    pub const fn network(self) -> &'static str {
        match self {
            V4 => "default",
            V6 => "dual",
        }
    }

    /// Subnet of the default network.
    pub const fn subnet(self) -> &'static str {
        match self {
            V4 => "172.18.0.0/16",
            V6 => "2001:db8:18::/64",
        }
    }

    /// Gateway of the default network.
    pub const fn gateway(self) -> IpAddr {
        self.pick([172, 18, 0, 1], [0x2001, 0xdb8, 0x18, 0, 0, 0, 0, 1])
    }

    /// The gateway of the network that [`crate::lab::Lab::network`] makes with a number.
    pub const fn gateway_of(self, number: u8) -> IpAddr {
        self.pick([172, number, 0, 1], [0x2001, 0xdb8, number as u16, 1, 0, 0, 0, 1])
    }

    /// The subnet of the network that [`crate::lab::Lab::network`] makes with a number.
    pub fn subnet_of(self, number: u8) -> String {
        match self {
            V4 => format!("172.{number}.0.0/16"),
            V6 => format!("2001:db8:{number:x}:1::/64"),
        }
    }

    /// The loopback address.
    pub const fn loopback(self) -> IpAddr {
        self.pick([127, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1])
    }

    /// The unspecified address.
    pub const fn any(self) -> IpAddr {
        self.pick([0; 4], [0; 8])
    }

    /// Bytes of an IP header without options or extension headers.
    pub const fn header(self) -> usize {
        match self {
            V4 => 20,
            V6 => 40,
        }
    }

    /// Longest payload of a UDP datagram that the length field of the IP header allows.
    pub const fn longest_datagram(self) -> usize {
        match self {
            V4 => 65535 - 20 - 8,
            V6 => 65535 - 8,
        }
    }

    /// Longest payload of a UDP datagram or ping in a packet of `packet` bytes.
    pub const fn data_of(self, packet: usize) -> usize {
        packet - self.header() - 8
    }

    /// Payload bytes in a fragment of 1500 bytes.
    pub const fn piece(self) -> usize {
        match self {
            V4 => 1480,
            // The fragment header has eight bytes, and all fragments but the last carry a multiple
            // of eight.
            V6 => 1448,
        }
    }

    /// Protocol number of ICMP or `ICMPv6`.
    pub const fn icmp(self) -> u8 {
        match self {
            V4 => 1,
            V6 => 58,
        }
    }

    /// Name of [`Self::icmp`] in `causeway flows`.
    pub const fn icmp_name(self) -> &'static str {
        match self {
            V4 => "icmp",
            V6 => "icmpv6",
        }
    }

    /// ICMP types of echo request and echo reply.
    pub const fn echo(self) -> (u8, u8) {
        match self {
            V4 => (8, 0),
            V6 => (128, 129),
        }
    }

    /// Prefix length of a single address.
    pub const fn whole(self) -> u8 {
        match self {
            V4 => 32,
            V6 => 128,
        }
    }
}

/// An address as an IPv6 socket shows it: IPv4 becomes IPv4-mapped.
pub fn by_ipv6(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(_) => address,
    }
}

/// The family of the IP packet in an Ethernet frame. `None` for other frames.
pub fn of_frame(frame: &[u8]) -> Option<Family> {
    match frame.get(12..14)? {
        [0x08, 0x00] => Some(V4),
        [0x86, 0xdd] => Some(V6),
        _ => None,
    }
}

/// An address as written before a port: IPv6 in brackets.
pub fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            V4 => "IPv4",
            V6 => "IPv6",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_their_family() {
        for family in Family::ALL {
            for address in [
                family.host(),
                family.far(),
                family.gateway(),
                family.any(),
                family.stranger(0x1_2345),
            ] {
                assert_eq!(Family::of(address), family, "{address}");
            }
        }
    }

    #[test]
    fn numbered_addresses_are_distinct() {
        assert_eq!(V4.stranger(0x1_0203), IpAddr::from([198, 19, 2, 3]));
        assert_ne!(V6.stranger(0x1_0203), V6.stranger(0x0203));
    }
}
