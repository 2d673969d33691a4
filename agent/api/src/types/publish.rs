//! Published ports, and the options that a publish can have.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{family::Family, host_ports::HostPorts, subnet::check_host_bits};
use crate::Error;

/// A publish as it is asked for: by the command, in the configuration file, in a request.
///
/// Read from a string, the ports alone, or from a table: `{ ports = "8080:80", from = [...] }`.
/// What it has beside the ports is in [`PublishOptions`], so an option that is added there is taken
/// everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublishSpec {
    /// Which host ports lead to which container ports.
    pub ports: PublishPorts,
    /// The rest.
    #[serde(flatten)]
    pub options: PublishOptions,
}

/// What a publish has beside its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishOptions {
    /// Source subnets of the clients that are admitted; all clients if empty.
    #[serde(default)]
    pub from: Vec<IpNet>,
}

/// Which host ports lead to which ports of a container: Docker's form,
/// `[HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublishPorts {
    /// None for any address of the host.
    pub host_address: Option<IpAddr>,
    /// As many as `container_ports`.
    pub host_ports: PortRange,
    /// Where the host's first port leads, its second, and so on; the same ports for SCTP.
    pub container_ports: PortRange,
    /// TCP unless it says otherwise.
    pub protocol: Protocol,
}

/// A port or a range of ports, without port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    start: u16,
    end: u16,
}

/// The protocols whose ports can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// IANA number 6.
    Tcp,
    /// IANA number 17.
    Udp,
    /// IANA number 132.
    Sctp,
}

impl PublishOptions {
    /// Checks the options, and removes repeated subnets.
    pub fn check(&self) -> Result<Self, Error> {
        let mut from: Vec<IpNet> = Vec::new();
        for subnet in &self.from {
            if let IpNet::V6(v6) = subnet
                && let (Some(mapped), Some(prefix_len)) =
                    (v6.network().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
            {
                return Err(Error::invalid(format!("--from {subnet} is of IPv4 addresses"))
                    .hint(format!("write {mapped}/{prefix_len}")));
            }
            check_host_bits(*subnet, &format!("--from {subnet}"))?;
            if !from.contains(subnet) {
                from.push(*subnet);
            }
        }
        Ok(Self { from })
    }
}

impl From<PublishPorts> for PublishSpec {
    fn from(ports: PublishPorts) -> Self {
        Self { ports, options: PublishOptions::default() }
    }
}

impl FromStr for PublishSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().map(|ports: PublishPorts| ports.into())
    }
}

impl fmt::Display for PublishSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ports.fmt(f)?;
        for (number, subnet) in self.options.from.iter().enumerate() {
            let before = if number == 0 { " from " } else { ", " };
            write!(f, "{before}{subnet}")?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for PublishSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The options' own type refuses unknown keys, which a flattened field would not.
        #[derive(Deserialize)]
        struct Table {
            ports: PublishPorts,
            #[serde(flatten)]
            options: serde_json::Map<String, serde_json::Value>,
        }

        struct StringOrTable;

        impl<'de> de::Visitor<'de> for StringOrTable {
            type Value = PublishSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("ports in quotes, such as \"8080:80\", or a table with the key ports")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PublishSpec, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<M: de::MapAccess<'de>>(self, map: M) -> Result<PublishSpec, M::Error> {
                let Table { ports, options } =
                    Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let options = PublishOptions::deserialize(serde_json::Value::Object(options))
                    .map_err(de::Error::custom)?;
                Ok(PublishSpec { ports, options })
            }
        }

        deserializer.deserialize_any(StringOrTable)
    }
}

impl PublishPorts {
    /// Whether a packet can match both.
    pub fn conflicts(&self, other: &Self) -> bool {
        HostPorts::of(self).overlap(&HostPorts::of(other))
    }

    /// `port 8080/tcp of any address`, for messages.
    pub fn describe(&self) -> String {
        let Self { host_address, host_ports, protocol, .. } = self;
        let noun = if host_ports.count() == 1 { "port" } else { "ports" };
        match host_address {
            None => format!("{noun} {host_ports}/{protocol} of any address"),
            Some(address) => format!("{noun} {host_ports}/{protocol} of {address}"),
        }
    }

    /// The families of the clients that it serves, for a container with addresses of `container`.
    pub fn families(&self, container: &[Family]) -> impl Iterator<Item = Family> {
        // NAT64: IPv6 clients reach a container that has IPv4 only.
        let has_v4 = container.contains(&Family::V4);
        let wanted = self.host_address.map(Family::of);
        Family::ALL.into_iter().filter(move |family| {
            wanted.is_none_or(|wanted| wanted == *family) && (*family == Family::V6 || has_v4)
        })
    }
}

