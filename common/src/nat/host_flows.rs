//! Packets that the host itself sends out of an uplink. Its sockets and masqueraded flows share an
//! address, but never a tuple (invariant I4, docs/design/overview.md): the one that came first
//! keeps it.
//!
//! A new flow looks for sockets of the host that use its tuple ([`crate::nat::create`]). This
//! module has the opposite case: the host sends with a tuple that a flow has already. The host's
//! exchange then becomes a flow itself, which leaves under another port and whose replies get the
//! host's port back, as netfilter does. Exchanges that no socket lookup finds are tracked too,
//! under their own port, so that masquerade avoids them: pings, and packets of sockets that are
//! bound to a device.

use crate::{
    abi::{macs::Macs, owner::Owner, state::Timer, time::Ticks, translation::Deliver},
    env::Env,
    flow::{egress::Egress, entry::is_idle, new_flow::NewFlow},
    wire::{
        address::Address,
        packet::{Packet, Payload},
        tcp,
        tuple::{Side, Tuple},
    },
};

/// What to do with a packet that the host sends.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostFlow {
    /// The packet leaves unchanged.
    None,
    /// The packet belongs to a host flow.
    Existing,
    /// The packet begins a host flow under its own port.
    Track,
    /// The packet begins a host flow under another port.
    Remap,
}

/// Whether a packet can belong to a host flow. Checked first, for every packet that the host sends.
#[inline(always)]
pub fn may_belong_to_host_flow<A: Address>(packet: &Packet<A>, env: &impl Env<A>) -> bool {
    match packet.payload {
        Payload::Udp | Payload::Echo => true,
        // Only a SYN begins a host flow, and it is rare that there is one at all.
        Payload::Tcp => {
            packet.flags & tcp::SYN != 0 || is_ahead(env.host_flows_expire_at(), env.now())
        }
        // The kernel has no socket lookup for SCTP, so its sockets cannot be kept apart.
        Payload::Sctp
        | Payload::Error
        | Payload::Link
        | Payload::Fragment
        | Payload::Unparsed
        | Payload::Other => false,
    }
}

/// Classifies a packet for which [`may_belong_to_host_flow`] is true. `bypasses_socket_lookup` says
/// that no socket lookup would find its sender.
#[inline(always)]
pub fn classify<A: Address>(
    packet: &Packet<A>,
    bypasses_socket_lookup: bool,
    env: &impl Env<A>,
) -> HostFlow {
    let now = env.now();
    let reply = Tuple { side: Side::UPLINK, ..packet.tuple.reversed() };
    let Some(entry) = env.flow(&reply) else {
        // The flow that had the tuple may be gone; the host flow keeps the port that it got.
        if is_ahead(env.host_flows_expire_at(), now) && env.flow(&packet.tuple).is_some() {
            env.set_host_flows_expire_at(expiry_from(env, now));
            return HostFlow::Existing;
        }
        return if bypasses_socket_lookup && packet.begins() {
            HostFlow::Track
        } else {
            HostFlow::None
        };
    };
    // Either a host flow under its own port, or another flow; in that case a host flow may exist
    // under another port.
    let own = entry.translation.deliver == Deliver::STACK;
    let live = entry.epoch == env.epoch(entry.slot) && !is_idle(&entry, now);
    drop(entry);
    if own || env.flow(&packet.tuple).is_some() {
        if packet.payload == Payload::Tcp || !own {
            env.set_host_flows_expire_at(expiry_from(env, now));
        }
        return HostFlow::Existing;
    }
    if live && packet.begins() { HostFlow::Remap } else { HostFlow::None }
}

/// Plans the flow that a packet of the host begins.
#[inline(always)]
pub fn plan<A: Address>(packet: &Packet<A>, step: HostFlow, env: &impl Env<A>) -> NewFlow<A> {
    if packet.payload == Payload::Tcp || step == HostFlow::Remap {
        env.set_host_flows_expire_at(expiry_from(env, env.now()));
    }
    let egress = Egress {
        output: packet.input,
        macs: Macs::new([0; 6], [0; 6]),
        deliver: Deliver::STACK,
        refreshes_mapping: 0,
        mtu: 0,
    };
    NewFlow {
        translated: Tuple { side: Side::UPLINK, ..packet.tuple },
        forward: egress,
        reply: egress,
        forward_input: 0,
        reply_input: 0,
        slot: 0,
        epoch: env.epoch(0),
        owner: Owner::NONE,
        network: 0,
        uses_host_address: step == HostFlow::Remap,
    }
}

/// Latest expiry of a host flow that is used now and is TCP or remapped, in ticks.
#[inline(always)]
fn expiry_from<A: Address>(env: &impl Env<A>, now: Ticks) -> Ticks {
    let longest =
        env.network(0).map_or(0, |network| network.timeouts[Timer::TcpEstablished as usize]);
    now.wrapping_add(longest)
}

#[inline(always)]
const fn is_ahead(until: Ticks, now: Ticks) -> bool {
    until.wrapping_sub(now).cast_signed() > 0
}
