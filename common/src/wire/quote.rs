//! The packet that an ICMP error quotes.

use crate::wire::{
    ethernet::ETHERNET,
    frame::Frame,
    ipv6,
    parse::Parse,
    tuple::{Side, Tuple},
};

/// The most bytes of an error that translation reads or writes: Ethernet, two IP headers of the
/// longest kind, ICMP, and TCP up to its checksum.
pub const HEADERS: u32 = (ETHERNET + 2 * ipv6::LONGEST + ICMP + 18) as u32;

/// Mask of the offset of a quoted header, for the verifier: no offset is larger.
pub const HEADER_MASK: usize = 0xff;

/// Mask of the offset of a quoted payload, likewise.
pub const PAYLOAD_MASK: usize = 0x1ff;

const _: () =
    assert!(ETHERNET + ipv6::LONGEST + ICMP <= HEADER_MASK && HEADERS as usize <= PAYLOAD_MASK);

/// Bytes of the ICMP header before the quote.
pub(crate) const ICMP: usize = 8;

/// The quoted packet of an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quote<A> {
    /// The tuple with which the quoted packet left. Its side is where the error arrived, which is
    /// where that packet left.
    pub tuple: Tuple<A>,
    /// Offset of the quoted IP header in the frame.
    pub header_at: usize,
    /// Offset of the quoted payload in the frame.
    pub payload_at: usize,
}

/// Parses the quoted packet. None if it is truncated, a later fragment, or of a protocol that is
/// not translated.
#[inline(always)]
pub fn quote<A: Parse>(
    frame: &(impl Frame + ?Sized),
    icmp_at: usize,
    side: Side,
) -> Option<Quote<A>> {
    A::parse_quote(frame, icmp_at + ICMP, side)
}
