//! A network: a subnet with a bridge, a gateway address on it, and a policy.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{bail, ensure};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::{flows::FlowOptions, ipam};
use crate::api::NetworkSpec;

/// The network that `up` makes when no configuration file declares one, and that a container is on when it names none.
pub const DEFAULT: &str = "default";

/// What the kernel takes for a bridge, from the smallest that every IPv4 host must take.
const MTU: std::ops::RangeInclusive<u32> = 576..=65535;

/// What no container can have an address of, and why.
const UNUSABLE: [(Ipv4Net, &str); 5] = [
    (Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8), "means this host before it has an address"),
    (Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8), "every host keeps to itself (loopback)"),
    (Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16), "is for one link alone and is not routed (link-local)"),
    (Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4), "is for groups of hosts (multicast)"),
    (Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4), "is reserved"),
];

/// A network as it is.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own that a person types")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// One of IPv4 today.
    pub subnets: Vec<IpNet>,
    /// One for each subnet.
    pub gateways: Vec<IpAddr>,
    /// The bridge's name.
    pub bridge: String,
    /// In bytes.
    pub mtu: u32,
    /// Nothing leaves or enters the network, the host excepted.
    pub internal: bool,
    /// Source addresses are translated to the uplink's.
    pub masquerade: bool,
    /// Containers of the network reach each other.
    pub icc: bool,
    /// How its flows are kept.
    #[serde(default)]
    pub flows: FlowOptions,
    /// The address given last.
    #[serde(default)]
    pub last: Option<IpAddr>,
    /// The configuration file has it: it goes when the file has it no longer.
    #[serde(default)]
    pub declared: bool,
}

impl Network {
    /// The subnet that has `address`, with its gateway.
    pub fn place_of(&self, address: IpAddr) -> Option<(IpNet, IpAddr)> {
        let mut places = self.subnets.iter().zip(&self.gateways);
        places.find(|(subnet, _)| subnet.contains(&address)).map(|(subnet, gateway)| (*subnet, *gateway))
    }
}

/// What the default network is made from.
pub fn default_spec() -> NetworkSpec {
    NetworkSpec {
        name: DEFAULT.to_owned(),
        subnets: vec![IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(172, 18, 0, 0), 16))],
        bridge: Some("cw0".to_owned()),
        gateways: vec![Ipv4Addr::new(172, 18, 0, 1).into()],
        mtu: None,
        internal: false,
        masquerade: true,
        icc: true,
        flows: FlowOptions::default(),
    }
}

/// Checks a subnet for itself: family, size, host bits, a range that hosts have addresses of.
pub fn check_subnet(subnet: IpNet) -> anyhow::Result<()> {
    let IpNet::V4(subnet) = subnet else {
        bail!("the subnet {subnet} is IPv6, which is not supported yet; give an IPv4 subnet");
    };
    ensure!(
        (8..=30).contains(&subnet.prefix_len()),
        "the subnet {subnet} has the prefix length {}; from 8 to 30 is possible",
        subnet.prefix_len()
    );
    ensure!(subnet.addr() == subnet.network(), "the subnet {subnet} has host bits set; write {}", subnet.trunc());
    for (range, reason) in UNUSABLE {
        ensure!(
            !overlap(subnet.into(), range.into()),
            "the subnet {subnet} has addresses of {range}, which {reason}; take a private one such as 10.20.0.0/16"
        );
    }
    Ok(())
}

/// Checks the subnets of one network together.
pub fn check_subnets(subnets: &[IpNet]) -> anyhow::Result<()> {
    for subnet in subnets {
        check_subnet(*subnet)?;
    }
    match subnets {
        [] => bail!("a network needs a subnet; give one such as 10.20.0.0/16"),
        [_] => Ok(()),
        [_, second, ..] => {
            bail!(
                "a network has one subnet of each family, and {second} is a second IPv4 one; create another network for it"
            )
        }
    }
}

