//! Neighbour discovery (RFC 4861) and multicast listener discovery (RFC 3810) from a container: as
//! with ARP it may speak of itself only.

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

/// Where the message begins in a packet without extension headers: those of neighbour discovery
/// have none here.
const ICMP_AT: usize = ETHERNET + HEADER;

/// Where IPv6's header says how many bytes follow it.
const LENGTH_AT: usize = ETHERNET + 4;

/// How many options of a message are looked at: Linux sends one.
const OPTIONS: usize = 4;

/// Bytes that are looked at, at most.
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

/// Bytes of a router solicitation before its options.
const SOLICITATION: usize = 8;

/// A link-layer address option, as one of eight bytes is.
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

/// Decides about such a message that a container sent.
#[inline(always)]
pub fn from_container(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<V6>,
    env: &impl Env<V6>,
) -> DropReason {
    // One that cannot be read is of no kind, and ends below.
    let [kind, _] =
        frame.read::<u16>(packet.payload_at & V6::PAYLOAD_MASK).unwrap_or(0).to_ne_bytes();
    let mac = source_mac(frame);
    let source = &packet.tuple.source;
    let own = |address: &V6| env.endpoint(address).filter(|endpoint| is_of(endpoint, packet, &mac));
    // Nobody takes one in fragments (RFC 6980); and only without extension headers it is known
    // where its parts are.
    let whole = !packet.is_fragment();
    let plain = whole && packet.payload_at == ICMP_AT;
    let speaker = match kind {
        // Whose MAC that is nobody can say while its source is unspecified: it is sent again when
        // it has one.
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
                // A probe (RFC 4862 section 5.4.2) has no source yet: it asks for the address that
                // it is about to use.
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
        // The host's stack would send it on, for it looks at no hop limit before that.
        Some(own) if !is_on_link(&packet.tuple.destination, own) => {
            DropReason::ProtocolNotTranslated
        }
        Some(_) => DropReason::Nd,
    }
}

/// Whether nobody takes what is addressed so to another link.
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

/// Whether every link-layer address in the options, which begin `options` bytes after the message
/// does, is the frame's source MAC, and there are no more options than are looked at. False too
/// where the packet ends before them, though the frame may not.
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
        // One of another length says nothing that could be told here.
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
