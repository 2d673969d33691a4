//! The states of a flow, and the timeout of each.

use crate::wire::protocol;

/// Where a flow is in its life. The numbers are stored in the kernel and never change meaning.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// UDP, SCTP or ICMP: no packet came back yet.
    Unreplied = 1,
    /// UDP, SCTP or ICMP: both sides sent.
    Replied = 2,
    /// TCP: one SYN seen.
    SynSent = 3,
    /// TCP: both SYNs seen.
    SynReceived = 4,
    /// TCP: open in both directions.
    Established = 5,
    /// TCP: the side that began the flow sent its FIN.
    ForwardClosed = 6,
    /// TCP: the other side sent its FIN.
    ReplyClosed = 7,
    /// TCP: both sent their FIN.
    Closing = 8,
    /// TCP: refused, or reset while closing. SCTP: aborted, or shut down completely.
    Closed = 9,
    /// TCP: reset while open. The reset may be a blind attack (RFC 5961), so data makes the flow
    /// established again.
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

    /// The state after the first packet.
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

    /// The timer that says how long it lasts after the last packet.
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

    /// Whether it is TCP that both sides opened and that is open in one direction at least.
    #[inline(always)]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Established | Self::ForwardClosed | Self::ReplyClosed | Self::Reset)
    }

    /// Whether nothing shows that both sides want the flow. A new flow may evict it.
    #[inline(always)]
    pub const fn is_half_open(self) -> bool {
        matches!(self, Self::Unreplied | Self::SynSent | Self::SynReceived | Self::Closed)
    }
}

/// A timeout that a network can set. The numbers are indices in the kernel and never change
/// meaning.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Timer {
    /// TCP that is open in one direction at least.
    TcpEstablished = 0,
    /// TCP that is being opened or closed, or was reset.
    TcpTransitory = 1,
    /// UDP and SCTP without a reply.
    Udp = 2,
    /// UDP with a reply.
    UdpStream = 3,
    /// ICMP echo.
    Icmp = 4,
    /// SCTP with a reply.
    Sctp = 5,
    /// TCP that was refused, or reset while closing; SCTP that has ended. No network can set it.
    Closed = 6,
}

/// The entries of [`Network::timeouts`](super::network::Network::timeouts). A power of two.
pub const TIMERS: usize = 8;

impl Timer {
    /// Every timer that a network can set.
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

    /// The default in seconds. These are the minima of the RFCs: TCP 2 h 4 min when established and
    /// 4 min otherwise (RFC 5382 REQ-5), UDP 2 min, with a reply the recommended 5 min (RFC 4787
    /// REQ-5), ICMP 60 s (RFC 5508 REQ-2). An SCTP peer sends a heartbeat every 30 s (RFC 9260
    /// section 15). RFC 5382 has no minimum after a reset; 10 s is netfilter's value.
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
