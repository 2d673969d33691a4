//! State transitions of a flow.

use crate::{
    abi::state::State,
    wire::{protocol, tcp},
};

/// Direction of a packet in its flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the side that began the flow.
    Forward,
    /// From the other side.
    Reply,
}

/// Whether a packet with these flags can change the state `number`. The fast path asks this first.
#[inline(always)]
pub const fn may_change_state(number: u8, is_reply: u8, flags: u8) -> bool {
    let is_steady = number == State::Established as u8
        || number == State::Replied as u8
        || (number == State::Unreplied as u8 && is_reply == 0);
    !is_steady || flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0
}

impl State {
    /// State after a packet with these flags ([`crate::wire::packet::Packet::flags`]).
    #[must_use]
    #[inline(always)]
    pub const fn next(self, protocol: u8, way: Way, flags: u8) -> Self {
        if protocol != protocol::TCP {
            return match (self, way) {
                _ if flags & tcp::RST != 0 => Self::Closed,
                // A closed SCTP association stays closed until an INIT uses the tuple again.
                (Self::Closed, Way::Forward) if flags & tcp::SYN != 0 => Self::Unreplied,
                (Self::Closed, _) | (_, Way::Forward) => self,
                (_, Way::Reply) => Self::Replied,
            };
        }
        if flags & tcp::RST != 0 {
            return if self.is_open() { Self::Reset } else { Self::Closed };
        }
        if flags & tcp::SYN != 0 {
            return match (self, way) {
                // The other side's SYN, with or without an ACK (simultaneous open, RFC 5382 REQ-2).
                (Self::SynSent, Way::Reply) => Self::SynReceived,
                // The tuple is used again after it was closed or reset.
                (Self::Closing | Self::Closed | Self::Reset, Way::Forward) => Self::SynSent,
                _ => self,
            };
        }
        if flags & tcp::FIN != 0 {
            return match (self, way) {
                (Self::SynReceived | Self::Established | Self::Reset, Way::Forward) => {
                    Self::ForwardClosed
                }
                (Self::SynReceived | Self::Established | Self::Reset, Way::Reply) => {
                    Self::ReplyClosed
                }
                (Self::ForwardClosed, Way::Reply) | (Self::ReplyClosed, Way::Forward) => {
                    Self::Closing
                }
                _ => self,
            };
        }
        match (self, way) {
            (Self::SynReceived, Way::Forward) | (Self::Reset, _) => Self::Established,
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::state::Timer;

    #[test]
    fn tcp_takes_every_transition() {
        use State::*;
        use Way::*;
        use tcp::*;
        let table = [
            ("answered", SynSent, Reply, SYN | ACK, SynReceived),
            ("simultaneous open", SynSent, Reply, SYN, SynReceived),
            ("SYN retransmitted", SynSent, Forward, SYN, SynSent),
            ("data before the answer does not open", SynSent, Forward, ACK, SynSent),
            ("third packet of the handshake", SynReceived, Forward, ACK, Established),
            ("SYN and ACK retransmitted", SynReceived, Reply, SYN | ACK, SynReceived),
            ("data", Established, Forward, ACK, Established),
            ("stray SYN", Established, Forward, SYN, Established),
            ("first FIN forward", Established, Forward, FIN | ACK, ForwardClosed),
            ("first FIN reply", Established, Reply, FIN | ACK, ReplyClosed),
            ("FIN retransmitted", ForwardClosed, Forward, FIN | ACK, ForwardClosed),
            ("data to a half-closed side", ForwardClosed, Reply, ACK, ForwardClosed),
            ("second FIN", ForwardClosed, Reply, FIN | ACK, Closing),
            ("second FIN the other way", ReplyClosed, Forward, FIN | ACK, Closing),
            ("last ACK", Closing, Forward, ACK, Closing),
            ("tuple used again", Closing, Forward, SYN, SynSent),
            ("tuple used again after a reset", Closed, Forward, SYN, SynSent),
            ("reset", Established, Reply, RST, Reset),
            ("data after a blind reset", Reset, Forward, ACK, Established),
            ("FIN after a blind reset", Reset, Reply, FIN | ACK, ReplyClosed),
            ("tuple used again after a reset when open", Reset, Forward, SYN, SynSent),
            ("reset while closing", Closing, Reply, RST, Closed),
            ("refused", SynSent, Reply, RST | ACK, Closed),
        ];
        for (what, from, way, flags, to) in table {
            assert_eq!(from.next(protocol::TCP, way, flags), to, "{what}");
        }
    }

    #[test]
    fn udp_and_icmp_are_replied_by_peer_only() {
        for protocol in [protocol::UDP, protocol::ICMP, protocol::ICMPV6] {
            assert_eq!(State::first(protocol), State::Unreplied);
            assert_eq!(State::Unreplied.next(protocol, Way::Forward, 0), State::Unreplied);
            assert_eq!(State::Unreplied.next(protocol, Way::Reply, 0), State::Replied);
            assert_eq!(State::Replied.next(protocol, Way::Forward, 0), State::Replied);
        }
    }

    #[test]
    fn sctp_closes_on_abort_and_reopens_on_init() {
        use State::*;
        use tcp::{RST, SYN};
        for (what, from, way, flags, to) in [
            ("INIT ACK", Unreplied, Way::Reply, SYN, Replied),
            ("data", Replied, Way::Forward, 0, Replied),
            ("refused", Unreplied, Way::Reply, RST, Closed),
            ("aborted", Replied, Way::Forward, RST, Closed),
            ("data in flight", Closed, Way::Reply, 0, Closed),
            ("tuple used again", Closed, Way::Forward, SYN, Unreplied),
            ("a peer's own INIT after the end", Closed, Way::Reply, SYN, Closed),
        ] {
            assert_eq!(from.next(protocol::SCTP, way, flags), to, "{what}");
        }
    }

    #[test]
    fn may_change_state_covers_all_transitions() {
        for state in State::ALL {
            for protocol in [protocol::TCP, protocol::UDP] {
                for way in [Way::Forward, Way::Reply] {
                    for flags in 0..=u8::MAX {
                        let flags = if protocol == protocol::TCP { flags } else { 0 };
                        let is_reply = u8::from(way == Way::Reply);
                        if !may_change_state(state as u8, is_reply, flags) {
                            let belongs = (protocol == protocol::TCP)
                                == (state as u8 >= State::SynSent as u8);
                            assert!(!belongs || state.next(protocol, way, flags) == state);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn timeouts_respect_rfc_minimums() {
        for (state, protocol, floor) in [
            (State::Established, protocol::TCP, 7440),
            (State::ForwardClosed, protocol::TCP, 240),
            (State::SynSent, protocol::TCP, 240),
            (State::Closing, protocol::TCP, 240),
            (State::Unreplied, protocol::UDP, 120),
            (State::Replied, protocol::UDP, 300),
            (State::Replied, protocol::ICMP, 60),
            (State::Replied, protocol::ICMPV6, 60),
            // A heartbeat every 30 s, and the time for its reply.
            (State::Replied, protocol::SCTP, 90),
        ] {
            assert!(state.timer(protocol).default_seconds() >= floor, "{state:?}");
        }
    }

    #[test]
    fn icmp_echo_has_own_timer_in_both_families() {
        for state in [State::Unreplied, State::Replied] {
            for protocol in [protocol::ICMP, protocol::ICMPV6] {
                assert_eq!(state.timer(protocol), Timer::Icmp, "{state:?} of {protocol}");
            }
            assert_ne!(state.timer(protocol::UDP), Timer::Icmp);
        }
    }

    #[test]
    fn state_numbers_round_trip() {
        for state in State::ALL {
            assert_eq!(State::from_number(state as u8), Some(state));
        }
        assert_eq!(State::from_number(0), None);
        assert_eq!(State::from_number(200), None);
    }
}
