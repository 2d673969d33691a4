//! A flow's states, and how long each lasts.

use crate::wire::protocol;

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
