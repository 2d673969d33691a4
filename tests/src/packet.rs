//! Frames of either family, built plainly with every checksum computed in full, as a reference for
//! the incremental updates of the datapath.

use std::net::IpAddr;

use crate::{
    family::{Family, V4},
    raw::header,
    sctp,
};

/// A MAC address.
pub type Mac = [u8; 6];

/// The description of an Ethernet frame with an IP packet.
#[derive(Clone, Debug)]
pub struct IpFrame {
    /// Destination MAC and source MAC.
    pub macs: (Mac, Mac),
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 options or IPv6 extension headers.
    pub options: Options,
    /// Identification: 16 bits for IPv4; for IPv6 used in fragments only.
    pub id: u32,
    /// Which part of a datagram the packet is.
    pub fragment: Fragment,
    /// The payload.
    pub payload: Payload,
}

/// IPv4 options or IPv6 extension headers.
#[derive(Clone, Debug, Default)]
pub enum Options {
    /// Nothing.
    #[default]
    None,
    /// So many units: 4 bytes of IPv4 options each, or 8 bytes of IPv6 destination options.
    Units(usize),
    /// IPv6 extension headers before the fragment header: number, and bytes without the first (next
    /// header).
    Extensions(Vec<(u8, Vec<u8>)>),
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// The whole datagram.
    None,
    /// The whole datagram, with don't fragment set (implied by IPv6).
    Dont,
    /// IPv6: an atomic fragment (RFC 6946).
    Atomic,
    /// The first fragment of several.
    First,
    /// The last fragment, from byte 128 on.
    Later,
}

/// The payload of a packet.
#[derive(Clone, Debug)]
pub enum Payload {
    /// TCP without options: source port, destination port, flags.
    Tcp(u16, u16, u8),
    /// TCP with options (a multiple of 4 bytes): source port, destination port, flags, options.
    TcpOptions(u16, u16, u8, Vec<u8>),
    /// UDP: source port, destination port, data.
    Udp(u16, u16, Vec<u8>),
    /// UDP with checksum zero: source port, destination port.
    UdpUnsummed(u16, u16),
    /// An echo request: identifier.
    Ping(u16),
    /// An echo reply: identifier.
    Pong(u16),
    /// An ICMP error, the packet it quotes, and how many bytes it quotes.
    Error(Told, Box<IpFrame>, usize),
    /// Another ICMP message: type, and the bytes after the checksum.
    Icmp(u8, Vec<u8>),
    /// SCTP.
    Sctp(sctp::Packet),
    /// Another protocol: number.
    Other(u8, Vec<u8>),
}

/// The meaning of an ICMP error, whatever the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Time exceeded in transit.
    HopsExceeded,
    /// Fragment reassembly time exceeded.
    FragmentsMissing,
    /// Fragmentation needed or packet too big: MTU in bytes.
    TooLong(u16),
    /// Port unreachable.
    PortClosed,
    /// Administratively prohibited.
    Prohibited,
    /// Network unreachable or no route.
    NoRoute,
    /// Parameter problem.
    BadHeader,
}

impl Told {
    /// The 8 bytes of ICMP header, with checksum zero.
    pub fn head(self, family: Family) -> [u8; 8] {
        let (four, six) = match self {
            Self::HopsExceeded => ((11, 0), (3, 0)),
            Self::FragmentsMissing => ((11, 1), (3, 1)),
            Self::TooLong(_) => ((3, 4), (2, 0)),
            Self::PortClosed => ((3, 3), (1, 4)),
            Self::Prohibited => ((3, 13), (1, 1)),
            Self::NoRoute => ((3, 0), (1, 0)),
            Self::BadHeader => ((12, 0), (4, 0)),
        };
        let (kind, code) = if family == V4 { four } else { six };
        let [high, low] = if let Self::TooLong(mtu) = self { mtu.to_be_bytes() } else { [0; 2] };
        [kind, code, 0, 0, 0, 0, high, low]
    }
}

impl IpFrame {
    /// A whole packet without options, TTL 64.
    pub fn new(macs: (Mac, Mac), source: IpAddr, destination: IpAddr, payload: Payload) -> Self {
        assert_eq!(Family::of(source), Family::of(destination), "a packet is of one family");
        Self {
            macs,
            source,
            destination,
            ttl: 64,
            options: Options::None,
            id: 0x1234,
            fragment: Fragment::None,
            payload,
        }
    }

    /// The family of the packet.
    pub const fn family(&self) -> Family {
        Family::of(self.source)
    }

    /// Protocol number of the payload.
    pub fn protocol(&self) -> u8 {
        self.payload.protocol(self.family())
    }

    /// Offset of the payload in the frame.
    pub fn payload_at(&self) -> usize {
        14 + self.header().len()
    }

