//! Egress of one direction of a flow: interface, MACs and way of delivery.

use crate::{
    abi::{
        endpoint::Endpoint,
        macs::Macs,
        translation::{Deliver, Translation},
        uplink::Uplink,
    },
    wire::{address::Address, checksum, headers, ipv6, tuple::Tuple},
};

impl<A: Address> Translation<A> {
    /// Sets the translation from the tuple that packets arrive with to the one that they leave
    /// with.
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

/// Egress of one direction of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Egress {
    /// Index of the interface.
    pub output: u32,
    /// Destination and source MAC toward a container; zero for an uplink and for the host's stack.
    pub macs: Macs,
    /// How it is delivered.
    pub deliver: Deliver,
    /// Not zero if packets that leave refresh an endpoint-independent mapping.
    pub refreshes_mapping: u8,
    /// Longest packet that may leave, in bytes from the IP header on; zero for no limit.
    pub mtu: u16,
}

impl Egress {
    /// Egress into a container.
    #[inline(always)]
    pub fn container<A>(endpoint: &Endpoint<A>) -> Self {
        Self {
            output: endpoint.host_side,
            macs: endpoint.macs,
            deliver: Deliver::CONTAINER,
            refreshes_mapping: 0,
            mtu: endpoint.mtu as u16,
        }
    }

    /// Egress of IPv6 packets into a container that has IPv4 only.
    #[inline(always)]
    pub fn container_nat64<A>(endpoint: &Endpoint<A>) -> Self {
        // The limit is for the IPv6 packet, which becomes shorter. 1280 bytes always pass: every
        // IPv6 link carries them (RFC 8200 section 5), and so does every container.
        let mtu = endpoint
            .mtu
            .wrapping_add(headers::HEADER_GROWTH)
            .clamp(ipv6::LEAST_MTU, u32::from(u16::MAX));
        Self { deliver: Deliver::CONTAINER_NAT64, mtu: mtu as u16, ..Self::container(endpoint) }
    }

    /// Egress out of an uplink.
    #[inline(always)]
    pub fn uplink<A>(index: u32, uplink: &Uplink<A>) -> Self {
        Self {
            output: index,
            macs: Macs::new([0; 6], [0; 6]),
            deliver: Deliver::UPLINK,
            refreshes_mapping: 0,
            mtu: uplink.mtu as u16,
        }
    }
}
