//! The beginning of a flow: a port, and two entries in the table.

use crate::{
    abi::{self, Network, deliver},
    address::{Address, Port},
    drop_reason::DropReason,
    endpoint_independent,
    entry::{reap_if_expired, touch},
    env::{InsertError, Tables},
    flow::State,
    packet::Payload,
    plan::Scratch,
    tuple::side,
};

/// How many ports a new flow tries, its own first, before it is refused. A range of fewer is tried
/// whole.
pub const PORT_TRIES: u32 = 128;

/// Begins the planned flow, or sends a neighbour's packet on without one.
///
/// In three steps, which the kernel's program takes itself: it has a loop of its own kind for the
/// middle one.
pub fn begin<A: Address>(
    scratch: &mut Scratch<A>,
    tables: &impl Tables<A>,
) -> Result<(), DropReason> {
    prepare(scratch, tables);
    for attempt in 0..PORT_TRIES {
        if !try_port(scratch, attempt, tables) {
            break;
        }
    }
    complete(scratch, tables)
}

/// For how many of them a flow keeps off the ports of mappings. Where it meets so many, others must
/// do with them too: a port that two have still belongs to one of them toward each destination.
const MAPPING_AVOIDANCE_TRIES: u32 = PORT_TRIES / 2;

/// How the reservation of a port went.
pub mod reservation {
    /// Not tried, or taken.
    pub const TAKEN: u8 = 0;
    /// Reserved.
    pub const DONE: u8 = 1;
    /// The table is full.
    pub const FULL: u8 = 2;
    /// The endpoint has as many flows as it may.
    pub const TOO_MANY: u8 = 3;
    /// A neighbour's packet that begins none.
    pub const NONE: u8 = 4;
}

/// Makes everything ready for [`try_port`].
#[inline(always)]
pub fn prepare<A: Address>(scratch: &mut Scratch<A>, tables: &impl Tables<A>) {
    let bridged = scratch.new_flow.forward.deliver == deliver::SAME_BRIDGE;
    // Field by field, in place: a value made first and moved then would take its room on BPF's
    // stack.
    let Scratch { packet, new_flow, reply_key, entry, walk, reservation, .. } = scratch;
    let protocol = packet.tuple.protocol;
    entry.packets = 0;
    entry.bytes = 0;
    entry.input = new_flow.reply_input;
    entry.slot = new_flow.slot;
    entry.epoch = new_flow.epoch;
    entry.last_used = tables.now();
    entry.is_reply = 1;
    let is_mapping = packet.tuple.side == side::MAPPING;
    entry.owner = if is_mapping { new_flow.owner | abi::COUNT_MAPPINGS } else { new_flow.owner };
    entry.network = new_flow.network;
    let state =
        if is_mapping { endpoint_independent::state(protocol) } else { State::first(protocol) };
    entry.state = state as u8;
    entry.acknowledged = 0;
    *reply_key = new_flow.translated.reversed();
    let network = tables.network(u32::from(entry.network)).unwrap_or(&Network::DEFAULT);
    entry.timeout = if is_mapping {
        endpoint_independent::timeout(network, protocol)
    } else {
        network.timeout(state, protocol)
    };
    *walk = PortWalk::NOT_BEGUN;
    *reservation = if bridged && !packet.begins() {
        reservation::NONE
    } else if entry.owner != 0
        && !tables.count_flow(
            entry.owner,
            if is_mapping {
                endpoint_independent::MAX_MAPPINGS_PER_CONTAINER
            } else {
                network.max_flows
            },
        )
    {
        reservation::TOO_MANY
    } else {
        reservation::TAKEN
    };
}

/// Inserts the reply half under the next port, the flow's own for the first `attempt`; false if
/// there is nothing more to try. That insert is the reservation: whoever comes second finds the
/// port taken.
#[inline(always)]
pub fn try_port<A: Address>(
    scratch: &mut Scratch<A>,
    attempt: u32,
    tables: &impl Tables<A>,
) -> bool {
    let Scratch { packet, new_flow, reply_key, entry, walk, reservation, .. } = scratch;
    if *reservation != reservation::TAKEN {
        return false;
    }
    // A flow that goes by a mapping has the mapping's port.
    let refreshes_mapping =
        new_flow.forward.refreshes_mapping != 0 && packet.tuple.side != side::MAPPING;
    let fixed = packet.payload == Payload::Sctp || refreshes_mapping;
    if attempt > 0 && fixed {
        return false;
    }
    // Nobody asks what the host's own sockets send into a network: where it speaks there for others
    // it keeps off the ports that they pick.
    if attempt > 0 || (new_flow.forward.deliver == deliver::CONTAINER_NAT64 && !fixed) {
        // Here, because nearly every flow has its own port.
        if !walk.has_begun() {
            let range = tables.network(u32::from(entry.network)).unwrap_or(&Network::DEFAULT);
            *walk = PortWalk::new(range, tables.random());
        }
        // Neighbours too: an exchange through a published port may have taken their tuple.
        reply_key.destination_port = walk.next();
        new_flow.translate();
    }
    // A container's own published port, from that very port: what it sends and what answers would
    // have one tuple.
    let is_itself = *reply_key == packet.tuple;
    if new_flow.uses_host_address
        && (is_itself
            || tables.host_socket(reply_key)
            || tables.is_taken_in_other_family(reply_key)
            || ((attempt < MAPPING_AVOIDANCE_TRIES || reply_key.side == side::MAPPING)
                && endpoint_independent::port_conflicts(
                    refreshes_mapping,
                    reply_key,
                    entry.last_used,
                    tables,
                )))
    {
        return true;
    }
    entry.translation.set(reply_key, &packet.tuple.reversed(), &new_flow.reply);
    *reservation = match tables.insert_flow(reply_key, entry) {
        Ok(()) => reservation::DONE,
        Err(InsertError::Full) => reservation::FULL,
        Err(InsertError::Exists) => {
            reap_if_expired(tables, reply_key, entry.last_used);
            if tables.insert_flow(reply_key, entry).is_ok() {
                reservation::DONE
            } else {
                reservation::TAKEN
            }
        }
    };
    *reservation == reservation::TAKEN
}

