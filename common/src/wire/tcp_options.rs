//! The maximum segment size in the options of a TCP header (RFC 9293 section 3.7.1).

use core::ops::ControlFlow;

use crate::wire::{
    address::V6,
    checksum,
    frame::{Frame, FrameMut},
    parse::Parse as _,
};

/// Bytes of a TCP header without options.
pub(crate) const HEADER: usize = 20;

/// Bytes of the longest TCP header.
pub const LONGEST: usize = 60;

/// Option kinds.
mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NO_OPERATION: u8 = 1;
    pub(super) const MSS: u8 = 2;
}

/// The search for the MSS option of a TCP header.
#[derive(Clone, Copy, Debug)]
pub struct MssSearch {
    /// Offset of the TCP header in the frame.
    tcp_at: u32,
    /// Offset of the next option in the TCP header.
    at: u32,
    /// Offset of the value in the TCP header; zero if it was not found. The value is two bytes in
    /// network order.
    found: u32,
}

impl MssSearch {
    /// The most steps: an option has at least one byte.
    pub const STEPS: u32 = (LONGEST - HEADER) as u32;

    /// Starts at the first option of the TCP header at offset `tcp_at`.
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

    /// Lowers the value to `limit` if it is larger. Returns what that adds to the sum over the
    /// segment: zero if the value stays.
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
        // At an odd offset the value spans two words of the sum, so its bytes count swapped.
        let turn =
            |word: u16| u32::from(if found.is_multiple_of(2) { word } else { word.swap_bytes() });
        Some(checksum::delta(turn(u16::from_ne_bytes(value)), turn(limit.to_be())))
    }

    /// Offsets of the TCP header and of the next option, masked: the verifier knows no bounds of
    /// values that it reads from a map.
    #[inline(always)]
    const fn places(&self) -> (usize, usize) {
        (self.tcp_at as usize & TCP_AT, self.at as usize & PLACE)
    }
}

/// Mask of the offset of a TCP header.
const TCP_AT: usize = V6::PAYLOAD_MASK;

/// Mask of an offset in a TCP header, larger than any offset plus an option length.
const PLACE: usize = 0x1ff;
