//! The flow table as a whole: listed, flushed, swept.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use anyhow::Context as _;
use aya::{
    maps::{Array, Map, MapData, MapFd, MapInfo},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use causeway_common::{
    abi::{Flow, name},
    address::{Port, V4},
    flow::{self, State, Ticks},
    packet::ETHERNET,
    sweep::{self, Which},
    tuple::{Tuple, protocol, side},
};
use nix::time::{ClockId, clock_gettime};

use super::{
    FlowRecord,
    abi::Raw,
    batch,
    pins::Pins,
    tables::{FlowMap, ip},
};

/// The flow table, and the program that removes flows from it: it gives back what they count for, and looks again whether they have ended.
pub(super) struct FlowTable {
    /// Two for each flow.
    entries: u32,
    fd: MapFd,
    flows: FlowMap<V4>,
    epochs: Array<MapData, u32>,
    sweep: SchedClassifier,
}

impl FlowTable {
    /// Opens both. The program is pinned for a moment: that is how a second name for it is had.
    pub(super) fn open(program: &mut SchedClassifier, pins: &Pins) -> anyhow::Result<Self> {
        let map = |name: &str| MapData::from_pin(pins.map(name)).with_context(|| format!("opening the map '{name}'"));
        let pin = pins.link(name::SWEEP);
        let _ = fs::remove_file(&pin);
        program.pin(&pin).with_context(|| format!("pinning {}", pin.display()))?;
        let sweep = SchedClassifier::from_pin(&pin);
        fs::remove_file(&pin).with_context(|| format!("removing {}", pin.display()))?;
        let table = MapInfo::from_pin(pins.map(name::V4.flows))?;
        Ok(Self {
            entries: table.max_entries(),
            fd: table.fd()?,
            flows: aya::maps::HashMap::try_from(Map::HashMap(map(name::V4.flows)?))?,
            epochs: Array::try_from(Map::Array(map(name::EPOCHS)?))?,
            sweep: sweep.context("opening the program 'sweep'")?,
        })
    }

    /// How many flows there is room for.
    pub(super) fn room(&self) -> u32 {
        self.entries / 2
    }

    /// The live flows.
    pub(super) fn list(&self) -> anyhow::Result<Vec<FlowRecord>> {
        let mut records: Vec<_> = self.live()?.into_iter().map(|(_, record)| record).collect();
        records.sort_by_key(|record| (record.container, record.protocol, record.forward, record.reply));
        Ok(records)
    }

    /// Ends the live flows that are `wanted`; answers how many.
    pub(super) fn end_live(&self, wanted: impl Fn(&FlowRecord) -> bool) -> anyhow::Result<u64> {
        let live = self.live()?;
        self.remove(live.iter().filter(|(_, record)| wanted(record)).map(|(key, _)| *key), Which::Any)
    }

    /// The live flows, with the keys of their forward halves.
    fn live(&self) -> anyhow::Result<Vec<(Tuple<V4>, FlowRecord)>> {
        let now = now()?;
        let halves = self.halves()?;
        let mut live = Vec::new();
        for (key, forward) in &halves {
            // The host's own are nobody's business.
            if forward.is_reply != 0 || key.side == side::HOST || self.epoch(forward)? != forward.epoch {
                continue;
            }
            let reply = halves.get(&forward.translation.tuple.reversed());
            let left = time_left(forward, now).max(reply.and_then(|reply| time_left(reply, now)));
            if let Some(left) = left {
                live.push((*key, record(key, forward, reply, left)));
            }
        }
        Ok(live)
    }

    /// Ends every flow; answers how many.
    pub(super) fn flush(&self) -> anyhow::Result<u64> {
        self.end(|_| true)
    }

    /// Ends the flows that come or go by an interface; answers how many.
    pub(super) fn end_of_interface(&self, index: u32) -> anyhow::Result<u64> {
        self.end(|half| half.translation.output == index || half.input == index)
    }

    /// Ends the flows of which one half or the other is `wanted`.
    fn end(&self, wanted: impl Fn(&Flow<V4>) -> bool) -> anyhow::Result<u64> {
        let halves = self.halves()?;
        self.remove(halves.iter().filter(|(_, half)| wanted(half)).map(|(key, _)| *key), Which::Any)
    }

    /// Frees the entries of flows that have ended; answers how many.
    fn sweep(&self) -> anyhow::Result<u64> {
        let now = now()?;
        let halves = self.halves()?;
        let (mut ended, mut lost) = (Vec::new(), Vec::new());
        for (key, half) in &halves {
            let other = halves.get(&half.translation.tuple.reversed());
            if half.is_reply == 0 && other.is_none() {
                // The reply half is inserted first: a forward half alone has lost it to another CPU that cleared up.
                lost.push(*key);
            } else if self.epoch(half)? != half.epoch
                || is_over(half, now) && other.is_none_or(|other| is_over(other, now))
            {
                ended.push(*key);
            }
        }
        // One that was just beginning has got its other half since.
        lost.retain(|key| {
            let other = halves[key].translation.tuple.reversed();
            self.flows.get(&Raw(other), 0).is_err()
        });
        Ok(self.remove(ended.into_iter(), Which::Ended)? + self.remove(lost.into_iter(), Which::Any)?)
    }

    fn remove(&self, keys: impl Iterator<Item = Tuple<V4>>, which: Which) -> anyhow::Result<u64> {
        let mut frame = Vec::new();
        let mut removed = 0;
        let mut keys = keys.peekable();
        while keys.peek().is_some() {
            frame.clear();
            frame.resize(ETHERNET, 0);
            frame[0] = which as u8;
            for key in keys.by_ref().take(sweep::KEYS) {
                frame.extend_from_slice(bytemuck::bytes_of(&key));
            }
            let result = self
                .sweep
                .test_run(TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() })
                .context("running the program 'sweep'")?;
            removed += u64::from(result.return_value);
        }
        Ok(removed)
    }

    fn halves(&self) -> anyhow::Result<HashMap<Tuple<V4>, Flow<V4>>> {
        batch::entries(&self.fd)
    }

    fn epoch(&self, half: &Flow<V4>) -> anyhow::Result<u32> {
        self.epochs.get(&half.slot, 0).with_context(|| format!("reading the epoch of slot {}", half.slot))
    }
}

