//! Fragmented datagrams. Only the first fragment has the ports, so it leaves a record of them
//! ([`Fragments`]), by which later fragments find their flow.
//!
//! Fragments arrive in any order. One that is ahead of its first is queued: a copy of its frame is
//! kept, and is reinjected where it arrived once the first has come. A fragment that the host's
//! stack or another container of the bridge may be waiting for goes on at once as well; its copy is
//! reinjected only if the first turns out to be translated.
//!
//! A datagram that leaves with another source address also leaves with another identification: two
//! containers may use the same one toward the same destination (RFC 6864 section 5.3). Records and
//! queued frames are limited, and new ones replace the oldest: a flood of fragments costs other
//! fragments, and nothing else (RFC 4787 REQ-14).

use crate::{
    abi::{
        drop_reason::{DropReason, Fate, LaterFragments},
        fragment::{Fragments, QueuedKey},
        time::{Ticks, ticks},
        translation::{Deliver, Translation},
    },
    env::{Env, FragmentStore},
    flow::fragment_context::FragmentContext,
    wire::{
        address::{Address, Port},
        packet::Packet,
        tuple::{Echo, Side, Tuple},
    },
};

/// Ticks after which an incomplete datagram is given up: 30 s, as in Linux.
pub const TIMEOUT: Ticks = ticks(30);

/// Fragments of one datagram that are queued at most.
pub const MAX_QUEUED: u32 = 64;

/// Parts of [`Fragments::state`]: in the low 32 bits the number of queued fragments, above them
/// whether the first fragment has arrived.
pub mod state {
    /// The first fragment has arrived: the record has the ports.
    pub const READY: u64 = 1 << 32;

    /// Whether the first fragment has arrived.
    #[inline(always)]
    pub const fn is_ready(state: u64) -> bool {
        state >= READY
    }

    /// Number of fragments that were queued.
    #[inline(always)]
    pub const fn queued(state: u64) -> u32 {
        state as u32
    }
}

/// Whether a translation changes later fragments too: their addresses.
#[inline(always)]
pub const fn is_translated<A>(translation: &Translation<A>) -> bool {
    matches!(translation.deliver, Deliver::CONTAINER | Deliver::UPLINK)
}

/// Whether a fragment may need its datagram's record or have to leave one, given the outcome of its
/// plan or translation.
#[inline(always)]
pub fn needs_fragment_state<A: Address>(
    packet: &Packet<A>,
    outcome: Result<(), DropReason>,
    env: &impl Env<A>,
) -> bool {
    if packet.tuple.side == Side::CONTAINER {
        return match outcome {
            Ok(()) => true,
            Err(reason) => reason.later_fragments() == LaterFragments::ByRecord,
        };
    }
    // Without masquerade, replies are addressed to the containers themselves.
    env.is_local(&packet.tuple.destination) || env.endpoint(&packet.tuple.destination).is_some()
}

/// Whether a later fragment with that plan goes on without its datagram's ports.
#[inline(always)]
pub fn goes_on(planned: Result<(), DropReason>) -> bool {
    match planned {
        Ok(()) => true,
        Err(reason) => matches!(reason.fate(), Fate::Punt),
    }
}

/// Records the ports of a first fragment, and the identification that its datagram leaves with.
/// Returns the number of fragments that were queued for it, at most [`MAX_QUEUED`]: the caller
/// releases them.
///
/// Race: another CPU may replace the record by another datagram's while it is written. At worst one
/// fragment of that datagram finds no flow.
#[inline(always)]
pub fn record<A: Address>(
    packet: &Packet<A>,
    leaves: Option<&Translation<A>>,
    context: &mut FragmentContext<A>,
    env: &(impl Env<A> + FragmentStore<A>),
) -> u32 {
    let source_stays =
        leaves.is_none_or(|translation| translation.tuple.source == packet.tuple.source);
    context.id = if source_stays { packet.id } else { env.random() };
    let now = env.now();
    let datagram = &context.key.datagram;
    // Twice, because a later fragment may insert a record between the lookup and the insert.
    for _ in 0..2 {
        if let Some(mut record) = env.datagram(datagram) {
            if !is_over(&record, now) {
                // A duplicate of the first fragment keeps the identification: with another one it
                // would be of another datagram.
                if state::is_ready(env.add_to_state(&mut record, 0))
                    && has_ports_of(&record, &packet.tuple)
                {
                    context.id = record.id;
                } else {
                    set_ports(&mut record, &packet.tuple);
                    record.id = context.id;
                }
                record.since = now;
                // Last, and in one atomic step with the count: a fragment that is counted after
                // this sees that the record is ready.
                return state::queued(env.swap_state(&mut record, state::READY)).min(MAX_QUEUED);
            }
            drop(record);
            env.remove_datagram(datagram);
        }
        let mut record = fresh(state::READY, now);
        set_ports(&mut record, &packet.tuple);
        record.id = context.id;
        if env.insert_datagram(datagram, &record) {
            break;
        }
    }
    0
}

