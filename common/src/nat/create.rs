//! Creation of a flow: reserves a port, and inserts two entries in the flow table.

use core::ops::ControlFlow;

use crate::{
    abi::{drop_reason::DropReason, network::Network, state::State, translation::Deliver},
    env::{Env, InsertError},
    flow::{
        entry::reap_if_expired,
        mapping,
        port_walk::{PortWalk, Reservation},
    },
    nat::endpoint_independent,
    scratch::Scratch,
    wire::{address::Address, packet::Payload, tuple::Side},
};

/// Ports that a new flow tries before it is refused, its own port first. A smaller range is tried
/// whole.
pub const PORT_TRIES: u32 = 128;

/// Tries for which a flow avoids the ports of mappings. If it meets as many, ports are scarce, and
/// it takes one of them: toward each destination a shared port still belongs to one flow.
const MAPPING_AVOIDANCE_TRIES: u32 = PORT_TRIES / 2;

/// Prepares the entry and the port reservation for [`try_port`].
#[inline(always)]
pub fn prepare<A: Address>(scratch: &mut Scratch<A>, env: &impl Env<A>) {
    let same_bridge = scratch.new_flow.forward.deliver == Deliver::SAME_BRIDGE;
    // Field by field, in place: a value that is moved would take its room on the BPF stack.
    let Scratch { packet, new_flow, reply_key, entry, walk, reservation, .. } = scratch;
    let protocol = packet.tuple.protocol;
    entry.packets = 0;
    entry.bytes = 0;
    entry.input = new_flow.reply_input;
    entry.slot = new_flow.slot;
    entry.epoch = new_flow.epoch;
    entry.last_used = env.now();
    entry.is_reply = 1;
    let is_mapping = packet.tuple.side == Side::MAPPING;
    entry.owner = if is_mapping { new_flow.owner.of_mapping() } else { new_flow.owner };
    entry.network = new_flow.network;
    let state = if is_mapping { mapping::state(protocol) } else { State::first(protocol) };
    entry.state = state as u8;
    entry.acknowledged = 0;
    *reply_key = new_flow.translated.reversed();
    let network = env.network(u32::from(entry.network)).unwrap_or(&Network::DEFAULT);
    entry.timeout = if is_mapping {
        mapping::timeout(network, protocol)
    } else {
        network.timeout(state, protocol)
    };
    *walk = PortWalk::NOT_BEGUN;
    *reservation = if same_bridge && !packet.begins() {
        Reservation::NONE
    } else if !entry.owner.is_none()
        && !env.count_flow(
            entry.owner,
            if is_mapping {
                endpoint_independent::MAX_MAPPINGS_PER_CONTAINER
            } else {
                network.max_flows
            },
        )
    {
        Reservation::TOO_MANY
    } else {
        Reservation::TAKEN
    };
}

