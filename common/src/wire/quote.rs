//! What an ICMP error quotes.

use crate::wire::{ethernet::ETHERNET, frame::Frame, ipv6, parse::Parse, tuple::Tuple};

/// Bytes that translation of an error may touch: Ethernet, two of the longest IP headers, ICMP, and
/// TCP up to its checksum.
pub const HEADERS: u32 = (ETHERNET + 2 * ipv6::LONGEST + ICMP + 18) as u32;

/// No quoted header begins later in a frame than this says, and no quoted payload than the other.
pub const HEADER_MASK: usize = 0xff;

/// See [`HEADER_MASK`].
pub const PAYLOAD_MASK: usize = 0x1ff;

const _: () =
    assert!(ETHERNET + ipv6::LONGEST + ICMP <= HEADER_MASK && HEADERS as usize <= PAYLOAD_MASK);

/// Bytes of ICMP's header before the quote.
pub(crate) const ICMP: usize = 8;

/// An error and what it quotes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quote<A> {
    /// The quoted packet's tuple, as it left. Its side is where the error arrived, which is where
    /// that packet left.
    pub tuple: Tuple<A>,
    /// Where the quoted IP header begins in the frame.
    pub header_at: usize,
    /// Where the quoted payload begins.
    pub payload_at: usize,
}

/// Reads what an error quotes; none if that is cut short, a later fragment, or of a protocol that
/// is not translated.
#[inline(always)]
pub fn quote<A: Parse>(
    frame: &(impl Frame + ?Sized),
    icmp_at: usize,
    side: u8,
) -> Option<Quote<A>> {
    A::parse_quote(frame, icmp_at + ICMP, side)
}
