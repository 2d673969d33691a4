//! The maximum segment size in the options of a TCP header (RFC 9293 section 3.7.1).

use core::ops::ControlFlow;

use crate::wire::{
    address::V6,
    checksum,
    frame::{Frame, FrameMut},
    parse::Parse as _,
};

/// Bytes of TCP's header without options.
pub(crate) const HEADER: usize = 20;

/// Bytes of the longest TCP header.
pub const LONGEST: usize = 60;

/// Kinds of options.
mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NO_OPERATION: u8 = 1;
    pub(super) const MSS: u8 = 2;
}

/// A walk over the options of a TCP header.
#[derive(Clone, Copy, Debug)]
pub struct MssSearch {
    /// Where the TCP header begins in the frame.
    tcp_at: u32,
    /// Where the next option begins in the TCP header.
    at: u32,
    /// Where the value was found, in the TCP header: two bytes, most significant first. Zero if it
    /// was not.
    found: u32,
}

impl MssSearch {
    /// How many steps it takes at most: an option has a byte at least.
    pub const STEPS: u32 = (LONGEST - HEADER) as u32;

    /// From the first option of the TCP header that begins at `tcp_at`.
    #[inline(always)]
    pub const fn new(tcp_at: usize) -> Self {
        Self { tcp_at: tcp_at as u32, at: HEADER as u32, found: 0 }
    }

    /// Looks at one option. Breaks after the last one, and at one that is malformed.
    #[inline(always)]
    pub fn step(&mut self, frame: &(impl Frame + ?Sized)) -> ControlFlow<()> {
        match self.look(frame) {
            Some(()) => ControlFlow::Continue(()),
            None => ControlFlow::Break(()),
        }
    }

    #[inline(always)]
    fn look(&mut self, frame: &(impl Frame + ?Sized)) -> Option<()> {
        let (tcp_at, at) = self.places();
        let offset: u8 = frame.read(tcp_at + 12)?;
        let end = usize::from(offset >> 4) * 4;
        if at >= end {
            return None;
        }
        let [kind, length]: [u8; 2] = frame.read(tcp_at + at)?;
        let length = match kind {
            kind::END => return None,
            kind::NO_OPERATION => 1,
            _ if length < 2 => return None,
            kind::MSS => {
                if length == 4 && at + 4 <= end {
                    self.found = (at + 2) as u32;
                }
                return None;
            }
            _ => length,
        };
        self.at += u32::from(length);
        Some(())
    }

    /// Lowers the value that was found to `limit`, if it is more. Answers what that adds to a sum
    /// over the segment; zero if it stays.
    #[inline(always)]
    pub fn lower(&self, frame: &mut (impl FrameMut + ?Sized), limit: u16) -> Option<u16> {
        let (tcp_at, _) = self.places();
        let found = self.found as usize & PLACE;
        if found == 0 {
            return Some(0);
        }
        let value: [u8; 2] = frame.read(tcp_at + found)?;
        if u16::from_be_bytes(value) <= limit {
            return Some(0);
        }
        frame.put(tcp_at + found, &limit.to_be_bytes())?;
        // Where it stands across two of the words that are summed, each byte counts in the other's
        // place.
        let turn =
            |word: u16| u32::from(if found.is_multiple_of(2) { word } else { word.swap_bytes() });
        Some(checksum::delta(turn(u16::from_ne_bytes(value)), turn(limit.to_be())))
    }

    /// Where the TCP header and the next option begin: within bounds, which the kernel's verifier
    /// does not see in what comes from a map.
    #[inline(always)]
    const fn places(&self) -> (usize, usize) {
        (self.tcp_at as usize & TCP_AT, self.at as usize & PLACE)
    }
}

/// No TCP header begins later in a frame than this says, all of whose bits are ones.
const TCP_AT: usize = V6::PAYLOAD_MASK;

/// Wider than any place in a TCP header and an option's length after it.
const PLACE: usize = 0x1ff;
