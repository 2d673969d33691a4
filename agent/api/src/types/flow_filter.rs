//! Which flows are meant: all that a filter says must hold.

use std::net::IpAddr;

use causeway_common::{
    abi::state::State,
    wire::protocol::{ICMP, ICMPV6, SCTP, TCP, UDP},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::subnet::check_host_bits;
use crate::Error;

/// The protocols that have names, with their IANA numbers.
const PROTOCOLS: [(&str, u8); 5] =
    [("tcp", TCP), ("udp", UDP), ("icmp", ICMP), ("icmpv6", ICMPV6), ("sctp", SCTP)];

/// What a flow must be; what is none does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowFilter {
    /// The name of the container that it belongs to.
    #[serde(default)]
    pub container: Option<String>,
    /// The name of the network that it belongs to.
    #[serde(default)]
    pub network: Option<String>,
    /// Its IANA number.
    #[serde(default)]
    pub protocol: Option<u8>,
    /// Its name, one of [`State::name`].
    #[serde(default)]
    pub state: Option<String>,
    /// It holds one of the four addresses.
    #[serde(default)]
    pub address: Option<IpNet>,
}

/// What a filter looks at.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The name of the container that it belongs to.
    pub container: Option<&'a str>,
    /// The name of the network that it belongs to.
    pub network: Option<&'a str>,
    /// Its IANA number.
    pub protocol: u8,
    /// Its name.
    pub state: &'a str,
    /// Source and destination, as it begins and as it is answered.
    pub addresses: [IpAddr; 4],
}

impl FlowFilter {
    /// Whether that flow is meant.
    pub fn admits(&self, flow: &Candidate<'_>) -> bool {
        let is = |wanted: &Option<String>, name: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == name
        };
        is(&self.container, flow.container)
            && is(&self.network, flow.network)
            && self.protocol.is_none_or(|protocol| protocol == flow.protocol)
            && is(&self.state, Some(flow.state))
            && self
                .address
                .is_none_or(|subnet| flow.addresses.iter().any(|address| subnet.contains(address)))
    }
}

/// What a protocol is called: its number, if it has no name here.
pub fn protocol_name(number: u8) -> String {
    let named = PROTOCOLS.iter().find(|(_, known)| *known == number);
    named.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// Reads a protocol's name or IANA number.
pub fn parse_protocol(text: &str) -> Result<u8, Error> {
    let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = named.or_else(|| text.parse().ok().filter(|_| digits));
    number.ok_or_else(|| {
        Error::invalid("it is not tcp, udp, icmp, icmpv6, sctp or a number from 0 to 255")
    })
}

/// Checks the name of a state.
pub fn parse_state(text: &str) -> Result<String, Error> {
    let mut names = State::ALL.map(State::name).to_vec();
    names.push("mapping");
    // Two states are half-closed: by one side and by the other.
    names.dedup();
    if !names.contains(&text) {
        return Err(
            Error::invalid("there is no such state").hint(format!("there is {}", names.join(", ")))
        );
    }
    Ok(text.to_owned())
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

    #[test]
    fn all_that_is_said_must_hold() {
        let addresses = ["172.18.0.2", "203.0.113.9", "203.0.113.9", "10.0.2.15"]
            .map(|text| text.parse().unwrap());
        let flow = Candidate {
            container: Some("web"),
            network: Some("default"),
            protocol: 6,
            state: "established",
            addresses,
        };
        let filter = |container: &str, protocol: &str, state: &str, address: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            FlowFilter {
                container: some(container),
                network: None,
                protocol: some(protocol).map(|text| parse_protocol(&text).unwrap()),
                state: some(state).map(|text| parse_state(&text).unwrap()),
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
    fn a_protocol_is_read_as_it_is_printed() {
        for number in 0..=u8::MAX {
            assert_eq!(parse_protocol(&protocol_name(number)).unwrap(), number);
        }
        for text in ["", "TCP", "256", "-1", "+6", "gre"] {
            assert!(
                parse_protocol(text)
                    .unwrap_err()
                    .to_string()
                    .contains("tcp, udp, icmp, icmpv6, sctp"),
                "{text}"
            );
        }
    }

    #[test]
    fn every_state_can_be_asked_for() {
        for state in State::ALL {
            assert_eq!(parse_state(state.name()).unwrap(), state.name());
        }
        let error = parse_state("open").unwrap_err().to_string();
        assert!(
            error.contains("unreplied, replied, syn-sent")
                && error.matches("half-closed").count() == 1,
            "{error}"
        );
    }

    #[test]
    fn an_address_is_one_or_a_subnet() {
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
