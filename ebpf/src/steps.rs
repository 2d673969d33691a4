//! The steps of [`causeway_common::pipeline`] in the kernel's tc programs.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use causeway_common::{
    abi::{Translation, drop_reason::DropReason, owner::Owner},
    flow::{error::ErrorTranslation, fragment_context::FragmentContext},
    nat::fragment::Queue,
    pipeline::{Link, Nat64Client, Nat64Steps, NoFlow, Steps},
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

use crate::{
    ctx::skb::Skb,
    env::KernelEnv,
    globals::Globals,
    maps, subprograms,
    trace::{self, Step},
};

/// A packet that a tc program was called for. Each method is a border: what has one of its own in
/// [`subprograms`] or [`Globals`] is a function to the verifier.
pub(crate) struct Tc<'a> {
    context: &'a TcContext,
    env: KernelEnv<'a>,
}

impl<'a> Tc<'a> {
    #[inline(always)]
    pub(crate) fn new(context: &'a TcContext) -> Self {
        Self { context, env: KernelEnv::new(context) }
    }

    #[inline(always)]
    pub(crate) fn skb(&self) -> Skb<'a> {
        Skb::new(self.context)
    }

    #[inline(always)]
    pub(crate) fn raw(&self) -> *mut __sk_buff {
        self.context.skb.skb
    }
}

/// Notes the packet for the trace.
#[inline(always)]
fn note_packet<A: Globals>(packet: &Result<Packet<A>, Malformed>) {
    if let Ok(packet) = packet {
        trace::packet(&packet.tuple);
    }
}

impl Link for Tc<'_> {
    #[inline(always)]
    fn is_tagged(&self) -> bool {
        self.skb().is_tagged()
    }

    #[inline(always)]
    fn is_for_host(&self) -> bool {
        self.skb().is_for_host()
    }

    #[inline(always)]
    fn ether_type(&self) -> Option<u16> {
        self.skb().ether_type()
    }

    #[inline(always)]
    fn arrival(&self, side: Side) -> Arrival {
        self.skb().arrival(side)
    }
}

impl<'a, A: Globals> Steps<A> for Tc<'a> {
    type Env = KernelEnv<'a>;
    type Scratch<'s>
        = &'s mut Scratch<A>
    where
        Self: 's;
    type Fragment<'s>
        = &'s mut FragmentContext<A>
    where
        Self: 's;

