//! The flow table of one family: reading it, and ending flows by key.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    hash::Hash,
    net::{IpAddr, SocketAddr},
};

use anyhow::Context as _;
use aya::{
    maps::{self, Array, Map, MapData, MapFd, MapInfo},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use causeway_api::types::flow::FlowState;
use causeway_common::{
    abi::{
        FlowEntry, maps as names, programs,
        state::State,
        time::{self, Ticks},
    },
    flow::collect::{self, Collect},
    wire::{
        address::Port,
        ethernet::ETHERNET,
        tuple::{Echo, Side, Tuple},
    },
};
use nix::time::{ClockId, clock_gettime};

use super::{address::Ip, batch, raw::Raw};
use crate::datapath::{pins::Pins, types::FlowRecord};

type FlowMap<A> = maps::HashMap<MapData, Raw<Tuple<A>>, Raw<FlowEntry<A>>>;

/// The flow table, and the program that removes flows. It checks again whether they have ended, and
/// takes them off their owners' counts.
pub(in crate::datapath) struct FlowEntries<A: Ip> {
    entries: u32,
    fd: MapFd,
    flows: FlowMap<A>,
    begun: MapFd,
    begun_counters: Array<MapData, u64>,
    epochs: Array<MapData, u32>,
    collect: SchedClassifier,
}

impl<A: Ip> FlowEntries<A> {
    /// Opens both. The program is pinned for a moment to get a second handle of it.
    pub(in crate::datapath) fn open(
        program: &mut SchedClassifier,
        pins: &Pins,
    ) -> anyhow::Result<Self> {
        let map = |name: &str| {
            MapData::from_pin(pins.map(name)).with_context(|| format!("opening the map '{name}'"))
        };
        let pin = pins.link(programs::FLOW_GC);
        let _ = fs::remove_file(&pin);
        program.pin(&pin).with_context(|| format!("pinning {}", pin.display()))?;
        let collect = SchedClassifier::from_pin(&pin);
        fs::remove_file(&pin).with_context(|| format!("removing {}", pin.display()))?;
        let table = MapInfo::from_pin(pins.map(A::MAPS.flows))?;
        Ok(Self {
            entries: table.max_entries(),
            fd: table.fd()?,
            flows: FlowMap::try_from(Map::HashMap(map(A::MAPS.flows)?))?,
            begun: MapInfo::from_pin(pins.map(A::MAPS.age_ring))?.fd()?,
            begun_counters: Array::try_from(Map::Array(map(A::MAPS.age_ring_ends)?))?,
            epochs: Array::try_from(Map::Array(map(names::EPOCHS)?))?,
            collect: collect.context("opening the program 'flow_gc'")?,
        })
    }

    /// Capacity in entries: two per flow.
    pub(in crate::datapath) fn room(&self) -> u32 {
        self.entries
    }

    /// Appends the live flows.
    pub(in crate::datapath) fn list(&self, records: &mut Vec<FlowRecord>) -> anyhow::Result<()> {
        records.extend(self.live()?.into_iter().map(|(_, record)| record));
        Ok(())
    }

    /// Ends the live flows for which `wanted` is true. Returns their number.
    pub(in crate::datapath) fn end_live(
        &self,
        wanted: impl Fn(&FlowRecord) -> bool,
    ) -> anyhow::Result<u64> {
        let live = self.live()?;
        self.remove(
            live.iter().filter(|(_, record)| wanted(record)).map(|(key, _)| *key).collect(),
            Collect::Any,
        )
    }

    /// Ends all flows. Returns their number.
    pub(in crate::datapath) fn flush(&self) -> anyhow::Result<u64> {
        self.end(|_, _| true)
    }

    /// Ends the flows from or to an interface. Returns their number.
    pub(in crate::datapath) fn end_of_interface(&self, index: u32) -> anyhow::Result<u64> {
        self.end(|_, entry| entry.translation.output == index || entry.input == index)
    }

    /// Ends the flows from or to one of these addresses, translated or not. Returns their number.
    pub(in crate::datapath) fn end_of_addresses(
        &self,
        addresses: &BTreeSet<IpAddr>,
    ) -> anyhow::Result<u64> {
        self.end(|key, _| {
            [key.source, key.destination].iter().any(|address| addresses.contains(&address.ip()))
        })
    }

    /// Ends the flows of which either entry is `wanted`.
    fn end(&self, wanted: impl Fn(&Tuple<A>, &FlowEntry<A>) -> bool) -> anyhow::Result<u64> {
        let entries = self.entries()?;
        self.remove(
            entries.iter().filter(|(key, entry)| wanted(key, entry)).map(|(key, _)| *key).collect(),
            Collect::Any,
        )
    }

    /// The live flows, with the keys of their forward entries.
    fn live(&self) -> anyhow::Result<Vec<(Tuple<A>, FlowRecord)>> {
        let now = now()?;
        let entries = self.entries()?;
        let mut live = Vec::new();
        for (key, forward) in &entries {
            // Host flows are not listed.
            if forward.is_reply != 0
                || key.side == Side::HOST
                || self.epoch(forward)? != forward.epoch
            {
                continue;
            }
            let reply = entries.get(&forward.translation.tuple.reversed());
            let left = time_left(forward, now).max(reply.and_then(|reply| time_left(reply, now)));
            if let Some(left) = left {
                live.push((*key, record(key, forward, reply, left)));
            }
        }
        Ok(live)
    }

    /// Removes expired and stale flows. Returns their number.
    pub(in crate::datapath) fn collect(&self) -> anyhow::Result<u64> {
        let now = now()?;
        let entries = self.entries()?;
        let (mut ended, mut lost) = (Vec::new(), Vec::new());
        for (key, entry, other) in flows(&entries) {
            if entry.is_reply == 0 && other.is_none() {
                // The reply entry is inserted first, so a forward entry without one has lost it to
                // another CPU that removed an expired flow.
                lost.push(*key);
            } else if self.epoch(entry)? != entry.epoch
                || is_over(entry, now) && other.is_none_or(|(_, other)| is_over(other, now))
            {
                ended.push(*key);
            }
        }
        // The other entry may have been inserted since the table was read.
        lost.retain(|key| {
            let other = entries[key].translation.tuple.reversed();
            self.flows.get(&Raw(other), 0).is_err()
        });
        Ok(self.remove(ended, Collect::Ended)? + self.remove(lost, Collect::Any)?)
    }

    fn remove(&self, keys: Vec<Tuple<A>>, which: Collect) -> anyhow::Result<u64> {
        let keys = if keys.len() < MANY { keys } else { youngest_first(keys, &self.ring()?) };
        let mut frame = Vec::new();
        let mut removed = 0;
        for keys in keys.chunks(collect::KEYS_PER_RUN) {
            frame.clear();
            frame.resize(ETHERNET, 0);
            frame[..2].copy_from_slice(&[which as u8, A::VERSION]);
            frame.extend_from_slice(bytemuck::cast_slice(keys));
            let result = self
                .collect
                .test_run(TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() })
                .context("running the program 'flow_gc'")?;
            removed += u64::from(result.return_value);
        }
        Ok(removed)
    }

    /// The keys in the age ring, oldest first.
    fn ring(&self) -> anyhow::Result<Vec<Tuple<A>>> {
        let mut ring = Vec::new();
        batch::for_each(&self.begun, |_: u32, key| ring.push(key))
            .context("reading the age ring")?;
        let next = self.begun_counters.get(&0, 0).context("reading the ends of the age ring")?;
        let oldest = next as usize % ring.len().max(1);
        ring.rotate_left(oldest);
        Ok(ring)
    }

    fn entries(&self) -> anyhow::Result<HashMap<Tuple<A>, FlowEntry<A>>> {
        batch::entries(&self.fd).context("reading the flow table")
    }

    fn epoch(&self, entry: &FlowEntry<A>) -> anyhow::Result<u32> {
        self.epochs
            .get(&entry.slot, 0)
            .with_context(|| format!("reading the epoch of slot {}", entry.slot))
    }
}

