//! Frames of either family, made in the plainest way with every checksum computed in full: what the
//! datapath's incremental work is compared with.

use std::net::IpAddr;

use crate::{
    family::{Family, V4},
    raw::header,
    sctp,
};

/// A MAC.
pub type Mac = [u8; 6];

/// An Ethernet frame with an IP packet, to be described piece by piece.
#[derive(Clone, Debug)]
pub struct IpFrame {
    /// The frame's MACs: destination, source.
    pub macs: (Mac, Mac),
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Hops left.
    pub ttl: u8,
    /// What is between the header and the payload.
    pub options: Options,
    /// Identification: of IPv4 16 bits, of IPv6 that of fragments alone.
    pub id: u32,
    /// Whether it is a part of a datagram only.
    pub fragment: Fragment,
    /// What the packet carries.
    pub payload: Payload,
}

/// What is between a header and the payload.
#[derive(Clone, Debug, Default)]
pub enum Options {
    /// Nothing.
    #[default]
    None,
    /// As many units: words of IPv4's options, or eight bytes of IPv6's for the destination.
    Units(usize),
    /// IPv6's extension headers before a fragment's, by number, each without the first of its
    /// bytes.
    Extensions(Vec<(u8, Vec<u8>)>),
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    None,
    /// All of it, and that is how it must stay. Every packet of IPv6 must.
    Dont,
    /// IPv6: all of it, with a fragment header nevertheless (RFC 6946).
    Atomic,
    /// The first of several.
    First,
    /// The last, of 128 bytes on.
    Later,
}

/// What a packet carries.
#[derive(Clone, Debug)]
pub enum Payload {
    /// TCP without options: source port, destination port, flags.
    Tcp(u16, u16, u8),
    /// TCP with options, a multiple of four bytes: source port, destination port, flags, options.
    TcpOptions(u16, u16, u8, Vec<u8>),
    /// UDP: source port, destination port, data.
    Udp(u16, u16, Vec<u8>),
    /// UDP without checksum: source port, destination port.
    UdpUnsummed(u16, u16),
    /// An echo request with that identifier.
    Ping(u16),
    /// An echo reply with that identifier.
    Pong(u16),
    /// An ICMP error, the packet it quotes, and how many bytes of that.
    Error(Told, Box<IpFrame>, usize),
    /// Any other message of the family's ICMP: type, and what follows the checksum.
    Icmp(u8, Vec<u8>),
    /// SCTP.
    Sctp(sctp::Packet),
    /// Another protocol.
    Other(u8, Vec<u8>),
}

/// What an ICMP error tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// No hops are left.
    HopsExceeded,
    /// The other fragments did not come in time.
    FragmentsMissing,
    /// It is longer than this MTU, in bytes.
    TooLong(u16),
    /// Nobody has the port.
    PortClosed,
    /// It is forbidden.
    Prohibited,
    /// There is no route.
    NoRoute,
    /// Something is wrong with the header.
    BadHeader,
}

impl Told {
    /// The ICMP header: type, code, no checksum yet, and four bytes more.
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
    /// A whole packet without options.
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

    /// Its family.
    pub const fn family(&self) -> Family {
        Family::of(self.source)
    }

    /// IANA number of what it carries.
    pub fn protocol(&self) -> u8 {
        self.payload.protocol(self.family())
    }

    /// Where the payload begins in the frame.
    pub fn payload_at(&self) -> usize {
        14 + self.header().len()
    }

    /// The frame's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let kind = if self.family() == V4 { [0x08, 0x00] } else { [0x86, 0xdd] };
        [&self.macs.0[..], &self.macs.1, &kind, &self.header(), &self.segment()].concat()
    }

    /// The IP header, with all that is before the payload.
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

    /// What it carries.
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
                // RFC 768: a sum of zero is sent as its other form, for zero says that there is
                // none.
                0 if matches!(self.payload, Payload::Udp(..)) => 0xffff,
                sum => sum,
            };
            segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        segment
    }

    /// What of the IP header the payload's checksum covers; `length` is the payload's.
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
    /// IANA number.
    pub const fn protocol(&self, family: Family) -> u8 {
        match self {
            Self::Tcp(..) | Self::TcpOptions(..) => 6,
            Self::Udp(..) | Self::UdpUnsummed(..) => 17,
            Self::Ping(_) | Self::Pong(_) | Self::Error(..) | Self::Icmp(..) => family.icmp(),
            Self::Sctp(..) => 132,
            Self::Other(protocol, _) => *protocol,
        }
    }

    /// The same with other ports; an echo takes whichever is not zero for its identifier.
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

    /// The answer of who has a port, or is pinged.
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
            | Self::Other(..) => panic!("nobody answers {self:?}"),
        }
    }
}

/// An extension header of so many units of eight bytes, with options that say nothing.
pub fn extension(number: u8, units: usize) -> (u8, Vec<u8>) {
    let mut rest = vec![0; units * 8 - 1];
    rest[0] = u8::try_from(units - 1).expect("a short header");
    (number, rest)
}

/// The Internet checksum of some bytes (RFC 1071), written down as its definition says.
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

    /// Both ways of making a packet make the same one.
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
