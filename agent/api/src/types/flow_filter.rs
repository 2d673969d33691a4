//! A filter of flows. Its conditions are combined with AND.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{flow::FlowState, subnet::check_host_bits};
use crate::Error;

/// What a flow must match. A field that is none matches every flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowFilter {
    /// The name of its container.
    #[serde(default)]
    pub container: Option<String>,
    /// The name of its network.
    #[serde(default)]
    pub network: Option<String>,
    /// The IANA number of its protocol.
    #[serde(default)]
    pub protocol: Option<u8>,
    /// Its state.
    #[serde(default)]
    pub state: Option<FlowState>,
    /// A subnet that has one of its four addresses: source and destination of both directions.
    #[serde(default)]
    pub address: Option<IpNet>,
}

/// The part of a flow that a filter reads.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The name of its container; none if that is gone.
    pub container: Option<&'a str>,
    /// The name of its network; none if that is gone.
    pub network: Option<&'a str>,
    /// The IANA number of its protocol.
    pub protocol: u8,
    /// Its state.
    pub state: FlowState,
    /// Source and destination of the forward direction, then of the reply direction.
    pub addresses: [IpAddr; 4],
}

impl FlowFilter {
    /// Whether a flow matches.
    pub fn admits(&self, flow: &Candidate<'_>) -> bool {
        let is = |wanted: &Option<String>, name: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == name
        };
        is(&self.container, flow.container)
            && is(&self.network, flow.network)
            && self.protocol.is_none_or(|protocol| protocol == flow.protocol)
            && self.state.is_none_or(|state| state == flow.state)
            && self
                .address
                .is_none_or(|subnet| flow.addresses.iter().any(|address| subnet.contains(address)))
    }
}

/// Reads an address or a subnet.
pub fn parse_address(text: &str) -> Result<IpNet, Error> {
    let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let subnet: IpNet = text.parse().ok().or_else(alone).ok_or_else(|| {
        Error::invalid("it is not an address or a subnet, such as 203.0.113.10 or 2001:db8::/32")
    })?;
    check_host_bits(subnet, "it")?;
    Ok(subnet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::flow::FlowProtocol;

    #[test]
    fn conditions_are_combined() {
        let addresses = ["172.18.0.2", "203.0.113.9", "203.0.113.9", "10.0.2.15"]
            .map(|text| text.parse().unwrap());
        let flow = Candidate {
            container: Some("web"),
            network: Some("default"),
            protocol: 6,
            state: FlowState::Established,
            addresses,
        };
        let filter = |container: &str, protocol: &str, state: &str, address: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            FlowFilter {
                container: some(container),
                network: None,
                protocol: some(protocol).map(|text| text.parse::<FlowProtocol>().unwrap().0),
                state: some(state).map(|text| text.parse().unwrap()),
                address: some(address).map(|text| parse_address(&text).unwrap()),
            }
        };
        for (container, protocol, state, address, admitted) in [
            ("", "", "", "", true),
            ("web", "tcp", "established", "10.0.2.15", true),
            ("box", "tcp", "established", "10.0.2.15", false),
            ("web", "udp", "established", "10.0.2.15", false),
            ("web", "6", "syn-sent", "10.0.2.15", false),
            ("web", "6", "established", "10.0.2.16", false),
            ("", "", "", "203.0.113.0/24", true),
            ("", "", "", "172.18.0.0/16", true),
            ("", "", "", "0.0.0.0/0", true),
            ("", "", "", "203.0.114.0/24", false),
            ("", "", "", "::/0", false),
        ] {
            let filter = filter(container, protocol, state, address);
            assert_eq!(filter.admits(&flow), admitted, "{filter:?}");
        }
        let addresses = ["2001:db8:113::9", "2001:db8:2::15", "172.18.0.2", "2001:db8:113::9"];
        let mixed = Candidate { addresses: addresses.map(|text| text.parse().unwrap()), ..flow };
        for (address, admitted) in
            [("2001:db8:113::/48", true), ("172.18.0.2", true), ("2001:db8:114::/48", false)]
        {
            assert_eq!(filter("", "", "", address).admits(&mixed), admitted, "{address}");
        }
        let of_network =
            |name: &str| FlowFilter { network: Some(name.to_owned()), ..FlowFilter::default() };
        assert!(of_network("default").admits(&flow) && !of_network("front").admits(&flow));
        assert!(!of_network("default").admits(&Candidate { network: None, ..flow }));
    }

    #[test]
    fn addresses_may_be_subnets() {
        assert_eq!(parse_address("10.0.2.15").unwrap().to_string(), "10.0.2.15/32");
        assert_eq!(parse_address("2001:db8::/32").unwrap().to_string(), "2001:db8::/32");
        for (text, reason) in [
            ("10.0.2", "it is not an address"),
            ("10.0.2.15/24", "write 10.0.2.0/24"),
            ("", "not an"),
        ] {
            assert!(parse_address(text).unwrap_err().to_string().contains(reason), "{text}");
        }
    }
}