/// From this number of flows on the order of their removal matters.
const MANY: usize = 1024;

/// Orders keys for removal, youngest flow first. The kernel reuses the elements that were freed
/// last, so the entries of flows that start together lie together afterwards, as in a new table.
/// Removed in the order of the hash table, a thousand flows would later lie on two thousand pages,
/// more than the TLB holds.
fn youngest_first<K: Copy + Eq + Hash>(keys: Vec<K>, ring: &[K]) -> Vec<K> {
    let mut left: HashSet<K> = keys.into_iter().collect();
    let mut ordered: Vec<K> = ring.iter().rev().filter(|key| left.remove(key)).copied().collect();
    ordered.extend(left);
    ordered
}

/// Each flow once: the key of its forward entry, that entry, and the reply entry; or a reply entry
/// whose forward entry is gone.
fn flows<A: Ip>(entries: &HashMap<Tuple<A>, FlowEntry<A>>) -> impl Iterator<Item = FlowOf<'_, A>> {
    entries.iter().filter_map(|(key, entry)| {
        let other = entries.get_key_value(&entry.translation.tuple.reversed());
        let comes_with_other =
            other.is_some_and(|(_, other)| other.translation.tuple.reversed() == *key);
        (entry.is_reply == 0 || !comes_with_other).then_some((key, entry, other))
    })
}

