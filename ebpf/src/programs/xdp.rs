//! The XDP program of uplinks.

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use causeway_common::{
    abi::{drop_reason::DropReason, programs},
    wire::{
        address::{V4, V6},
        ethernet::{Ethernet, ether_type},
        frame::Frame as _,
        packet::Arrival,
        tuple::Side,
    },
    xdp::{self, Receivers, XdpVerdict},
};

use crate::{ctx::xdp::Buffer, env::KernelEnv, family::Family, maps, trace};

/// XDP on an uplink: decides about frames whose verdict is certain before the kernel makes an skb.
/// It accepts multi-buffer frames, of which only the first buffer is readable.
#[xdp(frags)]
pub(crate) fn xdp_uplink(ctx: XdpContext) -> u32 {
    let mut buffer = Buffer::new(&ctx);
    let Some(header) = buffer.read::<Ethernet>(0) else { return xdp_action::XDP_PASS };
    trace::begin();
    let action = match header.ether_type() {
        ether_type::IPV4 => decide_family::<V4>(&mut buffer, header.destination()),
        ether_type::IPV6 => decide_family::<V6>(&mut buffer, header.destination()),
        _ => xdp_action::XDP_PASS,
    };
    trace::end_xdp(programs::XDP_UPLINK, action);
    action
}

#[inline(always)]
fn decide_family<A: Family>(buffer: &mut Buffer<'_>, destination: [u8; 6]) -> u32 {
    let input = buffer.context().ingress_ifindex() as u32;
    // Frames for other machines, multicast and broadcast pass: at XDP the kernel has not compared
    // the destination MAC yet.
    if maps::uplink_mac(input).is_none_or(|uplink| uplink.mac != destination) {
        return xdp_action::XDP_PASS;
    }
    let arrival = Arrival { side: Side::UPLINK, input, length: buffer.length(), gso_size: 0 };
    let Ok(packet) = A::parse_usual(buffer, arrival) else { return xdp_action::XDP_PASS };
    trace::packet(&packet.tuple);
    match xdp::decide(buffer, &packet, &KernelEnv::new(buffer.context())) {
        // A frame that is partly rewritten must not go on.
        XdpVerdict::Forward(entry) => match xdp::rewrite(buffer, &packet, &entry.translation) {
            Some(()) => xdp_action::XDP_REDIRECT,
            None => drop(DropReason::RewriteFailed),
        },
        XdpVerdict::Drop(reason) => drop(reason),
        XdpVerdict::Pass => xdp_action::XDP_PASS,
    }
}

#[inline(always)]
fn drop(reason: DropReason) -> u32 {
    maps::count(reason);
    xdp_action::XDP_DROP
}

impl Receivers for KernelEnv<'_, XdpContext> {
    #[inline(always)]
    fn accepts_xdp(&self, host_side: u32) -> bool {
        maps::redirect_xdp(host_side)
    }
}
