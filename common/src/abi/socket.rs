//! Sockets of the host's processes that address published ports.

use crate::wire::address::Port;

/// Mark of the socket with which the agent probes whether a port is free. No other socket may bind
/// a published port.
pub const PROBE_MARK: u32 = 0xca05_e3a7;

/// A socket of the host, and the container port that its packets go to: the key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SocketPeer<A> {
    /// The socket's cookie: the low word first.
    pub cookie: [u32; 2],
    /// The container's address.
    pub address: A,
    /// The container port.
    pub port: Port,
    /// Zero.
    pub _pad: u16,
}

/// The host address that the process addressed: the value.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SocketAddress<A> {
    /// The host address.
    pub address: A,
    /// The host port.
    pub port: Port,
    /// Zero.
    pub _pad: u16,
}
