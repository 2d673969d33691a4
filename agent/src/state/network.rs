//! A network: a subnet of either family or one of each, with a bridge, its gateway addresses, and a
//! policy.

use std::net::IpAddr;

use anyhow::Context as _;
use causeway_api::types::{
    family::Family, flow_options::FlowOptions, mac::Mac, masquerade::Masquerade,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A network as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// One of IPv4, one of IPv6, or both in this order.
    pub subnets: Vec<IpNet>,
    /// One for each subnet.
    pub gateways: Vec<IpAddr>,
    /// The bridge's name.
    pub bridge: String,
    /// In bytes.
    pub mtu: u32,
    /// Nothing leaves or enters the network, the host excepted.
    pub internal: bool,
    /// For which families source addresses are translated to the uplink's.
    pub masquerade: Masquerade,
    /// Containers of the network reach each other.
    pub icc: bool,
    /// How its flows are kept.
    #[serde(default)]
    pub flows: FlowOptions,
    /// The addresses given last, at most one of each family.
    #[serde(default, deserialize_with = "one_or_several")]
    pub last: Vec<IpAddr>,
    /// The configuration file has it: it goes when the file has it no longer.
    #[serde(default)]
    pub declared: bool,
}

impl Network {
    /// The subnet that has `address`, with its gateway.
    pub fn place_of(&self, address: IpAddr) -> Option<(IpNet, IpAddr)> {
        let mut places = self.subnets.iter().zip(&self.gateways);
        places
            .find(|(subnet, _)| subnet.contains(&address))
            .map(|(subnet, gateway)| (*subnet, *gateway))
    }

    /// Whether its containers have addresses of that family.
    pub fn has(&self, family: Family) -> bool {
        self.families().any(|own| own == family)
    }

    /// Whether its containers have IPv6 addresses.
    pub fn has_v6(&self) -> bool {
        self.has(Family::V6)
    }

    /// The families that its containers have addresses of.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        self.subnets.iter().copied().map(Family::of_subnet)
    }

    /// MAC of the bridge, derived from the first gateway address.
    pub fn bridge_mac(&self) -> anyhow::Result<Mac> {
        let first = self.gateways.first();
        let first = first.with_context(|| format!("network '{}' has no gateway", self.name))?;
        Ok(Mac::from_address(*first, 0))
    }

    /// Notes which address was given last.
    pub fn remember(&mut self, given: IpAddr) {
        self.last.retain(|last| Family::of(*last) != Family::of(given));
        self.last.push(given);
    }
}

/// Those written before there was IPv6 have one address, or null.
fn one_or_several<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<IpAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(Option<IpAddr>),
        Several(Vec<IpAddr>),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::One(last) => last.into_iter().collect(),
        Written::Several(last) => last,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn a_network_of_before_ipv6_is_read() {
        let written = |last: &str| {
            let json = format!(
                r#"{{"name": "a", "subnets": ["10.0.0.0/24"], "gateways": ["10.0.0.1"], "bridge": "cw0", "mtu": 1500,
                    "internal": false, "masquerade": true, "icc": true, "last": {last}}}"#
            );
            serde_json::from_str::<Network>(&json).unwrap()
        };
        for (last, expected) in [
            ("null", ""),
            ("\"10.0.0.7\"", "10.0.0.7"),
            ("[\"10.0.0.7\", \"fd00::7\"]", "10.0.0.7 fd00::7"),
        ] {
            let mut network = written(last);
            assert_eq!(network.last, addresses(expected), "{last}");
            assert_eq!(network.masquerade, Masquerade::ON);
            assert!(network.has(Family::V4) && !network.has(Family::V6));
            network.remember("10.0.0.8".parse().unwrap());
            network.remember("fd00::8".parse().unwrap());
            assert_eq!(
                BTreeSet::from_iter(network.last.clone()),
                addresses("10.0.0.8 fd00::8").into_iter().collect()
            );
            let json = serde_json::to_string(&network).unwrap();
            assert_eq!(serde_json::from_str::<Network>(&json).unwrap(), network);
        }
    }
}
