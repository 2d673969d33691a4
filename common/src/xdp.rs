//! What is decided about a frame that an uplink's driver has just received, before the kernel has
//! made a packet of it (XDP).
//!
//! Only what costs little and is sure is decided here: packets of UDP and ICMP echo that go on into
//! a container and change nothing but counters, and packets that nobody may send. Everything else
//! passes to the tc program, untouched and uncounted: TCP above all, whose packets the kernel puts
//! together on the way there.

use crate::{
    abi::{
        drop_reason::DropReason,
        flow_entry::FlowEntry,
        translation::{Translation, deliver},
    },
    env::Env,
    flow::{
        entry::touch,
        lookup::{Lookup, find_fast},
    },
    nat::rewrite::Rewrite,
    wire::{
        address::Address,
        checksum,
        ethernet::ETHERNET,
        frame::{Frame, FrameMut},
        packet::{Packet, Payload},
        protocol,
        tuple::echo,
    },
};

/// What becomes of a frame early.
#[must_use]
#[derive(Debug)]
pub enum XdpVerdict<H> {
    /// It is rewritten by that half of a flow, and leaves.
    Forward(H),
    /// It ends here.
    Drop(DropReason),
    /// It goes on as it came.
    Pass,
}

/// Which containers can be sent to so early: their side of the link must take frames that are no
/// packets yet.
pub trait Receivers {
    /// Whether the container behind that host side does. In the kernel this also says where the
    /// frame is to go.
    fn accepts_xdp(&self, host_side: u32) -> bool;
}

/// Decides about a packet that arrived at an uplink and has that one's MAC.
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
            touch(&mut entry, packet, now);
            return XdpVerdict::Forward(entry);
        }
    }
    if packet.tuple.is_martian() { XdpVerdict::Drop(DropReason::Martian) } else { XdpVerdict::Pass }
}

/// A link takes no frame from a driver that is longer than it is wide, whereas a packet may go on
/// into the container all the same.
#[inline(always)]
fn enters_container<A: Address>(packet: &Packet<A>, entry: &FlowEntry<A>) -> bool {
    let Translation { deliver, mtu, .. } = &entry.translation;
    *deliver == deliver::CONTAINER && (*mtu == 0 || packet.length <= u32::from(*mtu))
}

/// Whether UDP's checksum is one over the pseudo header alone. A virtual link brings packets so
/// whose sender has left the rest to the hardware; the kernel remembers that beside the packet, and
/// nobody would finish the sum once that is gone. Of others, one in 65,536 looks the same: it goes
/// the longer way.
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

/// Rewrites a packet that goes on into a container; none if the frame is shorter than it was.
/// Nothing finishes a checksum after this.
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
        echo::NONE => frame.put(at, &[tuple.source_port, tuple.destination_port]),
        echo::REQUEST => frame.put(at + 4, &tuple.source_port),
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
        // Zero says of UDP that there is no sum.
        return Some(());
    }
    match checksum::update(old, delta) {
        0 if is_udp => frame.put(at, &u16::MAX),
        new => frame.put(at, &new),
    }
}

#[cfg(test)]
mod tests;
