//! IPv4 (RFC 791) and ICMP (RFC 792).

use crate::wire::{
    address::{Address as _, V4},
    checksum,
    ethernet::ETHERNET,
    frame::Frame,
    layout::word,
    packet::{Arrival, Malformed, Packet, Payload},
    parse::Parse,
    protocol,
    quote::Quote,
    transport::TCP,
    tuple::{Side, Tuple},
};

pub use super::layout::Ipv4;

impl Ipv4 {
    /// The one's complement sum over the header, not folded.
    #[inline(always)]
    pub(crate) fn sum(&self) -> u32 {
        u32::from(word([self.0.vihl, self.0.tos]))
            + u32::from(word(self.0.tot_len))
            + u32::from(word(self.0.id))
            + u32::from(word(self.0.frags))
            + u32::from(word([self.0.ttl, self.0.proto]))
            + u32::from(word(self.0.check))
            + self.source().sum()
            + self.destination().sum()
    }

    /// Source address.
    #[inline(always)]
    pub(crate) const fn source(&self) -> V4 {
        V4::new(self.0.src_addr)
    }

    /// Destination address.
    #[inline(always)]
    pub(crate) const fn destination(&self) -> V4 {
        V4::new(self.0.dst_addr)
    }

    /// Sets both addresses to the tuple's, and leaves the checksum to the caller.
    #[inline(always)]
    pub(crate) fn set_addresses(&mut self, tuple: &Tuple<V4>) {
        self.0.src_addr = tuple.source.octets();
        self.0.dst_addr = tuple.destination.octets();
    }

    /// Updates the checksum after a change that adds `delta` to the sum over the header.
    #[inline(always)]
    pub(crate) fn update_checksum(&mut self, delta: u32) {
        self.0.check = checksum::update(word(self.0.check), delta).to_ne_bytes();
    }

    /// Computes the checksum.
    #[inline(always)]
    pub(crate) fn set_checksum(&mut self) {
        self.0.check = [0; 2];
        self.0.check = (!checksum::fold(self.sum())).to_ne_bytes();
    }
}

/// Bytes of a header without options.
const HEADER: usize = size_of::<Ipv4>();

/// In the field of flags and fragment offset, in the frame's byte order: not zero in a fragment.
const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff_u16.to_be();

/// In the same field: don't fragment (DF).
pub(crate) const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();

/// In the same field: the offset, which is zero in a first fragment.
const FRAGMENT_OFFSET: u16 = 0x1fff_u16.to_be();

impl Parse for V4 {
    type Header = Ipv4;
    const USUAL: u32 = (ETHERNET + HEADER) as u32 + TCP;
    const LONGEST: u32 = (ETHERNET + 60) as u32 + TCP;
    const ICMP: u8 = protocol::ICMP;
    const ECHO_REQUEST: u8 = icmp::ECHO_REQUEST;
    const ECHO_REPLY: u8 = icmp::ECHO_REPLY;
    const PAYLOAD_MASK: usize = 0x7f;

    #[inline(always)]
    fn parse_usual(
        frame: &(impl Frame + ?Sized),
        arrival: Arrival,
    ) -> Result<Packet<Self>, Malformed> {
        parse::<true>(frame, arrival)
    }

    #[inline(always)]
    fn parse(frame: &(impl Frame + ?Sized), arrival: Arrival) -> Result<Packet<Self>, Malformed> {
        parse::<false>(frame, arrival)
    }

    #[inline(always)]
    fn parse_quote(
        frame: &(impl Frame + ?Sized),
        header_at: usize,
        side: Side,
    ) -> Option<Quote<Self>> {
        let ip: Ipv4 = frame.read(header_at)?;
        let header = usize::from(ip.0.vihl & 0x0f) * 4;
        if ip.0.vihl >> 4 != 4 || header < 20 || word(ip.0.frags) & FRAGMENT_OFFSET != 0 {
            return None;
        }
        let tuple = Tuple::without_ports(ip.source(), ip.destination(), ip.0.proto, side);
        Quote::read(frame, tuple, header_at, header_at + header)
    }

    #[inline(always)]
    fn of_icmp(kind: u8) -> Payload {
        match kind {
            icmp::ECHO_REQUEST | icmp::ECHO_REPLY => Payload::Echo,
            icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM => Payload::Error,
            _ => Payload::Other,
        }
    }

    #[inline(always)]
    fn has_pseudo_header(protocol: u8) -> bool {
        !matches!(protocol, protocol::ICMP | protocol::SCTP)
    }

    #[inline(always)]
    fn total_length(header: &Ipv4) -> u32 {
        match u16::from_be_bytes(header.0.tot_len) {
            // BIG TCP.
            0 => u32::MAX,
            length => u32::from(length),
        }
    }
}

