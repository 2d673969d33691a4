//! Addresses between people's words and those of the maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use causeway_common::{
    abi::maps::FamilyMaps,
    wire::address::{Address, V4, V6},
};

/// A family's address, made of one that can be of either.
pub(in crate::datapath) trait Ip: Address + FamilyMaps {
    /// What stands for this family where keys of either are given to a program.
    const VERSION: u8;

    /// None if it is of the other family. An IPv4-mapped one is IPv6 here.
    fn of(address: IpAddr) -> Option<Self>;

    /// As people write it: an IPv4-mapped one as IPv4.
    fn ip(self) -> IpAddr;

    /// The reverse of [`Self::ip`], where it is known that the address was of this family.
    fn of_shown(address: IpAddr) -> Option<Self>;
}

impl Ip for V4 {
    const VERSION: u8 = 4;

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(Self::new(address.octets())),
            IpAddr::V6(_) => None,
        }
    }

    fn ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self.octets()))
    }

    fn of_shown(address: IpAddr) -> Option<Self> {
        Self::of(address)
    }
}

impl Ip for V6 {
    const VERSION: u8 = 6;

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(Self::new(address.octets())),
        }
    }

    fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.octets()).to_canonical()
    }

    fn of_shown(address: IpAddr) -> Option<Self> {
        Some(Self::new(match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_of_ipv6_and_written_as_ipv4() {
        let v4: IpAddr = "172.18.0.2".parse().unwrap();
        let mapped: IpAddr = "::ffff:172.18.0.2".parse().unwrap();
        let v6: IpAddr = "2001:db8:18::2".parse().unwrap();
        assert_eq!((V4::of(mapped), V4::of(v6), V6::of(v4)), (None, None, None));
        for (of, again) in [(V4::of(v4).unwrap().ip(), v4), (V6::of(v6).unwrap().ip(), v6)] {
            assert_eq!(of, again);
        }
        assert_eq!(V6::of(mapped).unwrap().ip(), v4);
        assert_eq!(V6::of_shown(v4), V6::of(mapped));
        assert_eq!(
            (V4::of_shown(v4), V4::of_shown(v6), V6::of_shown(v6)),
            (V4::of(v4), None, V6::of(v6))
        );
    }
}
