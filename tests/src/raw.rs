//! IPv4 packets as they are on the wire, sent and seen by raw sockets: for what no ordinary socket says.
//!
//! What is received has been put together from its fragments and has right IP checksums; those of the transport are not looked at.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::FromRawFd as _,
    time::{Duration, Instant},
};

use causeway::net::netns::Netns;
use nix::{errno::Errno, libc};

use crate::{packet::checksum, place, wait::DEADLINE};

/// TCP's flags.
pub mod flag {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Synchronise.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment counts.
    pub const ACK: u8 = 0x10;
}

/// An IPv4 packet without options, or a fragment of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// IANA number.
    pub protocol: u8,
    /// What its fragments have in common. Zero lets the kernel choose.
    pub id: u16,
    /// Hops left.
    pub ttl: u8,
    /// Whether it must not be fragmented.
    pub dont_fragment: bool,
    /// Whether more fragments follow.
    pub more: bool,
    /// Where a fragment's payload belongs, in bytes; a multiple of eight.
    pub offset: usize,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Ipv4 {
    /// A whole packet.
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: Vec<u8>) -> Self {
        Self { source, destination, protocol, id: 0, ttl: 64, dont_fragment: false, more: false, offset: 0, payload }
    }

    /// A UDP datagram.
    pub fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), data: &[u8]) -> Self {
        let length = u16::try_from(8 + data.len()).expect("a datagram's length");
        let mut segment: Vec<u8> = [from.1, to.1, length, 0].into_iter().flat_map(u16::to_be_bytes).collect();
        segment.extend(data);
        let sum = match transport_checksum(from.0, to.0, 17, &segment) {
            0 => 0xffff,
            sum => sum,
        };
        segment[6..8].copy_from_slice(&sum.to_be_bytes());
        Self::new(from.0, to.0, 17, segment)
    }

    /// A TCP segment without data. An acknowledgment of zero is as good as none.
    pub fn tcp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: u8, sequence: u32, acknowledgment: u32) -> Self {
        let mut segment: Vec<u8> = [from.1, to.1].into_iter().flat_map(u16::to_be_bytes).collect();
        segment.extend(sequence.to_be_bytes());
        segment.extend(acknowledgment.to_be_bytes());
        segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        let sum = transport_checksum(from.0, to.0, 6, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        Self::new(from.0, to.0, 6, segment)
    }

    /// The same with another identification.
    #[must_use]
    pub fn with_id(self, id: u16) -> Self {
        Self { id, ..self }
    }

    /// Its fragments, cut at these places of its payload, in order.
    #[must_use]
    pub fn cut(&self, places: &[usize]) -> Vec<Self> {
        assert!(
            self.id != 0 && places.iter().all(|place| place % 8 == 0),
            "fragments need an id and cuts of eight bytes"
        );
        let starts = [&[0], places].concat();
        let ends = [places, &[self.payload.len()]].concat();
        starts
            .iter()
            .zip(&ends)
            .map(|(start, end)| Self {
                offset: self.offset + start,
                more: self.more || *end < self.payload.len(),
                payload: self.payload[*start..*end].to_vec(),
                ..self.clone()
            })
            .collect()
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u16::try_from(20 + self.payload.len()).expect("a packet's length");
        let offset = u16::try_from(self.offset / 8).expect("an offset within a packet");
        let fragment = u16::from(self.dont_fragment) << 14 | u16::from(self.more) << 13 | offset;
        let mut bytes = vec![0x45, 0];
        bytes.extend([length, self.id, fragment].into_iter().flat_map(u16::to_be_bytes));
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        let sum = checksum(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// A packet's, or those of as much of one as an ICMP error quotes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = usize::from(bytes.first()? & 0x0f) * 4;
        let word = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
        let fragment = word(6)?;
        Some(Self {
            source: address(12)?,
            destination: address(16)?,
            protocol: *bytes.get(9)?,
            id: word(4)?,
            ttl: *bytes.get(8)?,
            dont_fragment: fragment & 0x4000 != 0,
            more: fragment & 0x2000 != 0,
            offset: usize::from(fragment & 0x1fff) * 8,
            payload: bytes.get(header..)?.to_vec(),
        })
    }

    /// A two-byte field of what it carries; zero beyond its end.
    pub fn word(&self, at: usize) -> u16 {
        self.payload.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A four-byte field of what it carries.
    pub fn long(&self, at: usize) -> u32 {
        u32::from(self.word(at)) << 16 | u32::from(self.word(at + 2))
    }

    /// Source port and destination port.
    pub fn ports(&self) -> (u16, u16) {
        (self.word(0), self.word(2))
    }

    /// TCP's flags.
    pub fn flags(&self) -> u8 {
        self.payload.get(13).copied().unwrap_or(0)
    }

    /// The maximum segment size that a SYN announces.
    pub fn mss(&self) -> Option<u16> {
        let end = usize::from(self.payload.get(12)? >> 4) * 4;
        let mut options = self.payload.get(20..end)?;
        loop {
            match options {
                [0, ..] | [] => return None,
                [1, rest @ ..] => options = rest,
                [2, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low])),
                [_, length, ..] => options = options.get(usize::from(*length).max(2)..)?,
                [_] => return None,
            }
        }
    }

    /// Type and code of an ICMP error, and the packet it quotes.
    pub fn error(&self) -> Option<((u8, u8), Self)> {
        let (kind, code) = (*self.payload.first()?, *self.payload.get(1)?);
        let is_error = self.protocol == 1 && matches!(kind, 3 | 11 | 12);
        if !is_error {
            return None;
        }
        Some(((kind, code), Self::parse(self.payload.get(8..)?)?))
    }
}

