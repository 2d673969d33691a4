//! Which address a container gets.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use causeway_api::{Error, types::subnet};
use ipnet::IpNet;

/// The next free address of `subnet` after `last`, wrapping around: one that was given back a
/// moment ago is not given again as long as there is another, since neighbours and clients may
/// still remember it. None if there is none left.
///
/// What is [`unassignable`] is never given, nor what is in `taken` (the gateway belongs there).
pub fn next_free(subnet: IpNet, last: Option<IpAddr>, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let first = number(subnet.network()).checked_add(1)?;
    let end = match subnet {
        IpNet::V4(_) => number(subnet.broadcast()).checked_sub(1)?,
        // IPv6 has no broadcast.
        IpNet::V6(_) => number(subnet.broadcast()),
    };
    if first > end {
        return None;
    }
    let start = last
        .filter(|last| subnet.contains(last))
        .and_then(|last| number(last).checked_add(1))
        .filter(|start| (first..=end).contains(start))
        .unwrap_or(first);
    let free = |candidate: &IpAddr| !taken.contains(candidate);
    (start..=end).chain(first..start).map(|number| address(subnet, number)).find(free)
}

/// Whether a container can have `address` on `subnet`, as far as the subnet itself goes.
pub fn is_assignable(subnet: IpNet, address: IpAddr) -> bool {
    subnet.contains(&address)
        && address != subnet.network()
        && (address != subnet.broadcast() || address.is_ipv6())
}

/// The address of a subnet that no host can have, for messages.
pub const fn unassignable(subnet: IpNet) -> &'static str {
    match subnet {
        IpNet::V4(_) => "the network or broadcast address",
        // Every router of the subnet has it (RFC 4291 section 2.6.1).
        IpNet::V6(_) => "the subnet-router anycast address",
    }
}

