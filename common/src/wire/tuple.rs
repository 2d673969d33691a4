//! What tells one flow from another.

use crate::wire::address::{Address, Port};

/// Where a packet enters the datapath. Part of the key, so that no packet from outside can pass for
/// a container's, nor the other way round, whatever its addresses.
pub mod side {
    /// The host side of a veth pair.
    pub const CONTAINER: u8 = 1;
    /// An uplink.
    pub const UPLINK: u8 = 2;
    /// The host itself: it sends out of an uplink.
    pub const HOST: u8 = 3;
    /// No packet's: mappings are kept under it ([`crate::endpoint_independent`]).
    pub const MAPPING: u8 = 4;
}

/// Whether an ICMP echo asks or answers; zero for everything else.
pub mod echo {
    /// Not an ICMP echo.
    pub const NONE: u8 = 0;
    /// Echo request.
    pub const REQUEST: u8 = 1;
    /// Echo reply.
    pub const REPLY: u8 = 2;
}

/// A packet's addresses, ports and protocol, and the side it enters at: the key of the flow table.
///
/// For an ICMP echo the identifier is the port of the side that asks, and the other port is zero.
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
    /// The tuple of the answer to a packet that leaves with this one.
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

    /// Whether its addresses say that no wire has brought it. What DHCP sends from no address yet
    /// is not meant, nor 240.0.0.0/4, which some networks use.
    #[inline(always)]
    pub fn is_martian(&self) -> bool {
        self.source.is_loopback() || self.source.is_multicast() || self.destination.is_loopback()
    }

    /// The sum of both addresses' words, not folded.
    #[inline(always)]
    pub fn address_sum(&self) -> u32 {
        self.source.sum() + self.destination.sum()
    }

    /// The sum of both ports, not folded.
    #[inline(always)]
    pub fn port_sum(&self) -> u32 {
        u32::from(self.source_port.word()) + u32::from(self.destination_port.word())
    }
}

impl<A: Address> Tuple<A> {
    /// One whose ports are not known yet.
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
