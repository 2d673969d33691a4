//! Keys and values of the tables of fragmented datagrams.

use bytemuck::{Pod, Zeroable};

use crate::{
    abi::time::Ticks,
    wire::address::Port,
    wire::tuple::{Echo, Side},
};

/// Entries of the table of fragmented datagrams, per family.
pub const DATAGRAMS: u32 = 1 << 13;

/// Entries of the fragment queue, per family.
pub const FRAGMENT_QUEUE: u32 = 1 << 9;

/// The longest frame that can be queued, in bytes. A power of two.
pub const QUEUED_FRAME_BYTES: usize = 1 << 11;

/// A fragmented datagram, as it arrives at one interface (RFC 791 section 2.3, RFC 8200 section
/// 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Datagram<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Identification, in the packet's byte order.
    pub id: u32,
    /// Index of the interface where it arrives.
    pub input: u32,
    /// IANA number of the protocol in the fragments.
    pub protocol: u8,
    /// Where it enters the datapath.
    pub side: Side,
    /// Zero.
    pub _pad: u16,
}

/// What later fragments of a datagram need to know of its first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
pub struct Fragments {
    /// Whether the first fragment has come, and how many fragments were queued
    /// ([`crate::nat::fragment::state`]). Several CPUs write it at once.
    pub state: u64,
    /// When the record was made, or when a first fragment came last.
    pub since: Ticks,
    /// The identification with which the fragments leave, in the packet's byte order.
    pub id: u32,
    /// Source port.
    pub source_port: Port,
    /// Destination port.
    pub destination_port: Port,
    /// Direction, for an ICMP echo.
    pub echo: Echo,
    /// Zero.
    pub _pad: [u8; 3],
}

/// A queued fragment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct QueuedKey<A> {
    /// The datagram it is part of.
    pub datagram: Datagram<A>,
    /// Its place among the datagram's queued fragments, by arrival.
    pub number: u32,
}

/// A queued frame, as it arrived.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct QueuedFrame {
    /// Length of the frame in bytes.
    pub length: u32,
    /// The frame, and unused bytes after it.
    pub bytes: [u8; QUEUED_FRAME_BYTES],
}
