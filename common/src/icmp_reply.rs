//! ICMP errors of the fast path's own: what the host's stack would have said to the sender of a
//! packet that does not go on (RFC 792, RFC 1812 section 4.3).
//!
//! The frame with the error is made in a buffer, of the packet as it arrived, and put in that one's
//! place.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    env::Env,
    wire::{
        address::{Address as _, V4, V6},
        checksum,
        ethernet::{ETHERNET, Ethernet},
        frame::{Frame, FrameMut as _},
        icmp::{ICMP, IcmpError, IcmpErrorKind, QUOTE},
        ipv4::{self, DONT_FRAGMENT, Ipv4},
        ipv6::{self, Ipv6},
        layout::word,
        packet::{Packet, Payload},
        parse::Parse,
        protocol,
        tuple::side,
    },
};

/// How many errors a CPU sends in a tick: the host's stack has a limit like it (RFC 1812 section
/// 4.3.2.8).
pub const ERRORS_PER_TICK: u32 = 1000;

/// Whether a packet may be answered with an error: never an error, nor a fragment but the first
/// (RFC 1812 section 4.3.2.7). What came to many was not decided about.
#[inline(always)]
pub const fn may_reply<A>(packet: &Packet<A>) -> bool {
    !matches!(packet.payload, Payload::Error | Payload::Fragment | Payload::Unparsed)
}

/// Who says it: the gateway of the container's network, or the uplink. None if that is gone.
#[inline(always)]
pub fn error_source<A: IcmpReply>(packet: &Packet<A>, env: &impl Env<A>) -> Option<A> {
    if packet.tuple.side == side::CONTAINER {
        Some(env.endpoint(&packet.tuple.source)?.gateway)
    } else {
        Some(env.uplink(packet.input)?.address)
    }
}

/// Makes the error; none if the frame is shorter than it was. `mtu` is in bytes, for
/// [`IcmpErrorKind::TooLong`].
#[inline(always)]
pub fn build<A: IcmpReply>(
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
    out.put(0, &ethernet.reversed())?;
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

/// The headers of the ICMP errors that the datapath sends.
pub trait IcmpReply: Parse {
    /// The header of an ICMP error of the host's own, with `length` bytes after it.
    fn answer_header(source: Self, destination: Self, length: u16) -> Self::Header;

    /// What that header adds to the sum over the error.
    fn answer_sum(header: &Self::Header) -> u32;

    /// The error's type and code.
    fn answer_kind(why: IcmpErrorKind) -> (u8, u8);
}

impl IcmpReply for V4 {
    #[inline(always)]
    fn answer_header(source: Self, destination: Self, length: u16) -> Ipv4 {
        let mut header = Ipv4(Ipv4Hdr {
            vihl: 0x45,
            // Internetwork control (RFC 1812 section 4.3.2.5).
            tos: 0xc0,
            tot_len: (size_of::<Ipv4>() as u16 + length).to_be_bytes(),
            id: [0; 2],
            frags: DONT_FRAGMENT.to_ne_bytes(),
            ttl: 64,
            proto: protocol::ICMP,
            check: [0; 2],
            src_addr: source.octets(),
            dst_addr: destination.octets(),
        });
        header.set_checksum();
        header
    }

    #[inline(always)]
    fn answer_sum(_header: &Ipv4) -> u32 {
        0
    }

    #[inline(always)]
    fn answer_kind(why: IcmpErrorKind) -> (u8, u8) {
        match why {
            IcmpErrorKind::TimeExceeded => (ipv4::icmp::TIME_EXCEEDED, 0),
            IcmpErrorKind::TooLong => (ipv4::icmp::UNREACHABLE, 4),
            IcmpErrorKind::Prohibited => (ipv4::icmp::UNREACHABLE, 13),
            IcmpErrorKind::NoRoute => (ipv4::icmp::UNREACHABLE, 0),
        }
    }
}

impl IcmpReply for V6 {
    #[inline(always)]
    fn answer_header(source: Self, destination: Self, length: u16) -> Ipv6 {
        Ipv6(Ipv6Hdr {
            vcf: [0x60, 0, 0, 0],
            payload_len: length.to_be_bytes(),
            next_hdr: protocol::ICMPV6,
            hop_limit: 64,
            src_addr: source.octets(),
            dst_addr: destination.octets(),
        })
    }

    #[inline(always)]
    fn answer_sum(header: &Ipv6) -> u32 {
        header.source().sum()
            + header.destination().sum()
            + u32::from(word(header.0.payload_len))
            + u32::from(u16::from(protocol::ICMPV6).to_be())
    }

    #[inline(always)]
    fn answer_kind(why: IcmpErrorKind) -> (u8, u8) {
        match why {
            IcmpErrorKind::TimeExceeded => (ipv6::icmp::TIME_EXCEEDED, 0),
            IcmpErrorKind::TooLong => (ipv6::icmp::TOO_BIG, 0),
            IcmpErrorKind::Prohibited => (ipv6::icmp::UNREACHABLE, 1),
            IcmpErrorKind::NoRoute => (ipv6::icmp::UNREACHABLE, 0),
        }
    }
}