/// Inserts the forward half, if a port was reserved: a flow has both halves, or neither.
#[inline(always)]
pub fn complete<A: Address>(
    scratch: &mut Scratch<A>,
    tables: &impl Tables<A>,
) -> Result<(), DropReason> {
    let completed = insert_forward(scratch, tables);
    if completed != Ok(true)
        && scratch.entry.owner != 0
        && scratch.reservation < reservation::TOO_MANY
    {
        tables.uncount_flow(scratch.entry.owner);
    }
    // Neighbours need no flow: one that missed its beginning, cannot have any or finds no room is
    // brought all the same.
    let Err(reason) = completed else { return Ok(()) };
    if scratch.new_flow.forward.deliver == deliver::SAME_BRIDGE
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

/// Inserts the forward half; false where another CPU did.
#[inline(always)]
fn insert_forward<A: Address>(
    scratch: &mut Scratch<A>,
    tables: &impl Tables<A>,
) -> Result<bool, DropReason> {
    let Scratch { packet, new_flow, reply_key, entry, reservation, .. } = scratch;
    match *reservation {
        reservation::DONE => {}
        reservation::TAKEN if packet.payload == Payload::Sctp => {
            return Err(DropReason::SctpPortTaken);
        }
        reservation::TAKEN => return Err(DropReason::PortsExhausted),
        reservation::TOO_MANY => return Err(DropReason::TooManyFlows),
        _ => return Err(DropReason::TableFull),
    }
    let key = &packet.tuple;
    entry.translation.set(key, &reply_key.reversed(), &new_flow.forward);
    entry.input = new_flow.forward_input;
    entry.is_reply = 0;
    touch(entry, packet, entry.last_used);
    if packet.payload == Payload::Sctp {
        entry.acknowledged = packet.acknowledgment;
    }
    match tables.insert_flow(key, entry) {
        Ok(()) => {
            tables.push_newest(key);
            Ok(true)
        }
        Err(refused) => {
            tables.remove_flow(reply_key);
            // Another CPU began the same flow with an earlier packet: this one follows it.
            match (refused, tables.flow(key)) {
                (InsertError::Exists, Some(earlier)) => {
                    entry.translation = earlier.translation;
                    Ok(false)
                }
                _ => Err(DropReason::TableFull),
            }
        }
    }
}

/// A way through a range of ports that begins anywhere and comes to each once: in steps of a prime
/// that is greater than any range.
#[derive(Clone, Copy, Debug)]
pub struct PortWalk {
    base: u32,
    ports: u32,
    offset: u32,
    step: u32,
}

/// Several, so that two walks that meet part again.
const STEPS: [u32; 4] = [65_537, 65_539, 65_543, 65_551];

impl PortWalk {
    /// Nobody has asked for a port yet.
    pub(crate) const NOT_BEGUN: Self = Self { base: 0, ports: 0, offset: 0, step: 0 };

    #[inline(always)]
    const fn has_begun(&self) -> bool {
        self.ports != 0
    }

    #[inline(always)]
    fn new(range: &Network, random: u32) -> Self {
        let (base, ports) = (range.first_port, range.ports);
        // No division by zero in the kernel's eyes either.
        let ports = if ports == 0 { 1 } else { ports };
        Self {
            base,
            ports,
            offset: (random >> 2) % ports,
            step: STEPS[random as usize & 3] % ports,
        }
    }

    #[inline(always)]
    fn next(&mut self) -> Port {
        let port = self.base + self.offset;
        self.offset += self.step;
        if self.offset >= self.ports {
            self.offset -= self.ports;
        }
        Port::new(port as u16)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_walk_comes_to_each_port_of_the_range_once() {
        for (first_port, ports) in
            [(1024, 31_744), (20_000, 10), (65_535, 1), (1, 65_535), (40_000, 2), (30_000, 31)]
        {
            let range = Network { first_port, ports, ..Network::DEFAULT };
            for random in [0, 1, 2, 3, 77_777, u32::MAX] {
                let mut walk = PortWalk::new(&range, random);
                let seen: HashSet<u16> = (0..ports).map(|_| walk.next().get()).collect();
                assert_eq!(seen.len(), ports as usize);
                assert!(
                    seen.iter()
                        .all(|port| (first_port..first_port + ports).contains(&u32::from(*port)))
                );
            }
        }
    }
}
