//! Tuples: the keys of the flow table.

use bytemuck::{Pod, Zeroable};

use crate::wire::address::{Address, Port};

/// Where a packet enters the datapath. The side is part of the key: whatever its addresses, a
/// packet from outside never matches a flow entry of a container, nor the other way round.
///
/// Like all bytes in keys and values of maps it is a number with names, not an enum: an entry that
/// another CPU rewrites can hold any number for a moment.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Pod, Zeroable)]
pub struct Side(u8);

impl Side {
    /// The host side of a pair: packets from a container.
    pub const CONTAINER: Self = Self(1);
    /// Ingress of an uplink.
    pub const UPLINK: Self = Self(2);
    /// Egress of an uplink: packets of the host itself.
    pub const HOST: Self = Self(3);
    /// Endpoint-independent mappings ([`crate::nat::endpoint_independent`]). No packet has it.
    pub const MAPPING: Self = Self(4);

    /// The number of the side.
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Direction of an ICMP echo.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Pod, Zeroable)]
pub struct Echo(u8);

impl Echo {
    /// Not an ICMP echo.
    pub const NONE: Self = Self(0);
    /// Echo request.
    pub const REQUEST: Self = Self(1);
    /// Echo reply.
    pub const REPLY: Self = Self(2);
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
    /// Where it enters the datapath.
    pub side: Side,
    /// Direction, for an ICMP echo.
    pub echo: Echo,
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
                Echo::REQUEST => Echo::REPLY,
                Echo::REPLY => Echo::REQUEST,
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
    pub(crate) const fn without_ports(source: A, destination: A, protocol: u8, side: Side) -> Self {
        Self {
            source,
            destination,
            source_port: Port::ZERO,
            destination_port: Port::ZERO,
            protocol,
            side,
            echo: Echo::NONE,
            _pad: 0,
        }
    }
}
