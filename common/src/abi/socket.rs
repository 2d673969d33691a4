//! Sockets of the host that address published ports.

use crate::wire::address::Port;

/// The mark of a socket by which the agent finds out whether a port is taken: it alone may bind one
/// that is published.
pub const PROBE_MARK: u32 = 0xca05_e3a7;

/// A socket of the host, and the container port its packets go to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SocketPeer<A> {
    /// The socket's cookie, as two words.
    pub cookie: [u32; 2],
    /// The container's address.
    pub address: A,
    /// The container port.
    pub port: Port,
    /// Zero.
    pub _pad: u16,
}

/// The address that a process of the host meant.
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