    #[inline(always)]
    fn env(&self) -> &KernelEnv<'a> {
        &self.env
    }

    #[inline(always)]
    fn scratch(&self) -> Option<&mut Scratch<A>> {
        A::scratch()
    }

    #[inline(always)]
    fn fragment_context(&self) -> Option<&mut FragmentContext<A>> {
        A::fragment_context()
    }

    #[inline(always)]
    fn frame(&self, reach: u32) -> impl Frame + '_ {
        let mut skb = self.skb();
        if reach != 0 {
            skb.reach_for(reach);
        }
        skb
    }

    #[inline(always)]
    fn parse_usual(&self, side: Side) -> Result<Packet<A>, Malformed> {
        let packet = self.skb().parse_usual(side);
        note_packet(&packet);
        packet
    }

    #[inline(always)]
    fn parse(&self, side: Side) -> Result<Packet<A>, Malformed> {
        let packet = self.skb().parse(side);
        note_packet(&packet);
        packet
    }

    #[inline(always)]
    fn bypasses_socket_lookup(&self, packet: &Packet<A>) -> bool {
        self.skb().bypasses_socket_lookup(packet)
    }

    #[inline(always)]
    fn count(&self, reason: DropReason) {
        maps::count(reason);
    }

    #[inline(always)]
    fn take_error_budget(&self, packet: &Packet<A>) -> bool {
        let now = causeway_common::env::Kernel::<A>::now(&self.env);
        maps::take_error_budget(packet.tuple.side, now)
    }

    #[inline(always)]
    fn forward(&self, packet: &Packet<A>, translation: &Translation<A>) -> Verdict {
        trace::step(Step::Forward);
        self.skb().forward(packet, translation).unwrap_or_else(subprograms::stop)
    }

    #[inline(always)]
    fn clamp_mss(
        &self,
        packet: &Packet<A>,
        translation: &Translation<A>,
    ) -> Result<(), DropReason> {
        subprograms::clamp_mss(self.raw(), packet, translation)
    }

    #[inline(always)]
    fn forward_fragment(&self, scratch: &Scratch<A>, context: &FragmentContext<A>) -> Verdict {
        trace::step(Step::Forward);
        subprograms::forward_fragment(self.raw(), scratch, context)
    }

    #[inline(always)]
    fn forward_error(&self, packet: &Packet<A>, error: &ErrorTranslation<A>) -> Verdict {
        trace::step(Step::Forward);
        self.skb().forward_error(packet, error).unwrap_or_else(subprograms::stop)
    }

    #[inline(always)]
    fn forward_nat64(&self, scratch: &mut Scratch<A>) -> Verdict {
        trace::step(Step::Nat64);
        A::forward_nat64(self.raw(), scratch)
    }

    #[inline(always)]
    fn forward_error_nat64(&self, scratch: &mut Scratch<A>) -> Verdict {
        trace::step(Step::Nat64);
        A::forward_error_nat64(self.raw(), scratch)
    }

    #[inline(always)]
    fn send_back(&self, packet: &Packet<A>, error: &IcmpError) -> Verdict {
        trace::step(Step::IcmpReply);
        self.skb().send_back(packet, error).unwrap_or(Verdict::DROP)
    }

    #[inline(always)]
    fn nat64(&self, scratch: &mut Scratch<A>) -> Verdict {
        A::nat64(self.raw(), scratch)
    }

    #[inline(always)]
    fn reply(&self, scratch: &mut Scratch<A>) -> Verdict {
        subprograms::reply(self.raw(), scratch)
    }

    #[inline(always)]
    fn fast_path(&self, side: Side, malformed: DropReason) -> Verdict {
        subprograms::fast_path::<A>(self.raw(), side, malformed)
    }

    #[inline(always)]
    fn parse_into(&self, scratch: &mut Scratch<A>, side: Side) -> Result<(), Malformed> {
        subprograms::parse(self.raw(), scratch, side)
    }

    #[inline(always)]
    fn slow_path(&self, scratch: &mut Scratch<A>) -> Verdict {
        trace::step(Step::SlowPath);
        A::slow_path(self.raw(), scratch)
    }

    #[inline(always)]
    fn lookup_slow(&self, scratch: &mut Scratch<A>) -> Outcome {
        trace::step(Step::Lookup);
        A::lookup_slow(self.raw(), scratch)
    }

    #[inline(always)]
    fn send_checked(&self, scratch: &mut Scratch<A>) -> Verdict {
        subprograms::send_checked(self.raw(), scratch)
    }

    #[inline(always)]
    fn send(&self, scratch: &mut Scratch<A>) -> Verdict {
        subprograms::send(self.raw(), scratch)
    }

    #[inline(always)]
    fn link(&self, scratch: &Scratch<A>) -> Verdict {
        trace::step(Step::Link);
        subprograms::link(self.raw(), scratch)
    }

    #[inline(always)]
    fn error(&self, scratch: &mut Scratch<A>) -> Verdict {
        trace::step(Step::IcmpError);
        subprograms::error(self.raw(), scratch)
    }

    #[inline(always)]
    fn fragment(&self, scratch: &mut Scratch<A>) -> Verdict {
        trace::step(Step::Fragment);
        subprograms::fragment(self.raw(), scratch)
    }

    #[inline(always)]
    fn first_packet(&self, scratch: &mut Scratch<A>) -> Verdict {
        subprograms::first_packet(self.raw(), scratch)
    }

    #[inline(always)]
    fn plan(&self, scratch: &mut Scratch<A>) -> Result<(), DropReason> {
        trace::step(Step::Plan);
        A::plan(self.raw(), scratch)
    }

    #[inline(always)]
    fn reuse_mapping(&self, scratch: &mut Scratch<A>) -> bool {
        subprograms::reuse_mapping(self.raw(), scratch)
    }

    #[inline(always)]
    fn create_with_eviction(&self, scratch: &mut Scratch<A>) -> Result<(), DropReason> {
        A::create_with_eviction(self.raw(), scratch)
    }

    #[inline(always)]
    fn create(&self, scratch: &mut Scratch<A>) -> Result<(), DropReason> {
        trace::step(Step::Create);
        A::create(self.raw(), scratch)
    }

    #[inline(always)]
    fn prepare(&self, scratch: &mut Scratch<A>) {
        subprograms::prepare(self.raw(), scratch);
    }

    #[inline(always)]
    fn try_ports(&self, scratch: &mut Scratch<A>) {
        subprograms::try_ports(self.raw(), scratch);
    }

    #[inline(always)]
    fn complete(&self, scratch: &mut Scratch<A>) -> Result<(), DropReason> {
        subprograms::complete(self.raw(), scratch)
    }

    #[inline(always)]
    fn evict_one(&self, owner: Owner) -> bool {
        trace::step(Step::Evict);
        subprograms::evict_one::<A>(self.raw(), owner)
    }

    #[inline(always)]
    fn check_ttl_and_mtu(&self, scratch: &Scratch<A>) -> Result<(), DropReason> {
        subprograms::check_ttl_and_mtu(scratch)
    }

    #[inline(always)]
    fn needs_fragment_state(&self, scratch: &Scratch<A>, outcome: Result<(), DropReason>) -> bool {
        subprograms::needs_fragment_state(self.raw(), scratch, outcome)
    }

    #[inline(always)]
    fn record(&self, scratch: &Scratch<A>, context: &mut FragmentContext<A>, leaves: bool) -> u32 {
        subprograms::record(self.raw(), scratch, context, leaves)
    }

    #[inline(always)]
    fn take_ports(&self, scratch: &mut Scratch<A>, context: &mut FragmentContext<A>) -> bool {
        subprograms::take_ports(self.raw(), scratch, context)
    }

    #[inline(always)]
    fn queue(&self, context: &mut FragmentContext<A>) -> Queue {
        trace::step(Step::Queue);
        subprograms::queue(self.raw(), context)
    }

    #[inline(always)]
    fn reinject(&self, counted: Option<&Scratch<A>>) {
        trace::step(Step::Reinject);
        subprograms::reinject(self.raw(), counted);
    }

    #[inline(always)]
    fn release(&self, context: &mut FragmentContext<A>, queued: u32, reinject: bool) {
        subprograms::release(self.raw(), context, queued, reinject);
    }

    #[inline(always)]
    fn host_fast_path(&self) -> Verdict {
        subprograms::host_fast_path::<A>(self.raw())
    }

    #[inline(always)]
    fn host_slow_path(&self, scratch: &mut Scratch<A>) -> Verdict {
        trace::step(Step::HostSlowPath);
        A::host_slow_path(self.raw(), scratch)
    }

    #[inline(always)]
    fn host_flow(&self, scratch: &mut Scratch<A>) -> Verdict {
        subprograms::host_flow(self.raw(), scratch)
    }

    #[inline(always)]
    fn plan_host_flow(&self, scratch: &mut Scratch<A>) -> Result<(), NoFlow> {
        subprograms::plan_host_flow(self.raw(), scratch)
    }
}

impl Nat64Client for Tc<'_> {
    #[inline(always)]
    fn may_be_nat64(&self, scratch: &Scratch<V4>) -> bool {
        subprograms::may_be_nat64(self.raw(), scratch)
    }
}

impl Nat64Steps for Tc<'_> {
    #[inline(always)]
    fn has_flow(&self, scratch: &Scratch<V6>) -> bool {
        subprograms::has_flow(self.raw(), scratch)
    }

    #[inline(always)]
    fn translate_error(&self, scratch: &mut Scratch<V6>) -> Outcome {
        subprograms::translate_ipv4_error(self.raw(), scratch)
    }

    #[inline(always)]
    fn forward_as_ipv6(&self, scratch: &mut Scratch<V6>) -> Verdict {
        subprograms::forward_as_ipv6(self.raw(), scratch)
    }

    #[inline(always)]
    fn forward_error_as_ipv6(&self, scratch: &mut Scratch<V6>) -> Verdict {
        subprograms::forward_error_as_ipv6(self.raw(), scratch)
    }
}
