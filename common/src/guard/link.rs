//! Link-local control messages of a container, for both families.

use crate::{
    abi::drop_reason::DropReason,
    env::Env,
    guard::ndp,
    wire::{
        address::{V4, V6},
        frame::Frame,
        packet::Packet,
        parse::Parse,
    },
};

/// The check of link-local control messages from a container, except ARP.
pub trait LinkGuard: Parse {
    /// The most bytes of a frame that [`Self::link_from_container`] reads.
    const LINK_BYTES: u32;

    /// Decides about a message ([`Payload::Link`](crate::wire::packet::Payload::Link)) from a
    /// container.
    fn link_from_container(
        frame: &(impl Frame + ?Sized),
        packet: &Packet<Self>,
        env: &impl Env<Self>,
    ) -> DropReason;
}

impl LinkGuard for V4 {
    const LINK_BYTES: u32 = 0;

    #[inline(always)]
    fn link_from_container(
        _frame: &(impl Frame + ?Sized),
        _packet: &Packet<Self>,
        _tables: &impl Env<Self>,
    ) -> DropReason {
        // IPv4 has ARP, which is no IP packet. No IPv4 packet has this payload.
        DropReason::Malformed
    }
}

impl LinkGuard for V6 {
    const LINK_BYTES: u32 = ndp::HEADERS;

    #[inline(always)]
    fn link_from_container(
        frame: &(impl Frame + ?Sized),
        packet: &Packet<Self>,
        env: &impl Env<Self>,
    ) -> DropReason {
        ndp::from_container(frame, packet, env)
    }
}
