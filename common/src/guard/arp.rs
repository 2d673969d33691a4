//! ARP from a container (RFC 826): it may speak of itself only, or its neighbours and the host
//! would send it what is for another.

use bytemuck::{Pod, Zeroable};

use crate::{
    abi::drop_reason::DropReason,
    env::Env,
    wire::{
        address::{Address as _, V4},
        ethernet::{ETHERNET, ether_type, source_mac},
        frame::Frame,
        packet::Arrival,
    },
};

/// Bytes that are looked at.
pub const HEADERS: u32 = (ETHERNET + size_of::<Message>()) as u32;

/// A message about IPv4 on Ethernet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Message {
    hardware: u16,
    protocol: u16,
    hardware_length: u8,
    protocol_length: u8,
    operation: u16,
    sender_mac: [u8; 6],
    sender: [u8; 4],
    target_mac: [u8; 6],
    target: [u8; 4],
}

/// Decides about an ARP message that a container sent.
#[inline(always)]
pub fn from_container(
    frame: &(impl Frame + ?Sized),
    arrival: Arrival,
    env: &impl Env<V4>,
) -> DropReason {
    let Some(message) = frame.read::<Message>(ETHERNET) else {
        return DropReason::Malformed;
    };
    if message.protocol != ether_type::IPV4
        || message.hardware_length != 6
        || message.protocol_length != 4
    {
        return DropReason::NotIp;
    }
    // A probe (RFC 5227) has no sender yet: it asks for the address that it is about to use.
    let sender = V4::new(message.sender);
    let own = if sender == V4::UNSPECIFIED { V4::new(message.target) } else { sender };
    match env.endpoint(&own) {
        Some(endpoint)
            if endpoint.host_side == arrival.input
                && endpoint.macs.destination() == message.sender_mac
                && endpoint.macs.destination() == source_mac(frame) =>
        {
            DropReason::Arp
        }
        _ => DropReason::ArpSpoofed,
    }
}
