//! Published ports.

use crate::wire::address::{Address, Port};

/// The entries of [`name::Maps::ports`]: one for each port of each published protocol.
pub const PORTS: u32 = 3 << 16;

/// The slot in [`name::Maps::admitted`] under which the subnets of the networks are: nobody's own,
/// so that no publish has it.
pub const SLOT_LOCAL_SUBNETS: u32 = 0;

/// In an entry of [`name::Maps::ports`]: publishes with a host address use the port, look there.
pub const BY_ADDRESS: u32 = 1 << 31;

/// The index of a port in [`name::Maps::ports`]; none for a protocol that is not published.
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

/// What the datapath knows of a publish.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Publish<A> {
    /// The container's address.
    pub container: A,
    /// The first host port.
    pub host_port: Port,
    /// The container port it leads to; the next ones follow.
    pub container_port: Port,
    /// Bits of [`publish`].
    pub flags: u32,
}

impl<A: Address> Publish<A> {
    /// The container port that a host port of it leads to.
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

/// The data of a trie key: sources that a publish admits. The prefix length counts the slot's 32
/// bits too.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Admitted<A> {
    /// The publish's slot, most significant byte first: the trie compares bits in that order.
    pub slot: [u8; 4],
    /// The source.
    pub source: A,
}

/// Its sources are listed in [`name::Maps::admitted`].
pub const SOURCES_LISTED: u32 = 1;