impl PortRange {
    /// The default source ports for masquerade: below Linux's ephemeral ports.
    pub const MASQUERADE: Self = Self { start: 1024, end: 32767 };

    /// From `start` to `end`, both included.
    pub fn new(start: u16, end: u16) -> Result<Self, Error> {
        if start == 0 {
            return Err(Error::invalid("port 0 is reserved"));
        }
        if start > end {
            return Err(Error::invalid(format!("the range {start}-{end} ends before it starts")));
        }
        Ok(Self { start, end })
    }

    /// The first port.
    pub const fn start(self) -> u16 {
        self.start
    }

    /// The last port.
    pub const fn end(self) -> u16 {
        self.end
    }

    /// Number of ports: 1 to 65535.
    pub const fn count(self) -> u16 {
        // No overflow: start is at least 1.
        self.end - self.start + 1
    }

    /// Whether the ranges have a port in common.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

impl IntoIterator for PortRange {
    type Item = u16;
    type IntoIter = std::ops::RangeInclusive<u16>;

    fn into_iter(self) -> Self::IntoIter {
        self.start..=self.end
    }
}

impl Protocol {
    /// The IANA number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl FromStr for PublishPorts {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|error| {
            error.or_hint("write [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp]")
        })
    }
}

fn parse(text: &str) -> Result<PublishPorts, Error> {
    let (ports, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((ports, protocol)) => (ports, protocol.parse()?),
    };
    let (host_address, ports) = split_address(ports, 2)?;
    let Some((host, container)) = ports.split_once(':') else {
        return Err(Error::invalid(format!(
            "'{ports}' is one port where a host port and a container port are needed"
        )));
    };
    let host_ports = parse_range(host, "host")?;
    let container_ports = parse_range(container, "container")?;
    let (host_count, container_count) = (host_ports.count(), container_ports.count());
    if host_count != container_count {
        return Err(Error::invalid(format!(
            "the host ports {host_ports} are {host_count}, \
             the container ports {container_ports} are {container_count}"
        ))
        .hint("give as many of both"));
    }
    // SCTP's checksum covers its ports: they are not translated.
    if protocol == Protocol::Sctp && host_ports != container_ports {
        return Err(Error::unsupported("sctp is published at the container's own ports only")
            .hint(format!("give {container_ports}:{container_ports}/sctp")));
    }
    Ok(PublishPorts { host_address, host_ports, container_ports, protocol })
}

impl fmt::Display for PublishPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_address {
            None => {}
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
        }
        write!(f, "{}:{}/{}", self.host_ports, self.container_ports, self.protocol)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.end {
            write!(f, "{}", self.start)
        } else {
            write!(f, "{}-{}", self.start, self.end)
        }
    }
}

impl FromStr for PortRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse_range(text, "").map_err(|error| error.or_hint("write PORT or LO-HI"))
    }
}

impl TryFrom<String> for PortRange {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(ports: PortRange) -> Self {
        ports.to_string()
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Error::invalid(format!("the protocol '{text}' is not tcp, udp or sctp"))),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl TryFrom<String> for PublishPorts {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<PublishPorts> for String {
    fn from(spec: PublishPorts) -> Self {
        spec.to_string()
    }
}

/// Splits a leading host address off a text that has `count` parts without it. The unspecified
/// address means any, as in Docker.
pub(super) fn split_address(text: &str, count: usize) -> Result<(Option<IpAddr>, &str), Error> {
    let not_of = |address: &str, family: Family| {
        Error::invalid(format!("the host address '{address}' is not an {family} address"))
    };
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, ports)) = rest.split_once(']') else {
            return Err(Error::invalid(format!("'{text}' opens a bracket and does not close it")));
        };
        let parsed: Ipv6Addr = address.parse().map_err(|_| not_of(address, Family::V6))?;
        let Some(ports) = ports.strip_prefix(':') else {
            return Err(Error::invalid(format!(
                "':' and the host port are missing after '[{address}]'"
            )));
        };
        if let Some(mapped) = parsed.to_ipv4_mapped() {
            return Err(Error::invalid(format!(
                "the host address '{address}' is the IPv4 address {mapped}"
            ))
            .hint("write it so"));
        }
        if parsed.is_unicast_link_local() {
            return Err(Error::unsupported(format!(
                "the host address '{address}' is link-local, whose ports cannot be published"
            )));
        }
        return Ok(((!parsed.is_unspecified()).then_some(IpAddr::V6(parsed)), ports));
    }
    match text.split(':').count() {
        found if found <= count => Ok((None, text)),
        found if found == count + 1 => {
            // More than one part, so there is a first.
            let (address, ports) = text.split_once(':').unwrap_or_default();
            let parsed: Ipv4Addr = address.parse().map_err(|_| not_of(address, Family::V4))?;
            let any = parsed.is_unspecified();
            Ok(((!any).then_some(IpAddr::V4(parsed)), ports))
        }
        _ => Err(Error::invalid(format!(
            "'{text}' has too many colons: an IPv6 host address stands in brackets"
        ))),
    }
}

