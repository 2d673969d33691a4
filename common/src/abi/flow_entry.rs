//! The value of the flow table.

use crate::{
    abi::{owner::Owner, time::Ticks, translation::Translation},
    wire::{packet::Packet, tcp},
};

/// One direction of a flow. The key is the tuple with which its packets arrive.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlowEntry<A> {
    /// Packets in this direction. Written without a lock: two CPUs that count at once may lose one.
    pub packets: u64,
    /// Bytes in this direction, from the IP header on.
    pub bytes: u64,
    /// What its packets leave with, and through which interface.
    pub translation: Translation<A>,
    /// Index of the interface where its packets must arrive; zero for any.
    pub input: u32,
    /// Slot of the endpoint or publish through which the flow began.
    pub slot: u32,
    /// Epoch of that slot when the flow began. Once the slot has another, the flow is stale.
    pub epoch: u32,
    /// When its last packet came.
    pub last_used: Ticks,
    /// Ticks after its last packet until it expires.
    pub timeout: Ticks,
    /// A [`State`](super::state::State), the same in both entries.
    pub state: u8,
    /// 0 for the forward entry, 1 for the reply entry.
    pub is_reply: u8,
    /// Number of the network whose timeouts apply.
    pub network: u16,
    /// The container that the flow counts for.
    pub owner: Owner,
    /// TCP: the acknowledgment number that this side sent last. SCTP: the verification tag that it
    /// asked for.
    pub acknowledged: u32,
}

impl<A> FlowEntry<A> {
    /// Counts a packet. Not in one step with other CPUs' counts.
    #[inline(always)]
    pub fn touch(&mut self, packet: &Packet<A>, now: Ticks) {
        self.packets += 1;
        self.bytes += u64::from(packet.length);
        self.last_used = now;
        // Not from a RST: the field is there to check RSTs against.
        if packet.flags & (tcp::ACK | tcp::RST) == tcp::ACK {
            self.acknowledged = packet.acknowledgment;
        }
    }
}
