//! The header layouts of `network-types`, wrapped once.
//!
//! The wrappers add two things. They are plain bytes, which bytemuck cannot know of another crate's
//! types. And they are aligned: the library's layouts are bytes with an alignment of one, which
//! LLVM loads and stores byte by byte for BPF. Frames are still read and written at any offset;
//! the machines that BPF runs on allow that (`CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS`).
//!
//! Fields keep the frame's byte order. `word` turns one into a machine word of that order, which
//! sums and comparisons take.
//!
//! Not used:
//!
//! - `TcpHdr`, `UdpHdr`, `SctpHdr` and `Icmpv4Hdr` where packets are parsed: parsing reads the
//!   fields that tell flows apart, and no more. With whole headers the fast path had 25
//!   instructions more for IPv4 and 30 for IPv6. [`super::transport`] has what is read, and
//!   compares it with the library's layouts when it is compiled.
//! - `Icmpv4Type` and `Icmpv6Type` as types: they lack time exceeded and, for IPv6, destination
//!   unreachable. The numbers that they have are taken from them.
//!
//! The library has no messages of neighbour discovery, no IPv6 fragment header and no SCTP chunks.

#![expect(
    unsafe_code,
    reason = "bytemuck's traits are unsafe to implement, and the layouts are of another crate"
)]

use bytemuck::{Pod, Zeroable};
use network_types::{
    arp::ArpHdr,
    eth::EthHdr,
    icmp::Icmpv4Hdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

macro_rules! layouts {
    ($($(#[$meta:meta])* $name:ident($layout:ty), aligned to $align:literal;)+) => {$(
        $(#[$meta])*
        #[repr(C, align($align))]
        #[derive(Clone, Copy, Debug)]
        pub struct $name(pub $layout);

        // SAFETY: the layout is integers and arrays of them.
        unsafe impl Zeroable for $name {}

        // SAFETY: the layout is `repr(C)` and integers and arrays of them, and the assertion shows
        // that the alignment adds no padding.
        unsafe impl Pod for $name {}

        const _: () = assert!(size_of::<$name>() == size_of::<$layout>());
    )+};
}

layouts! {
    /// An Ethernet II header.
    Ethernet(EthHdr), aligned to 2;
    /// An ARP message about IPv4 on Ethernet (RFC 826).
    Arp(ArpHdr), aligned to 4;
    /// An IPv4 header without options (RFC 791).
    Ipv4(Ipv4Hdr), aligned to 4;
    /// An IPv6 header (RFC 8200).
    Ipv6(Ipv6Hdr), aligned to 4;
    /// The header of an ICMP message, of either family (RFC 792, RFC 4443).
    Icmp(Icmpv4Hdr), aligned to 4;
}

/// A field of two bytes as a machine word, in the frame's byte order.
#[inline(always)]
pub(crate) const fn word(field: [u8; 2]) -> u16 {
    u16::from_ne_bytes(field)
}
