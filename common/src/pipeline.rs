//! The decisions about packets: of a flow that is known, and at the last moment before one leaves.
//! `plan` and `begin` are what comes between for a packet of no flow.

use crate::{
    abi::{drop_reason::DropReason, translation::Translation},
    env::{Env, FragmentStore},
    flow::{
        error::ErrorTranslation,
        evict,
        fragment_context::FragmentContext,
        limits::check_ttl_and_mtu,
        lookup::{Lookup, lookup_fast},
        lookup_slow::{self, lookup, lookup_slow},
    },
    guard::link::LinkGuard,
    icmp_reply::IcmpReply,
    nat::{
        create::create,
        endpoint_independent,
        fragment::{
            Queue, forget_ports, goes_on, is_translated, needs_fragment_state, queue, record,
            release, take_ports, uncount,
        },
        host_flows::{self, HostFlow},
        icmp_error,
        nat64::{mapped_packet, may_be_nat64},
        nat64_error::quote,
        plan::plan,
        rewrite::Rewrite,
    },
    scratch::Scratch,
    wire::{
        address::{Address, V4, V6},
        ethernet::source_mac,
        frame::Frame,
        headers::HEADER_GROWTH,
        packet::{Packet, Payload},
        quote,
        tuple::side,
    },
};

/// An address family that the datapath handles whole.
pub trait Family: Rewrite + IcmpReply + LinkGuard {}

impl<A: Rewrite + IcmpReply + LinkGuard> Family for A {}

/// What becomes of a packet.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision<A> {
    /// It is rewritten and leaves.
    Forward(Translation<A>),
    /// It is a fragment: it is rewritten, gets that identification, and leaves.
    ForwardFragment(Translation<A>, u32),
    /// It and the fragments that were held for it come again, at the interface where they arrived.
    Reinject,
    /// It is an ICMP error of a flow: it and what it quotes are rewritten, and it leaves.
    ForwardError(ErrorTranslation<A>),
    /// It leaves the fast path.
    Stop(DropReason),
    /// It is longer than the MTU, in bytes, of what comes next.
    TooLong(u16),
}

impl<A> Decision<A> {
    /// That it leaves, or that it does not and why.
    pub(crate) fn of(leaves: Result<(), DropReason>, translation: &Translation<A>) -> Self
    where
        A: Copy,
    {
        match leaves {
            Ok(()) => Self::Forward(*translation),
            Err(DropReason::TooLong) => Self::TooLong(translation.mtu),
            Err(reason) => Self::Stop(reason),
        }
    }
}

/// Decides about a packet that arrived at a host side or an uplink: [`lookup`], and where that has
/// no answer, [`icmp_error::translate`] or [`plan`], [`begin`] and [`check_ttl_and_mtu`]; [`decide_fragment`]
/// about a fragment.
///
/// The kernel's programs call these themselves: each is a function of its own there, which the
/// verifier looks at once and not once for each way to it, and what they share lies in a map,
/// because it is more than BPF's 512 bytes of stack.
pub fn decide<A: Family>(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<A>,
    env: &(impl Env<A> + FragmentStore<A>),
) -> Decision<A> {
    let mut scratch = Scratch::new(*packet, source_mac(frame));
    if packet.payload == Payload::Link && packet.tuple.side == side::CONTAINER {
        return Decision::Stop(A::link_from_container(frame, packet, env));
    }
    if packet.is_fragment() {
        return decide_fragment(&mut scratch, env);
    }
    match lookup_fast(packet, env) {
        Lookup::FastPath(entry) => return Decision::Forward(entry.translation),
        Lookup::SlowPath => {
            if let Some(leaves) = lookup(packet, &mut scratch.entry.translation, env) {
                return Decision::of(leaves, &scratch.entry.translation);
            }
        }
        Lookup::Miss => {}
    }
    if packet.payload == Payload::Error
        && let Some(quote) = quote::quote(frame, packet.payload_at, packet.tuple.side)
    {
        scratch.error_translation.quote = quote;
        if let Some(translated) = icmp_error::translate(packet, &mut scratch.error_translation, env)
        {
            return translated.map_or_else(Decision::Stop, |()| {
                Decision::ForwardError(scratch.error_translation)
            });
        }
    }
    create_flow(&mut scratch, env)
}

