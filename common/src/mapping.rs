//! Mapping and filtering that do not depend on the other side (RFC 4787 REQ-1 and REQ-8, RFC 5382
//! REQ-1 and REQ-3), for networks that want it: a container's port has one external port, whatever
//! the destination, and what anybody outside sends to that one reaches the container.
//!
//! A mapping is kept as a flow that has no other side: in its halves, which stand under a side of
//! their own that no packet arrives at, the external address itself and port zero are in the other
//! side's place. So a mapping begins, counts, expires, ends with its endpoint and is swept as flows
//! are, and its external port is reserved as theirs are. Only what the container sends keeps it
//! alive (RFC 4787 REQ-6).

use crate::{
    abi::{Network, mapping},
    address::{Address, Port},
    flow::{State, Ticks, Timer},
    half::bury,
    plan::First,
    tables::Tables,
    tuple::{Tuple, echo, protocol, side},
};

/// Whether flows of a network that carry `protocol` go by mappings.
#[inline(always)]
pub(crate) fn is_for<A: Address>(network: u32, protocol: u8, tables: &impl Tables<A>) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP)
        && tables.network(network).is_some_and(|network| network.mapping & mapping::FULL_CONE != 0)
}

/// Whether there may be mappings at all: network 0 says so for all.
#[inline(always)]
fn are_there<A: Address>(protocol: u8, tables: &impl Tables<A>) -> bool {
    is_for(0, protocol, tables)
}

/// The key of the half that a container's packet finds.
#[inline(always)]
fn inner<A: Address>(protocol: u8, address: A, port: Port, external: A) -> Tuple<A> {
    Tuple {
        source: address,
        destination: external,
        source_port: port,
        destination_port: Port::ZERO,
        protocol,
        side: side::MAPPING,
        echo: echo::NONE,
        _pad: 0,
    }
}

/// The key of the half that a packet from outside finds.
#[inline(always)]
fn outer<A: Address>(arriving: &Tuple<A>) -> Tuple<A> {
    inner(arriving.protocol, arriving.destination, arriving.destination_port, arriving.destination)
        .reversed()
}

/// Whether the flow that is about to begin goes by a mapping of the container that begins it.
#[inline(always)]
pub const fn is_wanted<A>(first: &First<A>) -> bool {
    first.beginning.forward.mapped != 0
}

/// Gives the flow the port of the mapping that there is; false if there is none.
#[inline(always)]
pub fn find<A: Address>(first: &mut First<A>, tables: &impl Tables<A>) -> bool {
    let First { packet, beginning, .. } = first;
    let Tuple { protocol, source, source_port, .. } = packet.tuple;
    let key = inner(protocol, source, source_port, beginning.leaves.source);
    let now = tables.now();
    if bury(tables, &key, now) {
        return false;
    }
    let Some(mut half) = tables.flow(&key) else { return false };
    half.last_used = now;
    beginning.leaves.source_port = half.translation.tuple.source_port;
    true
}

/// Makes everything ready to begin a mapping, as a flow is begun, before the flow itself.
#[inline(always)]
pub fn stand_in<A: Address>(first: &mut First<A>) {
    let First { packet, beginning, sent, .. } = first;
    *sent = packet.tuple;
    let external = beginning.leaves.source;
    packet.tuple = inner(sent.protocol, sent.source, sent.source_port, external);
    beginning.leaves = Tuple { source: external, ..packet.tuple };
}

/// Goes back to the flow, which gets the port of the mapping that has begun.
#[inline(always)]
pub fn stand_out<A: Address>(first: &mut First<A>) {
    let First { packet, beginning, sent, half, .. } = first;
    let Tuple { source, source_port, .. } = half.translation.tuple;
    packet.tuple = *sent;
    beginning.leaves = Tuple { source, source_port, side: side::UPLINK, ..*sent };
}

/// How many mappings a container may have at once: an eighth of all ports, for its neighbours want
/// some too.
pub(crate) const MOST: u32 = 1 << 13;

/// The state that a mapping is in for good.
#[inline(always)]
pub(crate) const fn state(protocol: u8) -> State {
    if protocol == protocol::TCP { State::Established } else { State::Replied }
}

/// How long a mapping lasts after the last packet of the container's: as long as any flow of it.
#[inline(always)]
pub(crate) const fn timeout(network: &Network, protocol: u8) -> Ticks {
    let (long, short) =
        (network.timeout(state(protocol), protocol), network.timeouts[Timer::Udp as usize]);
    if long > short { long } else { short }
}

/// Whether a flow or mapping cannot have the port that `reply_key` is about: another one's mapping
/// has it, or, for a mapping, a publish.
#[inline(always)]
pub(crate) fn is_in_the_way<A: Address>(
    mapped: bool,
    reply_key: &Tuple<A>,
    now: Ticks,
    tables: &impl Tables<A>,
) -> bool {
    if reply_key.side == side::MAPPING {
        return tables.published(reply_key).is_some();
    }
    if mapped || !are_there(reply_key.protocol, tables) {
        return false;
    }
    let key = outer(reply_key);
    tables.flow(&key).is_some() && !bury(tables, &key, now)
}

/// Leads a packet to an address of the host where a mapping says, given what it arrives with;
/// answers the slot and the epoch by which that stands. None if there is no mapping.
#[inline(always)]
pub(crate) fn lead<A: Address>(
    arriving: &Tuple<A>,
    leaves: &mut Tuple<A>,
    tables: &impl Tables<A>,
) -> Option<(u32, u32)> {
    if !are_there(arriving.protocol, tables) {
        return None;
    }
    let key = outer(arriving);
    if bury(tables, &key, tables.now()) {
        return None;
    }
    let half = tables.flow(&key)?;
    leaves.destination = half.translation.tuple.destination;
    leaves.destination_port = half.translation.tuple.destination_port;
    Some((half.slot, half.epoch))
}

/// Keeps the mapping of a flow alive that the container sends a packet of. `leaves` is that
/// packet's tuple as it leaves.
#[inline(always)]
pub(crate) fn refresh<A: Address>(
    packet: &Tuple<A>,
    leaves: &Tuple<A>,
    now: Ticks,
    tables: &impl Tables<A>,
) {
    let key = inner(packet.protocol, packet.source, packet.source_port, leaves.source);
    if let Some(mut half) = tables.flow(&key) {
        half.last_used = now;
    }
}
