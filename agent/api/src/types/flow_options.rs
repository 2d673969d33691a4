//! Options of a network's flows: timeouts, source ports, NAT behaviour, limit.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, str::FromStr};

use causeway_common::abi::state::Timer;
use serde::{Deserialize, Serialize};

use super::publish::PortRange;
use crate::Error;

/// Valid timeouts in seconds: up to 23 days.
const SECONDS: RangeInclusive<u32> = 1..=2_000_000;

/// An idle timeout, by protocol and state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timeout {
    /// TCP after the handshake, until both sides have closed.
    TcpEstablished,
    /// TCP during the handshake and after close.
    TcpTransitory,
    /// UDP and SCTP without a reply.
    Udp,
    /// UDP with a reply.
    UdpStream,
    /// ICMP echo.
    Icmp,
    /// SCTP with a reply.
    Sctp,
}

/// NAT mapping and filtering behaviour (RFC 4787 sections 4.1 and 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// Address- and port-dependent mapping and filtering: only the destination may reply.
    #[default]
    Symmetric,
    /// Endpoint-independent mapping and filtering: one external port per internal port, open to
    /// every remote host.
    FullCone,
}

/// The options as given. Absent ones have defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowOptions {
    /// Timeouts in seconds.
    #[serde(default)]
    pub timeouts: BTreeMap<Timeout, u32>,
    /// Source ports for masquerade, used where the container's own port is taken.
    #[serde(default)]
    pub ports: Option<PortRange>,
    /// NAT behaviour of masqueraded flows.
    #[serde(default)]
    pub mapping: Option<Mapping>,
    /// Maximum number of flows per container.
    #[serde(default)]
    pub max_flows: Option<u32>,
}

/// The options in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowPolicy {
    /// Every timeout in seconds.
    pub timeouts: BTreeMap<Timeout, u32>,
    /// Source ports for masquerade, used where the container's own port is taken.
    pub ports: PortRange,
    /// NAT behaviour of masqueraded flows.
    pub mapping: Mapping,
    /// Maximum number of flows per container; none for half of the flow table.
    pub max_flows: Option<u32>,
}

impl Timeout {
    /// Every timeout.
    pub const ALL: [Self; 6] = [
        Self::TcpEstablished,
        Self::TcpTransitory,
        Self::Udp,
        Self::UdpStream,
        Self::Icmp,
        Self::Sctp,
    ];

    /// The datapath's timer.
    pub const fn timer(self) -> Timer {
        match self {
            Self::TcpEstablished => Timer::TcpEstablished,
            Self::TcpTransitory => Timer::TcpTransitory,
            Self::Udp => Timer::Udp,
            Self::UdpStream => Timer::UdpStream,
            Self::Icmp => Timer::Icmp,
            Self::Sctp => Timer::Sctp,
        }
    }

    /// The name on the command line, in the file and in JSON.
    pub const fn name(self) -> &'static str {
        self.timer().name()
    }

    /// The minimum in seconds that an RFC requires, and the RFC. SCTP has none.
    const fn floor(self) -> Option<(u32, &'static str)> {
        match self {
            Self::TcpEstablished => Some((7440, "RFC 5382 REQ-5")),
            Self::TcpTransitory => Some((240, "RFC 5382 REQ-5")),
            Self::Udp | Self::UdpStream => Some((120, "RFC 4787 REQ-5")),
            Self::Icmp => Some((60, "RFC 5508 REQ-2")),
            Self::Sctp => None,
        }
    }
}

impl FlowOptions {
    /// Checks the values, which deserializing does not.
    pub fn check(&self) -> Result<(), Error> {
        for (timeout, seconds) in &self.timeouts {
            check_seconds(*seconds)
                .map_err(|error| error.context(format!("the timeout {timeout}")))?;
        }
        if self.max_flows == Some(0) {
            return Err(Error::invalid("max_flows is 0, so a container could have no flow")
                .hint("give at least 1"));
        }
        Ok(())
    }

    /// The options with defaults filled in.
    pub fn policy(&self) -> FlowPolicy {
        let seconds = |timeout: Timeout| {
            self.timeouts.get(&timeout).copied().unwrap_or(timeout.timer().default_seconds())
        };
        FlowPolicy {
            timeouts: Timeout::ALL.into_iter().map(|timeout| (timeout, seconds(timeout))).collect(),
            ports: self.ports.unwrap_or(PortRange::MASQUERADE),
            mapping: self.mapping.unwrap_or_default(),
            max_flows: self.max_flows,
        }
    }
}

impl Default for FlowPolicy {
    fn default() -> Self {
        FlowOptions::default().policy()
    }
}

