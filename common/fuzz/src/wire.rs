//! Frames read and written in the plainest way, with every checksum computed in full: nothing here is shared with the code under test.

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
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// An Ethernet frame with an IPv4 packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ipv4Frame {
    /// The destination's and the source's.
    pub macs: ([u8; 6], [u8; 6]),
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Hops left.
    pub ttl: u8,
    /// IP options; a multiple of four bytes.
    pub options: Vec<u8>,
    /// The field of flags and fragment offset.
    pub fragment: u16,
    /// IANA number of what follows.
    pub protocol: u8,
    /// All that follows the IP header.
    pub payload: Vec<u8>,
}

impl Ipv4Frame {
    /// The frame's bytes, the IP header summed up.
    pub fn bytes(&self) -> Vec<u8> {
        let words = 5 + self.options.len() / 4;
        let total = u16::try_from(4 * words + self.payload.len()).expect("a short packet");
        let mut header = vec![0x40 | u8::try_from(words).expect("at most 15 words"), 0];
        header.extend(total.to_be_bytes());
        header.extend([0x12, 0x34]);
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(self.source);
        header.extend(self.destination);
        header.extend(&self.options);
        let sum = !sum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [&self.macs.0[..], &self.macs.1, &[8, 0], &header, &self.payload].concat()
    }

    /// Reads a frame; none if it is no whole IPv4 packet.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let mac = |at: usize| frame.get(at..at + 6)?.try_into().ok();
        let packet = frame.get(ETHERNET..)?;
        let fixed: &[u8; 20] = packet.get(..20)?.try_into().ok()?;
        let header = usize::from(fixed[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if frame[12..14] != [8, 0] || fixed[0] >> 4 != 4 || header < 20 {
            return None;
        }
        Some(Self {
            macs: (mac(0)?, mac(6)?),
            source: [fixed[12], fixed[13], fixed[14], fixed[15]],
            destination: [fixed[16], fixed[17], fixed[18], fixed[19]],
            ttl: fixed[8],
            options: packet.get(20..header)?.to_vec(),
            fragment: u16::from_be_bytes([fixed[6], fixed[7]]),
            protocol: fixed[9],
            payload: packet.get(header..total)?.to_vec(),
        })
    }

    /// Whether it is no later fragment.
    pub const fn is_first(&self) -> bool {
        self.fragment.trailing_zeros() >= 13
    }

    /// The ports; none if the protocol has none, or this is no first or only fragment. An echo has its identifier for both.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let word = |at: usize| Some(u16::from_be_bytes([*self.payload.get(at)?, *self.payload.get(at + 1)?]));
        match self.protocol {
            _ if !self.is_first() => None,
            protocol::TCP | protocol::UDP | protocol::SCTP => Some((word(0)?, word(2)?)),
            protocol::ICMP if matches!(self.payload.first()?, 0 | 8) => Some((word(4)?, word(4)?)),
            _ => None,
        }
    }

    /// Where the transport's checksum is in the payload; none if it has none that is looked at here, or covers what is not here.
    fn sum_at(&self) -> Option<usize> {
        let at = match self.protocol {
            _ if self.fragment & 0x3fff != 0 => return None,
            protocol::TCP => 16,
            protocol::UDP => 6,
            protocol::ICMP => 2,
            _ => return None,
        };
        // Where UDP says another length than IP, its sum is over what nobody agrees upon.
        let length = usize::from(u16::from_be_bytes([*self.payload.get(4)?, *self.payload.get(5)?]));
        if self.protocol == protocol::UDP && length != self.payload.len() {
            return None;
        }
        (self.payload.len() >= at + 2).then_some(at)
    }

    /// The checksum that the transport should have, its field taken for zero.
    fn transport_sum(&self, at: usize) -> u16 {
        let mut covered = Vec::new();
        if self.protocol != protocol::ICMP {
            covered.extend(self.source);
            covered.extend(self.destination);
            covered.extend([0, self.protocol]);
            covered.extend(u16::try_from(self.payload.len()).expect("a short packet").to_be_bytes());
        }
        covered.extend(&self.payload);
        let field = covered.len() - self.payload.len() + at;
        covered[field..field + 2].fill(0);
        match !sum(&covered) {
            // RFC 768: zero says that there is none.
            0 if self.protocol == protocol::UDP => u16::MAX,
            sum => sum,
        }
    }

    /// Puts the transport's checksum in its place.
    #[must_use]
    pub fn summed(mut self) -> Self {
        if let Some(at) = self.sum_at() {
            let sum = self.transport_sum(at);
            self.payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        self
    }

    /// Whether the transport's checksum is right; also where there is none to look at.
    pub fn transport_sums_up(&self) -> bool {
        let Some(at) = self.sum_at() else { return true };
        let field = [self.payload[at], self.payload[at + 1]];
        (self.protocol == protocol::UDP && field == [0, 0]) || same(u16::from_be_bytes(field), self.transport_sum(at))
    }

    /// The packet that answers this one, from where it went; its checksum is to be put in place yet.
    #[must_use]
    pub fn reversed(&self) -> Self {
        let mut answer = Self {
            macs: (self.macs.1, self.macs.0),
            source: self.destination,
            destination: self.source,
            ..self.clone()
        };
        match self.protocol {
            protocol::TCP | protocol::UDP | protocol::SCTP if answer.payload.len() >= 4 => {
                answer.payload[..4].rotate_left(2);
            }
            protocol::ICMP if !answer.payload.is_empty() => {
                answer.payload[0] = if self.payload[0] == 8 { 0 } else { 8 }
            }
            _ => {}
        }
        answer
    }
}

/// Whether the checksum of a frame's IP header is right.
pub fn header_sums_up(frame: &[u8]) -> bool {
    let header = frame.get(ETHERNET).map_or(0, |first| usize::from(first & 15) * 4);
    frame.get(ETHERNET..ETHERNET + header).is_some_and(|header| sum(header) == u16::MAX)
}

/// Whether two checksums say the same: one's complement has two zeroes.
fn same(a: u16, b: u16) -> bool {
    let one = |sum| if sum == u16::MAX { 0 } else { sum };
    one(a) == one(b)
}

/// The one's complement sum of some bytes (RFC 1071), an odd last one padded with zero.
pub fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}
