//! What is known of one fragment while it is processed.

use bytemuck::Zeroable as _;

use crate::{
    abi::fragment::QueuedKey,
    wire::{address::Address, packet::Packet},
};

/// What is known of one fragment while it is processed.
#[derive(Clone, Copy, Debug)]
pub struct FragmentContext<A> {
    /// The fragment's datagram, and the number of one queued fragment of it.
    pub key: QueuedKey<A>,
    /// IP identification that the fragment leaves with.
    pub id: u32,
}

impl<A: Address> FragmentContext<A> {
    /// Context of a fragment as it arrived.
    pub fn new(packet: &Packet<A>) -> Self {
        let mut context = Self { key: QueuedKey::zeroed(), id: 0 };
        context.set(packet);
        context
    }

    /// Sets the context to that of a fragment as it arrived.
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
