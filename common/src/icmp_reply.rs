//! ICMP errors that the datapath sends itself, as the host's stack would, to the sender of a packet
//! that it drops (RFC 792, RFC 1812 section 4.3).
//!
//! The error's frame is built in a buffer from the packet as it arrived, and then replaces the
//! packet's frame.

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
        tuple::Side,
    },
};

/// Errors that a CPU sends in a tick at most, toward each side. The host's stack has a limit like
/// it (RFC 1812 section 4.3.2.8).
pub const ERRORS_PER_TICK: u32 = 1000;

/// Whether an error may be sent about a packet: not about an error or a later fragment (RFC 1812
/// section 4.3.2.7), nor about an unparsed packet, which may be an error. Multicast and broadcast
/// packets never come here.
#[inline(always)]
pub const fn may_reply<A>(packet: &Packet<A>) -> bool {
    !matches!(packet.payload, Payload::Error | Payload::Fragment | Payload::Unparsed)
}

/// Source address of the error: the gateway of the container's network, or the uplink's address.
/// None if that is gone.
#[inline(always)]
pub fn error_source<A: IcmpReply>(packet: &Packet<A>, env: &impl Env<A>) -> Option<A> {
    if packet.tuple.side == Side::CONTAINER {
        Some(env.endpoint(&packet.tuple.source)?.gateway)
    } else {
        Some(env.uplink(packet.input)?.address)
    }
}

/// Builds the error. `mtu` is in bytes, for [`IcmpErrorKind::TooLong`]. None if the frame is
/// shorter than when it was parsed.
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
    // In 16-bit words, the unit of the checksum. An odd last byte is left out; it is never part of
    // a header.
    let quoted = (A::total_length(&header).min(packet.length).min(QUOTE as u32) / 2) as usize;
    let ethernet: Ethernet = frame.read(0)?;
    let out: &mut [u8] = &mut error.bytes;
    out.put(0, &ethernet.reversed())?;
    let length = (ICMP + 2 * quoted) as u16;
    let header = A::error_header(error_source, packet.tuple.source, length);
    out.put(ETHERNET, &header)?;

    let (icmp_type, code) = A::type_and_code(kind);
    let rest = if kind == IcmpErrorKind::TooLong { mtu } else { 0 };
    let head = [u16::from_ne_bytes([icmp_type, code]), 0, 0, rest.to_be()];
    let mut sum = u32::from(head[0]) + u32::from(head[3]) + A::pseudo_sum(&header);
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
    /// IP header of an ICMP error that the host sends, with `length` bytes after it.
    fn error_header(source: Self, destination: Self, length: u16) -> Self::Header;

    /// What the header adds to the checksum of the error: its pseudo header.
    fn pseudo_sum(header: &Self::Header) -> u32;

    /// ICMP type and code of the error.
    fn type_and_code(kind: IcmpErrorKind) -> (u8, u8);
}

impl IcmpReply for V4 {
    #[inline(always)]
    fn error_header(source: Self, destination: Self, length: u16) -> Ipv4 {
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
    fn pseudo_sum(_header: &Ipv4) -> u32 {
        0
    }

    #[inline(always)]
    fn type_and_code(kind: IcmpErrorKind) -> (u8, u8) {
        match kind {
            IcmpErrorKind::TimeExceeded => (ipv4::icmp::TIME_EXCEEDED, 0),
            IcmpErrorKind::TooLong => (ipv4::icmp::UNREACHABLE, 4),
            IcmpErrorKind::Prohibited => (ipv4::icmp::UNREACHABLE, 13),
            IcmpErrorKind::NoRoute => (ipv4::icmp::UNREACHABLE, 0),
        }
    }
}

impl IcmpReply for V6 {
    #[inline(always)]
    fn error_header(source: Self, destination: Self, length: u16) -> Ipv6 {
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
    fn pseudo_sum(header: &Ipv6) -> u32 {
        header.source().sum()
            + header.destination().sum()
            + u32::from(word(header.0.payload_len))
            + u32::from(u16::from(protocol::ICMPV6).to_be())
    }

    #[inline(always)]
    fn type_and_code(kind: IcmpErrorKind) -> (u8, u8) {
        match kind {
            IcmpErrorKind::TimeExceeded => (ipv6::icmp::TIME_EXCEEDED, 0),
            IcmpErrorKind::TooLong => (ipv6::icmp::TOO_BIG, 0),
            IcmpErrorKind::Prohibited => (ipv6::icmp::UNREACHABLE, 1),
            IcmpErrorKind::NoRoute => (ipv6::icmp::UNREACHABLE, 0),
        }
    }
}
