//! Keys and values of the tables of published ports.

#[cfg(doc)]
use crate::abi::maps::Maps;
use crate::wire::address::{Address, Port};

/// The entries of [`Maps::ports`]: one for each port of TCP, UDP and SCTP.
pub const PORTS: u32 = 3 << 16;

/// The slot in [`Maps::admitted`] whose prefixes are the subnets of the networks. It is reserved:
/// no publish has it.
pub const SLOT_LOCAL_SUBNETS: u32 = 0;

/// In an entry of [`Maps::ports`], instead of a slot: the publishes of that port have host
/// addresses, and are in [`Maps::address_ports`].
pub const BY_ADDRESS: u32 = 1 << 31;

/// The index of a port in [`Maps::ports`]; none for a protocol that cannot be published.
#[inline(always)]
pub const fn port_index(protocol: u8, port: Port) -> Option<u32> {
    let block = match protocol {
        crate::wire::protocol::TCP => 0,
        crate::wire::protocol::UDP => 1 << 16,
        crate::wire::protocol::SCTP => 2 << 16,
        _ => return None,
    };
    Some(block | port.get() as u32)
}

/// The value of the publish table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Publish<A> {
    /// The container's address.
    pub container: A,
    /// The first host port.
    pub host_port: Port,
    /// The container port that it leads to. The next host ports lead to the next container ports.
    pub container_port: Port,
    /// Bits: [`SOURCES_LISTED`].
    pub flags: u32,
}

impl<A: Address> Publish<A> {
    /// The container port that one of its host ports leads to.
    #[inline(always)]
    pub fn container_port_of(&self, host_port: Port) -> Port {
        Port::new(
            self.container_port
                .get()
                .wrapping_add(host_port.get().wrapping_sub(self.host_port.get())),
        )
    }
}

/// A published port of one host address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct AddressPort<A> {
    /// The host address.
    pub address: A,
    /// The host port.
    pub port: Port,
    /// IANA protocol number.
    pub protocol: u8,
    /// Zero.
    pub _pad: u8,
}

/// The data of a key of the trie of admitted sources. The prefix length includes the 32 bits of the
/// slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Admitted<A> {
    /// Slot of the publish, most significant byte first: the trie compares bits in that order.
    pub slot: [u8; 4],
    /// Prefix of the sources.
    pub source: A,
}

/// In [`Publish::flags`]: only the sources in [`Maps::admitted`] may use it.
pub const SOURCES_LISTED: u32 = 1;
