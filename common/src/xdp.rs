//! Decisions about a frame that an uplink's driver has just received, before the kernel has made an
//! skb of it (XDP).
//!
//! Only what is cheap and certain is decided here: UDP packets and ICMP echoes that go on into a
//! container and change only counters, and martians. Everything else passes to the tc program,
//! unchanged and uncounted: TCP above all, whose segments the kernel merges on the way there (GRO).

use crate::{
    abi::{
        drop_reason::DropReason,
        flow_entry::FlowEntry,
        translation::{Deliver, Translation},
    },
    env::Env,
    flow::lookup::{Lookup, find_fast},
    nat::rewrite::Rewrite,
    wire::{
        address::Address,
        checksum,
        ethernet::ETHERNET,
        frame::{Frame, FrameMut},
        packet::{Packet, Payload},
        protocol,
        tuple::Echo,
    },
};

/// Verdict about a frame at XDP.
#[must_use]
#[derive(Debug)]
pub enum XdpVerdict<H> {
    /// The frame is rewritten by that flow entry and redirected.
    Forward(H),
    /// The frame is dropped.
    Drop(DropReason),
    /// The frame goes on unchanged.
    Pass,
}

/// Containers that XDP frames can be redirected to: the device must accept frames that are no skbs
/// yet.
pub trait Receivers {
    /// Whether the container behind that host side accepts XDP frames. In the kernel the call also
    /// sets the target of the redirect.
    fn accepts_xdp(&self, host_side: u32) -> bool;
}

/// Decides about a packet that arrived at an uplink, with the uplink's MAC as its destination.
#[inline(always)]
pub fn decide<'t, A: Address, T: Env<A> + Receivers>(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<A>,
    env: &'t T,
) -> XdpVerdict<T::Entry<'t>> {
    if matches!(packet.payload, Payload::Udp | Payload::Echo) && !has_unfinished_sum(frame, packet)
    {
        let now = env.now();
        if let Lookup::FastPath(mut entry) = find_fast(packet, now, env)
            && enters_container(packet, &entry)
            && env.accepts_xdp(entry.translation.output)
        {
            env.touch(&mut entry, packet, now);
            return XdpVerdict::Forward(entry);
        }
    }
    if packet.tuple.is_martian() { XdpVerdict::Drop(DropReason::Martian) } else { XdpVerdict::Pass }
}

/// Whether a packet may be redirected into its container here. A device accepts no XDP frame that
/// exceeds its MTU, whereas an skb may go on into the container all the same.
#[inline(always)]
fn enters_container<A: Address>(packet: &Packet<A>, entry: &FlowEntry<A>) -> bool {
    let Translation { deliver, mtu, .. } = &entry.translation;
    *deliver == Deliver::CONTAINER && (*mtu == 0 || packet.length <= u32::from(*mtu))
}

/// Whether UDP's checksum covers the pseudo header only. Virtual links deliver such packets when
/// the sender has left the rest to the hardware; the kernel notes that in the skb
/// (`CHECKSUM_PARTIAL`), which is lost in a redirect, and the checksum would never be completed.
/// One in 65,536 complete checksums looks the same; those packets take the tc program's path.
#[inline(always)]
fn has_unfinished_sum<A: Address>(frame: &(impl Frame + ?Sized), packet: &Packet<A>) -> bool {
    if packet.payload != Payload::Udp {
        return false;
    }
    let Some([length, sum]) = frame.read::<[u16; 2]>(packet.payload_at + 4) else { return true };
    let pseudo = packet.tuple.address_sum()
        + u32::from(u16::from(protocol::UDP).to_be())
        + u32::from(length);
    sum == checksum::fold(pseudo)
}

/// Rewrites a packet that goes on into a container, with complete checksums, because no later step
/// completes them. None if the frame is shorter than when it was parsed.
#[inline(always)]
pub fn rewrite<A: Rewrite>(
    frame: &mut (impl FrameMut + ?Sized),
    packet: &Packet<A>,
    translation: &Translation<A>,
) -> Option<()> {
    let Translation { tuple, .. } = translation;
    let at = packet.payload_at;
    rewrite_sum(frame, packet, translation)?;
    frame.put(0, &translation.macs)?;
    let mut header: A::Header = frame.read(ETHERNET)?;
    A::rewrite(&mut header, translation);
    frame.put(ETHERNET, &header)?;
    match tuple.echo {
        Echo::NONE => frame.put(at, &[tuple.source_port, tuple.destination_port]),
        Echo::REQUEST => frame.put(at + 4, &tuple.source_port),
        _ => frame.put(at + 4, &tuple.destination_port),
    }
}

#[inline(always)]
fn rewrite_sum<A: Rewrite>(
    frame: &mut (impl FrameMut + ?Sized),
    packet: &Packet<A>,
    translation: &Translation<A>,
) -> Option<()> {
    let is_udp = packet.payload == Payload::Udp;
    let at = packet.payload_at + if is_udp { 6 } else { 2 };
    let mut delta = u32::from(translation.port_delta);
    if A::has_pseudo_header(packet.tuple.protocol) {
        delta += u32::from(translation.address_delta);
    }
    let old: u16 = frame.read(at)?;
    if delta == 0 || (is_udp && old == 0) {
        // In UDP zero means that there is no checksum.
        return Some(());
    }
    match checksum::update(old, delta) {
        0 if is_udp => frame.put(at, &u16::MAX),
        new => frame.put(at, &new),
    }
}

#[cfg(test)]
mod tests;
