//! Datagrams in fragments. Only the first fragment says which ports its datagram is for and from,
//! so it leaves a record of them ([`Fragments`]), by which the later ones find their flow.
//!
//! Fragments come in any order. One that is ahead of its first is held: a copy of its frame is
//! kept, and put back where it arrived once the first has come, to go the way of any other then.
//! What the kernel's stack or a neighbour may be waiting for goes on at once all the same, and its
//! copy is put back only if the first turns out to be translated.
//!
//! A datagram that leaves with another source address leaves with another identification too: two
//! containers may use the same one toward the same destination (RFC 6864 section 5.3). What there
//! is room for is bounded, and the oldest makes room: a flood of fragments costs other fragments,
//! and nothing else (RFC 4787 REQ-14).

use crate::{
    abi::{
        drop_reason::{DropReason, Fate, LaterFragments},
        fragment::{Fragments, QueuedKey},
        time::{Ticks, ticks},
        translation::{Translation, deliver},
    },
    env::{Env, FragmentStore},
    flow::fragment_context::FragmentContext,
    wire::{
        address::{Address, Port},
        packet::Packet,
        tuple::{Tuple, echo, side},
    },
};

/// How long a datagram is waited for: as Linux does.
pub const TIMEOUT: Ticks = ticks(30);

/// How many fragments of one datagram are held at most.
pub const MAX_QUEUED: u32 = 64;

/// [`Fragments::state`]: how many fragments were held, in the low half, and above them whether the
/// first has come.
pub mod state {
    /// The first has come: the ports are there.
    pub const READY: u64 = 1 << 32;

    /// Whether the first has come.
    #[inline(always)]
    pub const fn is_ready(state: u64) -> bool {
        state >= READY
    }

    /// How many fragments were held.
    #[inline(always)]
    pub const fn queued(state: u64) -> u32 {
        state as u32
    }
}

/// Whether a translation changes what later fragments have, too: addresses.
#[inline(always)]
pub const fn is_translated<A>(translation: &Translation<A>) -> bool {
    matches!(translation.deliver, deliver::CONTAINER | deliver::UPLINK)
}

/// Whether later fragments may need to know of the first, given what is to become of either.
#[inline(always)]
pub fn needs_fragment_state<A: Address>(
    packet: &Packet<A>,
    outcome: Result<(), DropReason>,
    env: &impl Env<A>,
) -> bool {
    if packet.tuple.side == side::CONTAINER {
        return match outcome {
            Ok(()) => true,
            Err(reason) => reason.later_fragments() == LaterFragments::ByRecord,
        };
    }
    // Without masquerade the answers are addressed to the containers themselves.
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
/// Answers how many fragments were held for it, at most [`MAX_QUEUED`]: they are the caller's.
///
/// A record that another CPU's fragment makes room with meanwhile may be written all the same, as
/// another datagram's: at worst one fragment of that one finds no flow.
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
    // A second time if a later fragment makes a record between the look and the insert.
    for _ in 0..2 {
        if let Some(mut record) = env.datagram(datagram) {
            if !is_over(&record, now) {
                // The same one again: by another identification it would be another datagram.
                if state::is_ready(env.add_to_state(&mut record, 0))
                    && has_ports_of(&record, &packet.tuple)
                {
                    context.id = record.id;
                } else {
                    set_ports(&mut record, &packet.tuple);
                    record.id = context.id;
                }
                record.since = now;
                // Last, and in one step with the count: whoever is counted after that sees that it
                // is ready.
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

/// Puts a held fragment back; or forgets it, where the first does not leave translated: then it
/// went on already, or has nowhere to go.
#[inline(always)]
pub fn release<A: Address>(key: &QueuedKey<A>, reinject: bool, env: &impl FragmentStore<A>) {
    if reinject {
        env.reinject_queued(key);
    } else {
        env.drop_queued(key);
    }
}

/// Takes back what a first fragment counted for its flow, because it comes again. Without a lock,
/// as all these counts.
#[inline(always)]
pub fn uncount<A: Address>(packet: &Packet<A>, env: &impl Env<A>) {
    if let Some(mut entry) = env.flow(&packet.tuple) {
        entry.packets = entry.packets.wrapping_sub(1);
        entry.bytes = entry.bytes.wrapping_sub(u64::from(packet.length));
    }
}

/// Gives a later fragment the ports of its datagram's first; false if that has not come.
#[inline(always)]
pub fn take_ports<A: Address>(
    packet: &mut Packet<A>,
    context: &mut FragmentContext<A>,
    env: &(impl Env<A> + FragmentStore<A>),
) -> bool {
    let Some(mut record) = env.datagram(&context.key.datagram) else { return false };
    // The state first, and ordered: ports that are read after it are there if it says so.
    if !state::is_ready(env.add_to_state(&mut record, 0)) || is_over(&record, env.now()) {
        return false;
    }
    packet.tuple.source_port = record.source_port;
    packet.tuple.destination_port = record.destination_port;
    packet.tuple.echo = record.echo;
    context.id = record.id;
    true
}

/// Undoes [`take_ports`]: a fragment without a flow is one without ports.
#[inline(always)]
pub fn forget_ports<A: Address>(packet: &mut Packet<A>) {
    let Packet { tuple, .. } = packet;
    *tuple =
        Tuple { source_port: Port::ZERO, destination_port: Port::ZERO, echo: echo::NONE, ..*tuple };
}

/// How it went to hold a fragment.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Queue {
    /// It is held.
    Queued = 1,
    /// There is no room for it.
    NoRoom = 2,
    /// The first came meanwhile: it is not held.
    FirstArrived = 3,
    /// The first came meanwhile, and has the copy.
    TakenByFirst = 4,
}

/// Holds a copy of a fragment that is ahead of its first.
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
        // Another CPU's fragment may be quicker: its record is as good.
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
    // The first may have come before the copy was there, and then it has not found it. Who removes
    // the copy has it.
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
        echo: echo::NONE,
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
