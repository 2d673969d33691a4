//! Where one direction of a flow leaves.

use crate::{
    abi::{
        endpoint::Endpoint,
        macs::Macs,
        translation::{Translation, deliver},
        uplink::Uplink,
    },
    wire::{address::Address, checksum, headers, ipv6, tuple::Tuple},
};

impl<A: Address> Translation<A> {
    /// Sets it from the tuple a packet arrives with to the one it leaves with.
    #[inline(always)]
    pub fn set(&mut self, from: &Tuple<A>, to: &Tuple<A>, egress: &Egress) {
        self.address_delta = checksum::delta(from.address_sum(), to.address_sum());
        self.port_delta = checksum::delta(from.port_sum(), to.port_sum());
        self.tuple = *to;
        self.output = egress.output;
        self.macs = egress.macs;
        self.deliver = egress.deliver;
        self.refreshes_mapping = egress.refreshes_mapping;
        self.mtu = egress.mtu;
    }
}

/// Where one direction of a flow leaves.
#[derive(Clone, Copy, Debug)]
pub struct Egress {
    /// The interface's index.
    pub output: u32,
    /// For a container.
    pub macs: Macs,
    /// One of [`deliver`].
    pub deliver: u8,
    /// Not zero if what leaves keeps a mapping alive.
    pub refreshes_mapping: u8,
    /// The longest packet that may leave; zero if any may.
    pub mtu: u16,
}

impl Egress {
    /// Into a container.
    #[inline(always)]
    pub fn container<A>(endpoint: &Endpoint<A>) -> Self {
        Self {
            output: endpoint.host_side,
            macs: endpoint.macs,
            deliver: deliver::CONTAINER,
            refreshes_mapping: 0,
            mtu: endpoint.mtu as u16,
        }
    }

    /// Into a container that has IPv4 alone, from IPv6.
    #[inline(always)]
    pub fn container_nat64<A>(endpoint: &Endpoint<A>) -> Self {
        // As long as it is before it becomes shorter. What is no longer than that no IPv6 link may
        // refuse (RFC 8200 section 5), nor does any container.
        let mtu = endpoint
            .mtu
            .wrapping_add(headers::HEADER_GROWTH)
            .clamp(ipv6::LEAST_MTU, u32::from(u16::MAX));
        Self { deliver: deliver::CONTAINER_NAT64, mtu: mtu as u16, ..Self::container(endpoint) }
    }

    /// Out of an uplink.
    #[inline(always)]
    pub fn uplink<A>(index: u32, uplink: &Uplink<A>) -> Self {
        Self {
            output: index,
            macs: Macs::new([0; 6], [0; 6]),
            deliver: deliver::UPLINK,
            refreshes_mapping: 0,
            mtu: uplink.mtu as u16,
        }
    }
}