    /// The bytes of the frame.
    pub fn bytes(&self) -> Vec<u8> {
        let kind = if self.family() == V4 { [0x08, 0x00] } else { [0x86, 0xdd] };
        [&self.macs.0[..], &self.macs.1, &kind, &self.header(), &self.segment()].concat()
    }

    /// The IP header with options or extension headers.
    fn header(&self) -> Vec<u8> {
        let carried = self.segment().len();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let options = match &self.options {
                    Options::None => Vec::new(),
                    Options::Units(words) => vec![1; words * 4],
                    Options::Extensions(_) => panic!("IPv4 has no extension headers"),
                };
                let length = 20 + options.len();
                let mut header =
                    vec![0x40 | u8::try_from(length / 4).expect("at most 60 bytes"), 0];
                header
                    .extend(u16::try_from(length + carried).expect("a short packet").to_be_bytes());
                header.extend(u16::try_from(self.id).expect("16 bits").to_be_bytes());
                let fragment: u16 = match self.fragment {
                    Fragment::None | Fragment::Atomic => 0,
                    Fragment::Dont => 0x4000,
                    Fragment::First => 0x2000,
                    Fragment::Later => 0x0010,
                };
                header.extend(fragment.to_be_bytes());
                header.extend([self.ttl, self.protocol(), 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(options);
                let sum = checksum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                header
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut headers = match &self.options {
                    Options::None | Options::Units(0) => Vec::new(),
                    Options::Units(units) => vec![extension(header::DESTINATION, *units)],
                    Options::Extensions(headers) => headers.clone(),
                };
                let field: Option<u16> = match self.fragment {
                    Fragment::None | Fragment::Dont => None,
                    Fragment::Atomic => Some(0),
                    Fragment::First => Some(1),
                    Fragment::Later => Some(0x10 << 3),
                };
                headers.extend(field.map(|field| {
                    (
                        header::FRAGMENT,
                        [&[0][..], &field.to_be_bytes(), &self.id.to_be_bytes()].concat(),
                    )
                }));
                let numbers: Vec<u8> =
                    headers.iter().map(|(number, _)| *number).chain([self.protocol()]).collect();
                let extensions = headers
                    .iter()
                    .zip(&numbers[1..])
                    .flat_map(|((_, rest), next)| [&[*next], &rest[..]].concat());
                let extensions: Vec<u8> = extensions.collect();
                let length = u16::try_from(extensions.len() + carried)
                    .expect("a short packet")
                    .to_be_bytes();
                let fixed = [0x60, 0, 0, 0, length[0], length[1], numbers[0], self.ttl];
                [&fixed[..], &source.octets(), &destination.octets(), &extensions].concat()
            }
            (source, destination) => panic!("no packet goes from {source} to {destination}"),
        }
    }

    /// The bytes of the payload, with its checksum.
    pub fn segment(&self) -> Vec<u8> {
        let family = self.family();
        let (mut segment, sum_at) = match &self.payload {
            Payload::Tcp(source, destination, flags) => {
                (tcp(*source, *destination, *flags, &[]), Some(16))
            }
            Payload::TcpOptions(source, destination, flags, options) => {
                (tcp(*source, *destination, *flags, options), Some(16))
            }
            Payload::Udp(source, destination, data) => {
                ([&udp_header(*source, *destination, data.len())[..], data].concat(), Some(6))
            }
            Payload::UdpUnsummed(source, destination) => {
                (udp_header(*source, *destination, 0), None)
            }
            Payload::Ping(identifier) => (echo(family.echo().0, *identifier), Some(2)),
            Payload::Pong(identifier) => (echo(family.echo().1, *identifier), Some(2)),
            Payload::Error(told, quoted, length) => {
                ([&told.head(family)[..], &quoted.bytes()[14..][..*length]].concat(), Some(2))
            }
            Payload::Icmp(kind, rest) => ([&[*kind, 0, 0, 0], &rest[..]].concat(), Some(2)),
            Payload::Sctp(packet) => (packet.bytes(), None),
            Payload::Other(_, data) => (data.clone(), None),
        };
        if let Some(at) = sum_at {
            let sum = match checksum(&[self.pseudo_header(segment.len()), segment.clone()].concat())
            {
                // RFC 768: a computed sum of zero is sent as 0xffff, since zero means no checksum.
                0 if matches!(self.payload, Payload::Udp(..)) => 0xffff,
                sum => sum,
            };
            segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        segment
    }

    /// The sum over the pseudo header for a payload of `length` bytes.
    pub fn pseudo_header(&self, length: usize) -> Vec<u8> {
        let length = u32::try_from(length).expect("a short packet").to_be_bytes();
        let addresses = match (self.source, self.destination) {
            (IpAddr::V4(_), _) if self.protocol() == V4.icmp() => return Vec::new(),
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                [source.octets(), destination.octets()].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                [source.octets(), destination.octets()].concat()
            }
            (source, destination) => panic!("no packet goes from {source} to {destination}"),
        };
        [&addresses[..], &length, &[0, 0, 0, self.protocol()]].concat()
    }
}

