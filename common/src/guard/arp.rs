//! ARP from a container (RFC 826). A container may announce only its own address and MAC: otherwise
//! its neighbours and the host would send it packets for another.

use crate::{
    abi::drop_reason::DropReason,
    env::Env,
    wire::{
        address::{Address as _, V4},
        ethernet::{ETHERNET, ether_type, source_mac},
        frame::Frame,
        layout::{Arp, word},
        packet::Arrival,
    },
};

/// Bytes of a frame that are read.
pub const HEADERS: u32 = (ETHERNET + size_of::<Arp>()) as u32;

/// Decides about an ARP message from a container: [`DropReason::Arp`] lets it pass.
#[inline(always)]
pub fn from_container(
    frame: &(impl Frame + ?Sized),
    arrival: Arrival,
    env: &impl Env<V4>,
) -> DropReason {
    let Some(Arp(message)) = frame.read::<Arp>(ETHERNET) else {
        return DropReason::Malformed;
    };
    if word(message.ptype) != ether_type::IPV4 || message.hlen != 6 || message.plen != 4 {
        return DropReason::NotIp;
    }
    // A probe (RFC 5227) has no sender address: its target is the address that it wants to use.
    let sender = V4::new(message.spa);
    let own = if sender == V4::UNSPECIFIED { V4::new(message.tpa) } else { sender };
    match env.endpoint(&own) {
        Some(endpoint)
            if endpoint.host_side == arrival.input
                && endpoint.macs.destination() == message.sha
                && endpoint.macs.destination() == source_mac(frame) =>
        {
            DropReason::Arp
        }
        _ => DropReason::ArpSpoofed,
    }
}
