//! Rewriting of IP headers.

use crate::{
    abi::translation::Translation,
    wire::{
        address::{V4, V6},
        checksum,
        ethernet::ETHERNET,
        frame::FrameMut,
        ipv4::Ipv4,
        ipv6::Ipv6,
        layout::word,
        packet::Packet,
        parse::Parse,
        tuple::Tuple,
    },
};

/// An address family whose headers can be rewritten.
pub trait Rewrite: Parse {
    /// Whether packets of the family may leave as those of the other one (NAT64).
    const HAS_NAT64: bool;
    /// Whether the header has no checksum that makes up for changes in it.
    const HAS_NO_HEADER_CHECKSUM: bool;
    /// What one hop less adds to a one's complement sum over the header.
    const ONE_HOP: u16;

    /// Rewrites the addresses of a header, and takes one hop off.
    fn rewrite(header: &mut Self::Header, translation: &Translation<Self>);

    /// Rewrites the addresses of a quoted header, which change the sum over them by
    /// `address_delta`.
    fn rewrite_quoted(header: &mut Self::Header, to: &Tuple<Self>, address_delta: u16);

    /// Rewrites a fragment's identification, `id` in the byte order of the packet. None if the
    /// frame is shorter than when it was parsed.
    fn rewrite_id(
        frame: &mut (impl FrameMut + ?Sized),
        packet: &Packet<Self>,
        id: u32,
    ) -> Option<()>;
}

impl Rewrite for V4 {
    const HAS_NAT64: bool = false;
    const HAS_NO_HEADER_CHECKSUM: bool = false;
    // Minus one in the first byte of the word (TTL, protocol).
    const ONE_HOP: u16 = u16::from_ne_bytes([0xfe, 0xff]);

    #[inline(always)]
    fn rewrite(header: &mut Ipv4, translation: &Translation<Self>) {
        header.0.ttl = header.0.ttl.wrapping_sub(1);
        let delta = u32::from(translation.address_delta) + u32::from(Self::ONE_HOP);
        header.update_checksum(delta);
        header.set_addresses(&translation.tuple);
    }

    #[inline(always)]
    fn rewrite_quoted(header: &mut Ipv4, to: &Tuple<Self>, address_delta: u16) {
        header.update_checksum(u32::from(address_delta));
        header.set_addresses(to);
    }

    #[inline(always)]
    fn rewrite_id(
        frame: &mut (impl FrameMut + ?Sized),
        _packet: &Packet<Self>,
        id: u32,
    ) -> Option<()> {
        let mut header: Ipv4 = frame.read(ETHERNET)?;
        let delta = checksum::delta(u32::from(word(header.0.id)), u32::from(id as u16));
        header.update_checksum(u32::from(delta));
        header.0.id = (id as u16).to_ne_bytes();
        frame.put(ETHERNET, &header)
    }
}

impl Rewrite for V6 {
    const HAS_NAT64: bool = true;
    const HAS_NO_HEADER_CHECKSUM: bool = true;
    // Minus one in the second byte of the word (next header, hop limit).
    const ONE_HOP: u16 = u16::from_ne_bytes([0xff, 0xfe]);

    #[inline(always)]
    fn rewrite(header: &mut Ipv6, translation: &Translation<Self>) {
        header.0.hop_limit = header.0.hop_limit.wrapping_sub(1);
        header.set_addresses(&translation.tuple);
    }

    #[inline(always)]
    fn rewrite_quoted(header: &mut Ipv6, to: &Tuple<Self>, _address_delta: u16) {
        header.set_addresses(to);
    }

    #[inline(always)]
    fn rewrite_id(
        frame: &mut (impl FrameMut + ?Sized),
        packet: &Packet<Self>,
        id: u32,
    ) -> Option<()> {
        // The fragment header directly precedes the payload, and its second half is the
        // identification.
        frame.put(
            packet.payload_at.wrapping_sub(4) & Self::PAYLOAD_MASK,
            &[id as u16, (id >> 16) as u16],
        )
    }
}
