//! The beginning of a flow: a port, and two entries in the table.

use crate::{
    abi::{Flow, exit},
    address::{Address, Port},
    flow::State,
    half::{bury, touch},
    plan::{Beginning, First},
    reason::Reason,
    tables::{Refused, Tables},
    tuple::Tuple,
};

/// How many ports a new flow tries before it is refused.
pub const PORT_TRIES: u32 = 16;

/// Begins the planned flow, or sends a neighbour's packet on without one.
#[inline(always)]
pub fn begin<A: Address>(first: &mut First<A>, tables: &impl Tables<A>) -> Result<(), Reason> {
    // Neighbours need no flow: one that missed its beginning, cannot have any or finds no room is brought all the same.
    let bridged = first.beginning.forward.exit == exit::BRIDGED;
    let begun = if bridged && !first.packet.begins() { Err(Reason::TableFull) } else { insert(first, tables) };
    if bridged && matches!(begun, Err(Reason::TableFull | Reason::TooManyFlows)) {
        first.half.translation.set(&first.packet.tuple, &first.beginning.leaves, &first.beginning.forward);
        return Ok(());
    }
    begun
}

/// Inserts the planned flow: both halves, or neither.
#[inline(always)]
fn insert<A: Address>(first: &mut First<A>, tables: &impl Tables<A>) -> Result<(), Reason> {
    // Field by field, in place: a value made first and moved then would take its room on BPF's stack.
    let First { packet, beginning, reply_key, half } = first;
    let key = &packet.tuple;
    half.packets = 0;
    half.bytes = 0;
    half.input = beginning.reply_input;
    half.slot = beginning.slot;
    half.epoch = beginning.epoch;
    half.last_used = tables.now();
    half.is_reply = 1;
    half.owner = beginning.owner;
    half.network = beginning.network;
    let state = State::first(key.protocol);
    half.state = state as u8;
    half.timeout = tables.timeout(half.network, state, key.protocol);
    half.acknowledged = 0;
    *reply_key = beginning.leaves.reversed();
    if half.owner != 0 && !tables.count_flow(half.owner, beginning.max_flows) {
        return Err(Reason::TooManyFlows);
    }
    let inserted = insert_halves(first, tables);
    if inserted != Ok(true) && first.half.owner != 0 {
        tables.uncount_flow(first.half.owner);
    }
    inserted.map(drop)
}

/// Inserts both halves; false where another CPU did.
#[inline(always)]
fn insert_halves<A: Address>(first: &mut First<A>, tables: &impl Tables<A>) -> Result<bool, Reason> {
    let First { packet, beginning, reply_key, half } = first;
    let key = &packet.tuple;
    reserve(beginning, key, reply_key, half, tables)?;
    half.translation.set(key, &reply_key.reversed(), &beginning.forward);
    half.input = beginning.forward_input;
    half.is_reply = 0;
    touch(half, packet, half.last_used);
    match tables.insert_flow(key, half) {
        Ok(()) => {
            tables.note_begun(key);
            Ok(true)
        }
        Err(refused) => {
            tables.remove_flow(reply_key);
            // Another CPU began the same flow with an earlier packet: this one follows it.
            match (refused, tables.flow(key)) {
                (Refused::Taken, Some(earlier)) => {
                    half.translation = earlier.translation;
                    Ok(false)
                }
                _ => Err(Reason::TableFull),
            }
        }
    }
}

/// Inserts the reply half under the first free port. That insert is the reservation: whoever comes second finds the port taken.
#[inline(always)]
fn reserve<A: Address>(
    beginning: &mut Beginning<A>,
    key: &Tuple<A>,
    reply_key: &mut Tuple<A>,
    half: &mut Flow<A>,
    tables: &impl Tables<A>,
) -> Result<(), Reason> {
    for attempt in 0..PORT_TRIES {
        if attempt > 0 {
            // Neighbours too: an exchange through a published port may have taken their tuple.
            reply_key.destination_port = some_port(tables.random());
            beginning.translate();
        }
        if beginning.as_host && tables.host_socket(reply_key) {
            continue;
        }
        half.translation.set(reply_key, &key.reversed(), &beginning.reply);
        match tables.insert_flow(reply_key, half) {
            Ok(()) => return Ok(()),
            Err(Refused::Full) => return Err(Reason::TableFull),
            Err(Refused::Taken) => {
                bury(tables, reply_key, half.last_used);
                if tables.insert_flow(reply_key, half).is_ok() {
                    return Ok(());
                }
            }
        }
    }
    Err(Reason::PortsExhausted)
}

/// A port in 1024..32768: below what Linux gives its own sockets by default, so that they seldom meet.
#[inline(always)]
const fn some_port(random: u32) -> Port {
    let port = (random & 0x7fff) as u16;
    Port::new(if port < 1024 { port + 1024 } else { port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ports_are_unprivileged_and_below_the_hosts_own() {
        for random in (0..=u32::MAX).step_by(9973) {
            assert!((1024..32768).contains(&some_port(random).get()));
        }
    }
}
