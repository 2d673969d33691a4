//! Checks of a network's subnets and MTU.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::family::Family;
use crate::Error;

/// Valid MTUs of a bridge in bytes. 576: every IPv4 host accepts that (RFC 791).
const MTU: RangeInclusive<u32> = 576..=65535;

/// The minimum link MTU of IPv6 (RFC 8200 section 5). The kernel disables IPv6 below it.
const MTU_V6: u32 = 1280;

/// Ranges without addresses for containers, and why.
const UNUSABLE: [(IpNet, &str); 9] = [
    (v4([0, 0, 0, 0], 8), "means this host before it has an address"),
    (v4([127, 0, 0, 0], 8), "every host keeps to itself (loopback)"),
    (v4([169, 254, 0, 0], 16), "is for one link alone and is not routed (link-local)"),
    (v4([224, 0, 0, 0], 4), "is for groups of hosts (multicast)"),
    (v4([240, 0, 0, 0], 4), "is reserved"),
    (v6(0x0000, 8), "is reserved, for loopback and for IPv4 addresses among others"),
    (v6(0xfe80, 10), "is for one link alone and is not routed (link-local)"),
    (v6(0xfec0, 10), "is no longer used (site-local)"),
    (v6(0xff00, 8), "is for groups of hosts (multicast)"),
];

/// Checks one subnet: prefix length, host bits, and that its range is for hosts.
pub fn check(subnet: IpNet) -> Result<(), Error> {
    let (lengths, instead) = match subnet {
        IpNet::V4(_) => (8..=30, "a private one such as 10.20.0.0/16"),
        IpNet::V6(_) => (16..=126, "a unique local one such as fd12:3456:789a::/64"),
    };
    if !lengths.contains(&subnet.prefix_len()) {
        let length = subnet.prefix_len();
        return Err(Error::invalid(format!("the subnet {subnet} has the prefix length {length}"))
            .hint(format!("use one from {} to {}", lengths.start(), lengths.end())));
    }
    check_host_bits(subnet, &format!("the subnet {subnet}"))?;
    for (range, reason) in UNUSABLE {
        if overlap(subnet, range) {
            return Err(Error::invalid(format!(
                "the subnet {subnet} has addresses of {range}, which {reason}"
            ))
            .hint(format!("take {instead}")));
        }
    }
    Ok(())
}

/// Refuses a subnet that is the address of a host with a prefix length. `what` begins the message.
pub(crate) fn check_host_bits(subnet: IpNet, what: &str) -> Result<(), Error> {
    if subnet.addr() == subnet.network() {
        return Ok(());
    }
    Err(Error::invalid(format!("{what} has host bits set"))
        .hint(format!("write {}", subnet.trunc())))
}

/// Checks the subnets of one network together. Returns them with IPv4 first.
pub fn check_all(subnets: &[IpNet]) -> Result<Vec<IpNet>, Error> {
    if subnets.is_empty() {
        return Err(
            Error::invalid("a network needs a subnet").hint("give one such as 10.20.0.0/16")
        );
    }
    for subnet in subnets {
        check(*subnet)?;
    }
    let mut ordered: Vec<IpNet> = Vec::new();
    for family in Family::ALL {
        let mut of_family =
            subnets.iter().copied().filter(|subnet| Family::of_subnet(*subnet) == family);
        ordered.extend(of_family.next());
        if let Some(second) = of_family.next() {
            return Err(Error::invalid(format!(
                "a network has one subnet of each family, and {second} is a second {family} one"
            ))
            .hint("create another network for it"));
        }
    }
    Ok(ordered)
}

/// Checks an MTU in bytes.
pub fn check_mtu(mtu: u32) -> Result<(), Error> {
    if MTU.contains(&mtu) {
        return Ok(());
    }
    let (min, max) = (MTU.start(), MTU.end());
    Err(Error::invalid(format!("the MTU {mtu} is not from {min} to {max} bytes"))
        .hint("give one that is, or none for the uplink's"))
}

/// Checks an MTU in bytes for a network of these subnets.
pub fn check_mtu_for(mtu: u32, subnets: &[IpNet]) -> Result<(), Error> {
    check_mtu(mtu)?;
    if mtu >= MTU_V6 || subnets.iter().all(|subnet| Family::of_subnet(*subnet) == Family::V4) {
        return Ok(());
    }
    Err(Error::invalid(format!("the MTU {mtu} is below the {MTU_V6} bytes that IPv6 needs"))
        .hint(format!("give {MTU_V6} or more, or no IPv6 subnet")))
}

