//! Keys and timeouts of endpoint-independent mappings, which are kept in the flow table.

use crate::{
    abi::{
        network::Network,
        state::{State, Timer},
        time::Ticks,
    },
    env::Env,
    wire::{
        address::{Address, Port},
        protocol,
        tuple::{Echo, Side, Tuple},
    },
};

/// Key of the entry that a container's packet looks up: the internal address and port, and the
/// external address.
#[inline(always)]
pub(crate) fn internal_key<A: Address>(
    protocol: u8,
    address: A,
    port: Port,
    external: A,
) -> Tuple<A> {
    Tuple {
        source: address,
        destination: external,
        source_port: port,
        destination_port: Port::ZERO,
        protocol,
        side: Side::MAPPING,
        echo: Echo::NONE,
        _pad: 0,
    }
}

/// Key of the entry that a packet from outside looks up.
#[inline(always)]
pub(crate) fn external_key<A: Address>(arriving: &Tuple<A>) -> Tuple<A> {
    internal_key(
        arriving.protocol,
        arriving.destination,
        arriving.destination_port,
        arriving.destination,
    )
    .reversed()
}

/// State of a mapping, which never changes.
#[inline(always)]
pub(crate) const fn state(protocol: u8) -> State {
    if protocol == protocol::TCP { State::Established } else { State::Replied }
}

/// Ticks that a mapping lasts after the container's last packet: as long as any of its flows.
#[inline(always)]
pub(crate) const fn timeout(network: &Network, protocol: u8) -> Ticks {
    let (long, short) =
        (network.timeout(state(protocol), protocol), network.timeouts[Timer::Udp as usize]);
    if long > short { long } else { short }
}

/// Refreshes the mapping of a flow that the container sends a packet of. `translated` is the
/// packet's tuple as it leaves.
#[inline(always)]
pub(crate) fn refresh<A: Address>(
    packet: &Tuple<A>,
    translated: &Tuple<A>,
    now: Ticks,
    env: &impl Env<A>,
) {
    let key = internal_key(packet.protocol, packet.source, packet.source_port, translated.source);
    if let Some(mut entry) = env.flow(&key) {
        entry.last_used = now;
    }
}
