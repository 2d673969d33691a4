//! The flow table of one family: walked through, and ended by key.

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
        tuple::{Tuple, echo, side},
    },
};
use nix::time::{ClockId, clock_gettime};

use super::{address::Ip, batch, raw::Raw};
use crate::datapath::{pins::Pins, types::FlowRecord};

type FlowMap<A> = maps::HashMap<MapData, Raw<Tuple<A>>, Raw<FlowEntry<A>>>;

/// The halves of flows, and the program that removes flows: it gives back what they count for, and
/// looks again whether they have ended.
pub(in crate::datapath) struct Halves<A: Ip> {
    entries: u32,
    fd: MapFd,
    flows: FlowMap<A>,
    begun: MapFd,
    begun_counters: Array<MapData, u64>,
    epochs: Array<MapData, u32>,
    sweep: SchedClassifier,
}

impl<A: Ip> Halves<A> {
    /// Opens both. The program is pinned for a moment: that is how a second name for it is had.
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
        let sweep = SchedClassifier::from_pin(&pin);
        fs::remove_file(&pin).with_context(|| format!("removing {}", pin.display()))?;
        let table = MapInfo::from_pin(pins.map(A::MAPS.flows))?;
        Ok(Self {
            entries: table.max_entries(),
            fd: table.fd()?,
            flows: FlowMap::try_from(Map::HashMap(map(A::MAPS.flows)?))?,
            begun: MapInfo::from_pin(pins.map(A::MAPS.age_ring))?.fd()?,
            begun_counters: Array::try_from(Map::Array(map(A::MAPS.age_ring_ends)?))?,
            epochs: Array::try_from(Map::Array(map(names::EPOCHS)?))?,
            sweep: sweep.context("opening the program 'sweep'")?,
        })
    }

    /// How many there is room for: two for each flow.
    pub(in crate::datapath) fn room(&self) -> u32 {
        self.entries
    }

    /// Appends the live flows.
    pub(in crate::datapath) fn list(&self, records: &mut Vec<FlowRecord>) -> anyhow::Result<()> {
        records.extend(self.live()?.into_iter().map(|(_, record)| record));
        Ok(())
    }

    /// Ends the live flows that are `wanted`; answers how many.
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

    /// Ends every flow; answers how many.
    pub(in crate::datapath) fn flush(&self) -> anyhow::Result<u64> {
        self.end(|_, _| true)
    }

    /// Ends the flows that come or go by an interface; answers how many.
    pub(in crate::datapath) fn end_of_interface(&self, index: u32) -> anyhow::Result<u64> {
        self.end(|_, half| half.translation.output == index || half.input == index)
    }

    /// Ends the flows that come from or go to one of those addresses, translated or not; answers
    /// how many.
    pub(in crate::datapath) fn end_of_addresses(
        &self,
        addresses: &BTreeSet<IpAddr>,
    ) -> anyhow::Result<u64> {
        self.end(|key, _| {
            [key.source, key.destination].iter().any(|address| addresses.contains(&address.ip()))
        })
    }

    /// Ends the flows of which one half or the other is `wanted`.
    fn end(&self, wanted: impl Fn(&Tuple<A>, &FlowEntry<A>) -> bool) -> anyhow::Result<u64> {
        let halves = self.halves()?;
        self.remove(
            halves.iter().filter(|(key, half)| wanted(key, half)).map(|(key, _)| *key).collect(),
            Collect::Any,
        )
    }

    /// The live flows, with the keys of their forward halves.
    fn live(&self) -> anyhow::Result<Vec<(Tuple<A>, FlowRecord)>> {
        let now = now()?;
        let halves = self.halves()?;
        let mut live = Vec::new();
        for (key, forward) in &halves {
            // Flows of the host itself are not shown.
            if forward.is_reply != 0
                || key.side == side::HOST
                || self.epoch(forward)? != forward.epoch
            {
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

    /// Frees the entries of flows that have ended; answers how many.
    pub(in crate::datapath) fn sweep(&self) -> anyhow::Result<u64> {
        let now = now()?;
        let halves = self.halves()?;
        let (mut ended, mut lost) = (Vec::new(), Vec::new());
        for (key, half, other) in flows(&halves) {
            if half.is_reply == 0 && other.is_none() {
                // The reply half is inserted first: a forward half alone has lost it to another CPU
                // that cleared up.
                lost.push(*key);
            } else if self.epoch(half)? != half.epoch
                || is_over(half, now) && other.is_none_or(|(_, other)| is_over(other, now))
            {
                ended.push(*key);
            }
        }
        // One that was just beginning has got its other half since.
        lost.retain(|key| {
            let other = halves[key].translation.tuple.reversed();
            self.flows.get(&Raw(other), 0).is_err()
        });
        Ok(self.remove(ended, Collect::Ended)? + self.remove(lost, Collect::Any)?)
    }

    fn remove(&self, keys: Vec<Tuple<A>>, which: Collect) -> anyhow::Result<u64> {
        let keys = if keys.len() < MANY { keys } else { last_begun_first(keys, &self.noted()?) };
        let mut frame = Vec::new();
        let mut removed = 0;
        for keys in keys.chunks(collect::KEYS_PER_RUN) {
            frame.clear();
            frame.resize(ETHERNET, 0);
            frame[..2].copy_from_slice(&[which as u8, A::VERSION]);
            frame.extend_from_slice(bytemuck::cast_slice(keys));
            let result = self
                .sweep
                .test_run(TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() })
                .context("running the program 'sweep'")?;
            removed += u64::from(result.return_value);
        }
        Ok(removed)
    }

    /// The keys of the flows that began, the oldest first; those that were overwritten are missing.
    fn noted(&self) -> anyhow::Result<Vec<Tuple<A>>> {
        let mut noted = Vec::new();
        batch::for_each(&self.begun, |_: u32, key| noted.push(key))
            .context("reading which flows began")?;
        let next = self.begun_counters.get(&0, 0).context("reading how many flows began")?;
        let oldest = next as usize % noted.len().max(1);
        noted.rotate_left(oldest);
        Ok(noted)
    }

    fn halves(&self) -> anyhow::Result<HashMap<Tuple<A>, FlowEntry<A>>> {
        batch::entries(&self.fd).context("reading the flow table")
    }

    fn epoch(&self, half: &FlowEntry<A>) -> anyhow::Result<u32> {
        self.epochs
            .get(&half.slot, 0)
            .with_context(|| format!("reading the epoch of slot {}", half.slot))
    }
}

/// How many flows must end at once for their order to matter.
const MANY: usize = 1024;

/// Puts keys in the order in which flows are to be removed: the kernel hands out again what was
/// given back last, so the entries of flows that begin together lie together then, as they did in a
/// new table. In the table's own order, which is anything, a thousand flows would come to lie on
/// two thousand pages, more than a processor has at hand, and every packet would wait for that.
fn last_begun_first<K: Copy + Eq + Hash>(keys: Vec<K>, noted: &[K]) -> Vec<K> {
    let mut left: HashSet<K> = keys.into_iter().collect();
    let mut ordered: Vec<K> = noted.iter().rev().filter(|key| left.remove(key)).copied().collect();
    ordered.extend(left);
    ordered
}

/// Every flow once: the key of its forward half, that half, and the other; or a reply half that is
/// left of another flow.
fn flows<A: Ip>(halves: &HashMap<Tuple<A>, FlowEntry<A>>) -> impl Iterator<Item = FlowOf<'_, A>> {
    halves.iter().filter_map(|(key, half)| {
        let other = halves.get_key_value(&half.translation.tuple.reversed());
        let comes_with_other =
            other.is_some_and(|(_, other)| other.translation.tuple.reversed() == *key);
        (half.is_reply == 0 || !comes_with_other).then_some((key, half, other))
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

fn is_over<A>(half: &FlowEntry<A>, now: Ticks) -> bool {
    time_left(half, now).is_none()
}

/// None if its time is over.
fn time_left<A>(half: &FlowEntry<A>, now: Ticks) -> Option<Ticks> {
    let idle = now.wrapping_sub(half.last_used).cast_signed().max(0).cast_unsigned();
    half.timeout.checked_sub(idle)
}

fn record<A: Ip>(
    key: &Tuple<A>,
    forward: &FlowEntry<A>,
    reply: Option<&FlowEntry<A>>,
    left: Ticks,
) -> FlowRecord {
    let leaves = &forward.translation.tuple;
    let mapping = key.side == side::MAPPING;
    let masqueraded = key.side == side::CONTAINER && leaves.side == side::UPLINK;
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

/// Source and destination; both with the identifier for an ICMP echo.
fn ends<A: Ip>(tuple: &Tuple<A>) -> (SocketAddr, SocketAddr) {
    let identifier = Port::from_word(tuple.source_port.word() | tuple.destination_port.word());
    let (source, destination) = match tuple.echo {
        echo::NONE => (tuple.source_port, tuple.destination_port),
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
        // 3 began twice, and 9 is over already.
        let ordered = last_begun_first(vec![1, 2, 3, 4, 7], &[3, 1, 9, 2, 3, 4]);
        assert_eq!(ordered, [4, 3, 2, 1, 7]);
        assert_eq!(last_begun_first(vec![5], &[]), [5]);
    }
}
