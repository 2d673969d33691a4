//! A fragment on its way.

use bytemuck::Zeroable as _;

use crate::{
    abi::fragment::QueuedKey,
    wire::{address::Address, packet::Packet},
};

/// A fragment on its way.
#[derive(Clone, Copy, Debug)]
pub struct FragmentContext<A> {
    /// Its datagram, and which of that one's held fragments is meant.
    pub key: QueuedKey<A>,
    /// The identification it leaves with.
    pub id: u32,
}

impl<A: Address> FragmentContext<A> {
    /// Of a fragment as it arrived.
    pub fn new(packet: &Packet<A>) -> Self {
        let mut context = Self { key: QueuedKey::zeroed(), id: 0 };
        context.set(packet);
        context
    }

    /// Makes it that of a fragment as it arrived.
    #[inline(always)]
    pub fn set(&mut self, packet: &Packet<A>) {
        let QueuedKey { datagram, number } = &mut self.key;
        datagram.source = packet.tuple.source;
        datagram.destination = packet.tuple.destination;
        datagram.id = packet.id;
        datagram.input = packet.input;
        datagram.protocol = packet.tuple.protocol;
        datagram.side = packet.tuple.side;
        *number = 0;
        self.id = packet.id;
    }
}
