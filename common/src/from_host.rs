//! What the host itself sends out of an uplink. Its sockets and masqueraded flows share an address,
//! but never a tuple (invariant 4 of the design): the one that came first keeps it.
//!
//! A flow that begins asks for the host's sockets ([`crate::begin`]). This is the other way round:
//! the host sends with a tuple that a flow has already. Then the host's exchange becomes a flow
//! itself, that leaves under another port, and whose answers come back under its own; netfilter
//! does the same. Exchanges that no socket lookup would find are flows too, under their own port,
//! so that masquerade sees them: pings, and what a socket sends that is bound to a device.

use crate::{
    abi::{Door, Macs, exit},
    address::Address,
    flow::{Ticks, Timer, tcp},
    half::is_idle,
    packet::{Packet, Payload},
    plan::Beginning,
    tables::Tables,
    tuple::{Tuple, side},
};

/// What is to be done with a packet that the host sends.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// It leaves as it is.
    Pass,
    /// It is of a flow of the host's own.
    Known,
    /// It begins one, under its own port.
    Note,
    /// It begins one, under another port.
    Shift,
}

/// Whether a packet can be of a flow of the host's own at all: asked first, of everything that the
/// host sends.
#[inline(always)]
pub fn concerns<A: Address>(packet: &Packet<A>, tables: &impl Tables<A>) -> bool {
    match packet.payload {
        Payload::Udp | Payload::Echo => true,
        // Only a SYN begins one, and it is rare that there is any.
        Payload::Tcp => packet.flags & tcp::SYN != 0 || is_ahead(tables.host_until(), tables.now()),
        // The kernel finds no socket of SCTP's, so there is none to keep apart.
        Payload::Sctp
        | Payload::Error
        | Payload::Link
        | Payload::Fragment
        | Payload::Hidden
        | Payload::Other => false,
    }
}

/// Decides about a packet that concerns us. `hidden` says that no socket lookup would find its
/// sender.
#[inline(always)]
pub fn step<A: Address>(packet: &Packet<A>, hidden: bool, tables: &impl Tables<A>) -> Step {
    let now = tables.now();
    let reply = Tuple { side: side::UPLINK, ..packet.tuple.reversed() };
    let Some(half) = tables.flow(&reply) else {
        // Whoever had its tuple may be gone: the host's exchange keeps the port that it got.
        if is_ahead(tables.host_until(), now) && tables.flow(&packet.tuple).is_some() {
            tables.set_host_until(until(tables, now));
            return Step::Known;
        }
        return if hidden && packet.begins() { Step::Note } else { Step::Pass };
    };
    // The host's own, under its own port; or somebody else's, and then the host may have one under
    // another port.
    let own = half.translation.exit == exit::HOST;
    let live = half.epoch == tables.epoch(half.slot) && !is_idle(&half, now);
    drop(half);
    if own || tables.flow(&packet.tuple).is_some() {
        if packet.payload == Payload::Tcp || !own {
            tables.set_host_until(until(tables, now));
        }
        return Step::Known;
    }
    if live && packet.begins() { Step::Shift } else { Step::Pass }
}

/// The flow that a packet of the host's begins.
#[inline(always)]
pub fn beginning<A: Address>(
    packet: &Packet<A>,
    step: Step,
    tables: &impl Tables<A>,
) -> Beginning<A> {
    if packet.payload == Payload::Tcp || step == Step::Shift {
        tables.set_host_until(until(tables, tables.now()));
    }
    let door = Door {
        output: packet.input,
        macs: Macs::new([0; 6], [0; 6]),
        exit: exit::HOST,
        mapped: 0,
        mtu: 0,
    };
    Beginning {
        leaves: Tuple { side: side::UPLINK, ..packet.tuple },
        forward: door,
        reply: door,
        forward_input: 0,
        reply_input: 0,
        slot: 0,
        epoch: tables.epoch(0),
        owner: 0,
        network: 0,
        as_host: step == Step::Shift,
    }
}

/// Until when a flow of the host's that is used now, and is TCP or has moved, may live.
#[inline(always)]
fn until<A: Address>(tables: &impl Tables<A>, now: Ticks) -> Ticks {
    let longest =
        tables.network(0).map_or(0, |network| network.timeouts[Timer::TcpEstablished as usize]);
    now.wrapping_add(longest)
}

#[inline(always)]
const fn is_ahead(until: Ticks, now: Ticks) -> bool {
    until.wrapping_sub(now).cast_signed() > 0
}
