//! How the packets of one direction of a flow are rewritten, and how they leave.

use bytemuck::{Pod, Zeroable};

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
    /// How they leave.
    pub deliver: Deliver,
    /// Not zero if the packets keep an endpoint-independent mapping alive
    /// ([`crate::nat::endpoint_independent`]).
    pub refreshes_mapping: u8,
    /// MTU in bytes, from the IP header on; zero for no limit.
    pub mtu: u16,
}

/// How packets leave. A number with names, not an enum: an entry that another CPU rewrites can hold
/// any number for a moment.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
pub struct Deliver(u8);

impl Deliver {
    /// Into a container, routed: `bpf_redirect_peer`, TTL decremented.
    pub const CONTAINER: Self = Self(1);
    /// Out of an uplink: TTL decremented, `bpf_redirect` if the MACs are resolved and
    /// `bpf_redirect_neigh` otherwise.
    pub const UPLINK: Self = Self(2);
    /// Into a container of the same network: `bpf_redirect_peer`, only MACs written.
    pub const SAME_BRIDGE: Self = Self(3);
    /// On through the stack, only ports written: flows of the host itself.
    pub const STACK: Self = Self(4);
    /// As [`Self::CONTAINER`], but an IPv6 packet becomes an IPv4 one
    /// ([`crate::nat::nat64`]).
    pub const CONTAINER_NAT64: Self = Self(5);
}

impl<A> Translation<A> {
    /// The MACs of a container; unresolved for an uplink, whose next hop is resolved each tick.
    #[inline(always)]
    pub fn macs_of_container(&self) -> Macs {
        if self.deliver == Deliver::UPLINK { Macs::default() } else { self.macs }
    }
}