/// Whether two subnets have an address in common.
pub fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// The subnets separated by commas.
pub fn join(subnets: &[IpNet]) -> String {
    let texts: Vec<String> = subnets.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

const fn v4([a, b, c, d]: [u8; 4], prefix_len: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_len))
}

/// The range of addresses that begin with these 16 bits.
const fn v6(first: u16, prefix_len: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), prefix_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn accepts_usable_subnets() {
        for subnets in [
            "10.0.0.0/8",
            "172.18.0.0/16",
            "192.168.7.4/30",
            "100.64.0.0/10",
            "203.0.113.0/24",
            "2001:db8::/64",
            "fd00::/16",
            "2001:db8::4/126",
            "10.0.0.0/8 fd12:3456:789a::/48",
        ] {
            let checked =
                check_all(&nets(subnets)).unwrap_or_else(|error| panic!("{subnets}: {error}"));
            assert_eq!(checked, nets(subnets));
        }
        assert_eq!(check_all(&nets("fd00::/64 10.0.0.0/8")).unwrap(), nets("10.0.0.0/8 fd00::/64"));
    }

    #[test]
    fn refuses_other_subnets() {
        for (subnets, reason) in [
            ("", "needs a subnet"),
            ("10.0.0.0/7", "prefix length 7"),
            ("10.0.0.0/31", "prefix length 31"),
            ("10.0.0.1/32", "prefix length 32"),
            ("0.0.0.0/0", "prefix length 0"),
            ("10.1.2.3/16", "write 10.1.0.0/16"),
            ("127.0.0.0/8", "loopback"),
            ("224.1.0.0/16", "multicast"),
            ("0.0.0.0/8", "means this host"),
            ("169.0.0.0/8", "link-local"),
            ("169.254.9.0/24", "link-local"),
            ("250.0.0.0/8", "reserved"),
            ("10.1.0.0/16 10.2.0.0/16", "10.2.0.0/16 is a second IPv4 one"),
            ("fd00::/64 10.1.0.0/16 fd01::/64", "fd01::/64 is a second IPv6 one"),
            ("10.1.0.0/16 2001:db8::1/64", "write 2001:db8::/64"),
            ("fd00::/15", "prefix length 15; use one from 16 to 126"),
            ("2001:db8::/127", "prefix length 127"),
            ("::/0", "prefix length 0"),
            ("::/96", "has addresses of ::/8"),
            ("::ffff:10.0.0.0/112", "for IPv4 addresses"),
            ("64:ff9b::/96", "has addresses of ::/8"),
            ("fe80::/64", "link-local"),
            ("fec0::/64", "site-local"),
            ("ff02::/16", "multicast"),
        ] {
            let error = check_all(&nets(subnets)).unwrap_err().to_string();
            assert!(error.contains(reason), "{subnets}: {error}");
        }
    }

    #[test]
    fn overlap_is_containment() {
        for (one, other, expected) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.2.0.0/16", false),
            ("10.1.0.0/16", "2001:db8::/32", false),
            ("2001:db8::/32", "2001:db8:18::/64", true),
            ("2001:db8:17::/64", "2001:db8:18::/64", false),
        ] {
            assert_eq!(
                overlap(one.parse().unwrap(), other.parse().unwrap()),
                expected,
                "{one} {other}"
            );
        }
    }

    #[test]
    fn mtu_has_bounds() {
        for (mtu, ok) in
            [(575, false), (576, true), (1500, true), (65535, true), (65536, false), (0, false)]
        {
            assert_eq!(check_mtu(mtu).is_ok(), ok, "{mtu}");
        }
        for (mtu, subnets, ok) in [
            (576, "10.0.0.0/24", true),
            (1279, "10.0.0.0/24", true),
            (1279, "10.0.0.0/24 2001:db8::/64", false),
            (1279, "2001:db8::/64", false),
            (1280, "10.0.0.0/24 2001:db8::/64", true),
            (575, "10.0.0.0/24", false),
        ] {
            assert_eq!(check_mtu_for(mtu, &nets(subnets)).is_ok(), ok, "{mtu} {subnets}");
        }
    }
}