/// Inserts the reply entry under the next port, the flow's own for the first `attempt`. The insert
/// is the reservation: of two CPUs the second one finds the port taken.
#[inline(always)]
pub fn try_port<A: Address>(
    scratch: &mut Scratch<A>,
    attempt: u32,
    env: &impl Env<A>,
) -> ControlFlow<()> {
    let Scratch { packet, new_flow, reply_key, entry, walk, reservation, .. } = scratch;
    if *reservation != Reservation::TAKEN {
        return ControlFlow::Break(());
    }
    // A flow that uses a mapping has the mapping's port.
    let refreshes_mapping =
        new_flow.forward.refreshes_mapping != 0 && packet.tuple.side != Side::MAPPING;
    let fixed = packet.payload == Payload::Sctp || refreshes_mapping;
    if attempt > 0 && fixed {
        return ControlFlow::Break(());
    }
    // No socket lookup covers what the host's own sockets send into a network. Where the gateway's
    // address stands for a client, the port comes from the range that those sockets do not pick
    // from.
    if attempt > 0 || (new_flow.forward.deliver == Deliver::CONTAINER_NAT64 && !fixed) {
        // The walk begins only here, because nearly every flow keeps its own port.
        if !walk.has_begun() {
            let range = env.network(u32::from(entry.network)).unwrap_or(&Network::DEFAULT);
            *walk = PortWalk::new(range, env.random());
        }
        // Also between containers of one network: a flow through a published port may have taken
        // their tuple.
        reply_key.destination_port = walk.next();
        new_flow.translate();
    }
    // A container that addresses its own published port from that port: the packet and its reply
    // would have one tuple.
    let is_itself = *reply_key == packet.tuple;
    if new_flow.uses_host_address
        && (is_itself
            || env.host_socket(reply_key)
            || env.is_taken_in_other_family(reply_key)
            || ((attempt < MAPPING_AVOIDANCE_TRIES || reply_key.side == Side::MAPPING)
                && endpoint_independent::port_conflicts(
                    refreshes_mapping,
                    reply_key,
                    entry.last_used,
                    env,
                )))
    {
        return ControlFlow::Continue(());
    }
    entry.translation.set(reply_key, &packet.tuple.reversed(), &new_flow.reply);
    *reservation = match env.insert_flow(reply_key, entry) {
        Ok(()) => Reservation::DONE,
        Err(InsertError::Full) => Reservation::FULL,
        Err(InsertError::Exists) => {
            reap_if_expired(env, reply_key, entry.last_used);
            if env.insert_flow(reply_key, entry).is_ok() {
                Reservation::DONE
            } else {
                Reservation::TAKEN
            }
        }
    };
    if *reservation == Reservation::TAKEN {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

/// Inserts the forward entry if a port was reserved: a flow has both entries or neither.
#[inline(always)]
pub fn complete<A: Address>(scratch: &mut Scratch<A>, env: &impl Env<A>) -> Result<(), DropReason> {
    let completed = insert_forward(scratch, env);
    if completed != Ok(true) && !scratch.entry.owner.is_none() && scratch.reservation.was_counted()
    {
        env.uncount_flow(scratch.entry.owner);
    }
    // Within one bridge a packet needs no flow. It is forwarded even if its flow was missed at the
    // start, is not allowed, or finds no room.
    let Err(reason) = completed else { return Ok(()) };
    if scratch.new_flow.forward.deliver == Deliver::SAME_BRIDGE
        && !matches!(reason, DropReason::PortsExhausted | DropReason::SctpPortTaken)
    {
        scratch.entry.translation.set(
            &scratch.packet.tuple,
            &scratch.new_flow.translated,
            &scratch.new_flow.forward,
        );
        return Ok(());
    }
    Err(reason)
}

/// Inserts the forward entry. Returns false if another CPU has inserted it.
#[inline(always)]
fn insert_forward<A: Address>(
    scratch: &mut Scratch<A>,
    env: &impl Env<A>,
) -> Result<bool, DropReason> {
    let Scratch { packet, new_flow, reply_key, entry, reservation, .. } = scratch;
    match *reservation {
        Reservation::DONE => {}
        Reservation::TAKEN if packet.payload == Payload::Sctp => {
            return Err(DropReason::SctpPortTaken);
        }
        Reservation::TAKEN => return Err(DropReason::PortsExhausted),
        Reservation::TOO_MANY => return Err(DropReason::TooManyFlows),
        _ => return Err(DropReason::TableFull),
    }
    let key = &packet.tuple;
    entry.translation.set(key, &reply_key.reversed(), &new_flow.forward);
    entry.input = new_flow.forward_input;
    entry.is_reply = 0;
    env.touch(entry, packet, entry.last_used);
    if packet.payload == Payload::Sctp {
        entry.acknowledged = packet.acknowledgment;
    }
    match env.insert_flow(key, entry) {
        Ok(()) => {
            env.push_newest(key);
            Ok(true)
        }
        Err(refused) => {
            env.remove_flow(reply_key);
            // Another CPU has created the same flow for an earlier packet: this packet uses that
            // flow.
            match (refused, env.flow(key)) {
                (InsertError::Exists, Some(earlier)) => {
                    entry.translation = earlier.translation;
                    Ok(false)
                }
                _ => Err(DropReason::TableFull),
            }
        }
    }
}
