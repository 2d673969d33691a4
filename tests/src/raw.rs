//! IP packets built by hand, sent and received by raw sockets: for what ordinary sockets cannot
//! send or show.
//!
//! The kernel has reassembled received packets and verified the IPv4 header checksum. The transport
//! checksum is verified by [`Packet::sums_up`] only.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use causeway_netlink::Netns;
use nix::{
    errno::Errno,
    libc,
    sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg},
};

use crate::{
    family::{Family, V4, V6},
    packet::checksum,
    place,
    wait::DEADLINE,
};

/// TCP flags.
pub mod flag {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK.
    pub const ACK: u8 = 0x10;
}

/// Numbers of IPv6 extension headers.
pub mod header {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Authentication.
    pub const AUTHENTICATION: u8 = 51;
    /// No next header.
    pub const NONE: u8 = 59;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
}

/// An IP packet without IPv4 options, or a fragment of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Identification. 16 bits for IPv4, where zero lets the kernel choose one.
    pub id: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Don't fragment. Implied by IPv6.
    pub dont_fragment: bool,
    /// Whether more fragments follow.
    pub more: bool,
    /// Fragment offset in bytes, a multiple of 8.
    pub offset: usize,
    /// IPv6 extension headers: number, and bytes without the first (next header). The fragment
    /// header follows them if `offset` or `more` say that there is one.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// The meaning of an ICMP error, whatever the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Network unreachable or no route.
    NoRoute,
    /// Host or address unreachable.
    NoHost,
    /// Port unreachable.
    PortClosed,
    /// Administratively prohibited.
    Prohibited,
    /// Fragmentation needed or packet too big: MTU in bytes.
    TooLong(u32),
    /// Time exceeded in transit.
    HopsExceeded,
    /// Another error: type and code.
    Other(u8, u8),
}

impl Told {
    fn of(family: Family, kind: u8, code: u8, field: u32) -> Option<Self> {
        Some(match (family, kind, code) {
            (V4, 3, 0) | (V6, 1, 0) => Self::NoRoute,
            (V4, 3, 1) | (V6, 1, 3) => Self::NoHost,
            (V4, 3, 3) | (V6, 1, 4) => Self::PortClosed,
            (V4, 3, 13) | (V6, 1, 1) => Self::Prohibited,
            (V4, 3, 4) => Self::TooLong(field & 0xffff),
            (V6, 2, 0) => Self::TooLong(field),
            (V4, 11, 0) | (V6, 3, 0) => Self::HopsExceeded,
            (V4, 3 | 11 | 12, _) | (V6, 1..=4, _) => Self::Other(kind, code),
            _ => return None,
        })
    }
}

