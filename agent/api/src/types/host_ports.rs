//! The host side of a publish, its key: `[HOSTIP:]HOSTPORT[-END][/tcp|udp|sctp]`.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::publish::{PortRange, Protocol, PublishPorts, parse_range, split_address};
use crate::Error;

/// Host ports of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPorts {
    /// None for any address of the host.
    pub address: Option<IpAddr>,
    /// One port or a range.
    pub ports: PortRange,
    /// TCP unless it says otherwise.
    pub protocol: Protocol,
}

impl HostPorts {
    /// The host ports of a publish.
    pub const fn of(spec: &PublishPorts) -> Self {
        Self { address: spec.host_address, ports: spec.host_ports, protocol: spec.protocol }
    }

    /// Whether a packet can match both.
    pub fn overlap(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.ports.overlaps(other.ports)
            && (self.address.is_none() || other.address.is_none() || self.address == other.address)
    }
}

impl FromStr for HostPorts {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|error| error.or_hint("write [HOSTIP:]HOSTPORT[-END][/tcp|udp|sctp]"))
    }
}

fn parse(text: &str) -> Result<HostPorts, Error> {
    let (ports, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((ports, protocol)) => (ports, protocol.parse()?),
    };
    if ports.split(':').count() == 2 && ports.split(':').all(|part| part.parse::<u16>().is_ok()) {
        return Err(Error::invalid(format!(
            "'{ports}' is a host port and a container port where a host port alone is needed"
        )));
    }
    let (address, ports) = split_address(ports, 1)?;
    Ok(HostPorts { address, ports: parse_range(ports, "host")?, protocol })
}

impl fmt::Display for HostPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => {}
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
        }
        write!(f, "{}/{}", self.ports, self.protocol)
    }
}

impl TryFrom<String> for HostPorts {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse().map_err(|error: Error| error.context(format!("the host ports '{text}'")))
    }
}

impl From<HostPorts> for String {
    fn from(ports: HostPorts) -> Self {
        ports.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for (text, printed) in [
            ("8080", "8080/tcp"),
            ("53/udp", "53/udp"),
            ("8000-8010", "8000-8010/tcp"),
            ("0.0.0.0:8080", "8080/tcp"),
            ("127.0.0.1:8000-8010/udp", "127.0.0.1:8000-8010/udp"),
            ("[2001:db8::1]:53/udp", "[2001:db8::1]:53/udp"),
            ("[::]:53/udp", "53/udp"),
        ] {
            let ports: HostPorts = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(ports.to_string(), printed);
            assert_eq!(printed.parse::<HostPorts>().unwrap(), ports);
        }
    }

    #[test]
    fn are_prefix_of_publish() {
        for (ports, publish) in
            [("8080", "8080:80"), ("10.0.2.15:53/udp", "10.0.2.15:53:53/udp"), ("1-2", "1-2:3-4")]
        {
            let publish: PublishPorts = publish.parse().unwrap();
            assert_eq!(ports.parse::<HostPorts>().unwrap(), HostPorts::of(&publish));
        }
    }

    #[test]
    fn mistakes_have_their_own_message() {
        for (text, reason) in [
            ("", "the host port is missing"),
            ("0", "port 0"),
            ("8080:80", "a host port alone is needed"),
            ("web:80", "'web' is not an IPv4 address"),
            ("90-80", "ends before it starts"),
            ("80/icmp", "the protocol 'icmp'"),
            ("::1:80", "in brackets"),
        ] {
            let error = text.parse::<HostPorts>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("; write "), "{text}: {error}");
        }
    }
}