/// Decides about a packet of no flow, which begins one if it may.
pub(crate) fn create_flow<A: Address>(scratch: &mut Scratch<A>, env: &impl Env<A>) -> Decision<A> {
    match plan(scratch, env) {
        Ok(()) => create_planned(scratch, env),
        Err(reason) => Decision::Stop(reason),
    }
}

/// The same, once it is planned.
pub(crate) fn create_planned<A: Address>(
    scratch: &mut Scratch<A>,
    env: &impl Env<A>,
) -> Decision<A> {
    if endpoint_independent::needs_mapping(scratch)
        && !endpoint_independent::reuse_mapping(scratch, env)
    {
        endpoint_independent::plan_mapping(scratch);
        let age_ring = create_with_eviction(scratch, env);
        endpoint_independent::resume_flow(scratch);
        if let Err(reason) = age_ring {
            return Decision::Stop(reason);
        }
    }
    let age_ring = create_with_eviction(scratch, env);
    match age_ring {
        Ok(()) => Decision::of(
            check_ttl_and_mtu(&scratch.packet, &scratch.entry.translation),
            &scratch.entry.translation,
        ),
        Err(reason) => Decision::Stop(reason),
    }
}

/// Begins the planned flow, if need be in the room of another.
fn create_with_eviction<A: Address>(
    scratch: &mut Scratch<A>,
    env: &impl Env<A>,
) -> Result<(), DropReason> {
    match create(scratch, env) {
        Err(DropReason::TableFull) if evict::evict_one(0, env) => create(scratch, env),
        Err(DropReason::TooManyFlows) if evict::evict_one(scratch.entry.owner, env) => {
            create(scratch, env)
        }
        age_ring => age_ring,
    }
}

/// Decides about a packet that the host itself sends out of an uplink; none if it leaves as it is.
/// `bypasses_socket_lookup` is as for [`host_flows::classify`].
pub fn decide_to_uplink<A: Family>(
    packet: &Packet<A>,
    bypasses_socket_lookup: bool,
    env: &impl Env<A>,
) -> Option<Translation<A>> {
    if !host_flows::may_belong_to_host_flow(packet, env) {
        return None;
    }
    let mut step = host_flows::classify(packet, bypasses_socket_lookup, env);
    let mut scratch = Scratch::new(*packet, [0; 6]);
    if step == HostFlow::Existing {
        if lookup_slow(packet, &mut scratch.entry.translation, env) == Some(Ok(())) {
            return Some(scratch.entry.translation);
        }
        // It has ended, and is gone.
        step = host_flows::classify(packet, bypasses_socket_lookup, env);
    }
    if !matches!(step, HostFlow::Track | HostFlow::Remap) {
        return None;
    }
    scratch.new_flow = host_flows::plan(packet, step, env);
    create(&mut scratch, env).ok().map(|()| scratch.entry.translation)
}

/// Decides about a packet that the host's stack sends into a network. `input` is the interface it
/// came to the host by, zero if the host itself sends it.
#[inline(always)]
pub const fn into_bridge(input: u32) -> DropReason {
    if input == 0 { DropReason::FromHost } else { DropReason::NotPublished }
}

/// Decides about a fragment.
///
/// The kernel's programs take the steps themselves, as they do those of [`decide`].
pub fn decide_fragment<A: Family>(
    scratch: &mut Scratch<A>,
    env: &(impl Env<A> + FragmentStore<A>),
) -> Decision<A> {
    let mut context = FragmentContext::new(&scratch.packet);
    if scratch.packet.first_fragment {
        decide_first_fragment(scratch, &mut context, env)
    } else {
        decide_later_fragment(scratch, &mut context, env)
    }
}