/// A raw socket for one protocol.
#[derive(Debug)]
pub struct Raw(UdpSocket);

impl Raw {
    /// One that sends whole packets, and receives those of that protocol which arrive from now on.
    pub fn open(netns: &Netns, protocol: u8) -> Self {
        static ON: libc::c_int = 1;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: makes a new descriptor, which nobody else has, out of three numbers.
        let open = || unsafe { Errno::result(libc::socket(libc::AF_INET, kind, i32::from(protocol))) };
        let descriptor = place::run(netns, open).expect("root may open a raw socket");
        // SAFETY: the descriptor is open and nobody else's. UdpSocket is send_to and recv_from on any socket of IP datagrams.
        let socket = unsafe { UdpSocket::from_raw_fd(descriptor) };
        // SAFETY: the kernel reads an int from `ON`, and its size is given.
        let set = unsafe {
            let size = libc::socklen_t::try_from(size_of_val(&ON)).expect("four bytes");
            libc::setsockopt(descriptor, libc::IPPROTO_IP, libc::IP_HDRINCL, (&raw const ON).cast(), size)
        };
        Errno::result(set).expect("a raw socket takes whole packets");
        Self(socket)
    }

    /// Sends a packet as it is. The kernel fills in the IP checksum alone.
    #[track_caller]
    pub fn send(&self, packet: &Ipv4) {
        let (from, to, length) = (packet.source, packet.destination, packet.payload.len());
        self.try_send(packet).unwrap_or_else(|error| panic!("cannot send {length} bytes from {from} to {to}: {error}"));
    }

    /// As [`Self::send`].
    pub fn try_send(&self, packet: &Ipv4) -> io::Result<()> {
        self.0.send_to(&packet.bytes(), SocketAddr::from((packet.destination, 0))).map(drop)
    }

    /// The first packet that `which` has an answer to, or none within `patience`.
    pub fn find<T>(&self, patience: Duration, mut which: impl FnMut(&Ipv4) -> Option<T>) -> Option<T> {
        let (end, mut buffer) = (Instant::now() + patience, vec![0; 65536]);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.0.set_read_timeout(Some(left)).expect("a timeout can be set");
            let Ok(length) = self.0.recv(&mut buffer) else { continue };
            if let Some(answer) = Ipv4::parse(&buffer[..length]).and_then(|packet| which(&packet)) {
                return Some(answer);
            }
        }
    }

    /// The first packet that `which` has an answer to; fails the test if none comes.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, which: impl FnMut(&Ipv4) -> Option<T>) -> T {
        self.find(DEADLINE, which).unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain: {what}"))
    }
}

fn transport_checksum(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, segment: &[u8]) -> u16 {
    let length = u16::try_from(segment.len()).expect("a packet's length").to_be_bytes();
    checksum(&[&source.octets()[..], &destination.octets(), &[0, protocol], &length, segment].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    #[test]
    fn fragments_put_together_are_the_packet() {
        let whole = Ipv4::udp((A, 1), (B, 2), &[7; 100]).with_id(9);
        let parts = whole.cut(&[8, 64]);
        assert_eq!(
            parts.iter().map(|part| (part.offset, part.more)).collect::<Vec<_>>(),
            [(0, true), (8, true), (64, false)]
        );
        assert_eq!(parts.into_iter().flat_map(|part| part.payload).collect::<Vec<_>>(), whole.payload);
    }

    #[test]
    fn what_is_written_reads_back() {
        let packet = Ipv4::tcp((A, 1), (B, 2), flag::SYN, 3, 4).with_id(5);
        assert_eq!(Ipv4::parse(&packet.bytes()), Some(packet.clone()));
        assert_eq!((packet.ports(), packet.flags(), packet.long(4), packet.long(8)), ((1, 2), flag::SYN, 3, 4));
        assert_eq!(checksum(&packet.bytes()[..20]), 0);
    }

    #[test]
    fn the_mss_is_found_among_other_options() {
        let mut syn = Ipv4::tcp((A, 1), (B, 2), flag::SYN, 0, 0);
        assert_eq!(syn.mss(), None);
        syn.payload[12] = 0x80;
        syn.payload.extend([1, 3, 3, 7, 2, 4, 0x05, 0xb4, 0, 0, 0, 0]);
        assert_eq!(syn.mss(), Some(1460));
    }
}
