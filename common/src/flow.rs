//! A flow's states, what moves it from one to the next, and how long each lasts.

use crate::tuple::protocol;

/// A time or duration of 2^30 ns (1.07 s) on the monotonic clock: one shift from nanoseconds, and
/// 136 years in 32 bits.
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
    /// UDP, SCTP or ICMP: nothing came back yet.
    Unreplied = 1,
    /// UDP, SCTP or ICMP: both sides sent.
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
    /// TCP: refused, or reset when it was closing. SCTP: aborted, or shut down whole.
    Closed = 9,
    /// TCP: reset when it was open, by whomever: nothing here tells a true reset from a blind one
    /// (RFC 5961), so data opens it again.
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

    /// What says how long it lasts after the last packet.
    #[inline(always)]
    pub const fn timer(self, protocol: u8) -> Timer {
        match self {
            Self::Unreplied | Self::Replied
                if matches!(protocol, protocol::ICMP | protocol::ICMPV6) =>
            {
                Timer::Icmp
            }
            Self::Unreplied => Timer::Udp,
            Self::Replied if protocol == protocol::SCTP => Timer::Sctp,
            Self::Replied => Timer::UdpStream,
            Self::Established | Self::ForwardClosed | Self::ReplyClosed => Timer::TcpEstablished,
            Self::SynSent | Self::SynReceived | Self::Closing | Self::Reset => Timer::TcpTransitory,
            Self::Closed => Timer::Closed,
        }
    }

    /// Whether it is TCP that both sides opened and none closed whole.
    #[inline(always)]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Established | Self::ForwardClosed | Self::ReplyClosed | Self::Reset)
    }

    /// Whether a new flow may have its room when there is no other: nothing says that both sides
    /// want it.
    #[inline(always)]
    pub const fn is_half_open(self) -> bool {
        matches!(self, Self::Unreplied | Self::SynSent | Self::SynReceived | Self::Closed)
    }
}

/// A timeout that a network may set. Numbers are indices in the kernel: they never change meaning.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Timer {
    /// TCP that is open, on one side at least.
    TcpEstablished = 0,
    /// TCP before and after that.
    TcpTransitory = 1,
    /// UDP that was not answered; SCTP too.
    Udp = 2,
    /// UDP that was.
    UdpStream = 3,
    /// ICMP echo.
    Icmp = 4,
    /// SCTP that was answered.
    Sctp = 5,
    /// TCP that was refused, or reset when it was closing; SCTP that has ended. No network sets it.
    Closed = 6,
}

/// How many timers there is room for: a power of two.
pub const TIMERS: usize = 8;

impl Timer {
    /// Every one that a network may set.
    pub const SETTABLE: [Self; 6] = [
        Self::TcpEstablished,
        Self::TcpTransitory,
        Self::Udp,
        Self::UdpStream,
        Self::Icmp,
        Self::Sctp,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TcpEstablished => "tcp-established",
            Self::TcpTransitory => "tcp-transitory",
            Self::Udp => "udp",
            Self::UdpStream => "udp-stream",
            Self::Icmp => "icmp",
            Self::Sctp => "sctp",
            Self::Closed => "closed",
        }
    }

    /// In seconds, where nothing else is said. The RFCs' floors: TCP 2 h 4 min when established and
    /// 4 min before and after (RFC 5382 REQ-5), UDP 2 min, and the 5 min it recommends once
    /// answered (RFC 4787 REQ-5), ICMP 60 s (RFC 5508 REQ-2). SCTP's side sends a heartbeat every
    /// 30 s (RFC 9260 section 15). RFC 5382 has no floor after a reset: that is netfilter's.
    pub const fn default_seconds(self) -> u32 {
        match self {
            Self::TcpEstablished => 7440,
            Self::TcpTransitory => 240,
            Self::Udp => 120,
            Self::UdpStream | Self::Sctp => 300,
            Self::Icmp => 60,
            Self::Closed => 10,
        }
    }
}

/// Whether a packet can change the state `number`: what the established path asks before anything
/// else.
#[inline(always)]
pub const fn may_move(number: u8, is_reply: u8, flags: u8) -> bool {
    let settled = number == State::Established as u8
        || number == State::Replied as u8
        || (number == State::Unreplied as u8 && is_reply == 0);
    !settled || flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0
}

impl State {
    /// The state after a packet. `flags` are the packet's ([`crate::packet::Packet::flags`]).
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
                        if !may_move(state as u8, is_reply, flags) {
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
