//! Slow path: a packet that changes the state, the next hop or the expiry of its flow.

use crate::{
    abi::{
        drop_reason::DropReason,
        macs::Macs,
        state::State,
        translation::{Deliver, Translation},
    },
    env::Env,
    flow::{
        entry::{EntryOwner, end, is_gone_or_idle, is_idle, remove},
        limits::check_ttl_and_mtu,
        lookup::{NextHop, identifies_flow, next_hop_at},
        mapping,
        transition::{self, Way},
    },
    verdict::Outcome,
    wire::{
        address::Address,
        packet::{Packet, Payload},
        tcp,
        tuple::Tuple,
    },
};

/// Decides about a packet whose flow is in the table, and writes its translation to `leaving`.
/// `Miss` if it belongs to no flow.
#[inline(always)]
pub fn lookup<A: Address>(
    packet: &Packet<A>,
    leaving: &mut Translation<A>,
    env: &impl Env<A>,
) -> Outcome {
    if identifies_flow(packet) { lookup_slow(packet, leaving, env) } else { Outcome::Miss }
}

/// [`lookup`] for a packet whose ports are known, whatever its payload.
#[inline(always)]
pub fn lookup_slow<A: Address>(
    packet: &Packet<A>,
    leaving: &mut Translation<A>,
    env: &impl Env<A>,
) -> Outcome {
    let now = env.now();
    let Some(mut entry) = env.flow(&packet.tuple) else { return Outcome::Miss };
    *leaving = entry.translation;
    // A next hop's MACs in the entry may be of an earlier tick: this packet leaves by the neighbour
    // table.
    leaving.macs = entry.translation.macs_of_container();
    if entry.input != packet.input && entry.input != 0 {
        let seen = EntryOwner::new(&entry);
        drop(entry);
        return wrong_interface(packet, seen, &leaving.tuple.reversed(), env);
    }
    if entry.epoch != env.epoch(entry.slot) {
        let seen = EntryOwner::new(&entry);
        drop(entry);
        remove(env, seen, &packet.tuple, &leaving.tuple.reversed(), now);
        return Outcome::Miss;
    }
    if is_idle(&entry, now) {
        let seen = EntryOwner::new(&entry);
        drop(entry);
        // One-way traffic leaves one entry idle while the other is in use.
        let other = leaving.tuple.reversed();
        if is_gone_or_idle(env, &other, now) {
            remove(env, seen, &packet.tuple, &other, now);
            return Outcome::Miss;
        }
        entry = match env.flow(&packet.tuple) {
            Some(entry) => entry,
            None => return Outcome::Miss,
        };
    }
    if leaving.deliver == Deliver::UPLINK {
        match next_hop_at(&entry, now) {
            NextHop::AsKnown => {}
            NextHop::Ask => {
                let bridge =
                    env.network(u32::from(entry.network)).map_or(0, |network| network.bridge);
                let macs = env.next_hop(&leaving.tuple, bridge, leaving.output);
                entry.translation.macs = macs.unwrap_or(Macs::FAILED);
            }
            NextHop::Forget => entry.translation.macs = Macs::default(),
        }
    }
    if leaving.refreshes_mapping != 0 && entry.last_used != now {
        drop(entry);
        mapping::refresh(&packet.tuple, &leaving.tuple, now, env);
        entry = match env.flow(&packet.tuple) {
            Some(entry) => entry,
            None => return Outcome::Miss,
        };
    }
    env.touch(&mut entry, packet, now);
    if transition::may_change_state(entry.state, entry.is_reply, packet.flags)
        && let Some(state) = State::from_number(entry.state)
    {
        let way = if entry.is_reply == 0 { Way::Forward } else { Way::Reply };
        let next = state.next(packet.tuple.protocol, way, packet.flags);
        let network = entry.network;
        if packet.payload == Payload::Sctp
            && packet.flags & tcp::SYN != 0
            && state != State::Replied
        {
            // Only before both sides have agreed: a forged INIT must not change the verification
            // tag that an ABORT is checked against.
            entry.acknowledged = packet.acknowledgment;
        }
        if next != state {
            drop(entry);
            advance(packet, &leaving.tuple.reversed(), state, next, network, env);
        }
    }
    Outcome::of(check_ttl_and_mtu(packet, leaving))
}

/// Moves both entries of a flow to the state `next`, unless the packet is a reset that may be
/// forged.
#[inline(always)]
fn advance<A: Address>(
    packet: &Packet<A>,
    other: &Tuple<A>,
    state: State,
    next: State,
    network: u16,
    env: &impl Env<A>,
) {
    if packet.flags & tcp::RST != 0 {
        let acknowledged = |key| env.flow(key).map_or(0, |entry| entry.acknowledged);
        let genuine = if packet.payload == Payload::Sctp {
            // An ABORT has the receiver's tag, or the sender's own, reflected (RFC 9260 section
            // 8.5.1).
            packet.sequence == acknowledged(other) || packet.sequence == acknowledged(&packet.tuple)
        } else {
            // A blind attacker does not know the sequence number that the other side expects next
            // (RFC 5961 section 3).
            !state.is_open() || packet.sequence.wrapping_sub(acknowledged(other)) < RESET_WINDOW
        };
        if !genuine {
            return;
        }
    }
    let timeout = env.timeout(network, next, packet.tuple.protocol);
    // Race: the entries are written one after the other without a lock. A packet in between finds
    // the old state in the second one; at worst the old timeout stays until the next packet.
    for key in [&packet.tuple, other] {
        if let Some(mut entry) = env.flow(key) {
            entry.state = next as u8;
            entry.timeout = timeout;
        }
    }
}

/// How far a reset may be beyond the sequence number that the other side expects next, in bytes:
/// what a sender may have in flight.
const RESET_WINDOW: u32 = 1 << 20;

/// Decides about a packet that arrived at another interface than its flow's. If the endpoint was
/// made again with another host side, the flow is over. Otherwise another container uses its
/// address.
#[inline(always)]
fn wrong_interface<A: Address>(
    packet: &Packet<A>,
    seen: EntryOwner,
    other: &Tuple<A>,
    env: &impl Env<A>,
) -> Outcome {
    match env.endpoint(&packet.tuple.source) {
        Some(own) if own.host_side == packet.input => {
            end(env, seen, &packet.tuple, other);
            Outcome::Miss
        }
        _ => Outcome::Drop(DropReason::SourceAddressSpoofed),
    }
}