impl FlowPolicy {
    /// The keys of the configuration file whose values differ in `other`.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let differs = [
            ("timeouts", self.timeouts != other.timeouts),
            ("ports", self.ports != other.ports),
            ("mapping", self.mapping != other.mapping),
            ("max_flows", self.max_flows != other.max_flows),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// A warning for each timeout below the minimum of its RFC.
    pub fn below_floors(&self) -> Vec<String> {
        let below = self.timeouts.iter().filter_map(|(timeout, seconds)| {
            let (floor, rfc) = timeout.floor().filter(|(floor, _)| seconds < floor)?;
            Some(format!(
                "the timeout {timeout} of {seconds} s is below the {floor} s that {rfc} \
                 requires: flows may end while they are in use"
            ))
        });
        below.collect()
    }
}

/// Reads `NAME=SECONDS`.
pub fn parse_timeout(text: &str) -> Result<(Timeout, u32), Error> {
    let (name, seconds) = text
        .split_once('=')
        .ok_or_else(|| Error::invalid("it is not NAME=SECONDS, such as udp=120"))?;
    let timeout = name.parse()?;
    let seconds = seconds
        .parse()
        .map_err(|_| Error::invalid("the seconds are not a whole number from 1 to 2000000"))?;
    check_seconds(seconds)?;
    Ok((timeout, seconds))
}

fn check_seconds(seconds: u32) -> Result<(), Error> {
    if SECONDS.contains(&seconds) {
        return Ok(());
    }
    let (min, max) = (SECONDS.start(), SECONDS.end());
    Err(Error::invalid(format!("{seconds} seconds are not from {min} to {max}")))
}

impl FromStr for Timeout {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|timeout| timeout.name() == text);
        let names = || Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| {
            Error::invalid(format!("there is no timeout '{text}'"))
                .hint(format!("there is {}", names()))
        })
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mapping {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "symmetric" => Ok(Self::Symmetric),
            "full-cone" => Ok(Self::FullCone),
            _ => Err(Error::invalid(format!("the mapping '{text}' is not symmetric or full-cone"))),
        }
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Symmetric => "symmetric",
            Self::FullCone => "full-cone",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_is_name_and_seconds() {
        assert_eq!(parse_timeout("udp=30").unwrap(), (Timeout::Udp, 30));
        assert_eq!(
            parse_timeout("tcp-established=2000000").unwrap(),
            (Timeout::TcpEstablished, 2_000_000)
        );
        for (text, reason) in [
            ("udp", "NAME=SECONDS"),
            ("", "NAME=SECONDS"),
            (
                "UDP=30",
                "no timeout 'UDP'; there is tcp-established, tcp-transitory, udp, udp-stream, icmp, sctp",
            ),
            ("udp=", "whole number"),
            ("udp=1.5", "whole number"),
            ("udp=-1", "whole number"),
            ("udp=0", "0 seconds are not from 1 to 2000000"),
            ("udp=2000001", "not from 1 to 2000000"),
            ("udp=99999999999", "whole number"),
        ] {
            let error = parse_timeout(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn defaults_meet_the_rfcs() {
        let policy = FlowOptions::default().policy();
        assert_eq!(policy.timeouts.len(), Timeout::ALL.len());
        assert!(policy.below_floors().is_empty(), "{:?}", policy.below_floors());
        assert_eq!(
            (policy.ports.to_string().as_str(), policy.mapping),
            ("1024-32767", Mapping::Symmetric)
        );
    }

    #[test]
    fn warns_below_the_minimum_of_an_rfc() {
        let timeouts =
            BTreeMap::from([(Timeout::Udp, 119), (Timeout::Icmp, 60), (Timeout::Sctp, 1)]);
        let said = FlowOptions { timeouts, ..FlowOptions::default() }.policy().below_floors();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with(
                "the timeout udp of 119 s is below the 120 s that RFC 4787 REQ-5 requires"
            ),
            "{said:?}"
        );
    }

    #[test]
    fn names_match_json() {
        assert_eq!(Timeout::ALL.map(Timeout::timer), Timer::SETTABLE);
        for timeout in Timeout::ALL {
            assert_eq!(serde_json::to_value(timeout).unwrap(), timeout.name());
            assert_eq!(timeout.name().parse::<Timeout>().unwrap(), timeout);
        }
        for mapping in [Mapping::Symmetric, Mapping::FullCone] {
            assert_eq!(serde_json::to_value(mapping).unwrap(), mapping.to_string());
            assert_eq!(mapping.to_string().parse::<Mapping>().unwrap(), mapping);
        }
    }

    #[test]
    fn options_read_what_they_print() {
        let options = FlowOptions {
            timeouts: BTreeMap::from([(Timeout::UdpStream, 300)]),
            ports: Some("20000-20009".parse().unwrap()),
            mapping: Some(Mapping::FullCone),
            max_flows: Some(7),
        };
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<FlowOptions>(&text).unwrap(), options);
        assert_eq!(serde_json::from_str::<FlowOptions>("{}").unwrap(), FlowOptions::default());
    }
}