/// Reads a port or a range. `side` is `host`, `container` or empty, for the messages.
pub(super) fn parse_range(text: &str, side: &str) -> Result<PortRange, Error> {
    let side = if side.is_empty() { String::new() } else { format!("{side} ") };
    let port = |text: &str| {
        if text.is_empty() {
            return Err(Error::invalid(format!("the {side}port is missing")));
        }
        // `parse` takes a sign too.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse::<u16>().ok() } else { None };
        number.ok_or_else(|| {
            Error::invalid(format!("the {side}port '{text}' is not a number from 1 to 65535"))
        })
    };
    let (start, end) = match text.split_once('-') {
        None => {
            let only = port(text)?;
            (only, only)
        }
        Some((start, end)) => (port(start)?, port(end)?),
    };
    PortRange::new(start, end).map_err(|error| error.context(format!("the {side}ports")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for (text, printed) in [
            ("8080:80", "8080:80/tcp"),
            ("8080:80/tcp", "8080:80/tcp"),
            ("53:53/udp", "53:53/udp"),
            ("9:9/sctp", "9:9/sctp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
            ("0.0.0.0:8080:80", "8080:80/tcp"),
            ("[2001:db8::1]:8080:80/udp", "[2001:db8::1]:8080:80/udp"),
            ("[::]:8080:80", "8080:80/tcp"),
            ("[::1]:8080:80", "[::1]:8080:80/tcp"),
            ("8000-8010:9000-9010", "8000-8010:9000-9010/tcp"),
            ("10.0.2.2:8000-8010:9000-9010/udp", "10.0.2.2:8000-8010:9000-9010/udp"),
            ("1-65535:1-65535", "1-65535:1-65535/tcp"),
            ("80-80:90-90", "80:90/tcp"),
        ] {
            let spec: PublishPorts = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(spec.to_string(), printed);
            assert_eq!(printed.parse::<PublishPorts>().unwrap(), spec);
        }
    }

    #[test]
    fn mistakes_have_their_own_message() {
        for (text, reason) in [
            ("", "one port where"),
            ("80", "one port where"),
            ("80/tcp", "one port where"),
            (":80", "the host port is missing"),
            ("80:", "the container port is missing"),
            ("127.0.0.1::80", "the host port is missing"),
            ("80:80/", "the protocol ''"),
            ("80:80/icmp", "the protocol 'icmp'"),
            ("80:80/TCP", "the protocol 'TCP'"),
            ("80:80/tcp/udp", "the protocol 'tcp/udp'"),
            ("0:80", "the host ports: port 0"),
            ("80:0", "the container ports: port 0"),
            ("65536:80", "'65536' is not a number from 1 to 65535"),
            ("+80:80", "'+80' is not a number"),
            ("80 :80", "'80 ' is not a number"),
            ("80:http", "the container port 'http'"),
            ("90-80:1-11", "the range 90-80 ends before it starts"),
            ("80-:80", "the host port is missing"),
            ("80-90-99:80", "'90-99' is not a number"),
            ("8000-8010:80", "are 11, the container ports 80 are 1"),
            ("80:8000-8010", "as many"),
            ("300.0.0.1:80:80", "'300.0.0.1' is not an IPv4 address"),
            ("host:80:80", "'host' is not an IPv4 address"),
            ("2001:db8::1:80:80", "in brackets"),
            ("[2001:db8::1:80:80", "does not close"),
            ("[10.0.0.1]:80:80", "not an IPv6 address"),
            ("[2001:db8::1]80:80", "are missing after"),
            ("[2001:db8::1]:80", "one port where"),
            ("[::ffff:10.0.2.15]:80:80", "is the IPv4 address 10.0.2.15; write it so"),
            ("[fe80::1]:80:80", "is link-local"),
            ("8080:80/sctp", "give 80:80/sctp"),
            ("10.0.2.15:8000-8001:9000-9001/sctp", "give 9000-9001:9000-9001/sctp"),
        ] {
            let error = text.parse::<PublishPorts>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn spec_is_text_or_table() {
        let from = |text: &str| PublishSpec {
            ports: "8080:80".parse().unwrap(),
            options: PublishOptions { from: vec![text.parse().unwrap()] },
        };
        let plain: PublishSpec = serde_json::from_str("\"8080:80\"").unwrap();
        assert_eq!(plain, "8080:80".parse().unwrap());
        assert_eq!(plain.to_string(), "8080:80/tcp");
        let table = r#"{"ports": "8080:80", "from": ["10.0.0.0/8"]}"#;
        let spec: PublishSpec = serde_json::from_str(table).unwrap();
        assert_eq!(spec, from("10.0.0.0/8"));
        assert_eq!(spec.to_string(), "8080:80/tcp from 10.0.0.0/8");
        for spec in [plain, spec] {
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<PublishSpec>(&json).unwrap(), spec);
        }
        for (text, reason) in [
            (r#"{"from": []}"#, "missing field `ports`"),
            (r#"{"ports": "8080:80", "form": []}"#, "unknown field `form`, expected `from`"),
            (r#"{"ports": "80"}"#, "one port where"),
            ("7", "expected ports in quotes"),
        ] {
            let error = serde_json::from_str::<PublishSpec>(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn sources_are_subnets() {
        let check = |text: &str| {
            let from = text.split_whitespace().map(|subnet| subnet.parse().unwrap()).collect();
            let checked = PublishOptions { from }.check();
            checked.map(|options| options.from.len()).map_err(|error| error.to_string())
        };
        assert_eq!(check(""), Ok(0));
        assert_eq!(check("10.0.0.0/8 192.168.1.1/32 10.0.0.0/8"), Ok(2));
        assert!(check("10.1.0.0/8").unwrap_err().contains("write 10.0.0.0/8"));
        assert_eq!(check("10.0.0.0/8 2001:db8::/32 ::/0"), Ok(3));
        assert!(check("2001:db8::1/32").unwrap_err().contains("write 2001:db8::/32"));
        assert!(check("::ffff:10.0.0.0/104").unwrap_err().contains("write 10.0.0.0/8"));
    }

    #[test]
    fn json_is_the_text() {
        let spec: PublishPorts = "127.0.0.1:8080:80/udp".parse().unwrap();
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(json, "\"127.0.0.1:8080:80/udp\"");
        assert_eq!(serde_json::from_str::<PublishPorts>(&json).unwrap(), spec);
    }

    #[test]
    fn conflicts_by_protocol_port_and_address() {
        for (one, other, conflict) in [
            ("80:1", "80:2", true),
            ("80:1", "81:1", false),
            ("80:1", "80:1/udp", false),
            ("80:1", "10.0.2.2:80:1", true),
            ("10.0.2.2:80:1", "10.0.2.3:80:1", false),
            ("10.0.2.2:80:1", "10.0.2.2:80:2", true),
            ("127.0.0.1:80:1", "80:2", true),
            ("80:1", "[2001:db8::1]:80:1", true),
            ("10.0.2.2:80:1", "[2001:db8::1]:80:1", false),
            ("[2001:db8::1]:80:1", "[2001:db8::1]:80:2", true),
            ("[2001:db8::1]:80:1", "[2001:db8::2]:80:1", false),
            ("80-90:80-90", "90-91:1-2", true),
            ("80-90:80-90", "91-92:1-2", false),
            ("80-90:80-90", "85:1", true),
        ] {
            let one: PublishPorts = one.parse().unwrap();
            let other: PublishPorts = other.parse().unwrap();
            assert_eq!(one.conflicts(&other), conflict, "{one} {other}");
            assert_eq!(other.conflicts(&one), conflict, "{other} {one}");
        }
    }

    #[test]
    fn served_families() {
        use Family::{V4, V6};
        for (spec, container, expected) in [
            ("80:80", &[V4, V6][..], &[V4, V6][..]),
            ("80:80", &[V4], &[V4, V6]),
            ("80:80", &[V6], &[V6]),
            ("10.0.2.2:80:80", &[V4, V6], &[V4]),
            ("10.0.2.2:80:80", &[V4], &[V4]),
            ("10.0.2.2:80:80", &[V6], &[]),
            ("[2001:db8::1]:80:80", &[V4], &[V6]),
            ("[2001:db8::1]:80:80", &[V6], &[V6]),
        ] {
            let families: Vec<Family> =
                spec.parse::<PublishPorts>().unwrap().families(container).collect();
            assert_eq!(families, expected, "{spec} {container:?}");
        }
    }

    #[test]
    fn port_range_reads_what_it_prints() {
        for text in ["1024-32767", "20000"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        for (text, reason) in [
            ("", "the port is missing"),
            ("0-9", "the ports: port 0"),
            ("9-5", "ends before it starts"),
            ("1-65536", "the port '65536' is not a number from 1 to 65535"),
        ] {
            let error = text.parse::<PortRange>().unwrap_err().to_string();
            assert!(
                error.contains(reason) && error.ends_with("; write PORT or LO-HI"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn describes_port_protocol_and_address() {
        let describe = |text: &str| text.parse::<PublishPorts>().unwrap().describe();
        assert_eq!(describe("8080:80"), "port 8080/tcp of any address");
        assert_eq!(describe("127.0.0.1:53-54:53-54/udp"), "ports 53-54/udp of 127.0.0.1");
    }
}
