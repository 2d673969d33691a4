//! Endpoint-independent mapping and filtering (RFC 4787 REQ-1 and REQ-8, RFC 5382 REQ-1 and REQ-3),
//! for networks that ask for it: a container's port has one external port, whatever the
//! destination, and packets from any source to that port reach the container.
//!
//! A mapping is kept in the flow table as a flow without another side. The keys of its two entries
//! have a side of their own that no packet arrives at, and the external address and port zero stand
//! for the other side. So a mapping is created, counted, expired, ended with its endpoint and
//! collected as a flow is, and its external port is reserved in the same way. Only packets of the
//! container refresh it (RFC 4787 REQ-6).

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
        tuple::{Side, Tuple},
    },
};

/// Whether flows of that network and protocol use endpoint-independent mappings.
#[inline(always)]
pub(crate) fn applies_to<A: Address>(network: u32, protocol: u8, env: &impl Env<A>) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP)
        && env
            .network(network)
            .is_some_and(|network| network.nat_behaviour & nat_behaviour::ENDPOINT_INDEPENDENT != 0)
}

/// Whether any network has mappings for that protocol: the setting of network 0 says so.
#[inline(always)]
fn mappings_enabled<A: Address>(protocol: u8, env: &impl Env<A>) -> bool {
    applies_to(0, protocol, env)
}

/// Whether the planned flow uses a mapping of the container that begins it.
#[inline(always)]
pub const fn needs_mapping<A>(scratch: &Scratch<A>) -> bool {
    scratch.new_flow.forward.refreshes_mapping != 0
}

/// Refreshes the container's mapping, and gives the planned flow its external port. Returns false
/// if there is no mapping.
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

/// Puts the mapping in the place of the planned flow. The mapping is created first, as a flow is;
/// [`resume_flow`] then returns to the flow.
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

/// Returns to the planned flow, which gets the external port of the created mapping.
#[inline(always)]
pub fn resume_flow<A: Address>(scratch: &mut Scratch<A>) {
    let Scratch { packet, new_flow, original_tuple, entry, .. } = scratch;
    let Tuple { source, source_port, .. } = entry.translation.tuple;
    packet.tuple = *original_tuple;
    new_flow.translated = Tuple { source, source_port, side: Side::UPLINK, ..*original_tuple };
}

/// Mappings that a container may have at once: an eighth of all ports, because its neighbours need
/// some too.
pub(crate) const MAX_MAPPINGS_PER_CONTAINER: u32 = 1 << 13;

/// Whether the port of `reply_key` is not available: to a flow, because it belongs to a mapping of
/// another one; to a mapping, because a publish has it.
#[inline(always)]
pub(crate) fn port_conflicts<A: Address>(
    refreshes_mapping: bool,
    reply_key: &Tuple<A>,
    now: Ticks,
    env: &impl Env<A>,
) -> bool {
    if reply_key.side == Side::MAPPING {
        return env.published(reply_key).is_some();
    }
    if refreshes_mapping || !mappings_enabled(reply_key.protocol, env) {
        return false;
    }
    let key = external_key(reply_key);
    env.flow(&key).is_some() && !reap_if_expired(env, &key, now)
}

/// Looks up the mapping that a packet from outside arrives at. Writes the internal address and port
/// to `translated`, and returns the slot and the epoch that the mapping depends on. None if there
/// is no mapping.
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
