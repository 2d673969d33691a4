//! The flow table as a whole: listed, flushed, swept.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use anyhow::Context as _;
use aya::maps::{Array, HashMap, Map, MapData};
use causeway_common::{
    abi::{Flow, name},
    address::{Port, V4},
    flow::{self, State, Ticks},
    tuple::{Tuple, protocol, side},
};
use nix::time::{ClockId, clock_gettime};

use super::{
    FlowRecord,
    abi::Raw,
    pins::Pins,
    tables::{FlowMap, Tables, ip},
};

/// The live flows.
pub(super) fn list(tables: &Tables) -> anyhow::Result<Vec<FlowRecord>> {
    let now = now()?;
    let flows = &tables.v4().flows;
    let mut records = Vec::new();
    for key in keys(flows)? {
        let Ok(Raw(forward)) = flows.get(&Raw(key), 0) else { continue };
        if forward.is_reply != 0 || tables.epoch(forward.slot)? != forward.epoch {
            continue;
        }
        let reply = flows.get(&Raw(forward.translation.tuple.reversed()), 0).ok().map(|half| half.0);
        let left = time_left(&forward, now).max(reply.and_then(|reply| time_left(&reply, now)));
        if let Some(left) = left {
            records.push(record(&key, &forward, reply.as_ref(), left));
        }
    }
    Ok(records)
}

/// Ends every flow; answers how many.
pub(super) fn flush(tables: &mut Tables) -> anyhow::Result<u64> {
    end(tables, |_| true)
}

/// Ends the flows that come or go by an interface; answers how many.
pub(super) fn end_of_interface(tables: &mut Tables, index: u32) -> anyhow::Result<u64> {
    end(tables, |half| half.translation.output == index || half.input == index)
}

/// Ends the flows of which one half or the other is `wanted`.
fn end(tables: &mut Tables, wanted: impl Fn(&Flow<V4>) -> bool) -> anyhow::Result<u64> {
    let flows = &mut tables.v4_mut().flows;
    let mut ended = 0;
    for key in keys(flows)? {
        let Ok(Raw(half)) = flows.get(&Raw(key), 0) else { continue };
        if wanted(&half) {
            // One that its own packets removed meanwhile is ended all the same.
            let removed = [key, half.translation.tuple.reversed()].map(|key| flows.remove(&Raw(key)).is_ok());
            ended += u64::from(removed.contains(&true));
        }
    }
    Ok(ended)
}

/// A thread that frees the entries of ended flows: a full table takes it a good part of a second, which no request waits for.
#[derive(Debug)]
pub(super) struct Sweeper {
    wake: SyncSender<()>,
}

impl Sweeper {
    /// Starts the thread, with maps of its own.
    pub(super) fn start(pins: &Pins) -> anyhow::Result<Self> {
        let open = |name: &str| MapData::from_pin(pins.map(name)).with_context(|| format!("opening the map '{name}'"));
        let mut flows: FlowMap<V4> = HashMap::try_from(Map::HashMap(open(name::FLOWS4)?))?;
        let epochs: Array<_, u32> = Array::try_from(Map::Array(open(name::EPOCHS)?))?;
        let (wake, woken) = sync_channel(1);
        thread::Builder::new()
            .name("sweeper".to_owned())
            .spawn(move || {
                while woken.recv().is_ok() {
                    match sweep(&mut flows, &epochs) {
                        Ok(0) => {}
                        Ok(freed) => tracing::debug!(freed, "swept the flow table"),
                        Err(error) => tracing::warn!("sweeping the flow table: {error:#}; it is tried again"),
                    }
                }
            })
            .context("starting the thread that sweeps the flow table")?;
        Ok(Self { wake })
    }

    /// Wakes the thread. One that is at it still will look again afterwards.
    pub(super) fn sweep(&self) {
        let _ = self.wake.try_send(());
    }
}

fn sweep(flows: &mut FlowMap<V4>, epochs: &Array<MapData, u32>) -> anyhow::Result<u64> {
    let mut freed = 0;
    for key in keys(flows)? {
        let now = now()?;
        let Ok(Raw(half)) = flows.get(&Raw(key), 0) else { continue };
        let other_key = half.translation.tuple.reversed();
        let stale = epochs.get(&half.slot, 0).context("reading an epoch")? != half.epoch;
        let other = flows.get(&Raw(other_key), 0).ok();
        // The reply half is inserted first: a forward half alone has lost it to another CPU that cleared up.
        let lost = half.is_reply == 0 && other.is_none();
        let ended = time_left(&half, now).is_none() && other.is_none_or(|other| time_left(&other.0, now).is_none());
        // A packet may use the flow again between the look and the removal: it is as if it had come a moment later.
        if stale || ended || lost {
            let _ = flows.remove(&Raw(key));
            let _ = flows.remove(&Raw(other_key));
            freed += 1;
        }
    }
    Ok(freed)
}

/// How many steps a walk through the table may take: entries that come and go meanwhile can make the kernel start over.
const STEPS: usize = 1 << 22;

/// Every key once.
fn keys(flows: &FlowMap<V4>) -> anyhow::Result<HashSet<Tuple<V4>>> {
    let keys = flows.keys().take(STEPS).map(|key| Ok(key.context("walking through the flow table")?.0));
    keys.collect()
}

fn now() -> anyhow::Result<Ticks> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).context("reading the monotonic clock")?;
    let nanoseconds = time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned();
    Ok((nanoseconds >> flow::TICK_SHIFT) as Ticks)
}

/// None if its time is over.
fn time_left(half: &Flow<V4>, now: Ticks) -> Option<Ticks> {
    let idle = now.wrapping_sub(half.last_used).cast_signed().max(0).cast_unsigned();
    half.timeout.checked_sub(idle)
}

fn record(key: &Tuple<V4>, forward: &Flow<V4>, reply: Option<&Flow<V4>>, left: Ticks) -> FlowRecord {
    let leaves = &forward.translation.tuple;
    let masqueraded = key.side == side::CONTAINER && leaves.side == side::UPLINK;
    FlowRecord {
        protocol: key.protocol,
        state: State::from_number(forward.state).map_or("unknown", State::name),
        container: ip(if masqueraded { key.source } else { leaves.destination }),
        forward: ends(key),
        reply: ends(&leaves.reversed()),
        packets: forward.packets + reply.map_or(0, |reply| reply.packets),
        bytes: forward.bytes + reply.map_or(0, |reply| reply.bytes),
        expires_in_s: flow::seconds(left),
    }
}

/// Source and destination; both with the identifier for an ICMP echo.
fn ends(tuple: &Tuple<V4>) -> (SocketAddr, SocketAddr) {
    let identifier = Port::from_word(tuple.source_port.word() | tuple.destination_port.word());
    let (source, destination) = match tuple.protocol {
        protocol::ICMP => (identifier, identifier),
        _ => (tuple.source_port, tuple.destination_port),
    };
    (SocketAddr::new(ip(tuple.source), source.get()), SocketAddr::new(ip(tuple.destination), destination.get()))
}
