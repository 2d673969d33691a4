//! The order of a packet's steps, written once: the kernel's programs, the model that tests compare
//! them with, and the fuzz targets all run these functions.
//!
//! | hook | function |
//! |---|---|
//! | tc ingress on a host side | [`from_container`] |
//! | tc ingress on an uplink | [`from_uplink`] |
//! | tc egress on an uplink | [`to_uplink`] |
//! | tc egress on a bridge | [`to_bridge`] |
//! | XDP on an uplink | [`crate::xdp`], the part of [`from_uplink`] that needs no skb |
//!
//! ```text
//! from_container, from_uplink                       to_uplink
//!  fast path: entry of the flow, no state change     host fast path: of no tracked flow
//!  parse: IP options, extension headers              parse
//!  slow path: state, next hop, expiry                ICMP error, or the host's own flow
//!  NAT64: IPv4 answer to an IPv6 client              plan, create
//!  link: ARP, ND, MLD of a container                 send
//!  fragment: record, queue, reinject
//!  ICMP error: translated with its quote
//!  plan: what flow may begin
//!  mapping: endpoint-independent, reused or created
//!  create: a port, two entries; evict when full
//!  send: TTL, MTU, MSS; rewrite, redirect
//!  ICMP reply to a packet that was refused
//! ```
//!
//! [`Steps`] says what a step is. Its default methods call the pure functions. The kernel replaces
//! those that must be functions of their own, because the verifier looks at a function once, and
//! because each frame of a chain of calls takes its room on the stack of 512 bytes.

use core::ops::DerefMut;

use crate::{
    abi::{
        drop_reason::DropReason,
        owner::Owner,
        translation::{Translation, deliver},
    },
    env::{Env, FragmentStore},
    flow::{
        error::ErrorTranslation,
        evict,
        fragment_context::FragmentContext,
        limits::check_ttl_and_mtu,
        lookup::{Lookup, identifies_flow, lookup_fast},
        lookup_slow,
    },
    guard::{arp, link::LinkGuard},
    icmp_reply::{self, IcmpReply},
    nat::{
        create, endpoint_independent,
        fragment::{self, Queue},
        host_flows::{self, HostFlow},
        icmp_error,
        nat64::{self, mapped_packet},
        nat64_error, plan,
        rewrite::Rewrite,
    },
    scratch::Scratch,
    verdict::{Outcome, Verdict},
    wire::{
        address::{V4, V6},
        ethernet::{ETHERNET, ether_type, source_mac},
        frame::Frame,
        headers::HEADER_GROWTH,
        icmp::{self, IcmpError, IcmpErrorKind},
        packet::{Arrival, Malformed, Packet, Payload},
        quote, tcp,
        tuple::side,
    },
};

/// An address family that the datapath handles whole.
pub trait Family: Rewrite + IcmpReply + LinkGuard {}

impl<A: Rewrite + IcmpReply + LinkGuard> Family for A {}

/// The steps of one packet of a family.
///
/// What they hand on to each other is in the [`Scratch`]. Methods without a body touch the frame,
/// which is the kernel's, or a buffer in a test.
pub trait Steps<A: Family>: Sized {
    /// What the decisions ask for.
    type Env: Env<A> + FragmentStore<A>;
    /// The scratch, held.
    type Scratch<'s>: DerefMut<Target = Scratch<A>>
    where
        Self: 's;
    /// The context of a fragment, held.
    type Fragment<'s>: DerefMut<Target = FragmentContext<A>>
    where
        Self: 's;

