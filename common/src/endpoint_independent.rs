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
    abi::{Network, nat_behaviour},
    address::{Address, Port},
    entry::reap_if_expired,
    env::Tables,
    flow::{State, Ticks, Timer},
    plan::Scratch,
    tuple::{Tuple, echo, protocol, side},
};

/// Whether flows of a network that carry `protocol` go by mappings.
#[inline(always)]
pub(crate) fn applies_to<A: Address>(network: u32, protocol: u8, tables: &impl Tables<A>) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP)
        && tables
            .network(network)
            .is_some_and(|network| network.nat_behaviour & nat_behaviour::ENDPOINT_INDEPENDENT != 0)
}

/// Whether there may be mappings at all: network 0 says so for all.
#[inline(always)]
fn mappings_enabled<A: Address>(protocol: u8, tables: &impl Tables<A>) -> bool {
    applies_to(0, protocol, tables)
}

/// The key of the half that a container's packet finds.
#[inline(always)]
fn internal_key<A: Address>(protocol: u8, address: A, port: Port, external: A) -> Tuple<A> {
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
fn external_key<A: Address>(arriving: &Tuple<A>) -> Tuple<A> {
    internal_key(
        arriving.protocol,
        arriving.destination,
        arriving.destination_port,
        arriving.destination,
    )
    .reversed()
}

/// Whether the flow that is about to begin goes by a mapping of the container that begins it.
#[inline(always)]
pub const fn needs_mapping<A>(scratch: &Scratch<A>) -> bool {
    scratch.new_flow.forward.refreshes_mapping != 0
}

/// Gives the flow the port of the mapping that there is; false if there is none.
#[inline(always)]
pub fn reuse_mapping<A: Address>(scratch: &mut Scratch<A>, tables: &impl Tables<A>) -> bool {
    let Scratch { packet, new_flow, .. } = scratch;
    let Tuple { protocol, source, source_port, .. } = packet.tuple;
    let key = internal_key(protocol, source, source_port, new_flow.translated.source);
    let now = tables.now();
    if reap_if_expired(tables, &key, now) {
        return false;
    }
    let Some(mut entry) = tables.flow(&key) else { return false };
    entry.last_used = now;
    new_flow.translated.source_port = entry.translation.tuple.source_port;
    true
}

/// Makes everything ready to begin a mapping, as a flow is begun, before the flow itself.
#[inline(always)]
pub fn plan_mapping<A: Address>(scratch: &mut Scratch<A>) {
    let Scratch { packet, new_flow, original_tuple, .. } = scratch;
    *original_tuple = packet.tuple;
    let external = new_flow.translated.source;
    packet.tuple = internal_key(
        original_tuple.protocol,
        original_tuple.source,
        original_tuple.source_port,
        external,
    );
    new_flow.translated = Tuple { source: external, ..packet.tuple };
}

/// Goes back to the flow, which gets the port of the mapping that has begun.
#[inline(always)]
pub fn resume_flow<A: Address>(scratch: &mut Scratch<A>) {
    let Scratch { packet, new_flow, original_tuple, entry, .. } = scratch;
    let Tuple { source, source_port, .. } = entry.translation.tuple;
    packet.tuple = *original_tuple;
    new_flow.translated = Tuple { source, source_port, side: side::UPLINK, ..*original_tuple };
}

/// How many mappings a container may have at once: an eighth of all ports, for its neighbours want
/// some too.
pub(crate) const MAX_MAPPINGS_PER_CONTAINER: u32 = 1 << 13;

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
pub(crate) fn port_conflicts<A: Address>(
    refreshes_mapping: bool,
    reply_key: &Tuple<A>,
    now: Ticks,
    tables: &impl Tables<A>,
) -> bool {
    if reply_key.side == side::MAPPING {
        return tables.published(reply_key).is_some();
    }
    if refreshes_mapping || !mappings_enabled(reply_key.protocol, tables) {
        return false;
    }
    let key = external_key(reply_key);
    tables.flow(&key).is_some() && !reap_if_expired(tables, &key, now)
}

/// Leads a packet to an address of the host where a mapping says, given what it arrives with;
/// answers the slot and the epoch by which that stands. None if there is no mapping.
#[inline(always)]
pub(crate) fn lookup_external<A: Address>(
    arriving: &Tuple<A>,
    translated: &mut Tuple<A>,
    tables: &impl Tables<A>,
) -> Option<(u32, u32)> {
    if !mappings_enabled(arriving.protocol, tables) {
        return None;
    }
    let key = external_key(arriving);
    if reap_if_expired(tables, &key, tables.now()) {
        return None;
    }
    let entry = tables.flow(&key)?;
    translated.destination = entry.translation.tuple.destination;
    translated.destination_port = entry.translation.tuple.destination_port;
    Some((entry.slot, entry.epoch))
}

/// Keeps the mapping of a flow alive that the container sends a packet of. `leaves` is that
/// packet's tuple as it leaves.
#[inline(always)]
pub(crate) fn refresh<A: Address>(
    packet: &Tuple<A>,
    translated: &Tuple<A>,
    now: Ticks,
    tables: &impl Tables<A>,
) {
    let key = internal_key(packet.protocol, packet.source, packet.source_port, translated.source);
    if let Some(mut entry) = tables.flow(&key) {
        entry.last_used = now;
    }
}