/// One gateway for each subnet: the one asked for, else the subnet's first address.
pub fn choose_gateways(subnets: &[IpNet], asked: &[IpAddr]) -> anyhow::Result<Vec<IpAddr>> {
    for gateway in asked {
        let Some(subnet) = subnets.iter().find(|subnet| subnet.contains(gateway)) else {
            bail!(
                "the gateway {gateway} is not in the subnet {}; give an address of it, or none for its first",
                join(subnets)
            );
        };
        ensure!(
            ipam::is_assignable(*subnet, *gateway),
            "the gateway {gateway} is the network or broadcast address of {subnet}; give another, or none for its first"
        );
    }
    let mut left = asked.to_vec();
    let mut gateways = Vec::new();
    for subnet in subnets {
        match left.iter().position(|gateway| subnet.contains(gateway)) {
            Some(position) => gateways.push(left.remove(position)),
            None => gateways.extend(subnet.hosts().next()),
        }
    }
    if let Some(gateway) = left.first() {
        bail!("the gateway {gateway} is a second one for its subnet; give one");
    }
    Ok(gateways)
}

/// Checks an MTU in bytes.
pub fn check_mtu(mtu: u32) -> anyhow::Result<()> {
    ensure!(
        MTU.contains(&mtu),
        "the MTU {mtu} is not from {} to {} bytes; give one that is, or none for the uplink's",
        MTU.start(),
        MTU.end()
    );
    Ok(())
}

/// Whether two subnets have an address in common.
pub fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// The subnets as a list.
pub fn join(subnets: &[IpNet]) -> String {
    let texts: Vec<String> = subnets.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn usable_subnets_are_taken() {
        for subnets in ["10.0.0.0/8", "172.18.0.0/16", "192.168.7.4/30", "100.64.0.0/10", "203.0.113.0/24"] {
            check_subnets(&nets(subnets)).unwrap_or_else(|error| panic!("{subnets}: {error}"));
        }
    }

    #[test]
    fn other_subnets_are_refused_with_the_reason() {
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
            ("2001:db8::/64", "not supported yet"),
            ("10.1.0.0/16 10.2.0.0/16", "10.2.0.0/16 is a second"),
            ("10.1.0.0/16 2001:db8::/64", "not supported yet"),
        ] {
            let error = check_subnets(&nets(subnets)).unwrap_err().to_string();
            assert!(error.contains(reason), "{subnets}: {error}");
        }
    }

    #[test]
    fn the_gateway_is_the_first_address_unless_asked() {
        for (subnet, asked, expected) in [
            ("172.18.0.0/16", "", "172.18.0.1"),
            ("172.18.0.0/16", "172.18.255.254", "172.18.255.254"),
            ("10.0.0.4/30", "", "10.0.0.5"),
        ] {
            let chosen = choose_gateways(&nets(subnet), &addresses(asked)).unwrap();
            assert_eq!(chosen, addresses(expected), "{subnet} {asked}");
        }
    }

    #[test]
    fn impossible_gateways_are_refused() {
        for (asked, reason) in [
            ("10.0.1.1", "is not in the subnet 10.0.0.0/24"),
            ("10.0.0.0", "network or broadcast"),
            ("10.0.0.255", "network or broadcast"),
            ("10.0.0.1 10.0.0.2", "10.0.0.2 is a second"),
            ("2001:db8::1", "is not in the subnet"),
        ] {
            let error = choose_gateways(&nets("10.0.0.0/24"), &addresses(asked)).unwrap_err().to_string();
            assert!(error.contains(reason), "{asked}: {error}");
        }
    }

    #[test]
    fn subnets_overlap_when_one_holds_the_other() {
        for (one, other, expected) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.2.0.0/16", false),
            ("10.1.0.0/16", "2001:db8::/32", false),
        ] {
            assert_eq!(overlap(one.parse().unwrap(), other.parse().unwrap()), expected, "{one} {other}");
        }
    }

    #[test]
    fn the_mtu_has_bounds() {
        for (mtu, ok) in [(575, false), (576, true), (1500, true), (65535, true), (65536, false), (0, false)] {
            assert_eq!(check_mtu(mtu).is_ok(), ok, "{mtu}");
        }
    }
}
