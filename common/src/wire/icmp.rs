//! ICMP errors that the datapath sends, as bytes.

use crate::wire::ethernet::ETHERNET;

/// Why a packet does not go on, in ICMP's words.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IcmpErrorKind {
    /// Its hops are used up.
    TimeExceeded = 0,
    /// It is longer than what comes next can carry. Said also to who lets routers fragment: what is
    /// translated here is not cut here.
    TooLong = 1,
    /// There is no room for its flow.
    Prohibited = 2,
    /// The host does not know the way.
    NoRoute = 3,
}

impl IcmpErrorKind {
    /// Its name in the RFCs, of IPv4 and IPv6.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TimeExceeded => "time exceeded",
            Self::TooLong => "fragmentation needed (IPv4), packet too big (IPv6)",
            Self::Prohibited => "administratively prohibited",
            Self::NoRoute => "network unreachable (IPv4), no route (IPv6)",
        }
    }

    /// The one with that number.
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

/// How many bytes of a packet are quoted at most: its header and what follows (RFC 1812 section
/// 4.3.2.3 asks for as much as possible).
pub const QUOTE: usize = 96;

/// Bytes of ICMP's header.
pub(crate) const ICMP: usize = 8;

/// The longest frame with an error: Ethernet, IPv6, ICMP and the quote.
pub const MAX_FRAME: usize = ETHERNET + 40 + ICMP + QUOTE;

/// A frame with an error.
#[derive(Clone, Copy, Debug)]
pub struct IcmpError {
    /// The frame, and what is left of the room.
    pub bytes: [u8; MAX_FRAME],
    /// Bytes of the frame; zero if there is none.
    pub length: u16,
}

impl IcmpError {
    /// Nothing yet.
    pub const NONE: Self = Self { bytes: [0; MAX_FRAME], length: 0 };

    /// The frame.
    pub fn frame(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}
