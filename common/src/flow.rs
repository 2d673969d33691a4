//! A flow's states, what moves it from one to the next, and how long each lasts.

use crate::tuple::protocol;

/// A time or duration of 2^30 ns (1.07 s) on the monotonic clock: one shift from nanoseconds, and 136 years in 32 bits.
pub type Ticks = u32;

/// How many nanoseconds are a tick, as a shift.
pub const TICK_SHIFT: u32 = 30;

/// The ticks that cover `seconds`.
pub const fn ticks(seconds: u32) -> Ticks {
    ((seconds as u64 * 1_000_000_000).div_ceil(1 << TICK_SHIFT)) as Ticks
}

/// The whole seconds in some ticks.
pub const fn seconds(ticks: Ticks) -> u64 {
    ((ticks as u64) << TICK_SHIFT) / 1_000_000_000
}

/// Bits of TCP's flags byte.
pub mod tcp {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgment field counts.
    pub const ACK: u8 = 0x10;
}

/// Which way a packet of a flow goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the side that began the flow.
    Forward,
    /// From the other side.
    Reply,
}

/// Where a flow is in its life. Numbers are stored in the kernel: they never change meaning.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// UDP or ICMP: nothing came back yet.
    Unreplied = 1,
    /// UDP or ICMP: both sides sent.
    Replied = 2,
    /// TCP: one SYN seen.
    SynSent = 3,
    /// TCP: both SYNs seen.
    SynReceived = 4,
    /// TCP: open.
    Established = 5,
    /// TCP: the side that began it sent its FIN.
    ForwardClosed = 6,
    /// TCP: the other side sent its FIN.
    ReplyClosed = 7,
    /// TCP: both sent their FIN.
    Closing = 8,
    /// TCP: refused, or reset when it was closing.
    Closed = 9,
    /// TCP: reset when it was open, by whomever: nothing here tells a true reset from a blind one (RFC 5961), so data opens it again.
    Reset = 10,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Unreplied,
        Self::Replied,
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::ForwardClosed,
        Self::ReplyClosed,
        Self::Closing,
        Self::Closed,
        Self::Reset,
    ];

    /// The state a flow begins in with its first packet.
    #[inline(always)]
    pub const fn first(protocol: u8) -> Self {
        if protocol == protocol::TCP { Self::SynSent } else { Self::Unreplied }
    }

    /// The state with that number.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Unreplied,
            2 => Self::Replied,
            3 => Self::SynSent,
            4 => Self::SynReceived,
            5 => Self::Established,
            6 => Self::ForwardClosed,
            7 => Self::ReplyClosed,
            8 => Self::Closing,
            9 => Self::Closed,
            10 => Self::Reset,
            _ => return None,
        })
    }

    /// Its name in `flows ls`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreplied => "unreplied",
            Self::Replied => "replied",
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::Established => "established",
            Self::ForwardClosed | Self::ReplyClosed => "half-closed",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Reset => "reset",
        }
    }

    /// How long it lasts after the last packet. Never less than the RFCs' floors: TCP 2 h 4 min when established and 4 min before and after
    /// (RFC 5382 REQ-5), UDP 2 min, and 5 min once answered (RFC 4787 REQ-5), ICMP 60 s (RFC 5508 REQ-2).
    #[inline(always)]
    pub const fn timeout(self, protocol: u8) -> Ticks {
        match self {
            Self::Unreplied | Self::Replied if protocol == protocol::ICMP => ticks(60),
            Self::Unreplied => ticks(120),
            Self::Replied => ticks(300),
            Self::Established | Self::ForwardClosed | Self::ReplyClosed => ticks(7440),
            Self::SynSent | Self::SynReceived | Self::Closing | Self::Reset => ticks(240),
            // RFC 5382 has no floor after a reset; this is netfilter's.
            Self::Closed => ticks(10),
        }
    }
}

/// Whether a packet can change the state `number`: what the established path asks before anything else.
#[inline(always)]
pub const fn may_move(number: u8, flags: u8) -> bool {
    let settled = number == State::Established as u8 || number == State::Replied as u8;
    !settled || flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0
}

impl State {
    /// The state after a packet. `flags` are TCP's, zero for other protocols.
    #[must_use]
    #[inline(always)]
    pub const fn next(self, protocol: u8, way: Way, flags: u8) -> Self {
        if protocol != protocol::TCP {
            return match way {
                Way::Forward => self,
                Way::Reply => Self::Replied,
            };
        }
        if flags & tcp::RST != 0 {
            let open = matches!(self, Self::Established | Self::ForwardClosed | Self::ReplyClosed | Self::Reset);
            return if open { Self::Reset } else { Self::Closed };
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
                (Self::SynReceived | Self::Established | Self::Reset, Way::Forward) => Self::ForwardClosed,
                (Self::SynReceived | Self::Established | Self::Reset, Way::Reply) => Self::ReplyClosed,
                (Self::ForwardClosed, Way::Reply) | (Self::ReplyClosed, Way::Forward) => Self::Closing,
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
        for protocol in [protocol::UDP, protocol::ICMP] {
            assert_eq!(State::first(protocol), State::Unreplied);
            assert_eq!(State::Unreplied.next(protocol, Way::Forward, 0), State::Unreplied);
            assert_eq!(State::Unreplied.next(protocol, Way::Reply, 0), State::Replied);
            assert_eq!(State::Replied.next(protocol, Way::Forward, 0), State::Replied);
        }
    }

    #[test]
    fn a_packet_that_may_not_move_the_state_does_not() {
        for state in State::ALL {
            for protocol in [protocol::TCP, protocol::UDP] {
                for way in [Way::Forward, Way::Reply] {
                    for flags in 0..=u8::MAX {
                        let flags = if protocol == protocol::TCP { flags } else { 0 };
                        if !may_move(state as u8, flags) {
                            let belongs = (protocol == protocol::TCP) == (state as u8 >= State::SynSent as u8);
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
        ] {
            assert!(seconds(state.timeout(protocol)) >= floor, "{state:?}");
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
