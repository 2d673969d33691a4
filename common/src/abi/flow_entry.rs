//! The value of the flow table.

use crate::abi::{time::Ticks, translation::Translation};

/// One direction of a flow: the value of the flow table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlowEntry<A> {
    /// Packets in this direction. Written without a lock: two CPUs at once may lose a count.
    pub packets: u64,
    /// Bytes in this direction, from the IP header on.
    pub bytes: u64,
    /// What becomes of its packets.
    pub translation: Translation<A>,
    /// The interface its packets must arrive at; zero for any.
    pub input: u32,
    /// Whose flow it is.
    pub slot: u32,
    /// The slot's epoch when it began.
    pub epoch: u32,
    /// When this direction was last used.
    pub last_used: Ticks,
    /// How long after that it ends.
    pub timeout: Ticks,
    /// A [`crate::abi::state::State`], the same in both halves.
    pub state: u8,
    /// 0 for the forward half, 1 for the reply half.
    pub is_reply: u8,
    /// The number of the network whose timeouts it goes by.
    pub network: u16,
    /// The slot of the endpoint that it counts for; zero for none.
    pub owner: u32,
    /// TCP: what this side expects next, as it said last. SCTP: the tag that it asked for.
    pub acknowledged: u32,
}