    /// What the decisions ask for.
    fn env(&self) -> &Self::Env;
    /// The scratch. There is always one; the verifier does not know.
    fn scratch(&self) -> Option<Self::Scratch<'_>>;
    /// The context of a fragment. There is always one; the verifier does not know.
    fn fragment_context(&self) -> Option<Self::Fragment<'_>>;
    /// The frame, with that many bytes in reach, or what there is of them.
    fn frame(&self, reach: u32) -> impl Frame + '_;
    /// Parses a packet with a usual header.
    fn parse_usual(&self, side: u8) -> Result<Packet<A>, Malformed>;
    /// Parses a packet with any header.
    fn parse(&self, side: u8) -> Result<Packet<A>, Malformed>;
    /// Whether no socket lookup would find the sender: a ping, or a socket bound to a device.
    fn bypasses_socket_lookup(&self, packet: &Packet<A>) -> bool;
    /// Counts a packet that leaves the fast path.
    fn count(&self, reason: DropReason);
    /// Rewrites the packet and sends it on.
    fn forward(&self, packet: &Packet<A>, translation: &Translation<A>) -> Verdict;
    /// Lowers the maximum segment size in a SYN to what goes through.
    fn clamp_mss(&self, packet: &Packet<A>, translation: &Translation<A>)
    -> Result<(), DropReason>;
    /// Rewrites a fragment and sends it on.
    fn forward_fragment(&self, scratch: &Scratch<A>, context: &FragmentContext<A>) -> Verdict;
    /// Rewrites an ICMP error and its quote, and sends it on.
    fn forward_error(&self, packet: &Packet<A>, error: &ErrorTranslation<A>) -> Verdict;
    /// Sends the packet on as one of the other family.
    fn forward_nat64(&self, scratch: &mut Scratch<A>) -> Verdict;
    /// Sends the ICMP error on as one of the other family.
    fn forward_error_nat64(&self, scratch: &mut Scratch<A>) -> Verdict;
    /// Whether this CPU may send another ICMP error to the side that the packet came from.
    fn take_error_budget(&self, packet: &Packet<A>) -> bool;
    /// Puts an ICMP error in the place of the packet, and sends it to where that came from.
    fn send_back(&self, packet: &Packet<A>, error: &IcmpError) -> Verdict;
    /// Looks for the flow of an IPv4 packet among those of IPv6 clients.
    fn nat64(&self, scratch: &mut Scratch<A>) -> Verdict;

