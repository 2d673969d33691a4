//! Reads and writes frames of either family in the simplest way, with every checksum computed in
//! full. It shares no code with the code under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// IANA protocol numbers.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// IANA numbers of IPv6 extension headers.
pub mod extension {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing header.
    pub const ROUTING: u8 = 43;
    /// Fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
}

/// An Ethernet frame with an IP packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Destination and source MAC.
    pub macs: ([u8; 6], [u8; 6]),
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers before the fragment header: the number, and all bytes after the next
    /// header's number.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// IPv4: the DF flag.
    pub dont_fragment: bool,
    /// The fragment that the packet is, if any.
    pub fragment: Option<Fragment>,
    /// IANA number of the payload's protocol.
    pub protocol: u8,
    /// All bytes after the headers.
    pub payload: Vec<u8>,
}

/// Which fragment of a datagram a packet is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fragment {
    /// Offset in units of eight bytes.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
    /// Identification of the datagram; in IPv4 the lower 16 bits.
    pub id: u32,
}

impl Frame {
    /// The frame's bytes, with the checksum of IPv4's header.
    pub fn bytes(&self) -> Vec<u8> {
        let kind = if self.source.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
        [&self.macs.0[..], &self.macs.1, &kind, &self.header(), &self.payload].concat()
    }

    /// Bytes of the IP header, options and extension headers included.
    pub fn header_length(&self) -> usize {
        self.header().len()
    }

    fn header(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.header4(source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.header6(source, destination),
            (source, destination) => panic!("no packet goes from {source} to {destination}"),
        }
    }

