//! Conversion of addresses between std and the maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use causeway_common::{
    abi::maps::FamilyMaps,
    wire::address::{Address, V4, V6},
};

/// The address of a family.
pub(in crate::datapath) trait Ip: Address + FamilyMaps {
    /// The number of the family for `flow_gc`.
    const VERSION: u8;

    /// The address if it is of this family. IPv4-mapped addresses are IPv6.
    fn of(address: IpAddr) -> Option<Self>;

    /// The address for display: an IPv4-mapped one as IPv4.
    fn ip(self) -> IpAddr;

    /// The reverse of [`Self::ip`], for an address that was of this family.
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
    fn mapped_address_is_ipv6_and_shown_as_ipv4() {
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