    /// Counts a packet that leaves the fast path, and ends or passes it.
    #[inline(always)]
    fn stop(&self, reason: DropReason) -> Verdict {
        self.count(reason);
        Verdict::of(reason.fate())
    }
    /// [`fast_path`].
    #[inline(always)]
    fn fast_path(&self, side: u8, malformed: DropReason) -> Verdict {
        fast_path(self, side, malformed)
    }
    /// [`parse`].
    #[inline(always)]
    fn parse_into(&self, scratch: &mut Scratch<A>, side: u8) -> Result<(), Malformed> {
        parse(self, scratch, side)
    }
    /// [`slow_path`].
    #[inline(always)]
    fn slow_path(&self, scratch: &mut Scratch<A>) -> Verdict {
        slow_path(self, scratch)
    }
    /// [`lookup_slow::lookup_slow`].
    #[inline(always)]
    fn lookup_slow(&self, scratch: &mut Scratch<A>) -> Outcome {
        let Scratch { packet, entry, .. } = scratch;
        lookup_slow::lookup_slow(packet, &mut entry.translation, self.env())
    }
    /// [`send_or_nat64`], for a packet that the slow path has checked.
    #[inline(always)]
    fn send_checked(&self, scratch: &mut Scratch<A>) -> Verdict {
        send_or_nat64(self, scratch)
    }
    /// [`send`].
    #[inline(always)]
    fn send(&self, scratch: &mut Scratch<A>) -> Verdict {
        send(self, scratch)
    }
    /// [`LinkGuard::link_from_container`].
    #[inline(always)]
    fn link(&self, scratch: &Scratch<A>) -> Verdict {
        let reason =
            A::link_from_container(&self.frame(A::LINK_BYTES), &scratch.packet, self.env());
        self.stop(reason)
    }
    /// [`error`].
    #[inline(always)]
    fn error(&self, scratch: &mut Scratch<A>) -> Verdict {
        error(self, scratch)
    }
    /// [`fragment`].
    #[inline(always)]
    fn fragment(&self, scratch: &mut Scratch<A>) -> Verdict {
        fragment(self, scratch)
    }
    /// [`reply`].
    #[inline(always)]
    fn reply(&self, scratch: &mut Scratch<A>) -> Verdict {
        reply(self, scratch)
    }
    /// [`first_packet`].
    #[inline(always)]
    fn first_packet(&self, scratch: &mut Scratch<A>) -> Verdict {
        first_packet(self, scratch)
    }
    /// [`plan::plan`].
    #[inline(always)]
    fn plan(&self, scratch: &mut Scratch<A>) -> Result<(), DropReason> {
        plan::plan(scratch, self.env())
    }
    /// [`endpoint_independent::reuse_mapping`].
    #[inline(always)]
    fn reuse_mapping(&self, scratch: &mut Scratch<A>) -> bool {
        endpoint_independent::reuse_mapping(scratch, self.env())
    }
    /// [`create_with_eviction`].
    #[inline(always)]
    fn create_with_eviction(&self, scratch: &mut Scratch<A>) -> Result<(), DropReason> {
        create_with_eviction(self, scratch)
    }
    /// [`create`].
    #[inline(always)]
    fn create(&self, scratch: &mut Scratch<A>) -> Result<(), DropReason> {
        create(self, scratch)
    }
    /// [`create::prepare`].
    #[inline(always)]
    fn prepare(&self, scratch: &mut Scratch<A>) {
        create::prepare(scratch, self.env());
    }
    /// [`create::try_port`], until there is nothing more to try.
    #[inline(always)]
    fn try_ports(&self, scratch: &mut Scratch<A>) {
        for attempt in 0..create::PORT_TRIES {
            if create::try_port(scratch, attempt, self.env()).is_break() {
                break;
            }
        }
    }
    /// [`create::complete`].
    #[inline(always)]
    fn complete(&self, scratch: &mut Scratch<A>) -> Result<(), DropReason> {
        create::complete(scratch, self.env())
    }
    /// [`evict::evict_one`].
    #[inline(always)]
    fn evict_one(&self, owner: Owner) -> bool {
        evict::evict_one(owner, self.env())
    }
    /// [`check_ttl_and_mtu`].
    #[inline(always)]
    fn check_ttl_and_mtu(&self, scratch: &Scratch<A>) -> Result<(), DropReason> {
        check_ttl_and_mtu(&scratch.packet, &scratch.entry.translation)
    }
    /// [`fragment::needs_fragment_state`].
    #[inline(always)]
    fn needs_fragment_state(&self, scratch: &Scratch<A>, outcome: Result<(), DropReason>) -> bool {
        fragment::needs_fragment_state(&scratch.packet, outcome, self.env())
    }
    /// [`fragment::record`].
    #[inline(always)]
    fn record(&self, scratch: &Scratch<A>, context: &mut FragmentContext<A>, leaves: bool) -> u32 {
        let leaves = if leaves { Some(&scratch.entry.translation) } else { None };
        fragment::record(&scratch.packet, leaves, context, self.env())
    }
    /// [`fragment::take_ports`].
    #[inline(always)]
    fn take_ports(&self, scratch: &mut Scratch<A>, context: &mut FragmentContext<A>) -> bool {
        fragment::take_ports(&mut scratch.packet, context, self.env())
    }
    /// [`fragment::queue`].
    #[inline(always)]
    fn queue(&self, context: &mut FragmentContext<A>) -> Queue {
        fragment::queue(context, self.env())
    }
    /// Reinjects the packet, with `counted` one that its flow has counted.
    #[inline(always)]
    fn reinject(&self, counted: Option<&Scratch<A>>) {
        if let Some(scratch) = counted {
            fragment::uncount(&scratch.packet, self.env());
        }
        self.env().reinject();
    }
    /// [`fragment::release`], for each fragment that was queued.
    #[inline(always)]
    fn release(&self, context: &mut FragmentContext<A>, queued: u32, reinject: bool) {
        for number in 0..queued {
            context.key.number = number;
            fragment::release(&context.key, reinject, self.env());
        }
    }
    /// [`host_fast_path`].
    #[inline(always)]
    fn host_fast_path(&self) -> Verdict {
        host_fast_path(self)
    }
    /// [`host_slow_path`].
    #[inline(always)]
    fn host_slow_path(&self, scratch: &mut Scratch<A>) -> Verdict {
        host_slow_path(self, scratch)
    }
    /// [`host_flow`].
    #[inline(always)]
    fn host_flow(&self, scratch: &mut Scratch<A>) -> Verdict {
        host_flow(self, scratch)
    }
    /// [`plan_host_flow`].
    #[inline(always)]
    fn plan_host_flow(&self, scratch: &mut Scratch<A>) -> Result<(), NoFlow> {
        plan_host_flow(self, scratch)
    }
}

