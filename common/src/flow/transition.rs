//! What moves a flow from one state to the next.

use crate::{
    abi::state::State,
    wire::{protocol, tcp},
};

/// Which way a packet of a flow goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the side that began the flow.
    Forward,
    /// From the other side.
    Reply,
}

/// Whether a packet can change the state `number`: what the established path asks before anything
/// else.
#[inline(always)]
pub const fn may_change_state(number: u8, is_reply: u8, flags: u8) -> bool {
    let settled = number == State::Established as u8
        || number == State::Replied as u8
        || (number == State::Unreplied as u8 && is_reply == 0);
    !settled || flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0
}

impl State {
    /// The state after a packet. `flags` are the packet's ([`crate::wire::packet::Packet::flags`]).
    #[must_use]
    #[inline(always)]
    pub const fn next(self, protocol: u8, way: Way, flags: u8) -> Self {
        if protocol != protocol::TCP {
            return match (self, way) {
                _ if flags & tcp::RST != 0 => Self::Closed,
                // SCTP that has ended stays so until the tuple is used again.
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
                // The tuple is used again after it was closed.
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
    fn tcp_moves_through_its_life() {
        use State::*;
        use Way::*;
        use tcp::*;
        let table = [
            ("answered", SynSent, Reply, SYN | ACK, SynReceived),
            ("simultaneous open", SynSent, Reply, SYN, SynReceived),
            ("SYN again", SynSent, Forward, SYN, SynSent),
            ("data before the answer does not open", SynSent, Forward, ACK, SynSent),
            ("third packet of the handshake", SynReceived, Forward, ACK, Established),
            ("SYN and ACK again", SynReceived, Reply, SYN | ACK, SynReceived),
            ("data", Established, Forward, ACK, Established),
            ("stray SYN", Established, Forward, SYN, Established),
            ("first FIN forward", Established, Forward, FIN | ACK, ForwardClosed),
            ("first FIN reply", Established, Reply, FIN | ACK, ReplyClosed),
            ("FIN again", ForwardClosed, Forward, FIN | ACK, ForwardClosed),
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
    fn udp_and_icmp_are_replied_by_the_other_side_only() {
        for protocol in [protocol::UDP, protocol::ICMP, protocol::ICMPV6] {
            assert_eq!(State::first(protocol), State::Unreplied);
            assert_eq!(State::Unreplied.next(protocol, Way::Forward, 0), State::Unreplied);
            assert_eq!(State::Unreplied.next(protocol, Way::Reply, 0), State::Replied);
            assert_eq!(State::Replied.next(protocol, Way::Forward, 0), State::Replied);
        }
    }

    #[test]
    fn sctp_ends_when_one_side_says_so_and_begins_again_with_an_init() {
        use State::*;
        use tcp::{RST, SYN};
        for (what, from, way, flags, to) in [
            ("INIT ACK", Unreplied, Way::Reply, SYN, Replied),
            ("data", Replied, Way::Forward, 0, Replied),
            ("refused", Unreplied, Way::Reply, RST, Closed),
            ("aborted", Replied, Way::Forward, RST, Closed),
            ("data on its way still", Closed, Way::Reply, 0, Closed),
            ("tuple used again", Closed, Way::Forward, SYN, Unreplied),
            ("a peer's own INIT after the end", Closed, Way::Reply, SYN, Closed),
        ] {
            assert_eq!(from.next(protocol::SCTP, way, flags), to, "{what}");
        }
    }

    #[test]
    fn a_packet_that_may_not_move_the_state_does_not() {
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
    fn timeouts_are_never_below_the_rfcs_floors() {
        for (state, protocol, floor) in [
            (State::Established, protocol::TCP, 7440),
            (State::ForwardClosed, protocol::TCP, 240),
            (State::SynSent, protocol::TCP, 240),
            (State::Closing, protocol::TCP, 240),
            (State::Unreplied, protocol::UDP, 120),
            (State::Replied, protocol::UDP, 300),
            (State::Replied, protocol::ICMP, 60),
            (State::Replied, protocol::ICMPV6, 60),
            // A heartbeat every 30 s, and its answer's time.
            (State::Replied, protocol::SCTP, 90),
        ] {
            assert!(state.timer(protocol).default_seconds() >= floor, "{state:?}");
        }
    }

    #[test]
    fn an_echo_of_either_family_has_a_timer_of_its_own() {
        for state in [State::Unreplied, State::Replied] {
            for protocol in [protocol::ICMP, protocol::ICMPV6] {
                assert_eq!(state.timer(protocol), Timer::Icmp, "{state:?} of {protocol}");
            }
            assert_ne!(state.timer(protocol::UDP), Timer::Icmp);
        }
    }

    #[test]
    fn states_have_numbers_that_read_back() {
        for state in State::ALL {
            assert_eq!(State::from_number(state as u8), Some(state));
        }
        assert_eq!(State::from_number(0), None);
        assert_eq!(State::from_number(200), None);
    }
}