#[inline(always)]
fn parse<const USUAL: bool>(
    frame: &(impl Frame + ?Sized),
    arrival: Arrival,
) -> Result<Packet<V4>, Malformed> {
    let ip: Ipv4 = frame.read(ETHERNET).ok_or(Malformed)?;
    if USUAL && ip.0.vihl != 0x45 {
        return Err(Malformed);
    }
    let header = if USUAL { HEADER } else { usize::from(ip.0.vihl & 0x0f) * 4 };
    let length = arrival.length.wrapping_sub(ETHERNET as u32);
    // A total length of zero is a GSO packet of more than 65,535 bytes (BIG TCP).
    let total = u32::from(u16::from_be_bytes(ip.0.tot_len));
    if ip.0.vihl >> 4 != 4
        || header < 20
        || total > length
        || (total != 0 && (total as usize) < header)
    {
        return Err(Malformed);
    }
    let tuple = Tuple::without_ports(ip.source(), ip.destination(), ip.0.proto, arrival.side);
    let mut packet = Packet::without_payload(tuple, arrival, ETHERNET + header, ip.0.ttl);
    packet.dont_fragment = word(ip.0.frags) & DONT_FRAGMENT != 0;
    if word(ip.0.frags) & MORE_FRAGMENTS_AND_OFFSET != 0 {
        packet.id = u32::from(word(ip.0.id));
        if word(ip.0.frags) & FRAGMENT_OFFSET != 0 {
            packet.payload = Payload::Fragment;
            return Ok(packet);
        }
        packet.first_fragment = true;
    }
    let carried = if total == 0 { usize::MAX } else { total as usize - header };
    packet.read_payload(frame, arrival, carried, header)?;
    Ok(packet)
}

/// ICMP types.
pub(crate) mod icmp {
    use network_types::icmp::Icmpv4Type;

    pub(super) const ECHO_REPLY: u8 = Icmpv4Type::EchoReply as u8;
    pub(crate) const UNREACHABLE: u8 = Icmpv4Type::DestinationUnreachable as u8;
    pub(super) const ECHO_REQUEST: u8 = Icmpv4Type::Echo as u8;
    pub(crate) const TIME_EXCEEDED: u8 = 11;
    pub(super) const PARAMETER_PROBLEM: u8 = Icmpv4Type::ParameterProblem as u8;
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::wire::parse::Parse;
    use crate::wire::tuple::Side;

    const ARRIVAL: Arrival = Arrival { side: Side::CONTAINER, input: 7, length: 0, gso_size: 0 };

    fn parse(frame: &[u8]) -> Result<Packet<V4>, Malformed> {
        V4::parse(frame, Arrival { length: u32::try_from(frame.len()).unwrap(), ..ARRIVAL })
    }

    fn tcp() -> Vec<u8> {
        let mut frame = std::vec![0; ETHERNET];
        frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 172, 18, 0, 2, 203, 0, 113, 10]);
        frame.extend([
            0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 0xff, 0xff, 0, 0, 0, 0,
        ]);
        frame
    }

    fn changed(at: usize, value: u8) -> Vec<u8> {
        let mut frame = tcp();
        frame[at] = value;
        frame
    }

    #[test]
    fn contradicting_headers_are_malformed() {
        for (what, at, value) in [
            ("version 6", 14, 0x65),
            ("a header of four words", 14, 0x44),
            ("a header longer than the packet", 14, 0x4f),
            ("longer than the frame", 17, 41),
            ("shorter than its header", 17, 19),
            ("no room for TCP", 17, 39),
            ("a TCP header of four words", 46, 0x40),
        ] {
            assert_eq!(parse(&changed(at, value)), Err(Malformed), "{what}");
        }
    }

    #[test]
    fn zero_total_length_is_big_tcp() {
        assert!(parse(&changed(17, 0)).is_ok());
    }

    #[test]
    fn fragments_are_told_by_offset_and_flag() {
        for (what, field, payload, first) in [
            ("none", [0, 0], Payload::Tcp, false),
            ("none that may be", [0x40, 0], Payload::Tcp, false),
            ("first", [0x20, 0], Payload::Tcp, true),
            ("later", [0x20, 8], Payload::Fragment, false),
            ("last", [0, 8], Payload::Fragment, false),
        ] {
            let mut frame = tcp();
            frame[18..22].copy_from_slice(&[0x12, 0x34, field[0], field[1]]);
            let packet = parse(&frame).unwrap();
            let id = if field[0] & 0x20 == 0 && field[1] == 0 {
                0
            } else {
                u16::from_ne_bytes([0x12, 0x34]).into()
            };
            assert_eq!(
                (packet.payload, packet.first_fragment, packet.id),
                (payload, first, id),
                "{what}"
            );
            assert_eq!(packet.has_ports(), payload == Payload::Tcp, "{what}");
            assert_eq!(packet.dont_fragment, field[0] == 0x40, "{what}");
        }
    }
}