/// Reinjects a queued fragment, or drops it where the first fragment leaves untranslated: then it
/// has gone on already, or has nowhere to go.
#[inline(always)]
pub fn release<A: Address>(key: &QueuedKey<A>, reinject: bool, env: &impl FragmentStore<A>) {
    if reinject {
        env.reinject_queued(key);
    } else {
        env.drop_queued(key);
    }
}

/// Takes a first fragment off its flow's counters, because it is reinjected and counted again.
/// Without a lock, like all updates of these counters.
#[inline(always)]
pub fn uncount<A: Address>(packet: &Packet<A>, env: &impl Env<A>) {
    if let Some(mut entry) = env.flow(&packet.tuple) {
        entry.packets = entry.packets.wrapping_sub(1);
        entry.bytes = entry.bytes.wrapping_sub(u64::from(packet.length));
    }
}

/// Gives a later fragment the ports of its datagram's first fragment. Returns false if that has not
/// arrived.
#[inline(always)]
pub fn take_ports<A: Address>(
    packet: &mut Packet<A>,
    context: &mut FragmentContext<A>,
    env: &(impl Env<A> + FragmentStore<A>),
) -> bool {
    let Some(mut record) = env.datagram(&context.key.datagram) else { return false };
    // The state is read first, in an ordered access: if it says ready, the ports read after it are
    // complete.
    if !state::is_ready(env.add_to_state(&mut record, 0)) || is_over(&record, env.now()) {
        return false;
    }
    packet.tuple.source_port = record.source_port;
    packet.tuple.destination_port = record.destination_port;
    packet.tuple.echo = record.echo;
    context.id = record.id;
    true
}

/// Undoes [`take_ports`]: a later fragment without a flow has no ports.
#[inline(always)]
pub fn forget_ports<A: Address>(packet: &mut Packet<A>) {
    let Packet { tuple, .. } = packet;
    *tuple =
        Tuple { source_port: Port::ZERO, destination_port: Port::ZERO, echo: Echo::NONE, ..*tuple };
}

/// Outcome of queueing a fragment.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Queue {
    /// The fragment is queued.
    Queued = 1,
    /// There is no room for the fragment.
    NoRoom = 2,
    /// The first fragment arrived meanwhile, and this one is not queued.
    FirstArrived = 3,
    /// The first fragment arrived meanwhile, and took the queued copy.
    TakenByFirst = 4,
}

/// Queues a copy of a fragment that is ahead of its first.
#[inline(always)]
pub fn queue<A: Address>(
    context: &mut FragmentContext<A>,
    env: &(impl Env<A> + FragmentStore<A>),
) -> Queue {
    if !env.can_queue() {
        return Queue::NoRoom;
    }
    let now = env.now();
    let datagram = &context.key.datagram;
    let over = env.datagram(datagram).is_none_or(|record| is_over(&record, now));
    if over {
        env.remove_datagram(datagram);
        // If another CPU inserts its record first, that one is used.
        env.insert_datagram(datagram, &fresh(0, now));
    }
    let Some(mut record) = env.datagram(datagram) else { return Queue::NoRoom };
    let before = env.add_to_state(&mut record, 1);
    drop(record);
    if state::is_ready(before) {
        return Queue::FirstArrived;
    }
    if state::queued(before) >= MAX_QUEUED {
        return Queue::NoRoom;
    }
    context.key.number = state::queued(before);
    if !env.queue(&context.key) {
        return Queue::NoRoom;
    }
    // Race: the first fragment may have arrived before the copy was queued, and not have found it.
    // The CPU that removes the copy owns it.
    let record = env.datagram(datagram);
    if !record.is_some_and(|mut record| state::is_ready(env.add_to_state(&mut record, 0))) {
        Queue::Queued
    } else if env.drop_queued(&context.key) {
        Queue::FirstArrived
    } else {
        Queue::TakenByFirst
    }
}

#[inline(always)]
fn fresh(state: u64, now: Ticks) -> Fragments {
    Fragments {
        state,
        since: now,
        id: 0,
        source_port: Port::ZERO,
        destination_port: Port::ZERO,
        echo: Echo::NONE,
        _pad: [0; 3],
    }
}

#[inline(always)]
fn set_ports<A>(record: &mut Fragments, tuple: &Tuple<A>) {
    record.source_port = tuple.source_port;
    record.destination_port = tuple.destination_port;
    record.echo = tuple.echo;
}

#[inline(always)]
fn has_ports_of<A>(record: &Fragments, tuple: &Tuple<A>) -> bool {
    record.source_port == tuple.source_port
        && record.destination_port == tuple.destination_port
        && record.echo == tuple.echo
}

#[inline(always)]
fn is_over(record: &Fragments, now: Ticks) -> bool {
    now.wrapping_sub(record.since).cast_signed() > TIMEOUT.cast_signed()
}