/// The steps of an IPv4 packet that may belong to a flow of an IPv6 client.
pub trait Nat64Client: Steps<V4> {
    /// [`nat64::may_be_nat64`].
    #[inline(always)]
    fn may_be_nat64(&self, scratch: &Scratch<V4>) -> bool {
        nat64::may_be_nat64(&scratch.packet, self.env())
    }
}

/// The steps of an IPv4 packet of a flow that is kept among IPv6's: its scratch is IPv6's, in which
/// the packet stands with IPv4-mapped addresses.
pub trait Nat64Steps: Steps<V6> {
    /// Whether there is an entry for the packet.
    #[inline(always)]
    fn has_flow(&self, scratch: &Scratch<V6>) -> bool {
        use crate::env::FlowStore as _;
        self.env().flow(&scratch.packet.tuple).is_some()
    }
    /// Finds the flow of an ICMP error by what it quotes.
    #[inline(always)]
    fn translate_error(&self, scratch: &mut Scratch<V6>) -> Outcome {
        translate_ipv4_error(self, scratch)
    }
    /// Sends the packet on as one of IPv6.
    fn forward_as_ipv6(&self, scratch: &mut Scratch<V6>) -> Verdict;
    /// Sends the ICMP error on as one of IPv6.
    fn forward_error_as_ipv6(&self, scratch: &mut Scratch<V6>) -> Verdict;
}

/// What the link layer says of a frame.
pub trait Link {
    /// Whether it has a VLAN tag.
    fn is_tagged(&self) -> bool;
    /// Whether its destination MAC is that of the interface.
    fn is_for_host(&self) -> bool;
    /// The type of the frame, as its bytes stand in a word.
    fn ether_type(&self) -> Option<u16>;
    /// Where and how it arrived.
    fn arrival(&self, side: u8) -> Arrival;
}

/// A packet that begins no flow of the host's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoFlow;

/// tc ingress on a host side: what a container sends.
#[inline(always)]
pub fn from_container<S: Link + Steps<V4> + Steps<V6>>(steps: &S) -> Verdict {
    let stop = |reason| Steps::<V4>::stop(steps, reason);
    if steps.is_tagged() {
        return stop(DropReason::NotIp);
    }
    match steps.ether_type() {
        Some(ether_type::IPV4) => ingress::<V4>(steps, side::CONTAINER, DropReason::Malformed),
        Some(ether_type::IPV6) => ingress::<V6>(steps, side::CONTAINER, DropReason::Malformed),
        Some(ether_type::ARP) => {
            let frame = Steps::<V4>::frame(steps, arp::HEADERS);
            let arrival = steps.arrival(side::CONTAINER);
            stop(arp::from_container(&frame, arrival, Steps::<V4>::env(steps)))
        }
        _ => stop(DropReason::NotIp),
    }
}

/// tc ingress on an uplink: replies, and published ports.
#[inline(always)]
pub fn from_uplink<S: Link + Steps<V4> + Steps<V6>>(steps: &S) -> Verdict {
    let not_ours = || Steps::<V4>::stop(steps, DropReason::NotOurs);
    if steps.is_tagged() || !steps.is_for_host() {
        return not_ours();
    }
    match steps.ether_type() {
        Some(ether_type::IPV4) => ingress::<V4>(steps, side::UPLINK, DropReason::NotOurs),
        Some(ether_type::IPV6) => ingress::<V6>(steps, side::UPLINK, DropReason::NotOurs),
        _ => not_ours(),
    }
}

/// tc egress on an uplink, of what the host itself sends: it leaves as it is, unless it shares a
/// tuple with a flow.
#[inline(always)]
pub fn to_uplink<S: Link + Steps<V4> + Steps<V6>>(steps: &S) -> Verdict {
    if steps.is_tagged() {
        return Verdict::PASS;
    }
    match steps.ether_type() {
        Some(ether_type::IPV4) => host_egress::<V4>(steps),
        Some(ether_type::IPV6) => host_egress::<V6>(steps),
        _ => Verdict::PASS,
    }
}

/// tc egress on a bridge: what the host's stack sends into a network. Decided from `input` alone,
/// the interface that the packet came to the host by, zero if the host itself sends it.
#[inline(always)]
pub const fn to_bridge(input: u32) -> DropReason {
    if input == 0 { DropReason::FromHost } else { DropReason::NotPublished }
}

