//! A flow that is about to begin.

use crate::{abi::translation::deliver, flow::egress::Egress, wire::tuple::Tuple};

/// A flow that is to begin.
#[derive(Clone, Copy)]
pub struct NewFlow<A> {
    /// The tuple its first packet leaves with, if the port is free.
    pub(crate) translated: Tuple<A>,
    pub(crate) forward: Egress,
    pub(crate) reply: Egress,
    pub(crate) forward_input: u32,
    pub(crate) reply_input: u32,
    pub(crate) slot: u32,
    pub(crate) epoch: u32,
    /// The slot of the endpoint it counts for.
    pub(crate) owner: u32,
    /// Of that endpoint.
    pub(crate) network: u16,
    /// It leaves with an address of the host, which the host's own sockets use too.
    pub(crate) uses_host_address: bool,
}

impl<A> NewFlow<A> {
    /// Neighbours' packets must be rewritten after all.
    #[inline(always)]
    pub(crate) fn translate(&mut self) {
        for egress in [&mut self.forward, &mut self.reply] {
            if egress.deliver == deliver::SAME_BRIDGE {
                egress.deliver = deliver::CONTAINER;
            }
        }
    }
}
