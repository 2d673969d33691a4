//! How the packets of one direction of a flow are rewritten, and how they leave.

use crate::{abi::macs::Macs, wire::tuple::Tuple};

/// The tuple, MACs and interface with which the packets of a flow entry leave.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Translation<A> {
    /// The tuple with which they leave. Its side is where replies arrive: `tuple.reversed()` is the
    /// key of the other entry.
    pub tuple: Tuple<A>,
    /// Index of the interface: an uplink, or the host side of the container that they enter.
    pub output: u32,
    /// Destination and source MAC. On an uplink those of the next hop in this tick, if resolved.
    pub macs: Macs,
    /// What the new addresses add to a sum over them.
    pub address_delta: u16,
    /// What the new ports add to a sum over them.
    pub port_delta: u16,
    /// One of [`deliver`].
    pub deliver: u8,
    /// Not zero if the packets keep an endpoint-independent mapping alive
    /// ([`crate::nat::endpoint_independent`]).
    pub refreshes_mapping: u8,
    /// MTU in bytes, from the IP header on; zero for no limit.
    pub mtu: u16,
}

/// How packets leave.
pub mod deliver {
    /// Into a container, routed: `bpf_redirect_peer`, TTL decremented.
    pub const CONTAINER: u8 = 1;
    /// Out of an uplink: TTL decremented, `bpf_redirect` if the MACs are resolved and
    /// `bpf_redirect_neigh` otherwise.
    pub const UPLINK: u8 = 2;
    /// Into a container of the same network: `bpf_redirect_peer`, only MACs written.
    pub const SAME_BRIDGE: u8 = 3;
    /// On through the stack, only ports written: flows of the host itself.
    pub const STACK: u8 = 4;
    /// As [`CONTAINER`], but an IPv6 packet becomes an IPv4 one
    /// ([`crate::nat::nat64`]).
    pub const CONTAINER_NAT64: u8 = 5;
}

impl<A> Translation<A> {
    /// The MACs of a container; unresolved for an uplink, whose next hop is resolved each tick.
    #[inline(always)]
    pub fn macs_of_container(&self) -> Macs {
        if self.deliver == deliver::UPLINK { Macs::default() } else { self.macs }
    }
}
