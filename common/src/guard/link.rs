//! What keeps a link going, of either family.

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

/// What a container may send to keep its link going, apart from ARP.
pub trait LinkGuard: Parse {
    /// How many bytes of a frame [`Self::link_from_container`] reads, at most.
    const LINK_BYTES: u32;

    /// Decides about what keeps a container's link going ([`Payload::Link`]).
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
        // IPv4's link is kept going by ARP: no packet of it is of that kind.
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