/// A packet that arrived at a host side or an uplink. `malformed` is the reason for one that cannot
/// be parsed.
#[inline(always)]
pub fn ingress<A: Family>(steps: &impl Steps<A>, side: u8, malformed: DropReason) -> Verdict {
    let verdict = steps.fast_path(side, malformed);
    if verdict.is_final() {
        return verdict;
    }
    // Without a scratch a container's packet must not pass undecided.
    let Some(mut scratch) = steps.scratch() else { return steps.stop(malformed) };
    if verdict == Verdict::UNPARSED && steps.parse_into(&mut scratch, side).is_err() {
        return steps.stop(malformed);
    }
    steps.slow_path(&mut scratch)
}

/// A packet with a usual header, of a flow that it changes nothing of but the counters. What the
/// function holds on the stack is not there while the next steps run, which find the packet in the
/// scratch.
#[inline(always)]
pub fn fast_path<A: Family>(steps: &impl Steps<A>, side: u8, malformed: DropReason) -> Verdict {
    let Ok(packet) = steps.parse_usual(side) else { return Verdict::UNPARSED };
    let found = lookup_fast(&packet, steps.env());
    let lookup_missed = matches!(found, Lookup::Miss);
    if let Lookup::FastPath(entry) = found {
        if is_nat64(&entry.translation) {
            let Some(mut scratch) = steps.scratch() else { return steps.stop(malformed) };
            scratch.packet = packet;
            scratch.entry.translation = entry.translation;
            return steps.forward_nat64(&mut scratch);
        }
        // Out of the table, without a copy: a step in between costs more than it can change.
        return steps.forward(&packet, &entry.translation);
    }
    let Some(mut scratch) = steps.scratch() else { return steps.stop(malformed) };
    scratch.packet = packet;
    scratch.source_mac = source_mac(&steps.frame(0));
    scratch.lookup_missed = lookup_missed;
    Verdict::UNDECIDED
}

/// Parses a packet into the scratch, whatever is in its header. What the scratch says is then the
/// same to the verifier for every packet.
#[inline(always)]
pub fn parse<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
    side: u8,
) -> Result<(), Malformed> {
    scratch.packet = steps.parse(side)?;
    scratch.source_mac = source_mac(&steps.frame(0));
    scratch.lookup_missed = false;
    Ok(())
}

/// A packet that the fast path left.
#[inline(always)]
pub fn slow_path<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    let mut verdict =
        if scratch.lookup_missed { Verdict::UNDECIDED } else { known_flow(steps, scratch) };
    if verdict == Verdict::UNDECIDED {
        verdict = steps.nat64(scratch);
    }
    if verdict == Verdict::UNDECIDED {
        verdict = no_flow(steps, scratch);
    }
    if verdict == Verdict::REFUSED {
        return steps.reply(scratch);
    }
    verdict
}

/// A packet of a flow in the table.
#[inline(always)]
fn known_flow<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    match lookup(steps, scratch) {
        Outcome::Miss => Verdict::UNDECIDED,
        Outcome::Forward => steps.send_checked(scratch),
        Outcome::Drop(reason) => drop_or_reply(steps, scratch, reason),
    }
}

#[inline(always)]
fn lookup<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Outcome {
    if identifies_flow(&scratch.packet) { steps.lookup_slow(scratch) } else { Outcome::Miss }
}

/// A packet of no flow. Step after step, and none in another: together they would hold too much on
/// the stack, of which each takes 32 bytes at least before Linux 6.6.
#[inline(always)]
fn no_flow<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    if scratch.packet.payload == Payload::Link && scratch.packet.tuple.side == side::CONTAINER {
        return steps.link(scratch);
    }
    if scratch.packet.is_fragment() {
        return steps.fragment(scratch);
    }
    if scratch.packet.payload == Payload::Error {
        match steps.error(scratch) {
            Verdict::UNDECIDED => {}
            Verdict::NAT64 => return steps.forward_error_nat64(scratch),
            verdict => return verdict,
        }
    }
    steps.first_packet(scratch)
}

/// The first packet of a flow, or one that may begin none.
#[inline(always)]
pub fn first_packet<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    if let Err(reason) = steps.plan(scratch) {
        return drop_or_reply(steps, scratch, reason);
    }
    if let Err(reason) = create_planned(steps, scratch) {
        return drop_or_reply(steps, scratch, reason);
    }
    steps.send(scratch)
}

