//! A container: a network namespace with one pair of interfaces for each network it is on.

use std::{
    net::{IpAddr, Ipv6Addr},
    path::PathBuf,
};

use causeway_api::types::mac::Mac;
use causeway_api::types::{device::Device, family::Family};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::publish::Publish;

/// The container side's name, in the container.
pub const INTERFACE: &str = "eth0";

/// A container as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The path of its network namespace.
    pub netns: PathBuf,
    /// The namespace's cookie, which no other namespace ever has (an inode's number is given
    /// again); none while it is being made.
    pub cookie: Option<u64>,
    /// The namespace was made for it, and goes with it.
    pub made: bool,
    /// One today.
    pub endpoints: Vec<Endpoint>,
    /// What leads to it from outside.
    #[serde(default)]
    pub publishes: Vec<Publish>,
    /// The configuration file has it: it goes when the file has it no longer.
    #[serde(default)]
    pub declared: bool,
}

/// A container's place on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// One of each subnet of the network, in its order, with the subnet's prefix length.
    pub addresses: Vec<IpNet>,
    /// The container side's.
    pub mac: Mac,
    /// The container side's name, in the container.
    pub interface: String,
    /// The host side's name, on the host.
    pub host_side: String,
    /// What both sides are.
    #[serde(default)]
    pub device: Device,
}

impl Endpoint {
    /// Another address that it is known by: link-local if it has IPv6; else its IPv4 address mapped
    /// into IPv6, by which IPv6 clients reach it.
    pub fn alias(&self) -> Option<Ipv6Addr> {
        let mapped = |address: &IpNet| match address {
            IpNet::V4(address) => Some(address.addr().to_ipv6_mapped()),
            IpNet::V6(_) => None,
        };
        let has_v6 = self.addresses.iter().any(|address| matches!(address, IpNet::V6(_)));
        if has_v6 { Some(self.mac.link_local()) } else { self.addresses.iter().find_map(mapped) }
    }

    /// Its addresses and its alias.
    pub fn known_by(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(IpNet::addr).chain(self.alias().map(IpAddr::V6))
    }
}

impl Container {
    /// Its addresses on the network that its publishes lead to, the first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.endpoints.first().into_iter().flat_map(|endpoint| &endpoint.addresses).map(IpNet::addr)
    }

    /// That of one family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses().find(|address| Family::of(*address) == family)
    }

    /// Its place on the network of that name.
    pub fn endpoint_on(&self, network: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.network == network)
    }
}

/// What a host side is called. `attempt` counts up from 0 while the name is taken.
pub fn host_side_name(instance: &str, container: &str, network: &str, attempt: u32) -> String {
    // FNV-1a: it has to be the same in every version, which the standard library's hashes do not
    // promise.
    let mut hash: u32 = 0x811c_9dc5;
    let separated = [instance, container, network].map(|part| part.bytes().chain([0]));
    for byte in separated.into_iter().flatten().chain(attempt.to_be_bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("cwv{hash:08x}")
}

/// Whether a link is called as our host sides are.
pub fn is_host_side_name(name: &str) -> bool {
    name.strip_prefix("cwv")
        .is_some_and(|hash| hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_side_has_a_name_that_fits_and_stays() {
        let name = host_side_name("default", "web", "default", 0);
        assert_eq!(name, host_side_name("default", "web", "default", 0));
        assert!(is_host_side_name(&name));
        assert!(name.len() <= 15);
        for other in [
            host_side_name("default", "web", "default", 1),
            host_side_name("lab", "web", "default", 0),
            host_side_name("default", "web2", "default", 0),
            host_side_name("defaultw", "eb", "default", 0),
        ] {
            assert_ne!(name, other);
        }
    }

    #[test]
    fn other_links_are_not_host_sides() {
        for name in ["cw0", "cwv", "cwv1234", "cwv1234567g", "eth0", "cwv123456789"] {
            assert!(!is_host_side_name(name), "{name}");
        }
    }

    #[test]
    fn an_endpoint_is_known_by_one_address_more() {
        let known_by = |addresses: &str| {
            let addresses = addresses.split(' ').map(|address| address.parse().unwrap()).collect();
            let mac = "02:63:ac:12:00:02".parse().unwrap();
            let (network, interface, host_side) = Default::default();
            let endpoint =
                Endpoint { network, addresses, mac, interface, host_side, device: Device::Veth };
            endpoint.known_by().map(|known| known.to_string()).collect::<Vec<_>>().join(" ")
        };
        for (addresses, expected) in [
            ("172.18.0.2/16", "172.18.0.2 ::ffff:172.18.0.2"),
            ("fd00::2/64", "fd00::2 fe80::63:acff:fe12:2"),
            ("172.18.0.2/16 fd00::2/64", "172.18.0.2 fd00::2 fe80::63:acff:fe12:2"),
        ] {
            assert_eq!(known_by(addresses), expected);
        }
    }

    #[test]
    fn a_container_reads_what_it_prints() {
        let container = Container {
            name: "web".to_owned(),
            netns: "/run/netns/web".into(),
            cookie: Some(7),
            made: true,
            endpoints: vec![Endpoint {
                network: "default".to_owned(),
                addresses: vec!["172.18.0.2/16".parse().unwrap(), "fd00::2/64".parse().unwrap()],
                mac: "02:63:ac:12:00:02".parse().unwrap(),
                interface: INTERFACE.to_owned(),
                host_side: "cwv01234567".to_owned(),
                device: Device::Netkit,
            }],
            publishes: vec![Publish {
                ports: "8080:80".parse().unwrap(),
                options: serde_json::from_str(r#"{"from": ["10.0.0.0/8"]}"#).unwrap(),
                declared: false,
                drains: Vec::new(),
            }],
            declared: false,
        };
        let json = serde_json::to_string(&container).unwrap();
        assert_eq!(serde_json::from_str::<Container>(&json).unwrap(), container);
        assert_eq!(container.address(Family::V4), Some("172.18.0.2".parse().unwrap()));
        assert_eq!(container.address(Family::V6), Some("fd00::2".parse().unwrap()));
    }
}