impl Payload {
    /// Protocol number.
    pub const fn protocol(&self, family: Family) -> u8 {
        match self {
            Self::Tcp(..) | Self::TcpOptions(..) => 6,
            Self::Udp(..) | Self::UdpUnsummed(..) => 17,
            Self::Ping(_) | Self::Pong(_) | Self::Error(..) | Self::Icmp(..) => family.icmp(),
            Self::Sctp(..) => 132,
            Self::Other(protocol, _) => *protocol,
        }
    }

    /// The same payload with other ports. For an echo the nonzero one is the identifier.
    #[must_use]
    pub fn with_ports(&self, source: u16, destination: u16) -> Self {
        match self {
            Self::Tcp(_, _, flags) => Self::Tcp(source, destination, *flags),
            Self::TcpOptions(_, _, flags, options) => {
                Self::TcpOptions(source, destination, *flags, options.clone())
            }
            Self::Udp(_, _, data) => Self::Udp(source, destination, data.clone()),
            Self::UdpUnsummed(..) => Self::UdpUnsummed(source, destination),
            Self::Ping(_) => Self::Ping(source | destination),
            Self::Pong(_) => Self::Pong(source | destination),
            Self::Sctp(packet) => {
                Self::Sctp(sctp::Packet { source, destination, ..packet.clone() })
            }
            Self::Error(..) | Self::Icmp(..) | Self::Other(..) => self.clone(),
        }
    }

    /// The answer of a server or of a pinged host.
    #[must_use]
    pub fn answer(&self) -> Self {
        match self {
            Self::Tcp(source, destination, _) => Self::Tcp(*destination, *source, 0x12),
            Self::Udp(source, destination, data) => Self::Udp(*destination, *source, data.clone()),
            Self::Ping(identifier) => Self::Pong(*identifier),
            Self::TcpOptions(..)
            | Self::UdpUnsummed(..)
            | Self::Pong(_)
            | Self::Error(..)
            | Self::Icmp(..)
            | Self::Sctp(_)
            | Self::Other(..) => panic!("{self:?} has no answer"),
        }
    }
}

/// The body of an extension header of `units` × 8 bytes with padding options.
pub fn extension(number: u8, units: usize) -> (u8, Vec<u8>) {
    let mut rest = vec![0; units * 8 - 1];
    rest[0] = u8::try_from(units - 1).expect("a short header");
    (number, rest)
}

/// The Internet checksum (RFC 1071), computed as defined.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

fn tcp(source: u16, destination: u16, flags: u8, options: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).expect("at most 40 bytes");
    let rest = [0, 0, 0, 1, 0, 0, 0, 2, words << 4, flags, 0xff, 0xff, 0, 0, 0, 0];
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &rest, options].concat()
}

fn udp_header(source: u16, destination: u16, data: usize) -> Vec<u8> {
    let length = u16::try_from(8 + data).expect("a short packet");
    [source, destination, length, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}

fn echo(kind: u8, identifier: u16) -> Vec<u8> {
    [&[kind, 0, 0, 0], &identifier.to_be_bytes()[..], &[0, 7], b"abcdefgh"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{family::V6, raw};

    /// [`crate::raw`] and this module build the same packet.
    #[test]
    fn frame_reads_back_as_built() {
        for family in [V4, V6] {
            for (options, fragment) in [
                (Options::None, Fragment::None),
                (Options::Units(3), Fragment::None),
                (Options::None, Fragment::First),
                (Options::Units(1), Fragment::Later),
            ] {
                let payload = Payload::Udp(4000, 53, b"odd".to_vec());
                let whole = IpFrame::new(([1; 6], [2; 6]), family.host(), family.far(), payload);
                let frame = IpFrame { options, fragment, ..whole };
                let bytes = frame.bytes();
                let packet = raw::Packet::parse(&bytes[14..]).expect("a packet");
                assert_eq!(
                    (packet.source, packet.destination, packet.protocol),
                    (family.host(), family.far(), 17)
                );
                assert_eq!(
                    (packet.more, packet.offset > 0),
                    (fragment == Fragment::First, fragment == Fragment::Later)
                );
                assert_eq!(packet.payload, frame.segment());
                assert!(packet.sums_up());
                assert_eq!(bytes[frame.payload_at()..], packet.payload);
            }
        }
    }
}
