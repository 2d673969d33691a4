//! The steps of a packet as traits. The functions of [`super`] call them in order.

use core::ops::DerefMut;

use crate::{
    abi::{drop_reason::DropReason, owner::Owner, translation::Translation},
    env::{Env, FragmentStore},
    flow::{
        error::ErrorTranslation, evict, fragment_context::FragmentContext,
        limits::check_ttl_and_mtu, lookup_slow,
    },
    guard::link::LinkGuard,
    icmp_reply::IcmpReply,
    nat::{
        create, endpoint_independent,
        fragment::{self, Queue},
        nat64, plan,
        rewrite::Rewrite,
    },
    scratch::Scratch,
    verdict::{Outcome, Verdict},
    wire::{
        address::{V4, V6},
        frame::Frame,
        icmp::IcmpError,
        packet::{Arrival, Malformed, Packet},
        tuple::Side,
    },
};

/// An address family that the datapath handles whole.
pub trait Family: Rewrite + IcmpReply + LinkGuard {}

impl<A: Rewrite + IcmpReply + LinkGuard> Family for A {}

/// The steps of one packet of a family.
///
/// They share the [`Scratch`]. Methods without a body touch the frame,
/// which is the kernel's, or a buffer in a test.
pub trait Steps<A: Family>: Sized {
    /// The maps and helpers that decisions use.
    type Env: Env<A> + FragmentStore<A>;
    /// A reference to the scratch, or a guard of it.
    type Scratch<'s>: DerefMut<Target = Scratch<A>>
    where
        Self: 's;
    /// A reference to the context of a fragment, or a guard of it.
    type Fragment<'s>: DerefMut<Target = FragmentContext<A>>
    where
        Self: 's;

    /// The maps and helpers that decisions use.
    fn env(&self) -> &Self::Env;
    /// The scratch. Never `None`, but the verifier demands the check.
    fn scratch(&self) -> Option<Self::Scratch<'_>>;
    /// The context of a fragment. Never `None`, but the verifier demands the check.
    fn fragment_context(&self) -> Option<Self::Fragment<'_>>;
    /// The frame, of which the first `reach` bytes can be read if it has as many.
    fn frame(&self, reach: u32) -> impl Frame + '_;
    /// Parses a packet with a usual header.
    fn parse_usual(&self, side: Side) -> Result<Packet<A>, Malformed>;
    /// Parses a packet with any header.
    fn parse(&self, side: Side) -> Result<Packet<A>, Malformed>;
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
    /// [`super::fast_path`].
    fn fast_path(&self, side: Side, malformed: DropReason) -> Verdict;
    /// [`super::parse`].
    fn parse_into(&self, scratch: &mut Scratch<A>, side: Side) -> Result<(), Malformed>;
    /// [`super::slow_path`].
    fn slow_path(&self, scratch: &mut Scratch<A>) -> Verdict;
    /// [`lookup_slow::lookup_slow`].
    #[inline(always)]
    fn lookup_slow(&self, scratch: &mut Scratch<A>) -> Outcome {
        let Scratch { packet, entry, .. } = scratch;
        lookup_slow::lookup_slow(packet, &mut entry.translation, self.env())
    }
    /// [`super::send_or_nat64`], for a packet that the slow path has checked.
    fn send_checked(&self, scratch: &mut Scratch<A>) -> Verdict;
    /// [`super::send()`].
    fn send(&self, scratch: &mut Scratch<A>) -> Verdict;
    /// [`LinkGuard::link_from_container`].
    #[inline(always)]
    fn link(&self, scratch: &Scratch<A>) -> Verdict {
        let reason =
            A::link_from_container(&self.frame(A::LINK_BYTES), &scratch.packet, self.env());
        self.stop(reason)
    }
    /// [`super::error`].
    fn error(&self, scratch: &mut Scratch<A>) -> Verdict;
    /// [`super::fragment()`].
    fn fragment(&self, scratch: &mut Scratch<A>) -> Verdict;
    /// [`super::reply`].
    fn reply(&self, scratch: &mut Scratch<A>) -> Verdict;
    /// [`super::first_packet`].
    fn first_packet(&self, scratch: &mut Scratch<A>) -> Verdict;
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
    /// [`super::create_with_eviction`].
    fn create_with_eviction(&self, scratch: &mut Scratch<A>) -> Result<(), DropReason>;
    /// [`super::create()`].
    fn create(&self, scratch: &mut Scratch<A>) -> Result<(), DropReason>;
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
    /// [`super::host_fast_path`].
    fn host_fast_path(&self) -> Verdict;
    /// [`super::host_slow_path`].
    fn host_slow_path(&self, scratch: &mut Scratch<A>) -> Verdict;
    /// [`super::host_flow`].
    fn host_flow(&self, scratch: &mut Scratch<A>) -> Verdict;
    /// [`super::plan_host_flow`].
    fn plan_host_flow(&self, scratch: &mut Scratch<A>) -> Result<(), NoFlow>;
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
    fn translate_error(&self, scratch: &mut Scratch<V6>) -> Outcome;
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
    fn arrival(&self, side: Side) -> Arrival;
}

/// A packet that begins no flow of the host's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoFlow;