type FlowOf<'h, A> = (&'h Tuple<A>, &'h FlowEntry<A>, Option<(&'h Tuple<A>, &'h FlowEntry<A>)>);

fn now() -> anyhow::Result<Ticks> {
    let time =
        clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).context("reading the monotonic clock")?;
    let nanoseconds =
        time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned();
    Ok((nanoseconds >> time::TICK_SHIFT) as Ticks)
}

fn is_over<A>(entry: &FlowEntry<A>, now: Ticks) -> bool {
    time_left(entry, now).is_none()
}

/// Ticks until the entry expires; none if it has.
fn time_left<A>(entry: &FlowEntry<A>, now: Ticks) -> Option<Ticks> {
    let idle = now.wrapping_sub(entry.last_used).cast_signed().max(0).cast_unsigned();
    entry.timeout.checked_sub(idle)
}

fn record<A: Ip>(
    key: &Tuple<A>,
    forward: &FlowEntry<A>,
    reply: Option<&FlowEntry<A>>,
    left: Ticks,
) -> FlowRecord {
    let leaves = &forward.translation.tuple;
    let mapping = key.side == Side::MAPPING;
    let masqueraded = key.side == Side::CONTAINER && leaves.side == Side::UPLINK;
    let state = State::from_number(forward.state).map_or(FlowState::Unknown, FlowState::from);
    FlowRecord {
        protocol: key.protocol,
        // A mapping has no remote side: its reply is the external address and port.
        state: if mapping { FlowState::Mapping } else { state },
        container: (if masqueraded || mapping { key.source } else { leaves.destination }).ip(),
        forward: ends(key),
        reply: ends(&leaves.reversed()),
        packets: forward.packets + reply.map_or(0, |reply| reply.packets),
        bytes: forward.bytes + reply.map_or(0, |reply| reply.bytes),
        expires_in_s: time::seconds(left),
    }
}

/// Source and destination. The port of both is the identifier for an ICMP echo.
fn ends<A: Ip>(tuple: &Tuple<A>) -> (SocketAddr, SocketAddr) {
    let identifier = Port::from_word(tuple.source_port.word() | tuple.destination_port.word());
    let (source, destination) = match tuple.echo {
        Echo::NONE => (tuple.source_port, tuple.destination_port),
        _ => (identifier, identifier),
    };
    (
        SocketAddr::new(tuple.source.ip(), source.get()),
        SocketAddr::new(tuple.destination.ip(), destination.get()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_are_first_and_unrecorded_last() {
        // 3 is in the ring twice, and 9 has ended.
        let ordered = youngest_first(vec![1, 2, 3, 4, 7], &[3, 1, 9, 2, 3, 4]);
        assert_eq!(ordered, [4, 3, 2, 1, 7]);
        assert_eq!(youngest_first(vec![5], &[]), [5]);
    }
}