fn decide_first_fragment<A: Family>(
    scratch: &mut Scratch<A>,
    context: &mut FragmentContext<A>,
    env: &(impl Env<A> + FragmentStore<A>),
) -> Decision<A> {
    let decision = match lookup_slow(&scratch.packet, &mut scratch.entry.translation, env) {
        Some(leaves) => Decision::of(leaves, &scratch.entry.translation),
        None => create_flow(scratch, env),
    };
    let (leaves, outcome) = match &decision {
        Decision::Forward(translation) => (Some(translation), Ok(())),
        Decision::Stop(reason) => (None, Err(*reason)),
        Decision::TooLong(_) => (None, Err(DropReason::TooLong)),
        Decision::ForwardFragment(..) | Decision::Reinject | Decision::ForwardError(_) => {
            return decision;
        }
    };
    let translated = leaves.is_some_and(is_translated);
    if needs_fragment_state(&scratch.packet, outcome, env) {
        let queued = record(&scratch.packet, leaves, context, env);
        if queued != 0 {
            if translated {
                uncount(&scratch.packet, env);
                env.reinject();
            }
            for number in 0..queued {
                context.key.number = number;
                release(&context.key, translated, env);
            }
            if translated {
                return Decision::Reinject;
            }
        }
    }
    as_fragment(decision, context.id)
}

fn decide_later_fragment<A: Family>(
    scratch: &mut Scratch<A>,
    context: &mut FragmentContext<A>,
    env: &(impl Env<A> + FragmentStore<A>),
) -> Decision<A> {
    let ready = take_ports(&mut scratch.packet, context, env);
    if ready {
        match lookup_slow(&scratch.packet, &mut scratch.entry.translation, env) {
            Some(leaves) => {
                return as_fragment(Decision::of(leaves, &scratch.entry.translation), context.id);
            }
            None => forget_ports(&mut scratch.packet),
        }
    }
    let planned = plan(scratch, env);
    if !ready && needs_fragment_state(&scratch.packet, planned, env) {
        match queue(context, env) {
            Queue::Queued | Queue::TakenByFirst if !goes_on(planned) => {
                return Decision::Stop(DropReason::FragmentHeld);
            }
            Queue::FirstArrived => {
                env.reinject();
                return Decision::Reinject;
            }
            Queue::Queued | Queue::TakenByFirst | Queue::NoRoom => {}
        }
    }
    match planned {
        Ok(()) => as_fragment(create_planned(scratch, env), context.id),
        Err(reason) => Decision::Stop(reason),
    }
}

fn as_fragment<A>(decision: Decision<A>, id: u32) -> Decision<A> {
    match decision {
        Decision::Forward(translation) => Decision::ForwardFragment(translation, id),
        Decision::ForwardFragment(..)
        | Decision::Reinject
        | Decision::ForwardError(_)
        | Decision::Stop(_)
        | Decision::TooLong(_) => decision,
    }
}

/// Decides about an IPv4 packet as it is among IPv6's, if it is of such a flow; none if it is not,
/// and IPv4's own tables are to be asked.
///
/// The kernel's programs take the steps themselves, as they do those of [`decide`].
pub fn decide_nat64(
    frame: &(impl Frame + ?Sized),
    packet: &Packet<V4>,
    env: &impl Env<V4>,
    v6_env: &impl Env<V6>,
) -> Option<Decision<V6>> {
    if packet.tuple.side != side::CONTAINER || !may_be_nat64(packet, env) {
        return None;
    }
    let mut scratch = Scratch::new(mapped_packet(packet), [0; 6]);
    if packet.payload == Payload::Error {
        scratch.error_translation.quote = quote(frame, packet.payload_at, packet.tuple.side)?;
        let translated =
            icmp_error::translate(&scratch.packet, &mut scratch.error_translation, v6_env)?;
        return Some(
            translated.map_or_else(Decision::Stop, |()| {
                Decision::ForwardError(scratch.error_translation)
            }),
        );
    }
    if packet.first_fragment {
        return v6_env.flow(&scratch.packet.tuple).map(|_| Decision::Stop(DropReason::Fragment));
    }
    let leaves = lookup_slow::lookup(&scratch.packet, &mut scratch.entry.translation, v6_env)?;
    let translation = &scratch.entry.translation;
    Some(match leaves {
        // As long as it may be before it becomes longer.
        Err(DropReason::TooLong) => {
            Decision::TooLong(translation.mtu.saturating_sub(HEADER_GROWTH as u16))
        }
        leaves => Decision::of(leaves, translation),
    })
}

#[cfg(test)]
mod endpoint_independent_tests;

#[cfg(test)]
mod fragment_tests;
#[cfg(test)]
mod nat64_tests;
#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests;