/// One gateway for each subnet: the one asked for, else the subnet's first address.
pub fn choose_gateways(subnets: &[IpNet], asked: &[IpAddr]) -> Result<Vec<IpAddr>, Error> {
    for gateway in asked {
        let Some(subnet) = subnets.iter().find(|subnet| subnet.contains(gateway)) else {
            return Err(Error::invalid(format!(
                "the gateway {gateway} is not in the subnet {}",
                subnet::join(subnets)
            ))
            .hint("give an address of it, or none for its first"));
        };
        if !is_assignable(*subnet, *gateway) {
            return Err(Error::invalid(format!(
                "the gateway {gateway} is {} of {subnet}",
                unassignable(*subnet)
            ))
            .hint("give another, or none for its first"));
        }
    }
    let mut left = asked.to_vec();
    let mut gateways = Vec::new();
    for subnet in subnets {
        let own = left
            .iter()
            .position(|gateway| subnet.contains(gateway))
            .map(|position| left.remove(position));
        let first = || next_free(*subnet, None, &BTreeSet::new());
        gateways.push(own.or_else(first).ok_or_else(|| {
            Error::invalid(format!("the subnet {subnet} has no address for a gateway"))
        })?);
    }
    if let Some(gateway) = left.first() {
        return Err(Error::invalid(format!(
            "the gateway {gateway} is a second one for its subnet"
        ))
        .hint("give one"));
    }
    Ok(gateways)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The inverse of [`number`], in the subnet's family.
fn address(subnet: IpNet, number: u128) -> IpAddr {
    match subnet {
        IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpNet::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_free_address_is_given() {
        for (subnet, last, taken, expected) in [
            ("172.18.0.0/16", None, "172.18.0.1", Some("172.18.0.2")),
            ("172.18.0.0/16", Some("172.18.0.2"), "172.18.0.1", Some("172.18.0.3")),
            ("172.18.0.0/16", Some("172.18.0.2"), "172.18.0.1 172.18.0.3", Some("172.18.0.4")),
            ("172.18.0.0/16", Some("172.18.0.255"), "172.18.0.1", Some("172.18.1.0")),
            // Wraps before the broadcast address, past the gateway.
            ("10.0.0.0/29", Some("10.0.0.6"), "10.0.0.1", Some("10.0.0.2")),
            ("10.0.0.0/29", Some("10.0.0.5"), "10.0.0.6 10.0.0.1", Some("10.0.0.2")),
            (
                "10.0.0.0/29",
                Some("10.0.0.4"),
                "10.0.0.1 10.0.0.5 10.0.0.6 10.0.0.2",
                Some("10.0.0.3"),
            ),
            // The one given last is the last resort.
            ("10.0.0.0/30", Some("10.0.0.2"), "10.0.0.1", Some("10.0.0.2")),
            ("10.0.0.0/30", None, "10.0.0.1", Some("10.0.0.2")),
            ("10.0.0.0/30", None, "10.0.0.2", Some("10.0.0.1")),
            ("10.0.0.0/30", None, "10.0.0.1 10.0.0.2", None),
            ("10.0.0.0/31", None, "", None),
            ("10.0.0.0/32", None, "", None),
            // A cursor of elsewhere starts again.
            ("10.0.0.0/24", Some("192.168.0.7"), "10.0.0.1", Some("10.0.0.2")),
            ("10.0.0.0/24", Some("2001:db8::7"), "10.0.0.1", Some("10.0.0.2")),
            ("255.255.255.0/24", Some("255.255.255.254"), "255.255.255.1", Some("255.255.255.2")),
            ("2001:db8::/64", None, "2001:db8::1", Some("2001:db8::2")),
            ("2001:db8::/64", Some("2001:db8::2"), "2001:db8::1", Some("2001:db8::3")),
            ("2001:db8::/64", Some("10.0.0.7"), "2001:db8::1", Some("2001:db8::2")),
            (
                "2001:db8::/64",
                Some("2001:db8::ffff:ffff:ffff:ffff"),
                "2001:db8::1",
                Some("2001:db8::2"),
            ),
            (
                "2001:db8::/64",
                Some("2001:db8::ffff:ffff:ffff:fffe"),
                "",
                Some("2001:db8::ffff:ffff:ffff:ffff"),
            ),
            ("2001:db8::/126", Some("2001:db8::3"), "2001:db8::1", Some("2001:db8::2")),
            ("2001:db8::/126", None, "2001:db8::1 2001:db8::2 2001:db8::3", None),
            (
                "ffff::/16",
                Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
                "ffff::1",
                Some("ffff::2"),
            ),
        ] {
            let taken = taken.split_whitespace().map(|text| text.parse().unwrap()).collect();
            let given = next_free(
                subnet.parse().unwrap(),
                last.map(|text: &str| text.parse().unwrap()),
                &taken,
            );
            assert_eq!(
                given,
                expected.map(|text| text.parse().unwrap()),
                "{subnet} {last:?} {taken:?}"
            );
        }
    }

    #[test]
    fn a_subnet_is_used_up_to_the_last_address() {
        let subnet: IpNet = "10.0.0.0/28".parse().unwrap();
        let mut taken: BTreeSet<IpAddr> = ["10.0.0.1".parse().unwrap()].into();
        let mut last = None;
        while let Some(address) = next_free(subnet, last, &taken) {
            assert!(is_assignable(subnet, address));
            assert!(taken.insert(address), "{address} was given twice");
            last = Some(address);
        }
        assert_eq!(taken.len(), 14);
    }

    #[test]
    fn network_broadcast_and_anycast_are_unassignable() {
        for (subnet, address, assignable) in [
            ("10.0.0.0/24", "10.0.0.0", false),
            ("10.0.0.0/24", "10.0.0.255", false),
            ("10.0.0.0/24", "10.0.1.1", false),
            ("10.0.0.0/24", "10.0.0.1", true),
            ("10.0.0.0/24", "10.0.0.254", true),
            ("10.0.0.0/24", "2001:db8::1", false),
            ("2001:db8::/120", "2001:db8::", false),
            ("2001:db8::/120", "2001:db8::1", true),
            ("2001:db8::/120", "2001:db8::ff", true),
            ("2001:db8::/120", "2001:db8::100", false),
        ] {
            assert_eq!(
                is_assignable(subnet.parse().unwrap(), address.parse().unwrap()),
                assignable,
                "{address}"
            );
        }
    }

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn the_gateway_is_the_first_address_unless_asked() {
        for (subnet, asked, expected) in [
            ("172.18.0.0/16", "", "172.18.0.1"),
            ("172.18.0.0/16", "172.18.255.254", "172.18.255.254"),
            ("10.0.0.4/30", "", "10.0.0.5"),
            ("2001:db8::/64", "", "2001:db8::1"),
            ("2001:db8::4/126", "", "2001:db8::5"),
            ("10.0.0.0/24 2001:db8::/64", "", "10.0.0.1 2001:db8::1"),
            ("10.0.0.0/24 2001:db8::/64", "2001:db8::ffff", "10.0.0.1 2001:db8::ffff"),
            ("10.0.0.0/24 2001:db8::/64", "2001:db8::9 10.0.0.9", "10.0.0.9 2001:db8::9"),
        ] {
            let chosen = choose_gateways(&nets(subnet), &addresses(asked)).unwrap();
            assert_eq!(chosen, addresses(expected), "{subnet} {asked}");
        }
    }

    #[test]
    fn impossible_gateways_are_refused() {
        for (subnets, asked, reason) in [
            ("10.0.0.0/24", "10.0.1.1", "is not in the subnet 10.0.0.0/24"),
            ("10.0.0.0/24", "10.0.0.0", "network or broadcast"),
            ("10.0.0.0/24", "10.0.0.255", "network or broadcast"),
            ("10.0.0.0/24", "10.0.0.1 10.0.0.2", "10.0.0.2 is a second"),
            ("10.0.0.0/24", "2001:db8::1", "is not in the subnet"),
            (
                "10.0.0.0/24 2001:db8::/64",
                "2001:db8::",
                "is the subnet-router anycast address of 2001:db8::/64",
            ),
            (
                "10.0.0.0/24 2001:db8::/64",
                "2001:db9::1",
                "is not in the subnet 10.0.0.0/24, 2001:db8::/64",
            ),
            ("10.0.0.0/24 2001:db8::/64", "2001:db8::1 2001:db8::2", "2001:db8::2 is a second"),
        ] {
            let error = choose_gateways(&nets(subnets), &addresses(asked)).unwrap_err().to_string();
            assert!(error.contains(reason), "{asked}: {error}");
        }
    }
}
