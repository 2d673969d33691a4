//! ICMP errors that the datapath sends.

use crate::wire::ethernet::ETHERNET;

/// The kinds of ICMP errors that the datapath sends.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IcmpErrorKind {
    /// The TTL or hop limit is used up.
    TimeExceeded = 0,
    /// The packet is longer than the MTU of the next link. Also sent for IPv4 without DF: the
    /// datapath does not fragment.
    TooLong = 1,
    /// There is no room for the flow.
    Prohibited = 2,
    /// The host has no route to the destination.
    NoRoute = 3,
}

impl IcmpErrorKind {
    /// The names that the RFCs have for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TimeExceeded => "time exceeded",
            Self::TooLong => "fragmentation needed (IPv4), packet too big (IPv6)",
            Self::Prohibited => "administratively prohibited",
            Self::NoRoute => "network unreachable (IPv4), no route (IPv6)",
        }
    }

    /// The kind with that number.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::TimeExceeded,
            1 => Self::TooLong,
            2 => Self::Prohibited,
            3 => Self::NoRoute,
            _ => return None,
        })
    }
}

/// The most bytes of a packet that are quoted, from its IP header on (RFC 1812 section 4.3.2.3 asks
/// for as many as possible).
pub const QUOTE: usize = 96;

/// Bytes of an ICMP header.
pub(crate) const ICMP: usize = 8;

/// Bytes of the longest frame with an error: Ethernet, IPv6, ICMP and the quote.
pub const MAX_FRAME: usize = ETHERNET + 40 + ICMP + QUOTE;

/// A frame with an error.
#[derive(Clone, Copy, Debug)]
pub struct IcmpError {
    /// The frame, and unused bytes after it.
    pub bytes: [u8; MAX_FRAME],
    /// Length of the frame in bytes; zero if there is none.
    pub length: u16,
}

impl IcmpError {
    /// No frame.
    pub const NONE: Self = Self { bytes: [0; MAX_FRAME], length: 0 };

    /// The frame.
    pub fn frame(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}
