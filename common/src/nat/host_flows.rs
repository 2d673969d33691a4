//! What the host itself sends out of an uplink. Its sockets and masqueraded flows share an address,
//! but never a tuple (invariant 4 of the design): the one that came first keeps it.
//!
//! A flow that begins asks for the host's sockets ([`crate::create`]). This is the other way round:
//! the host sends with a tuple that a flow has already. Then the host's exchange becomes a flow
//! itself, that leaves under another port, and whose answers come back under its own; netfilter
//! does the same. Exchanges that no socket lookup would find are flows too, under their own port,
//! so that masquerade sees them: pings, and what a socket sends that is bound to a device.

use crate::{
    abi::{macs::Macs, state::Timer, time::Ticks, translation::deliver},
    env::Env,
    flow::{egress::Egress, entry::is_idle, new_flow::NewFlow},
    wire::{
        address::Address,
        packet::{Packet, Payload},
        tcp,
        tuple::{Tuple, side},
    },
};

/// What is to be done with a packet that the host sends.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostFlow {
    /// It leaves as it is.
    None,
    /// It is of a flow of the host's own.
    Existing,
    /// It begins one, under its own port.
    Track,
    /// It begins one, under another port.
    Remap,
}

/// Whether a packet can be of a flow of the host's own at all: asked first, of everything that the
/// host sends.
#[inline(always)]
pub fn may_belong_to_host_flow<A: Address>(packet: &Packet<A>, env: &impl Env<A>) -> bool {
    match packet.payload {
        Payload::Udp | Payload::Echo => true,
        // Only a SYN begins one, and it is rare that there is any.
        Payload::Tcp => {
            packet.flags & tcp::SYN != 0 || is_ahead(env.host_flows_expire_at(), env.now())
        }
        // The kernel finds no socket of SCTP's, so there is none to keep apart.
        Payload::Sctp
        | Payload::Error
        | Payload::Link
        | Payload::Fragment
        | Payload::Unparsed
        | Payload::Other => false,
    }
}

/// Decides about a packet that concerns us. `bypasses_socket_lookup` says that no socket lookup would find its
/// sender.
#[inline(always)]
pub fn classify<A: Address>(
    packet: &Packet<A>,
    bypasses_socket_lookup: bool,
    env: &impl Env<A>,
) -> HostFlow {
    let now = env.now();
    let reply = Tuple { side: side::UPLINK, ..packet.tuple.reversed() };
    let Some(entry) = env.flow(&reply) else {
        // Whoever had its tuple may be gone: the host's exchange keeps the port that it got.
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
    // The host's own, under its own port; or somebody else's, and then the host may have one under
    // another port.
    let own = entry.translation.deliver == deliver::STACK;
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

/// The flow that a packet of the host's begins.
#[inline(always)]
pub fn plan<A: Address>(packet: &Packet<A>, step: HostFlow, env: &impl Env<A>) -> NewFlow<A> {
    if packet.payload == Payload::Tcp || step == HostFlow::Remap {
        env.set_host_flows_expire_at(expiry_from(env, env.now()));
    }
    let egress = Egress {
        output: packet.input,
        macs: Macs::new([0; 6], [0; 6]),
        deliver: deliver::STACK,
        refreshes_mapping: 0,
        mtu: 0,
    };
    NewFlow {
        translated: Tuple { side: side::UPLINK, ..packet.tuple },
        forward: egress,
        reply: egress,
        forward_input: 0,
        reply_input: 0,
        slot: 0,
        epoch: env.epoch(0),
        owner: 0,
        network: 0,
        uses_host_address: step == HostFlow::Remap,
    }
}

/// Until when a flow of the host's that is used now, and is TCP or has moved, may live.
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
