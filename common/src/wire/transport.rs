//! The first bytes of the transport headers: those that parsing reads.
//!
//! These are not network-types' headers ([`super::layout`] says why) but prefixes of them. The
//! assertions below compare the offsets of the fields.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use network_types::{icmp::Icmpv4Hdr, sctp::SctpHdr, tcp::TcpHdr, udp::UdpHdr};

use crate::wire::address::Port;

/// Bytes of a TCP header without options, the longest transport header that parsing reads.
pub(crate) const TCP: u32 = TcpHdr::LEN as u32;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Ports {
    pub(crate) source: Port,
    pub(crate) destination: Port,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct TcpHead {
    pub(super) ports: Ports,
    pub(super) sequence: [u16; 2],
    pub(super) acknowledgment: [u16; 2],
    pub(super) offset: u8,
    pub(super) flags: u8,
}

/// A number of 32 bits in network order, from a header that is aligned to 16 bits.
#[inline(always)]
pub(crate) const fn number([high, low]: [u16; 2]) -> u32 {
    (u16::from_be(high) as u32) << 16 | u16::from_be(low) as u32
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct IcmpHead {
    pub(super) kind: u8,
    code: u8,
    checksum: u16,
    pub(super) identifier: Port,
}

const _: () = {
    assert!(offset_of!(Ports, source) == offset_of!(TcpHdr, source));
    assert!(offset_of!(Ports, destination) == offset_of!(TcpHdr, dest));
    assert!(offset_of!(Ports, source) == offset_of!(UdpHdr, src));
    assert!(offset_of!(Ports, destination) == offset_of!(UdpHdr, dst));
    assert!(offset_of!(Ports, source) == offset_of!(SctpHdr, src));
    assert!(offset_of!(Ports, destination) == offset_of!(SctpHdr, dst));
    assert!(offset_of!(TcpHead, sequence) == offset_of!(TcpHdr, seq));
    assert!(offset_of!(TcpHead, acknowledgment) == offset_of!(TcpHdr, ack_seq));
    assert!(offset_of!(TcpHead, offset) == offset_of!(TcpHdr, _bitfield_1));
    assert!(offset_of!(IcmpHead, kind) == offset_of!(Icmpv4Hdr, type_));
    assert!(offset_of!(IcmpHead, checksum) == offset_of!(Icmpv4Hdr, check));
    assert!(offset_of!(IcmpHead, identifier) == offset_of!(Icmpv4Hdr, data));
};
