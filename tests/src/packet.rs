//! Frames made and taken apart in the plainest way, with every checksum computed in full: what the datapath's incremental work is compared
//! with.

use std::net::Ipv4Addr;

use crate::sctp;

/// A MAC.
pub type Mac = [u8; 6];

/// An Ethernet frame with an IPv4 packet, to be described piece by piece.
#[derive(Clone, Debug)]
pub struct Ipv4Frame {
    /// The frame's MACs: destination, source.
    pub macs: (Mac, Mac),
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Hops left.
    pub ttl: u8,
    /// IP options; a multiple of four bytes.
    pub options: Vec<u8>,
    /// Identification.
    pub id: u16,
    /// The field of flags and fragment offset.
    pub fragment: u16,
    /// What the packet carries.
    pub payload: Payload,
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
    /// ICMP echo: type, identifier.
    Echo(u8, u16),
    /// An ICMP error: type, code, the packet it quotes, and how many bytes of that.
    Error(u8, u8, Box<Ipv4Frame>, usize),
    /// SCTP.
    Sctp(sctp::Packet),
    /// Another protocol.
    Other(u8, Vec<u8>),
}

impl Ipv4Frame {
    /// The frame's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let segment = self.segment();
        let header_length = 20 + self.options.len();
        let mut header = vec![0x40 | u8::try_from(header_length / 4).expect("at most 60 bytes"), 0];
        header.extend(u16::try_from(header_length + segment.len()).expect("a short packet").to_be_bytes());
        header.extend(self.id.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.payload.protocol(), 0, 0]);
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        header.extend(&self.options);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut frame = Vec::new();
        frame.extend(self.macs.0);
        frame.extend(self.macs.1);
        frame.extend([0x08, 0x00]);
        frame.extend(header);
        frame.extend(segment);
        frame
    }

    fn segment(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        let sum_at = match &self.payload {
            Payload::Tcp(source, destination, flags) => {
                segment.extend(source.to_be_bytes());
                segment.extend(destination.to_be_bytes());
                segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                Some(16)
            }
            Payload::TcpOptions(source, destination, flags, options) => {
                segment.extend(source.to_be_bytes());
                segment.extend(destination.to_be_bytes());
                let words = u8::try_from(5 + options.len() / 4).expect("at most 40 bytes");
                segment.extend([0, 0, 0, 1, 0, 0, 0, 2, words << 4, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                segment.extend(options);
                Some(16)
            }
            Payload::Udp(source, destination, data) => {
                segment.extend(udp_header(*source, *destination, data.len()));
                segment.extend(data);
                Some(6)
            }
            Payload::UdpUnsummed(source, destination) => {
                segment.extend(udp_header(*source, *destination, 0));
                None
            }
            Payload::Echo(kind, identifier) => {
                segment.extend([*kind, 0, 0, 0]);
                segment.extend(identifier.to_be_bytes());
                segment.extend([0, 7]);
                segment.extend(b"abcdefgh");
                Some(2)
            }
            Payload::Error(kind, code, quoted, length) => {
                segment.extend([*kind, *code, 0, 0, 0, 0, 0x05, 0x78]);
                segment.extend(&quoted.bytes()[14..][..*length]);
                Some(2)
            }
            Payload::Sctp(packet) => {
                segment.extend(packet.bytes());
                None
            }
            Payload::Other(_, data) => {
                segment.extend(data);
                None
            }
        };
        if let Some(at) = sum_at {
            let sum = if self.payload.protocol() == 1 {
                checksum(&segment)
            } else {
                checksum(&[self.pseudo_header(segment.len()), segment.clone()].concat())
            };
            // RFC 768: a sum of zero is sent as its other form, for zero says that there is none.
            let sum = if matches!(self.payload, Payload::Udp(..)) && sum == 0 { 0xffff } else { sum };
            segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        segment
    }

    fn pseudo_header(&self, length: usize) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        header.extend([0, self.payload.protocol()]);
        header.extend(u16::try_from(length).expect("a short packet").to_be_bytes());
        header
    }
}

impl Payload {
    /// IANA number.
    pub fn protocol(&self) -> u8 {
        match self {
            Self::Tcp(..) | Self::TcpOptions(..) => 6,
            Self::Udp(..) | Self::UdpUnsummed(..) => 17,
            Self::Echo(..) | Self::Error(..) => 1,
            Self::Sctp(..) => 132,
            Self::Other(protocol, _) => *protocol,
        }
    }

    /// The same with other ports; an echo takes whichever is not zero for its identifier.
    #[must_use]
    pub fn with_ports(&self, source: u16, destination: u16) -> Self {
        match self {
            Self::Tcp(_, _, flags) => Self::Tcp(source, destination, *flags),
            Self::TcpOptions(_, _, flags, options) => Self::TcpOptions(source, destination, *flags, options.clone()),
            Self::Udp(_, _, data) => Self::Udp(source, destination, data.clone()),
            Self::UdpUnsummed(..) => Self::UdpUnsummed(source, destination),
            Self::Echo(kind, _) => Self::Echo(*kind, source | destination),
            Self::Sctp(packet) => Self::Sctp(sctp::Packet { source, destination, ..packet.clone() }),
            Self::Error(..) | Self::Other(..) => self.clone(),
        }
    }
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

fn udp_header(source: u16, destination: u16, data: usize) -> Vec<u8> {
    let length = u16::try_from(8 + data).expect("a short packet");
    [source, destination, length, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}