/// Creates the planned flow, and before it the mapping that it goes by.
#[inline(always)]
fn create_planned<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    if endpoint_independent::needs_mapping(scratch) && !steps.reuse_mapping(scratch) {
        endpoint_independent::plan_mapping(scratch);
        let created = steps.create_with_eviction(scratch);
        endpoint_independent::resume_flow(scratch);
        created?;
    }
    steps.create_with_eviction(scratch)
}

/// Creates the planned flow, and evicts another one if there is no room.
#[inline(always)]
pub fn create_with_eviction<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    match steps.create(scratch) {
        Err(DropReason::TableFull) if steps.evict_one(Owner::NONE) => steps.create(scratch),
        Err(DropReason::TooManyFlows) if steps.evict_one(scratch.entry.owner) => {
            steps.create(scratch)
        }
        outcome => outcome,
    }
}

/// Creates the planned flow, or lets a neighbour's packet go on without one.
#[inline(always)]
pub fn create<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    steps.prepare(scratch);
    steps.try_ports(scratch);
    steps.complete(scratch)
}

/// The last step, apart: what it holds on the stack is not there while the others run.
#[inline(always)]
pub fn send<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    match check_ttl_and_mtu(&scratch.packet, &scratch.entry.translation) {
        Ok(()) => send_or_nat64(steps, scratch),
        Err(reason) => drop_or_reply(steps, scratch, reason),
    }
}

/// Sends a packet on whose TTL and length were checked.
#[inline(always)]
pub fn send_or_nat64<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    if is_nat64(&scratch.entry.translation) {
        return steps.forward_nat64(scratch);
    }
    forward(steps, &scratch.packet, &scratch.entry.translation)
}

#[inline(always)]
fn forward<A: Family>(
    steps: &impl Steps<A>,
    packet: &Packet<A>,
    translation: &Translation<A>,
) -> Verdict {
    if packet.flags & tcp::SYN != 0
        && let Err(reason) = steps.clamp_mss(packet, translation)
    {
        return steps.stop(reason);
    }
    steps.forward(packet, translation)
}

/// Whether what leaves so becomes a packet of the other family.
#[inline(always)]
fn is_nat64<A: Family>(translation: &Translation<A>) -> bool {
    A::HAS_NAT64 && translation.deliver == deliver::CONTAINER_NAT64
}

/// Leaves a packet to [`Steps::reply`], if its sender is told why it does not go on.
#[inline(always)]
pub fn drop_or_reply<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
    reason: DropReason,
) -> Verdict {
    let Some(kind) = reason.icmp_error() else { return steps.stop(reason) };
    steps.count(reason);
    scratch.icmp_error_kind = kind as u8;
    Verdict::REFUSED
}

/// Tells the sender of a packet why it does not go on.
#[inline(always)]
pub fn reply<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    let Scratch { packet, icmp_error_kind, icmp_error, entry, .. } = scratch;
    // A sender of too long packets sends them until it is told, and the error is shorter: that has
    // no limit.
    let limited = *icmp_error_kind != IcmpErrorKind::TooLong as u8;
    if !icmp_reply::may_reply(packet) || (limited && !steps.take_error_budget(packet)) {
        return Verdict::DROP;
    }
    let frame = steps.frame((ETHERNET + icmp::QUOTE) as u32);
    let Some(source) = icmp_reply::error_source(packet, steps.env()) else {
        return Verdict::DROP;
    };
    let Some(kind) = IcmpErrorKind::from_number(*icmp_error_kind) else { return Verdict::DROP };
    match icmp_reply::build(icmp_error, &frame, packet, source, kind, entry.translation.mtu) {
        Some(()) => steps.send_back(packet, icmp_error),
        None => Verdict::DROP,
    }
}

/// An ICMP error, which may be of a flow.
#[inline(always)]
pub fn error<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    let frame = steps.frame(quote::HEADERS);
    let Scratch { packet, error_translation: error, .. } = scratch;
    let Some(quote) = quote::quote(&frame, packet.payload_offset(), packet.tuple.side) else {
        return Verdict::UNDECIDED;
    };
    error.quote = quote;
    match icmp_error::translate(packet, error, steps.env()) {
        Outcome::Miss => Verdict::UNDECIDED,
        Outcome::Drop(reason) => steps.stop(reason),
        Outcome::Forward if is_nat64(&error.outer) => Verdict::NAT64,
        Outcome::Forward => steps.forward_error(packet, error),
    }
}

