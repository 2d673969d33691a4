//! Datagrams in fragments.

use bytemuck::{Pod, Zeroable};

use crate::{abi::time::Ticks, wire::address::Port};

/// How many datagrams in fragments there is room for.
pub const DATAGRAMS: u32 = 1 << 13;

/// How many fragments that are ahead of their first can be held, of all datagrams together.
pub const FRAGMENT_QUEUE: u32 = 1 << 9;

/// The longest frame that can be held, in bytes: a power of two.
pub const QUEUED_FRAME_BYTES: usize = 1 << 11;

/// A datagram in fragments, as it arrives at one interface (RFC 791 section 2.3, RFC 8200 section
/// 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Datagram<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Identification, as the packet's bytes stand in a word.
    pub id: u32,
    /// The interface's index.
    pub input: u32,
    /// IANA number of what the fragments carry.
    pub protocol: u8,
    /// One of [`crate::wire::tuple::side`].
    pub side: u8,
    /// Zero.
    pub _pad: u16,
}

/// What later fragments of a datagram need to know of its first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
pub struct Fragments {
    /// One of [`crate::nat::fragment::state`], and how many fragments were held. Written by several
    /// CPUs at once.
    pub state: u64,
    /// When the first of them came, or the last first one.
    pub since: Ticks,
    /// The identification that they leave with.
    pub id: u32,
    /// Source port.
    pub source_port: Port,
    /// Destination port.
    pub destination_port: Port,
    /// One of [`crate::wire::tuple::echo`].
    pub echo: u8,
    /// Zero.
    pub _pad: [u8; 3],
}

/// A fragment that is held.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct QueuedKey<A> {
    /// Its datagram.
    pub datagram: Datagram<A>,
    /// Which of its held ones, in the order in which they came.
    pub number: u32,
}

/// A frame that is held, as it arrived.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct QueuedFrame {
    /// How many of the bytes are the frame's.
    pub length: u32,
    /// The frame.
    pub bytes: [u8; QUEUED_FRAME_BYTES],
}
