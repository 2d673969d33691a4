//! ICMP errors that belong to a flow (RFC 5508 section 4.2). The quoted packet is one that left
//! translated, so the quote is translated back, and the error goes where that packet came from. An
//! error begins no flow and refreshes none.
//!
//! Errors are rewritten in place on plain bytes, in the kernel as in tests: they are rare, so that
//! saving helper calls matters little.

use crate::{
    abi::{drop_reason::DropReason, translation::Deliver},
    env::Env,
    flow::error::ErrorTranslation,
    nat::rewrite::Rewrite,
    verdict::Outcome,
    wire::{
        checksum,
        ethernet::ETHERNET,
        frame::FrameMut,
        packet::Packet,
        protocol,
        quote::{HEADER_MASK, PAYLOAD_MASK},
        transport::Ports,
        tuple::{Echo, Side, Tuple},
    },
};

/// Finds the flow that an error belongs to by the packet that it quotes, and writes the translation
/// of both to `error`. `Miss` if it belongs to no flow.
#[inline(always)]
pub fn translate<A: Rewrite>(
    packet: &Packet<A>,
    error: &mut ErrorTranslation<A>,
    env: &impl Env<A>,
) -> Outcome {
    let ErrorTranslation { outer, quote, quoted } = error;
    // A reply to the quoted packet would arrive where the error did. Its entry has the translation.
    let key = quote.tuple.reversed();
    let Some(entry) = env.flow(&key) else { return Outcome::Miss };
    if entry.epoch != env.epoch(entry.slot) || (entry.input != 0 && entry.input != packet.input) {
        return Outcome::Miss;
    }
    // In place: as separate values this would take its room on the BPF stack.
    *outer = entry.translation;
    // A next hop's MACs are valid for the flow's own packets only, which keep them up to date.
    outer.macs = entry.translation.macs_of_container();
    drop(entry);
    if outer.deliver == Deliver::SAME_BRIDGE {
        // Within one bridge nothing was translated.
        return Outcome::Miss;
    }
    // A container may report errors for itself only; outside, any router may.
    let by_peer = packet.tuple.source == key.source;
    if packet.tuple.side == Side::CONTAINER && !by_peer {
        return Outcome::Drop(DropReason::SourceAddressSpoofed);
    }
    if packet.ttl <= 1 && outer.deliver != Deliver::STACK {
        return Outcome::Drop(DropReason::TtlExceeded);
    }
    *quoted = outer.tuple.reversed();
    quoted.side = quote.tuple.side;
    let Tuple { source, destination, .. } = outer.tuple;
    outer.tuple = packet.tuple;
    outer.tuple.destination = destination;
    if by_peer || outer.deliver == Deliver::CONTAINER_NAT64 {
        outer.tuple.source = source;
    }
    outer.address_delta = checksum::delta(packet.tuple.address_sum(), outer.tuple.address_sum());
    outer.port_delta = 0;
    Outcome::Forward
}

/// Translates an error in place: its own header, with one hop less, and the quoted packet. None if
/// the frame is shorter than when it was parsed.
#[inline(always)]
pub fn apply<A: Rewrite>(
    frame: &mut (impl FrameMut + ?Sized),
    icmp_at: usize,
    translation: &ErrorTranslation<A>,
) -> Option<()> {
    let ErrorTranslation { outer, quote, quoted } = translation;
    // These bounds hold for every quote that was parsed, but the verifier has lost them.
    let (header_at, payload_at) = (quote.header_at & HEADER_MASK, quote.payload_at & PAYLOAD_MASK);
    let mut header: A::Header = frame.read(ETHERNET)?;
    if outer.deliver == Deliver::STACK {
        // To or from the host itself: no hop is counted.
        A::rewrite_quoted(&mut header, &outer.tuple, outer.address_delta);
    } else {
        A::rewrite(&mut header, outer);
    }
    frame.put(ETHERNET, &header)?;

    let mut header: A::Header = frame.read(header_at)?;
    let address_delta = checksum::delta(quote.tuple.address_sum(), quoted.address_sum());
    A::rewrite_quoted(&mut header, quoted, address_delta);
    frame.put(header_at, &header)?;

    let mut icmp_delta = rewrite_quoted_payload(frame, payload_at, &quote.tuple, quoted)?;
    // An IPv4 header has a checksum of its own, so that its addresses change nothing in ICMP's.
    // IPv6 has none, and ICMPv6's covers the outer addresses too.
    if A::has_pseudo_header(A::ICMP) {
        icmp_delta += u32::from(address_delta) + u32::from(outer.address_delta);
    }
    let old: u16 = frame.read(icmp_at + 2)?;
    frame.put(icmp_at + 2, &checksum::update(old, icmp_delta))
}

/// Rewrites the ports of the quoted packet, and its checksum if the quote reaches that far. Returns
/// the change of a sum over the quote. None if the frame is shorter than when it was parsed.
#[inline(always)]
pub(crate) fn rewrite_quoted_payload<A: Rewrite>(
    frame: &mut (impl FrameMut + ?Sized),
    payload_at: usize,
    quote: &Tuple<A>,
    quoted: &Tuple<A>,
) -> Option<u32> {
    let address_delta = checksum::delta(quote.address_sum(), quoted.address_sum());
    let port_delta = checksum::delta(quote.port_sum(), quoted.port_sum());
    let mut added = u32::from(port_delta);
    let (sum_at, sum_delta) = match quoted.protocol {
        protocol::TCP => (16, u32::from(address_delta) + u32::from(port_delta)),
        protocol::UDP => (6, u32::from(address_delta) + u32::from(port_delta)),
        _ => (
            2,
            u32::from(port_delta)
                + if A::has_pseudo_header(quoted.protocol) { u32::from(address_delta) } else { 0 },
        ),
    };
    match quoted.echo {
        Echo::NONE => {
            let ports = Ports { source: quoted.source_port, destination: quoted.destination_port };
            frame.put(payload_at, &ports)?;
        }
        Echo::REQUEST => frame.put(payload_at + 4, &quoted.source_port)?,
        _ => frame.put(payload_at + 4, &quoted.destination_port)?,
    }
    // A quote may end before TCP's checksum, and UDP may have none. SCTP's checksum covers no
    // addresses, and its ports do not change.
    if quoted.protocol != protocol::SCTP
        && let Some(old) = frame.read::<u16>(payload_at + sum_at)
        && !(old == 0 && quoted.protocol == protocol::UDP)
    {
        let new = match checksum::update(old, sum_delta) {
            0 if quoted.protocol == protocol::UDP => u16::MAX,
            new => new,
        };
        frame.put(payload_at + sum_at, &new)?;
        added += u32::from(checksum::delta(u32::from(old), u32::from(new)));
    }
    Some(added)
}
