//! TTL and MTU: the last checks before a packet leaves.

use crate::{
    abi::{
        drop_reason::DropReason,
        translation::{Deliver, Translation},
    },
    wire::{address::Address, packet::Packet},
};

/// Refuses a packet that has no hop left or is too long, and fragments toward a NAT64 container.
/// Within a bridge and toward the host's stack no hop is counted.
#[inline(always)]
pub fn check_ttl_and_mtu<A: Address>(
    packet: &Packet<A>,
    translation: &Translation<A>,
) -> Result<(), DropReason> {
    if packet.ttl <= 1 {
        match translation.deliver {
            Deliver::SAME_BRIDGE | Deliver::STACK => {}
            _ => return Err(DropReason::TtlExceeded),
        }
    }
    if translation.deliver == Deliver::CONTAINER_NAT64 && packet.is_fragment() {
        return Err(DropReason::Fragment);
    }
    if is_too_long(packet, translation) { Err(DropReason::TooLong) } else { Ok(()) }
}

/// Whether a packet exceeds the MTU of its egress. A container accepts longer packets without DF
/// (don't fragment): it would reassemble their fragments anyway.
#[inline(always)]
pub(crate) fn is_too_long<A: Address>(packet: &Packet<A>, translation: &Translation<A>) -> bool {
    packet.segment > u32::from(translation.mtu)
        && translation.mtu != 0
        && (packet.dont_fragment || translation.deliver == Deliver::UPLINK)
}