    fn header4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let words = 5 + self.options.len() / 4;
        let total = u16::try_from(4 * words + self.payload.len()).expect("a short packet");
        let mut header = vec![0x40 | u8::try_from(words).expect("at most 15 words"), 0];
        header.extend(total.to_be_bytes());
        let place = self.fragment.map_or(0, |place| u16::from(place.more) << 13 | place.offset);
        let id = self.fragment.map_or(0x1234, |place| place.id & 0xffff);
        header.extend(u16::try_from(id).expect("16 bits").to_be_bytes());
        header.extend((u16::from(self.dont_fragment) << 14 | place).to_be_bytes());
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(&self.options);
        let sum = !sum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    fn header6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let mut headers = self.extensions.clone();
        headers.extend(self.fragment.map(|Fragment { offset, more, id }| {
            let place = (offset << 3 | u16::from(more)).to_be_bytes();
            (extension::FRAGMENT, [&[0][..], &place, &id.to_be_bytes()].concat())
        }));
        let numbers: Vec<u8> =
            headers.iter().map(|(number, _)| *number).chain([self.protocol]).collect();
        let extensions: Vec<u8> = headers
            .iter()
            .zip(&numbers[1..])
            .flat_map(|((_, rest), next)| [&[*next], &rest[..]].concat())
            .collect();
        let length = u16::try_from(extensions.len() + self.payload.len())
            .expect("a short packet")
            .to_be_bytes();
        let fixed = [0x60, 0, 0, 0, length[0], length[1], numbers[0], self.ttl];
        [&fixed[..], &source.octets(), &destination.octets(), &extensions].concat()
    }

    /// Reads a frame. None if it is no complete IP packet.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let mac = |at: usize| frame.get(at..at + 6)?.try_into().ok();
        let macs = (mac(0)?, mac(6)?);
        let packet = frame.get(ETHERNET..)?;
        match (&frame[12..14], packet.first()? >> 4) {
            ([8, 0], 4) => Self::read4(macs, packet),
            ([0x86, 0xdd], 6) => Self::read6(macs, packet),
            _ => None,
        }
    }

    fn read4(macs: ([u8; 6], [u8; 6]), packet: &[u8]) -> Option<Self> {
        let fixed: &[u8; 20] = packet.get(..20)?.try_into().ok()?;
        let header = usize::from(fixed[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        let address =
            |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
        let place = u16::from_be_bytes([fixed[6], fixed[7]]);
        let id = u16::from_be_bytes([fixed[4], fixed[5]]).into();
        let fragment = Fragment { offset: place & 0x1fff, more: place & 0x2000 != 0, id };
        Some(Self {
            macs,
            source: address(12).into(),
            destination: address(16).into(),
            ttl: fixed[8],
            options: packet.get(20..header)?.to_vec(),
            extensions: Vec::new(),
            dont_fragment: place & 0x4000 != 0,
            fragment: (place & 0x3fff != 0).then_some(fragment),
            protocol: fixed[9],
            payload: packet.get(header..total)?.to_vec(),
        })
    }

    fn read6(macs: ([u8; 6], [u8; 6]), packet: &[u8]) -> Option<Self> {
        let fixed: &[u8; 40] = packet.get(..40)?.try_into().ok()?;
        let address = |at: usize| {
            Ipv6Addr::from(<[u8; 16]>::try_from(&fixed[at..at + 16]).expect("sixteen bytes"))
        };
        let carried = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        let mut rest = packet.get(40..40 + carried)?;
        let mut frame = Self {
            macs,
            source: address(8).into(),
            destination: address(24).into(),
            ttl: fixed[7],
            options: Vec::new(),
            extensions: Vec::new(),
            dont_fragment: false,
            fragment: None,
            protocol: fixed[6],
            payload: Vec::new(),
        };
        loop {
            let length = match frame.protocol {
                extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION => {
                    8 * (1 + usize::from(*rest.get(1)?))
                }
                extension::FRAGMENT => 8,
                _ => break,
            };
            let (header, after) = (rest.get(..length)?, rest.get(length..)?);
            if frame.protocol == extension::FRAGMENT {
                let place = u16::from_be_bytes([header[2], header[3]]);
                let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                frame.fragment = Some(Fragment { offset: place >> 3, more: place & 1 != 0, id });
            } else {
                frame.extensions.push((frame.protocol, header[1..].to_vec()));
            }
            let ends = frame.protocol == extension::FRAGMENT;
            frame.protocol = header[0];
            rest = after;
            if ends {
                break;
            }
        }
        frame.payload = rest.to_vec();
        Some(frame)
    }

    /// Whether the packet is one of several fragments.
    pub fn is_part(&self) -> bool {
        self.fragment.is_some_and(|place| place.more || place.offset != 0)
    }

    /// Whether the packet has offset zero: it is whole, or a first fragment.
    pub fn is_first(&self) -> bool {
        self.fragment.is_none_or(|place| place.offset == 0)
    }

    /// IANA number of the family's ICMP.
    pub const fn icmp(&self) -> u8 {
        if self.source.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 }
    }

    /// ICMP types of an echo request and its reply.
    pub const fn echo(&self) -> (u8, u8) {
        if self.source.is_ipv4() { (8, 0) } else { (128, 129) }
    }

    /// Source and destination port. None if the protocol has none, or the packet is a later
    /// fragment. The identifier of an echo stands for both.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let word = |at: usize| {
            Some(u16::from_be_bytes([*self.payload.get(at)?, *self.payload.get(at + 1)?]))
        };
        let (request, reply) = self.echo();
        match self.protocol {
            _ if !self.is_first() => None,
            protocol::TCP | protocol::UDP | protocol::SCTP => Some((word(0)?, word(2)?)),
            number if number == self.icmp() => {
                let kind = *self.payload.first()?;
                if kind == request || kind == reply { Some((word(4)?, word(4)?)) } else { None }
            }
            _ => None,
        }
    }

    /// Offset of the transport's checksum in the payload. None if the protocol has none that is
    /// checked here, or the packet is a fragment.
    fn sum_at(&self) -> Option<usize> {
        let at = match self.protocol {
            _ if self.is_part() => return None,
            protocol::TCP => 16,
            protocol::UDP => 6,
            number if number == self.icmp() => 2,
            _ => return None,
        };
        // If UDP's length differs from IP's, it is not defined what the checksum covers.
        let length =
            usize::from(u16::from_be_bytes([*self.payload.get(4)?, *self.payload.get(5)?]));
        if self.protocol == protocol::UDP && length != self.payload.len() {
            return None;
        }
        (self.payload.len() >= at + 2).then_some(at)
    }

    /// The correct checksum of the transport, computed with its field as zero.
    fn transport_sum(&self, at: usize) -> u16 {
        let length = u32::try_from(self.payload.len()).expect("a short packet").to_be_bytes();
        let mut covered = match (self.source, self.destination) {
            (IpAddr::V4(_), _) if self.protocol == protocol::ICMP => Vec::new(),
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
        covered.extend(&self.payload);
        let field = covered.len() - self.payload.len() + at;
        covered[field..field + 2].fill(0);
        match !sum(&covered) {
            // RFC 768: zero means that there is no checksum.
            0 if self.protocol == protocol::UDP => u16::MAX,
            sum => sum,
        }
    }

    /// Sets the transport's checksum.
    #[must_use]
    pub fn summed(mut self) -> Self {
        if let Some(at) = self.sum_at() {
            let sum = self.transport_sum(at);
            self.payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        self
    }

    /// Whether the transport's checksum is right; true if there is none to check.
    pub fn transport_sums_up(&self) -> bool {
        let Some(at) = self.sum_at() else { return true };
        let field = [self.payload[at], self.payload[at + 1]];
        (self.protocol == protocol::UDP && field == [0, 0])
            || same(u16::from_be_bytes(field), self.transport_sum(at))
    }

    /// The reply to this packet, from its destination; its checksum is not set.
    #[must_use]
    pub fn reversed(&self) -> Self {
        let mut answer = Self {
            macs: (self.macs.1, self.macs.0),
            source: self.destination,
            destination: self.source,
            ..self.clone()
        };
        let (request, reply) = self.echo();
        match self.protocol {
            protocol::TCP | protocol::UDP | protocol::SCTP if answer.payload.len() >= 4 => {
                answer.payload[..4].rotate_left(2);
            }
            number if number == self.icmp() && !answer.payload.is_empty() => {
                answer.payload[0] = if self.payload[0] == request { reply } else { request };
            }
            _ => {}
        }
        answer
    }

    /// Type of the ICMPv6 message in a frame behind any number of extension headers. None if there
    /// is no such message.
    pub fn message_in(frame: &[u8]) -> Option<u8> {
        let mut next = *frame.get(ETHERNET + 6)?;
        let mut at = ETHERNET + 40;
        loop {
            let header = frame.get(at..)?;
            match next {
                protocol::ICMPV6 => return header.first().copied(),
                extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION => {
                    at += 8 * (1 + usize::from(*header.get(1)?));
                }
                extension::FRAGMENT if header.get(2)? | header.get(3)? & !7 == 0 => at += 8,
                _ => return None,
            }
            next = *header.first()?;
        }
    }
}

/// Whether the checksum of a frame's IP header is right; true for IPv6, which has none.
pub fn header_sums_up(frame: &[u8]) -> bool {
    if frame.get(12..14) == Some(&[0x86, 0xdd]) {
        return true;
    }
    let header = frame.get(ETHERNET).map_or(0, |first| usize::from(first & 15) * 4);
    frame.get(ETHERNET..ETHERNET + header).is_some_and(|header| sum(header) == u16::MAX)
}

/// Whether two checksums are equal: one's complement has two zeroes.
fn same(a: u16, b: u16) -> bool {
    let one = |sum| if sum == u16::MAX { 0 } else { sum };
    one(a) == one(b)
}

/// One's complement sum of some bytes (RFC 1071), an odd last one padded with zero.
pub fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_frame_reads_back() {
        let [four, six]: [[IpAddr; 2]; 2] =
            [["10.0.0.1", "10.0.0.2"], ["2001:db8::1", "2001:db8::2"]]
                .map(|pair| pair.map(|address| address.parse().expect("an address")));
        for [source, destination] in [four, six] {
            for fragment in [
                None,
                Some(Fragment { offset: 3, more: true, id: 7 }),
                Some(Fragment { offset: 0, more: true, id: 7 }),
            ] {
                let v6 = source.is_ipv6();
                let frame = Frame {
                    macs: ([1; 6], [2; 6]),
                    source,
                    destination,
                    ttl: 9,
                    options: if v6 { Vec::new() } else { vec![1; 8] },
                    extensions: if v6 {
                        vec![(extension::DESTINATION, [&[1][..], &[0; 14]].concat())]
                    } else {
                        Vec::new()
                    },
                    dont_fragment: !v6 && fragment.is_none(),
                    fragment,
                    protocol: protocol::UDP,
                    payload: [&[0, 1, 0, 2, 0, 11, 0, 0], &b"odd"[..]].concat(),
                }
                .summed();
                assert_eq!(Frame::read(&frame.bytes()), Some(frame.clone()));
                assert!(frame.transport_sums_up() && header_sums_up(&frame.bytes()));
                assert_eq!(frame.ports(), if frame.is_first() { Some((1, 2)) } else { None });
                assert_eq!(frame.reversed().reversed(), frame);
            }
        }
    }
}
