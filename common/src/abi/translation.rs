//! How the packets of one direction of a flow are rewritten, and where they leave.

use crate::{abi::macs::Macs, wire::tuple::Tuple};

/// What a packet of a flow leaves with, and through.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Translation<A> {
    /// Its tuple when it leaves; `side` is where the answer arrives, so `tuple.reversed()` is the
    /// other half's key.
    pub tuple: Tuple<A>,
    /// The interface it leaves through: a host side, whose container side it enters, or an uplink.
    pub output: u32,
    /// Destination and source MAC. For an uplink those of the next hop, as they are in this tick;
    /// zero if they are not known.
    pub macs: Macs,
    /// What the change of addresses adds to a sum over them.
    pub address_delta: u16,
    /// What the change of ports adds to a sum over them.
    pub port_delta: u16,
    /// One of [`deliver`].
    pub deliver: u8,
    /// Not zero if it keeps a mapping of the container's alive ([`crate::endpoint_independent`]).
    pub refreshes_mapping: u8,
    /// The longest packet that may leave, in bytes from the IP header on; zero if any may.
    pub mtu: u16,
}

/// How a packet leaves.
pub mod deliver {
    /// `bpf_redirect_peer`, TTL decremented: into a container, from elsewhere.
    pub const CONTAINER: u8 = 1;
    /// TTL decremented, out of an uplink: `bpf_redirect` where the next hop's MAC is known,
    /// otherwise `bpf_redirect_neigh`.
    pub const UPLINK: u8 = 2;
    /// `bpf_redirect_peer`, only the MACs written: between containers of one network.
    pub const SAME_BRIDGE: u8 = 3;
    /// It goes on where it is, only the ports written: to the host, or from it out of an uplink.
    pub const STACK: u8 = 4;
    /// As [`CONTAINER`], and from an IPv6 packet it becomes an IPv4 one ([`crate::nat64`]).
    pub const CONTAINER_NAT64: u8 = 5;
}

impl<A> Translation<A> {
    /// The MACs, if they are a container's: those of a next hop are known for a tick only.
    #[inline(always)]
    pub fn macs_of_container(&self) -> Macs {
        if self.deliver == deliver::UPLINK { Macs::default() } else { self.macs }
    }
}