/// A thread that frees the entries of ended flows: a full table takes it a good part of a second, which no request waits for.
#[derive(Debug)]
pub(super) struct Sweeper {
    wake: SyncSender<()>,
}

impl Sweeper {
    /// Starts the thread.
    pub(super) fn start(flows: FlowTable) -> anyhow::Result<Self> {
        let (wake, woken) = sync_channel(1);
        thread::Builder::new()
            .name("sweeper".to_owned())
            .spawn(move || {
                while woken.recv().is_ok() {
                    match flows.sweep() {
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

fn now() -> anyhow::Result<Ticks> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).context("reading the monotonic clock")?;
    let nanoseconds = time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned();
    Ok((nanoseconds >> flow::TICK_SHIFT) as Ticks)
}

fn is_over(half: &Flow<V4>, now: Ticks) -> bool {
    time_left(half, now).is_none()
}

/// None if its time is over.
fn time_left(half: &Flow<V4>, now: Ticks) -> Option<Ticks> {
    let idle = now.wrapping_sub(half.last_used).cast_signed().max(0).cast_unsigned();
    half.timeout.checked_sub(idle)
}

/// The state of a full-cone mapping, which is kept as a flow without another side: its reply is the external address and port.
const MAPPING_STATE: &str = "mapping";

fn record(key: &Tuple<V4>, forward: &Flow<V4>, reply: Option<&Flow<V4>>, left: Ticks) -> FlowRecord {
    let leaves = &forward.translation.tuple;
    let mapping = key.side == side::MAPPING;
    let masqueraded = key.side == side::CONTAINER && leaves.side == side::UPLINK;
    let state = State::from_number(forward.state).map_or("unknown", State::name);
    FlowRecord {
        protocol: key.protocol,
        state: if mapping { MAPPING_STATE } else { state },
        container: ip(if masqueraded || mapping { key.source } else { leaves.destination }),
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
