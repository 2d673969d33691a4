//! A flow that is planned and not inserted yet.

use crate::abi::owner::Owner;
use crate::{abi::translation::Deliver, flow::egress::Egress, wire::tuple::Tuple};

/// A flow that is planned and not inserted yet.
#[derive(Clone, Copy)]
pub struct NewFlow<A> {
    /// Tuple that the first packet leaves with, if its port is free.
    pub(crate) translated: Tuple<A>,
    pub(crate) forward: Egress,
    pub(crate) reply: Egress,
    pub(crate) forward_input: u32,
    pub(crate) reply_input: u32,
    pub(crate) slot: u32,
    pub(crate) epoch: u32,
    /// Slot of the endpoint that the flow counts for.
    pub(crate) owner: Owner,
    /// Number of that endpoint's network.
    pub(crate) network: u16,
    /// The flow leaves with an address of the host, whose ports the host's own sockets use too.
    pub(crate) uses_host_address: bool,
}

impl<A> NewFlow<A> {
    /// Makes packets within one bridge be rewritten whole, not only their MACs.
    #[inline(always)]
    pub(crate) fn translate(&mut self) {
        for egress in [&mut self.forward, &mut self.reply] {
            if egress.deliver == Deliver::SAME_BRIDGE {
                egress.deliver = Deliver::CONTAINER;
            }
        }
    }
}
