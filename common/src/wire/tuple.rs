//! Tuples: the keys of the flow table.

use crate::wire::address::{Address, Port};

/// Where a packet enters the datapath. The side is part of the key: whatever its addresses, a
/// packet from outside never matches a flow entry of a container, nor the other way round.
pub mod side {
    /// The host side of a pair: packets from a container.
    pub const CONTAINER: u8 = 1;
    /// Ingress of an uplink.
    pub const UPLINK: u8 = 2;
    /// Egress of an uplink: packets of the host itself.
    pub const HOST: u8 = 3;
    /// Endpoint-independent mappings ([`crate::nat::endpoint_independent`]). No packet has it.
    pub const MAPPING: u8 = 4;
}

/// Direction of an ICMP echo.
pub mod echo {
    /// Not an ICMP echo.
    pub const NONE: u8 = 0;
    /// Echo request.
    pub const REQUEST: u8 = 1;
    /// Echo reply.
    pub const REPLY: u8 = 2;
}

/// A packet's addresses, ports and protocol, and the side where it arrives: the key of the flow
/// table.
///
/// The identifier of an ICMP echo is the port of the side that sends requests. The other port is
/// zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Tuple<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: Port,
    /// Destination port.
    pub destination_port: Port,
    /// IANA protocol number.
    pub protocol: u8,
    /// One of [`side`].
    pub side: u8,
    /// One of [`echo`].
    pub echo: u8,
    /// Zero.
    pub _pad: u8,
}

impl<A: Address> Tuple<A> {
    /// The tuple of a reply to a packet that leaves with this one.
    #[must_use]
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            echo: match self.echo {
                echo::REQUEST => echo::REPLY,
                echo::REPLY => echo::REQUEST,
                other => other,
            },
            ..*self
        }
    }

    /// Whether no packet on a wire has these addresses. DHCP's source 0.0.0.0 is accepted, and
    /// 240.0.0.0/4, which some networks use.
    #[inline(always)]
    pub fn is_martian(&self) -> bool {
        self.source.is_loopback() || self.source.is_multicast() || self.destination.is_loopback()
    }

    /// The one's complement sum of both addresses, not folded.
    #[inline(always)]
    pub fn address_sum(&self) -> u32 {
        self.source.sum() + self.destination.sum()
    }

    /// The one's complement sum of both ports, not folded.
    #[inline(always)]
    pub fn port_sum(&self) -> u32 {
        u32::from(self.source_port.word()) + u32::from(self.destination_port.word())
    }
}

impl<A: Address> Tuple<A> {
    /// A tuple without ports.
    #[inline(always)]
    pub(crate) const fn without_ports(source: A, destination: A, protocol: u8, side: u8) -> Self {
        Self {
            source,
            destination,
            source_port: Port::ZERO,
            destination_port: Port::ZERO,
            protocol,
            side,
            echo: echo::NONE,
            _pad: 0,
        }
    }
}
