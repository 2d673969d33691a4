//! ICMP errors of the fast path's own: what the host's stack would have said to the sender of a
//! packet that does not go on (RFC 792, RFC 1812 section 4.3).
//!
//! The frame with the error is made in a buffer, of the packet as it arrived, and put in that one's
//! place.

use crate::{
    checksum,
    env::Tables,
    icmp_error::FrameMut,
    packet::{ETHERNET, Ethernet, Family, Frame, Packet, Payload},
    tuple::side,
};

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

/// How many errors a CPU sends in a tick: the host's stack has a limit like it (RFC 1812 section
/// 4.3.2.8).
pub const ERRORS_PER_TICK: u32 = 1000;

/// How many bytes of a packet are quoted at most: its header and what follows (RFC 1812 section
/// 4.3.2.3 asks for as much as possible).
pub const QUOTE: usize = 96;

/// Bytes of ICMP's header.
const ICMP: usize = 8;

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

/// Whether a packet may be answered with an error: never an error, nor a fragment but the first
/// (RFC 1812 section 4.3.2.7). What came to many was not decided about.
#[inline(always)]
pub const fn may_reply<A>(packet: &Packet<A>) -> bool {
    !matches!(packet.payload, Payload::Error | Payload::Fragment | Payload::Unparsed)
}

/// Who says it: the gateway of the container's network, or the uplink. None if that is gone.
#[inline(always)]
pub fn error_source<A: Family>(packet: &Packet<A>, tables: &impl Tables<A>) -> Option<A> {
    if packet.tuple.side == side::CONTAINER {
        Some(tables.endpoint(&packet.tuple.source)?.gateway)
    } else {
        Some(tables.uplink(packet.input)?.address)
    }
}

/// Makes the error; none if the frame is shorter than it was. `mtu` is in bytes, for
/// [`IcmpErrorKind::TooLong`].
#[inline(always)]
pub fn build<A: Family>(
    error: &mut IcmpError,
    frame: &(impl Frame + ?Sized),
    packet: &Packet<A>,
    error_source: A,
    kind: IcmpErrorKind,
    mtu: u16,
) -> Option<()> {
    let icmp_at = ETHERNET + size_of::<A::Header>();
    let header: A::Header = frame.read(ETHERNET)?;
    // In halves of a word, which is what sums are made of. No header is longer than what is left.
    let quoted = (A::total_length(&header).min(packet.length).min(QUOTE as u32) / 2) as usize;
    let ethernet: Ethernet = frame.read(0)?;
    let out: &mut [u8] = &mut error.bytes;
    out.put(
        0,
        &Ethernet { destination: ethernet.source, source: ethernet.destination, ..ethernet },
    )?;
    let length = (ICMP + 2 * quoted) as u16;
    let header = A::answer_header(error_source, packet.tuple.source, length);
    out.put(ETHERNET, &header)?;

    let (icmp_type, code) = A::answer_kind(kind);
    let rest = if kind == IcmpErrorKind::TooLong { mtu } else { 0 };
    let head = [u16::from_ne_bytes([icmp_type, code]), 0, 0, rest.to_be()];
    let mut sum = u32::from(head[0]) + u32::from(head[3]) + A::answer_sum(&header);
    for i in 0..QUOTE / 2 {
        if i >= quoted {
            break;
        }
        let word: u16 = frame.read(ETHERNET + 2 * i)?;
        out.put(icmp_at + ICMP + 2 * i, &word)?;
        sum += u32::from(word);
    }
    out.put(icmp_at, &head)?;
    out.put(icmp_at + 2, &!checksum::fold(sum))?;
    error.length = icmp_at as u16 + length;
    Some(())
}

#[cfg(test)]
mod tests;
