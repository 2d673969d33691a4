//! The last check of a packet that is to leave: its hops and its length.

use crate::{
    abi::{
        drop_reason::DropReason,
        translation::{Translation, deliver},
    },
    wire::{address::Address, packet::Packet},
};

/// The last word on a packet that is to leave: not if its hops are used up, nor if it is too long,
/// nor a part of one into another family.
#[inline(always)]
pub fn check_ttl_and_mtu<A: Address>(
    packet: &Packet<A>,
    translation: &Translation<A>,
) -> Result<(), DropReason> {
    if packet.ttl <= 1 {
        match translation.deliver {
            deliver::SAME_BRIDGE | deliver::STACK => {}
            _ => return Err(DropReason::TtlExceeded),
        }
    }
    if translation.deliver == deliver::CONTAINER_NAT64 && packet.is_fragment() {
        return Err(DropReason::Fragment);
    }
    if is_too_long(packet, translation) { Err(DropReason::TooLong) } else { Ok(()) }
}

/// Whether a packet is longer than what comes next can carry. A container takes what it would have
/// put together itself.
#[inline(always)]
pub(crate) fn is_too_long<A: Address>(packet: &Packet<A>, translation: &Translation<A>) -> bool {
    packet.segment > u32::from(translation.mtu)
        && translation.mtu != 0
        && (packet.dont_fragment || translation.deliver == deliver::UPLINK)
}
