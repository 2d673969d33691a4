//! Neighbour discovery (RFC 4861) and multicast listener discovery (RFC 3810) from a container. As
//! with ARP, a container may announce only its own address and MAC.

use bytemuck::{Pod, Zeroable};

use crate::{
    abi::{drop_reason::DropReason, endpoint::Endpoint},
    env::Env,
    wire::{
        address::{Address as _, V6},
        ethernet::{ETHERNET, source_mac},
        frame::Frame,
        ipv6::HEADER,
        ndp::{
            LISTENER_DONE, LISTENER_REPORT, LISTENER_REPORT_V2, NEIGHBOUR_ADVERTISEMENT,
            NEIGHBOUR_SOLICITATION, ROUTER_SOLICITATION,
        },
        packet::Packet,
        parse::Parse as _,
    },
};

/// Offset of the message in a packet without extension headers. Neighbour discovery with extension
/// headers is dropped.
const ICMP_AT: usize = ETHERNET + HEADER;

/// Offset of the payload length in a frame.
const LENGTH_AT: usize = ETHERNET + 4;

/// The most options of a message that are read. Linux sends one.
const OPTIONS: usize = 4;

/// The most bytes of a frame that are read.
pub const HEADERS: u32 = (ICMP_AT + size_of::<Message>() + OPTIONS * size_of::<LinkLayer>()) as u32;

/// A neighbour solicitation or advertisement.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Message {
    kind: u8,
    code: u8,
    checksum: u16,
    flags: [u8; 4],
    target: [u8; 16],
}

/// Bytes of a router solicitation before the options.
const SOLICITATION: usize = 8;

/// A link-layer address option of eight bytes.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct LinkLayer {
    kind: u8,
    /// In units of eight bytes.
    length: u8,
    mac: [u8; 6],
}

const SOURCE_LINK_LAYER: u8 = 1;

const TARGET_LINK_LAYER: u8 = 2;

/// Decides about such a message from a container: [`DropReason::Nd`] lets it pass.
#[inline(always)]
pub fn from_container(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<V6>,
    env: &impl Env<V6>,
) -> DropReason {
    // A message that is too short has no type of these, and is dropped below.
    let [kind, _] =
        frame.read::<u16>(packet.payload_at & V6::PAYLOAD_MASK).unwrap_or(0).to_ne_bytes();
    let mac = source_mac(frame);
    let source = &packet.tuple.source;
    let own = |address: &V6| env.endpoint(address).filter(|endpoint| is_of(endpoint, packet, &mac));
    // Receivers discard fragments (RFC 6980), and only without extension headers the offsets are
    // constant.
    let whole = !packet.is_fragment();
    let plain = whole && packet.payload_at == ICMP_AT;
    let speaker = match kind {
        // A report from the unspecified address cannot be checked. The container sends it again
        // once it has an address.
        LISTENER_REPORT | LISTENER_DONE | LISTENER_REPORT_V2 if whole => own(source),
        ROUTER_SOLICITATION if plain && are_own_options(frame, SOLICITATION, &mac) => own(source),
        NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT
            if plain && are_own_options(frame, size_of::<Message>(), &mac) =>
        {
            let Some(message) = frame.read::<Message>(ICMP_AT) else {
                return DropReason::Malformed;
            };
            let target = V6::new(message.target);
            if kind == NEIGHBOUR_ADVERTISEMENT {
                own(&target).and_then(|_| own(source))
            } else if *source == V6::UNSPECIFIED {
                // A probe (RFC 4862 section 5.4.2) has no source address: its target is the address
                // that it wants to use.
                own(&target)
            } else {
                own(source)
            }
        }
        LISTENER_REPORT
        | LISTENER_DONE
        | LISTENER_REPORT_V2
        | ROUTER_SOLICITATION
        | NEIGHBOUR_SOLICITATION
        | NEIGHBOUR_ADVERTISEMENT => None,
        _ => return DropReason::RouterAdvertisement,
    };
    match speaker {
        None => DropReason::NdSpoofed,
        // The host's stack would forward it: it does not check the hop limit first.
        Some(own) if !is_on_link(&packet.tuple.destination, own) => {
            DropReason::ProtocolNotTranslated
        }
        Some(_) => DropReason::Nd,
    }
}

/// Whether packets to that address stay on the link.
#[inline(always)]
fn is_on_link(destination: &V6, own: &Endpoint<V6>) -> bool {
    destination.is_multicast()
        || destination.stays_on_link()
        || destination.is_in(&own.subnet, &own.mask)
}

#[inline(always)]
fn is_of(endpoint: &Endpoint<V6>, packet: &Packet<V6>, mac: &[u8; 6]) -> bool {
    endpoint.host_side == packet.input && endpoint.macs.destination() == *mac
}

/// Whether every link-layer address in the options, which start `options` bytes into the message,
/// is the frame's source MAC. False if there are more options than are read, or if the packet ends
/// before them.
#[inline(always)]
fn are_own_options(frame: &(impl Frame + ?Sized), options: usize, mac: &[u8; 6]) -> bool {
    let Some(length) = frame.read::<u16>(LENGTH_AT) else { return false };
    let end = ETHERNET + HEADER + usize::from(u16::from_be(length));
    let mut at = ICMP_AT + options;
    for _ in 0..OPTIONS {
        if at == end {
            return true;
        }
        let Some(option) = frame.read::<LinkLayer>(at) else { return false };
        // Options of another length are not of Ethernet.
        if option.length != 1
            || (matches!(option.kind, SOURCE_LINK_LAYER | TARGET_LINK_LAYER) && option.mac != *mac)
        {
            return false;
        }
        at += size_of::<LinkLayer>();
    }
    at == end
}

#[cfg(test)]
mod tests;