/// A fragment.
#[inline(always)]
pub fn fragment<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    let Some(mut context) = steps.fragment_context() else {
        return steps.stop(DropReason::Fragment);
    };
    context.set(&scratch.packet);
    if scratch.packet.first_fragment {
        first_fragment(steps, scratch, &mut context)
    } else {
        later_fragment(steps, scratch, &mut context)
    }
}

#[inline(always)]
fn first_fragment<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
    context: &mut FragmentContext<A>,
) -> Verdict {
    let outcome = match steps.lookup_slow(scratch) {
        Outcome::Miss => create_fragment_flow(steps, scratch),
        Outcome::Forward => Ok(()),
        Outcome::Drop(reason) => Err(reason),
    };
    let translated = outcome.is_ok() && fragment::is_translated(&scratch.entry.translation);
    if steps.needs_fragment_state(scratch, outcome) {
        let queued = steps.record(scratch, context, outcome.is_ok());
        if queued != 0 {
            if translated {
                steps.reinject(Some(scratch));
            }
            steps.release(context, queued, translated);
            if translated {
                return Verdict::DROP;
            }
        }
    }
    match outcome {
        Ok(()) => steps.forward_fragment(scratch, context),
        Err(reason) => drop_or_reply(steps, scratch, reason),
    }
}

#[inline(always)]
fn later_fragment<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
    context: &mut FragmentContext<A>,
) -> Verdict {
    let ready = steps.take_ports(scratch, context);
    if ready {
        match steps.lookup_slow(scratch) {
            Outcome::Forward => return steps.forward_fragment(scratch, context),
            Outcome::Drop(reason) => return drop_or_reply(steps, scratch, reason),
            Outcome::Miss => fragment::forget_ports(&mut scratch.packet),
        }
    }
    let planned = steps.plan(scratch);
    if !ready && steps.needs_fragment_state(scratch, planned) {
        match steps.queue(context) {
            Queue::Queued | Queue::TakenByFirst => {
                if !fragment::goes_on(planned) {
                    return steps.stop(DropReason::FragmentHeld);
                }
            }
            Queue::FirstArrived => {
                steps.reinject(None);
                return Verdict::DROP;
            }
            Queue::NoRoom => {}
        }
    }
    let outcome = match planned {
        Ok(()) => create_checked(steps, scratch),
        Err(reason) => Err(reason),
    };
    match outcome {
        Ok(()) => steps.forward_fragment(scratch, context),
        Err(reason) => drop_or_reply(steps, scratch, reason),
    }
}

#[inline(always)]
fn create_fragment_flow<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    match steps.plan(scratch) {
        Ok(()) => create_checked(steps, scratch),
        refused => refused,
    }
}

#[inline(always)]
fn create_checked<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    match create_planned(steps, scratch) {
        Ok(()) => steps.check_ttl_and_mtu(scratch),
        refused => refused,
    }
}

/// An IPv4 packet from a container to its gateway, if it belongs to a flow of an IPv6 client.
#[inline(always)]
pub fn nat64(v4: &impl Nat64Client, v6: &impl Nat64Steps, scratch: &mut Scratch<V4>) -> Verdict {
    let Some(mut v6_scratch) = v6.scratch() else { return Verdict::UNDECIDED };
    if !v4.may_be_nat64(scratch) {
        return Verdict::UNDECIDED;
    }
    v6_scratch.packet = mapped_packet(&scratch.packet);
    if scratch.packet.payload == Payload::Error {
        return match v6.translate_error(&mut v6_scratch) {
            Outcome::Miss => Verdict::UNDECIDED,
            Outcome::Forward => v6.forward_error_as_ipv6(&mut v6_scratch),
            Outcome::Drop(reason) => v6.stop(reason),
        };
    }
    if scratch.packet.first_fragment {
        // What is not translated must not come to the host's stack instead.
        return if v6.has_flow(&v6_scratch) {
            v6.stop(DropReason::Fragment)
        } else {
            Verdict::UNDECIDED
        };
    }
    match lookup(v6, &mut v6_scratch) {
        Outcome::Miss => Verdict::UNDECIDED,
        Outcome::Forward => v6.forward_as_ipv6(&mut v6_scratch),
        Outcome::Drop(reason) => {
            // As long as it may be before it becomes longer.
            scratch.entry.translation.mtu =
                v6_scratch.entry.translation.mtu.saturating_sub(HEADER_GROWTH as u16);
            drop_or_reply(v4, scratch, reason)
        }
    }
}

