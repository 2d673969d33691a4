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
    abi::{network::nat_behaviour, time::Ticks},
    env::Env,
    flow::{
        entry::reap_if_expired,
        mapping::{external_key, internal_key},
    },
    scratch::Scratch,
    wire::{
        address::Address,
        protocol,
        tuple::{Tuple, side},
    },
};

/// Whether flows of a network that carry `protocol` go by mappings.
#[inline(always)]
pub(crate) fn applies_to<A: Address>(network: u32, protocol: u8, env: &impl Env<A>) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP)
        && env
            .network(network)
            .is_some_and(|network| network.nat_behaviour & nat_behaviour::ENDPOINT_INDEPENDENT != 0)
}

/// Whether there may be mappings at all: network 0 says so for all.
#[inline(always)]
fn mappings_enabled<A: Address>(protocol: u8, env: &impl Env<A>) -> bool {
    applies_to(0, protocol, env)
}

/// Whether the flow that is about to begin goes by a mapping of the container that begins it.
#[inline(always)]
pub const fn needs_mapping<A>(scratch: &Scratch<A>) -> bool {
    scratch.new_flow.forward.refreshes_mapping != 0
}

/// Gives the flow the port of the mapping that there is; false if there is none.
#[inline(always)]
pub fn reuse_mapping<A: Address>(scratch: &mut Scratch<A>, env: &impl Env<A>) -> bool {
    let Scratch { packet, new_flow, .. } = scratch;
    let Tuple { protocol, source, source_port, .. } = packet.tuple;
    let key = internal_key(protocol, source, source_port, new_flow.translated.source);
    let now = env.now();
    if reap_if_expired(env, &key, now) {
        return false;
    }
    let Some(mut entry) = env.flow(&key) else { return false };
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

/// Whether a flow or mapping cannot have the port that `reply_key` is about: another one's mapping
/// has it, or, for a mapping, a publish.
#[inline(always)]
pub(crate) fn port_conflicts<A: Address>(
    refreshes_mapping: bool,
    reply_key: &Tuple<A>,
    now: Ticks,
    env: &impl Env<A>,
) -> bool {
    if reply_key.side == side::MAPPING {
        return env.published(reply_key).is_some();
    }
    if refreshes_mapping || !mappings_enabled(reply_key.protocol, env) {
        return false;
    }
    let key = external_key(reply_key);
    env.flow(&key).is_some() && !reap_if_expired(env, &key, now)
}

/// Leads a packet to an address of the host where a mapping says, given what it arrives with;
/// answers the slot and the epoch by which that stands. None if there is no mapping.
#[inline(always)]
pub(crate) fn lookup_external<A: Address>(
    arriving: &Tuple<A>,
    translated: &mut Tuple<A>,
    env: &impl Env<A>,
) -> Option<(u32, u32)> {
    if !mappings_enabled(arriving.protocol, env) {
        return None;
    }
    let key = external_key(arriving);
    if reap_if_expired(env, &key, env.now()) {
        return None;
    }
    let entry = env.flow(&key)?;
    translated.destination = entry.translation.tuple.destination;
    translated.destination_port = entry.translation.tuple.destination_port;
    Some((entry.slot, entry.epoch))
}