impl Packet {
    /// A whole packet, TTL 64.
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, payload: Vec<u8>) -> Self {
        assert_eq!(Family::of(source), Family::of(destination), "a packet is of one family");
        Self {
            source,
            destination,
            protocol,
            id: 0,
            ttl: 64,
            dont_fragment: false,
            more: false,
            offset: 0,
            extensions: Vec::new(),
            payload,
        }
    }

    /// A UDP datagram.
    pub fn udp(from: (IpAddr, u16), to: (IpAddr, u16), data: &[u8]) -> Self {
        let length = u16::try_from(8 + data.len()).expect("a datagram's length");
        let mut segment: Vec<u8> =
            [from.1, to.1, length, 0].into_iter().flat_map(u16::to_be_bytes).collect();
        segment.extend(data);
        let mut packet = Self::new(from.0, to.0, 17, segment);
        packet.sum_up();
        packet
    }

    /// A TCP segment without data. With acknowledgment zero the ACK flag is not set.
    pub fn tcp(
        from: (IpAddr, u16),
        to: (IpAddr, u16),
        flags: u8,
        sequence: u32,
        acknowledgment: u32,
    ) -> Self {
        let mut segment: Vec<u8> = [from.1, to.1].into_iter().flat_map(u16::to_be_bytes).collect();
        segment.extend(sequence.to_be_bytes());
        segment.extend(acknowledgment.to_be_bytes());
        segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        let mut packet = Self::new(from.0, to.0, 6, segment);
        packet.sum_up();
        packet
    }

    /// An ICMP message of the addresses' family: type, code, and the bytes after the checksum.
    pub fn icmp(source: IpAddr, destination: IpAddr, (kind, code): (u8, u8), rest: &[u8]) -> Self {
        let message = [&[kind, code, 0, 0], rest].concat();
        let mut packet = Self::new(source, destination, Family::of(source).icmp(), message);
        packet.sum_up();
        packet
    }

    /// An echo request.
    pub fn echo(source: IpAddr, destination: IpAddr, identifier: u16, data: &[u8]) -> Self {
        let rest = [&identifier.to_be_bytes(), &[0, 1], data].concat();
        Self::icmp(source, destination, (Family::of(source).echo().0, 0), &rest)
    }

    /// The family of the packet.
    pub fn family(&self) -> Family {
        Family::of(self.source)
    }

    /// Sets an identification that no other packet of this process has had (as long as there are
    /// fewer than 65,536): one that is reused within 30 seconds may be reassembled with the earlier
    /// one.
    #[must_use]
    pub fn with_fresh_id(self) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        self.with_id(id.into())
    }

    /// Sets the identification.
    #[must_use]
    pub fn with_id(self, id: u32) -> Self {
        Self { id, ..self }
    }

    /// Its fragments in order, cut at these offsets of the payload.
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

    /// The bytes of the packet.
    pub fn bytes(&self) -> Vec<u8> {
        let offset = u16::try_from(self.offset / 8).expect("an offset within a packet");
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                assert!(self.extensions.is_empty(), "IPv4 has no extension headers");
                let length = u16::try_from(20 + self.payload.len()).expect("a packet's length");
                let id = u16::try_from(self.id).expect("IPv4's identification has 16 bits");
                let fragment =
                    u16::from(self.dont_fragment) << 14 | u16::from(self.more) << 13 | offset;
                let mut bytes = vec![0x45, 0];
                bytes.extend([length, id, fragment].into_iter().flat_map(u16::to_be_bytes));
                bytes.extend([self.ttl, self.protocol, 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                let sum = checksum(&bytes);
                bytes[10..12].copy_from_slice(&sum.to_be_bytes());
                bytes.extend(&self.payload);
                bytes
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut headers = self.extensions.clone();
                if self.more || offset > 0 {
                    let field = offset << 3 | u16::from(self.more);
                    headers.push((
                        header::FRAGMENT,
                        [&[0][..], &field.to_be_bytes(), &self.id.to_be_bytes()].concat(),
                    ));
                }
                let kinds: Vec<u8> =
                    headers.iter().map(|(kind, _)| *kind).chain([self.protocol]).collect();
                let extensions = headers
                    .iter()
                    .zip(&kinds[1..])
                    .flat_map(|((_, rest), next)| [&[*next], &rest[..]].concat());
                let body: Vec<u8> = extensions.chain(self.payload.iter().copied()).collect();
                let mut bytes = vec![0x60, 0, 0, 0];
                bytes.extend(u16::try_from(body.len()).expect("a packet's length").to_be_bytes());
                bytes.extend([kinds[0], self.ttl]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(body);
                bytes
            }
            (source, destination) => panic!("no packet goes from {source} to {destination}"),
        }
    }

    /// Parses a packet, or the part of one that an ICMP error quotes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            _ => None,
        }
    }

    fn parse_v4(bytes: &[u8]) -> Option<Self> {
        let start = usize::from(bytes.first()? & 0x0f) * 4;
        let address =
            |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
        let fragment = word(bytes, 6)?;
        Some(Self {
            source: address(12)?.into(),
            destination: address(16)?.into(),
            protocol: *bytes.get(9)?,
            id: word(bytes, 4)?.into(),
            ttl: *bytes.get(8)?,
            dont_fragment: fragment & 0x4000 != 0,
            more: fragment & 0x2000 != 0,
            offset: usize::from(fragment & 0x1fff) * 8,
            extensions: Vec::new(),
            payload: bytes.get(start..)?.to_vec(),
        })
    }

    fn parse_v6(bytes: &[u8]) -> Option<Self> {
        let address =
            |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
        let mut packet = Self {
            ttl: *bytes.get(7)?,
            dont_fragment: true,
            ..Self::new(address(8)?.into(), address(24)?.into(), *bytes.get(6)?, Vec::new())
        };
        let mut at = 40;
        loop {
            let length = match packet.protocol {
                header::HOP_BY_HOP | header::ROUTING | header::DESTINATION => {
                    usize::from(*bytes.get(at + 1)?) * 8 + 8
                }
                header::AUTHENTICATION => usize::from(*bytes.get(at + 1)?) * 4 + 8,
                header::FRAGMENT => {
                    let field = word(bytes, at + 2)?;
                    packet.id =
                        u32::from(word(bytes, at + 4)?) << 16 | u32::from(word(bytes, at + 6)?);
                    (packet.offset, packet.more) = (usize::from(field & !7), field & 1 != 0);
                    8
                }
                _ => break,
            };
            if packet.protocol != header::FRAGMENT || (packet.offset, packet.more) == (0, false) {
                packet.extensions.push((packet.protocol, bytes.get(at + 1..at + length)?.to_vec()));
            }
            packet.protocol = *bytes.get(at)?;
            at += length;
            if packet.offset > 0 {
                break;
            }
        }
        packet.payload = bytes.get(at..)?.to_vec();
        Some(packet)
    }

    /// The 16-bit field at that offset of the payload. Zero beyond the end.
    pub fn word(&self, at: usize) -> u16 {
        word(&self.payload, at).unwrap_or(0)
    }

    /// The 32-bit field at that offset of the payload.
    pub fn long(&self, at: usize) -> u32 {
        u32::from(self.word(at)) << 16 | u32::from(self.word(at + 2))
    }

    /// Source port and destination port.
    pub fn ports(&self) -> (u16, u16) {
        (self.word(0), self.word(2))
    }

    /// TCP flags.
    pub fn flags(&self) -> u8 {
        self.payload.get(13).copied().unwrap_or(0)
    }

    /// The MSS option of a SYN.
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

    /// ICMP type and code.
    pub fn kind(&self) -> Option<(u8, u8)> {
        let kind = (*self.payload.first()?, *self.payload.get(1)?);
        (self.protocol == self.family().icmp()).then_some(kind)
    }

    /// The meaning of an ICMP error, and the packet it quotes.
    pub fn error(&self) -> Option<(Told, Self)> {
        let (kind, code) = self.kind()?;
        let told = Told::of(self.family(), kind, code, self.long(4))?;
        Some((told, Self::parse(self.payload.get(8..)?)?))
    }

    /// Fills in the checksum of TCP, UDP or ICMP. Not for fragments.
    pub fn sum_up(&mut self) {
        let at = self.place_of_sum().expect("a protocol with a checksum");
        self.payload[at..at + 2].fill(0);
        let sum = match (self.protocol, self.sum()) {
            // RFC 768: a computed sum of zero is sent as 0xffff, since zero means no checksum.
            (17, 0) => 0xffff,
            (_, sum) => sum,
        };
        self.payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// Whether the transport checksum is correct. UDP over IPv6 must have one.
    pub fn sums_up(&self) -> bool {
        let Some(at) = self.place_of_sum() else { return false };
        match (self.family(), self.protocol, self.word(at)) {
            (V4, 17, 0) => true,
            (V6, 17, 0) => false,
            _ => self.sum() == 0,
        }
    }

    fn place_of_sum(&self) -> Option<usize> {
        match self.protocol {
            6 => Some(16),
            17 => Some(6),
            protocol if protocol == self.family().icmp() => Some(2),
            _ => None,
        }
    }

    /// The sum over payload and pseudo header: zero if the checksum in it is correct.
    fn sum(&self) -> u16 {
        let length = u32::try_from(self.payload.len()).expect("a packet's length").to_be_bytes();
        let before = match (self.source, self.destination) {
            (IpAddr::V4(_), _) if self.protocol == 1 => Vec::new(),
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                [&source.octets()[..], &destination.octets(), &[0, self.protocol], &length[2..]]
                    .concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                [&source.octets()[..], &destination.octets(), &length, &[0, 0, 0, self.protocol]]
                    .concat()
            }
            (source, destination) => panic!("no packet goes from {source} to {destination}"),
        };
        checksum(&[before, self.payload.clone()].concat())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A raw socket of one protocol.
#[derive(Debug)]
pub struct Raw {
    socket: UdpSocket,
    family: Family,
    protocol: u8,
}

impl Raw {
    /// Sends whole packets, and receives those of `protocol` that arrive from now on.
    pub fn open(netns: &Netns, family: Family, protocol: u8) -> Self {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let domain = match family {
            V4 => libc::AF_INET,
            V6 => libc::AF_INET6,
        };
        // SAFETY: a plain system call with three integers, which returns a new descriptor.
        let open = || unsafe { Errno::result(libc::socket(domain, kind, i32::from(protocol))) };
        let descriptor = place::run(netns, open).expect("root may open a raw socket");
        // SAFETY: the descriptor is open and owned here. UdpSocket is used for send_to and
        // recv_from only, which work on any datagram socket.
        let socket = unsafe { UdpSocket::from_raw_fd(descriptor) };
        let options: &[_] = match family {
            V4 => &[(libc::IPPROTO_IP, libc::IP_HDRINCL)],
            V6 => &[
                (libc::IPPROTO_IPV6, libc::IPV6_HDRINCL),
                (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
                (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
            ],
        };
        for (level, option) in options {
            switch_on(&socket, *level, *option);
        }
        Self { socket, family, protocol }
    }

    /// Sends and receives ICMP or `ICMPv6`.
    pub fn icmp(netns: &Netns, family: Family) -> Self {
        Self::open(netns, family, family.icmp())
    }

    /// Sends whole packets, receives none.
    pub fn sender(netns: &Netns, family: Family) -> Self {
        Self::open(netns, family, 255)
    }

    /// Sends a packet unchanged, but for the IPv4 header checksum, which the kernel fills in.
    #[track_caller]
    pub fn send(&self, packet: &Packet) {
        let (from, to, length) = (packet.source, packet.destination, packet.payload.len());
        self.try_send(packet).unwrap_or_else(|error| {
            panic!("cannot send {length} bytes from {from} to {to}: {error}")
        });
    }

    /// Like [`Self::send`], but returns errors.
    pub fn try_send(&self, packet: &Packet) -> io::Result<()> {
        self.socket.send_to(&packet.bytes(), SocketAddr::from((packet.destination, 0))).map(drop)
    }

    /// The first result of `which` for a received packet. `None` if there is none within
    /// `patience`.
    pub fn find<T>(
        &self,
        patience: Duration,
        mut which: impl FnMut(&Packet) -> Option<T>,
    ) -> Option<T> {
        let (end, mut buffer) = (Instant::now() + patience, vec![0; 65536]);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.socket.set_read_timeout(Some(left)).expect("a timeout can be set");
            if let Some(answer) = self.receive(&mut buffer).and_then(|packet| which(&packet)) {
                return Some(answer);
            }
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> Option<Packet> {
        match self.family {
            V4 => {
                let length = self.socket.recv(buffer).ok()?;
                Packet::parse(&buffer[..length])
            }
            V6 => self.receive_v6(buffer),
        }
    }

    /// The kernel does not pass on the IPv6 header; ancillary data has its fields.
    fn receive_v6(&self, buffer: &mut [u8]) -> Option<Packet> {
        let mut space = nix::cmsg_space!(libc::in6_pktinfo, libc::c_int);
        let mut slices = [IoSliceMut::new(buffer)];
        let got = recvmsg::<SockaddrIn6>(
            self.socket.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::empty(),
        )
        .ok()?;
        let (mut destination, mut ttl) = (None, None);
        for message in got.cmsgs().ok()? {
            if let ControlMessageOwned::Ipv6PacketInfo(info) = message {
                destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
            } else if let ControlMessageOwned::Ipv6HopLimit(hops) = message {
                ttl = u8::try_from(hops).ok();
            }
        }
        let (source, length) = (got.address?.ip(), got.bytes);
        let packet = Packet::new(
            source.into(),
            destination?.into(),
            self.protocol,
            buffer[..length].to_vec(),
        );
        Some(Packet { ttl: ttl?, dont_fragment: true, ..packet })
    }

    /// The first result of `which` for a received packet. Fails the test if there is none.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, which: impl FnMut(&Packet) -> Option<T>) -> T {
        self.find(DEADLINE, which)
            .unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain for: {what}"))
    }
}

fn switch_on(socket: &UdpSocket, level: libc::c_int, option: libc::c_int) {
    static ON: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&ON)).expect("four bytes");
    // SAFETY: the kernel reads an int of the given size from `ON`, which is static.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const ON).cast(), size)
    };
    Errno::result(set).expect("a raw socket takes whole packets");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(family: Family) -> ((IpAddr, u16), (IpAddr, u16)) {
        ((family.far(), 1), (family.host(), 2))
    }

    #[test]
    fn fragments_reassemble_to_the_packet() {
        for family in Family::ALL {
            let (from, to) = pair(family);
            let whole = Packet::udp(from, to, &[7; 100]).with_id(9);
            let parts = whole.cut(&[8, 64]);
            assert_eq!(
                parts.iter().map(|part| (part.offset, part.more)).collect::<Vec<_>>(),
                [(0, true), (8, true), (64, false)]
            );
            for part in &parts {
                let read = Packet::parse(&part.bytes()).unwrap();
                assert_eq!(
                    (read.id, read.offset, read.more, &read.payload),
                    (9, part.offset, part.more, &part.payload)
                );
            }
            assert_eq!(
                parts.into_iter().flat_map(|part| part.payload).collect::<Vec<_>>(),
                whole.payload
            );
        }
    }

    #[test]
    fn packet_reads_back_as_built() {
        for family in Family::ALL {
            let (from, to) = pair(family);
            let packet = Packet { dont_fragment: true, ..Packet::tcp(from, to, flag::SYN, 3, 4) };
            assert_eq!(Packet::parse(&packet.bytes()), Some(packet.clone()));
            assert_eq!(
                (packet.ports(), packet.flags(), packet.long(4), packet.long(8)),
                ((1, 2), flag::SYN, 3, 4)
            );
            assert!(packet.sums_up());
        }
        let (from, to) = pair(V4);
        assert_eq!(checksum(&Packet::udp(from, to, b"").bytes()[..20]), 0);
    }

    #[test]
    fn extension_headers_are_not_summed() {
        let (from, to) = pair(V6);
        let padding = [&[0][..], &[1, 4, 0, 0, 0, 0]].concat();
        let atomic = vec![0, 0, 0, 0, 0, 0, 7];
        let packet = Packet {
            dont_fragment: true,
            id: 7,
            extensions: vec![
                (header::HOP_BY_HOP, padding.clone()),
                (header::DESTINATION, padding),
                (header::FRAGMENT, atomic),
            ],
            ..Packet::udp(from, to, b"hello")
        };
        let bytes = packet.bytes();
        assert_eq!(
            (bytes[6], bytes[40], bytes[48], bytes[56], bytes.len()),
            (0, 60, 44, 17, 40 + 24 + 8 + 5)
        );
        assert_eq!(Packet::parse(&bytes), Some(packet.clone()));
        assert!(packet.sums_up());
    }

    #[test]
    fn wrong_or_missing_checksum_is_detected() {
        for family in Family::ALL {
            let (from, to) = pair(family);
            for mut packet in
                [Packet::udp(from, to, b"odd"), Packet::echo(from.0, to.0, 5, b"data")]
            {
                assert!(packet.sums_up());
                *packet.payload.last_mut().unwrap() ^= 1;
                assert!(!packet.sums_up());
            }
            let mut without = Packet::udp(from, to, b"data");
            without.payload[6..8].fill(0);
            assert_eq!(without.sums_up(), family == V4, "{family}");
        }
    }

    #[test]
    fn icmp_errors_mean_the_same_in_both_families() {
        for (family, kind, rest) in
            [(V4, (3, 4), [0, 0, 0x05, 0x78]), (V6, (2, 0), [0, 0, 0x05, 0x78])]
        {
            let (from, to) = pair(family);
            let quote = Packet { dont_fragment: true, ..Packet::udp(from, to, b"too long") };
            let error = Packet::icmp(to.0, from.0, kind, &[&rest[..], &quote.bytes()].concat());
            assert_eq!(error.error(), Some((Told::TooLong(1400), quote)));
        }
    }

    #[test]
    fn mss_is_found_among_other_options() {
        let (from, to) = pair(V4);
        let mut syn = Packet::tcp(from, to, flag::SYN, 0, 0);
        assert_eq!(syn.mss(), None);
        syn.payload[12] = 0x80;
        syn.payload.extend([1, 3, 3, 7, 2, 4, 0x05, 0xb4, 0, 0, 0, 0]);
        assert_eq!(syn.mss(), Some(1460));
    }
}