/// Finds the flow of an IPv4 error, which is kept among IPv6's.
#[inline(always)]
pub fn translate_ipv4_error(steps: &impl Steps<V6>, scratch: &mut Scratch<V6>) -> Outcome {
    let frame = steps.frame(quote::HEADERS);
    let Scratch { packet, error_translation: error, .. } = scratch;
    let Some(quote) = nat64_error::quote(&frame, packet.payload_offset(), packet.tuple.side) else {
        return Outcome::Miss;
    };
    error.quote = quote;
    icmp_error::translate(packet, error, steps.env())
}

/// A packet that the host itself sends out of an uplink.
#[inline(always)]
pub fn host_egress<A: Family>(steps: &impl Steps<A>) -> Verdict {
    let verdict = steps.host_fast_path();
    if verdict.is_final() {
        return verdict;
    }
    let Some(mut scratch) = steps.scratch() else { return Verdict::PASS };
    if verdict == Verdict::UNPARSED && steps.parse_into(&mut scratch, side::HOST).is_err() {
        return Verdict::PASS;
    }
    steps.host_slow_path(&mut scratch)
}

/// Nearly every packet of the host's is of no flow, and begins none: it leaves as it is.
#[inline(always)]
pub fn host_fast_path<A: Family>(steps: &impl Steps<A>) -> Verdict {
    let Ok(packet) = steps.parse_usual(side::HOST) else { return Verdict::UNPARSED };
    if packet.payload != Payload::Error
        && (!host_flows::may_belong_to_host_flow(&packet, steps.env())
            || host_flows::classify(&packet, steps.bypasses_socket_lookup(&packet), steps.env())
                == HostFlow::None)
    {
        return Verdict::PASS;
    }
    let Some(mut scratch) = steps.scratch() else { return Verdict::PASS };
    scratch.packet = packet;
    Verdict::UNDECIDED
}

/// A packet of the host's that may belong to a flow. It leaves as it is, if it begins none.
#[inline(always)]
pub fn host_slow_path<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    let mut verdict = if scratch.packet.payload == Payload::Error {
        steps.error(scratch)
    } else {
        steps.host_flow(scratch)
    };
    if verdict == Verdict::UNDECIDED
        && steps.plan_host_flow(scratch).is_ok()
        && steps.create(scratch).is_ok()
    {
        verdict = steps.send(scratch);
    }
    // Half translated it must not leave.
    if verdict == Verdict::DROP { verdict } else { Verdict::PASS }
}

/// A packet of a flow of the host's own.
#[inline(always)]
pub fn host_flow<A: Family>(steps: &impl Steps<A>, scratch: &mut Scratch<A>) -> Verdict {
    let Scratch { packet, entry, .. } = scratch;
    if !host_flows::may_belong_to_host_flow(packet, steps.env()) {
        return Verdict::PASS;
    }
    match host_flows::classify(packet, steps.bypasses_socket_lookup(packet), steps.env()) {
        HostFlow::None => Verdict::PASS,
        HostFlow::Track | HostFlow::Remap => Verdict::UNDECIDED,
        HostFlow::Existing => {
            match lookup_slow::lookup_slow(packet, &mut entry.translation, steps.env()) {
                Outcome::Forward => forward(steps, packet, &entry.translation),
                Outcome::Miss | Outcome::Drop(_) => Verdict::UNDECIDED,
            }
        }
    }
}

/// Plans the flow that a packet of the host's begins.
#[inline(always)]
pub fn plan_host_flow<A: Family>(
    steps: &impl Steps<A>,
    scratch: &mut Scratch<A>,
) -> Result<(), NoFlow> {
    let bypasses_socket_lookup = steps.bypasses_socket_lookup(&scratch.packet);
    let flow = host_flows::classify(&scratch.packet, bypasses_socket_lookup, steps.env());
    if !matches!(flow, HostFlow::Track | HostFlow::Remap) {
        return Err(NoFlow);
    }
    scratch.new_flow = host_flows::plan(&scratch.packet, flow, steps.env());
    Ok(())
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
