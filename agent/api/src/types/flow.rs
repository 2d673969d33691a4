//! Protocol and state of a flow.

use std::{fmt, str::FromStr};

use causeway_common::{
    abi::state::State,
    wire::protocol::{ICMP, ICMPV6, SCTP, TCP, UDP},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

/// The protocols that have names, with their IANA numbers.
const PROTOCOLS: [(&str, u8); 5] =
    [("tcp", TCP), ("udp", UDP), ("icmp", ICMP), ("icmpv6", ICMPV6), ("sctp", SCTP)];

/// The IANA number of a transport protocol. In JSON its name, or the number as a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FlowProtocol(pub u8);

impl fmt::Display for FlowProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match PROTOCOLS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

impl FromStr for FlowProtocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
        // `parse` takes a sign too.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = named.or_else(|| text.parse().ok().filter(|_| digits));
        number.map(Self).ok_or_else(|| {
            Error::invalid(format!(
                "'{text}' is not tcp, udp, icmp, icmpv6, sctp or a number from 0 to 255"
            ))
        })
    }
}

impl TryFrom<String> for FlowProtocol {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<FlowProtocol> for String {
    fn from(protocol: FlowProtocol) -> Self {
        protocol.to_string()
    }
}

/// The state of a flow, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowState {
    /// UDP, ICMP echo, SCTP: one side has sent.
    Unreplied,
    /// UDP, ICMP echo, SCTP: both sides have sent.
    Replied,
    /// TCP: SYN.
    SynSent,
    /// TCP: SYN and SYN-ACK.
    SynReceived,
    /// TCP: handshake complete.
    Established,
    /// TCP: FIN from one side.
    HalfClosed,
    /// TCP: FIN from both sides, the last not acknowledged.
    Closing,
    /// TCP: both FINs acknowledged.
    Closed,
    /// TCP: RST.
    Reset,
    /// An endpoint-independent mapping (RFC 4787). It has no remote side.
    Mapping,
    /// A state that this version does not know.
    Unknown,
}

impl FlowState {
    /// Every state that a flow can be asked for by.
    pub const ALL: [Self; 10] = [
        Self::Unreplied,
        Self::Replied,
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::HalfClosed,
        Self::Closing,
        Self::Closed,
        Self::Reset,
        Self::Mapping,
    ];

    /// The state in JSON and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreplied => "unreplied",
            Self::Replied => "replied",
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::Established => "established",
            Self::HalfClosed => "half-closed",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Mapping => "mapping",
            Self::Unknown => "unknown",
        }
    }
}

/// The datapath's two half-closed states, by direction, are one here.
impl From<State> for FlowState {
    fn from(state: State) -> Self {
        match state {
            State::Unreplied => Self::Unreplied,
            State::Replied => Self::Replied,
            State::SynSent => Self::SynSent,
            State::SynReceived => Self::SynReceived,
            State::Established => Self::Established,
            State::ForwardClosed | State::ReplyClosed => Self::HalfClosed,
            State::Closing => Self::Closing,
            State::Closed => Self::Closed,
            State::Reset => Self::Reset,
        }
    }
}

impl fmt::Display for FlowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FlowState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|state| state.name() == text).ok_or_else(|| {
            Error::invalid(format!("there is no state '{text}'"))
                .hint(format!("there is {}", Self::ALL.map(Self::name).join(", ")))
        })
    }
}

impl Serialize for FlowState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for FlowState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| text.parse().unwrap_or(Self::Unknown))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn protocols_read_what_they_print() {
        for number in 0..=u8::MAX {
            let protocol = FlowProtocol(number);
            assert_eq!(protocol.to_string().parse::<FlowProtocol>().unwrap(), protocol);
        }
        assert_eq!(serde_json::to_value(FlowProtocol(6)).unwrap(), json!("tcp"));
        assert_eq!(serde_json::to_value(FlowProtocol(47)).unwrap(), json!("47"));
        for text in ["", "TCP", "256", "-1", "+6", "gre"] {
            let error = text.parse::<FlowProtocol>().unwrap_err().to_string();
            assert!(error.contains("tcp, udp, icmp, icmpv6, sctp"), "{text}: {error}");
        }
    }

    #[test]
    fn states_read_what_they_print() {
        for state in FlowState::ALL {
            assert_eq!(state.name().parse::<FlowState>().unwrap(), state);
            assert_eq!(serde_json::to_value(state).unwrap(), json!(state.name()));
        }
        let error = "open".parse::<FlowState>().unwrap_err().to_string();
        assert!(error.contains("there is unreplied, replied, syn-sent"), "{error}");
    }

    #[test]
    fn states_have_the_names_of_the_datapath() {
        for state in State::ALL {
            assert_eq!(FlowState::from(state).name(), state.name());
        }
    }

    #[test]
    fn unknown_states_are_read() {
        let state: FlowState = serde_json::from_value(json!("frozen")).unwrap();
        assert_eq!(state, FlowState::Unknown);
    }
}
