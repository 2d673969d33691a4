//! Steps that are functions of their own in the object, so that what one holds on the stack is not
//! there while the next one runs. Each gets the packet and what it works on, and runs the step of
//! [`causeway_common::pipeline`].

use core::ffi::c_void;

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_loop, programs::TcContext};
use causeway_common::{
    abi::{Translation, drop_reason::DropReason, owner::Owner},
    flow::{
        error::ErrorTranslation,
        evict::{self, Evict},
        fragment_context::FragmentContext,
        limits, lookup_slow as lookup,
    },
    nat::{
        create, endpoint_independent,
        fragment::{self, Queue},
        mss, nat64, nat64_error, plan as planning,
    },
    pipeline::{self, NoFlow, Steps},
    scratch::Scratch,
    verdict::{Outcome, Verdict},
    wire::{
        address::{V4, V6},
        headers::Head,
        packet::{Malformed, Packet},
        tcp_options::MssSearch,
        tuple::Side,
    },
};

use crate::{
    ctx::skb::{self, Skb},
    env::KernelEnv,
    globals::Globals,
    maps,
    steps::Tc,
};

/// Makes functions of their own of the pipeline's.
macro_rules! of_pipeline {
    ($($(#[$meta:meta])* $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)+) => {$(
        $(#[$meta])*
        #[inline(never)]
        pub(crate) fn $name<A: Globals>(skb: *mut __sk_buff $(, $argument: $type)*) -> $answer {
            let context = TcContext::new(skb);
            pipeline::$name::<A>(&Tc::new(&context) $(, $argument)*)
        }
    )+};
}

of_pipeline! {
    /// [`pipeline::fast_path`].
    fast_path(side: Side, malformed: DropReason) -> Verdict;
    /// [`pipeline::parse`].
    parse(scratch: &mut Scratch<A>, side: Side) -> Result<(), Malformed>;
    /// [`pipeline::send`].
    send(scratch: &mut Scratch<A>) -> Verdict;
    /// [`pipeline::error`].
    error(scratch: &mut Scratch<A>) -> Verdict;
    /// [`pipeline::fragment`].
    fragment(scratch: &mut Scratch<A>) -> Verdict;
    /// [`pipeline::first_packet`].
    first_packet(scratch: &mut Scratch<A>) -> Verdict;
    /// [`pipeline::reply`].
    reply(scratch: &mut Scratch<A>) -> Verdict;
    /// [`pipeline::host_fast_path`].
    host_fast_path() -> Verdict;
    /// [`pipeline::host_flow`].
    host_flow(scratch: &mut Scratch<A>) -> Verdict;
    /// [`pipeline::plan_host_flow`].
    plan_host_flow(scratch: &mut Scratch<A>) -> Result<(), NoFlow>;
}

/// Counts the reason, and answers its verdict.
#[inline(always)]
pub(crate) fn stop(reason: DropReason) -> Verdict {
    maps::count(reason);
    Verdict::of(reason.fate())
}

/// [`lookup::lookup_slow`].
#[inline(always)]
pub(crate) fn lookup_slow<A: Globals>(steps: &Tc<'_>, scratch: &mut Scratch<A>) -> Outcome {
    let Scratch { packet, entry, .. } = scratch;
    lookup::lookup_slow(packet, &mut entry.translation, Steps::<A>::env(steps))
}

/// [`planning::plan`].
#[inline(always)]
pub(crate) fn plan<A: Globals>(steps: &Tc<'_>, scratch: &mut Scratch<A>) -> Result<(), DropReason> {
    planning::plan(scratch, Steps::<A>::env(steps))
}

/// [`pipeline::send_or_nat64`].
#[inline(never)]
pub(crate) fn send_checked<A: Globals>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> Verdict {
    let context = TcContext::new(skb);
    pipeline::send_or_nat64::<A>(&Tc::new(&context), scratch)
}

/// [`causeway_common::guard::link::LinkGuard::link_from_container`].
#[inline(never)]
pub(crate) fn link<A: Globals>(skb: *mut __sk_buff, scratch: &Scratch<A>) -> Verdict {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    skb.reach_for(A::LINK_BYTES);
    stop(A::link_from_container(&skb, &scratch.packet, &KernelEnv::new(&context)))
}

/// [`endpoint_independent::reuse_mapping`].
#[inline(never)]
pub(crate) fn reuse_mapping<A: Globals>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> bool {
    let context = TcContext::new(skb);
    endpoint_independent::reuse_mapping(scratch, &KernelEnv::new(&context))
}

/// [`create::prepare`].
#[inline(never)]
pub(crate) fn prepare<A: Globals>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) {
    let context = TcContext::new(skb);
    create::prepare(scratch, &KernelEnv::new(&context));
}

/// [`create::try_port`], in a loop of the kernel's: the verifier looks at one turn of it, and not
/// at each.
#[inline(always)]
pub(crate) fn try_ports<A: Globals>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) {
    let mut turns = PortLoop { skb, scratch };
    // SAFETY: the function has the signature that the helper wants, and what it is given lives
    // until the loop is over.
    unsafe {
        bpf_loop(create::PORT_TRIES, try_port::<A> as *mut c_void, (&raw mut turns).cast(), 0);
    }
}

/// What one turn of the loop over the ports needs.
struct PortLoop<A> {
    skb: *mut __sk_buff,
    scratch: *mut Scratch<A>,
}

/// One turn of the loop over the ports; 1 ends it.
extern "C" fn try_port<A: Globals>(attempt: u64, turns: *mut PortLoop<A>) -> u64 {
    // SAFETY: `try_ports` gives it a value that lives, and uses its scratch no more until the loop
    // is over.
    let (skb, scratch) = unsafe { ((*turns).skb, &mut *(*turns).scratch) };
    let context = TcContext::new(skb);
    u64::from(create::try_port(scratch, attempt as u32, &KernelEnv::new(&context)).is_break())
}

/// [`create::complete`].
#[inline(never)]
pub(crate) fn complete<A: Globals>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    let context = TcContext::new(skb);
    create::complete(scratch, &KernelEnv::new(&context))
}

/// [`evict::evict_one`], in a loop of the kernel's.
#[inline(never)]
pub(crate) fn evict_one<A: Globals>(skb: *mut __sk_buff, owner: Owner) -> bool {
    let mut scan = EvictionScan { skb, owner, evicted: false };
    // SAFETY: the function has the signature that the helper wants, and what it is given lives
    // until the loop is over.
    unsafe {
        bpf_loop(evict::EVICTION_SCAN, try_evict::<A> as *mut c_void, (&raw mut scan).cast(), 0);
    }
    scan.evicted
}

/// What one turn of the loop over the oldest flows needs.
struct EvictionScan {
    skb: *mut __sk_buff,
    owner: Owner,
    evicted: bool,
}

/// One turn of the loop over the oldest flows; 1 ends it.
extern "C" fn try_evict<A: Globals>(_turn: u64, scan: *mut EvictionScan) -> u64 {
    // SAFETY: `evict_one` gives it a scan that lives, and looks at it no more until the loop is
    // over.
    let scan = unsafe { &mut *scan };
    let context = TcContext::new(scan.skb);
    let evict = evict::try_evict::<A>(scan.owner, &KernelEnv::new(&context));
    scan.evicted = evict == Evict::Done;
    u64::from(evict != Evict::Skip)
}

/// [`limits::check_ttl_and_mtu`].
#[inline(never)]
pub(crate) fn check_ttl_and_mtu<A: Globals>(scratch: &Scratch<A>) -> Result<(), DropReason> {
    limits::check_ttl_and_mtu(&scratch.packet, &scratch.entry.translation)
}

/// [`fragment::needs_fragment_state`].
#[inline(never)]
pub(crate) fn needs_fragment_state<A: Globals>(
    skb: *mut __sk_buff,
    scratch: &Scratch<A>,
    outcome: Result<(), DropReason>,
) -> bool {
    let context = TcContext::new(skb);
    fragment::needs_fragment_state(&scratch.packet, outcome, &KernelEnv::new(&context))
}

/// [`fragment::record`].
#[inline(never)]
pub(crate) fn record<A: Globals>(
    skb: *mut __sk_buff,
    scratch: &Scratch<A>,
    fragment_context: &mut FragmentContext<A>,
    leaves: bool,
) -> u32 {
    let context = TcContext::new(skb);
    let leaves = if leaves { Some(&scratch.entry.translation) } else { None };
    fragment::record(&scratch.packet, leaves, fragment_context, &KernelEnv::new(&context))
}

/// [`fragment::take_ports`].
#[inline(never)]
pub(crate) fn take_ports<A: Globals>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<A>,
    fragment_context: &mut FragmentContext<A>,
) -> bool {
    let context = TcContext::new(skb);
    fragment::take_ports(&mut scratch.packet, fragment_context, &KernelEnv::new(&context))
}

/// [`fragment::queue`].
#[inline(never)]
pub(crate) fn queue<A: Globals>(
    skb: *mut __sk_buff,
    fragment_context: &mut FragmentContext<A>,
) -> Queue {
    let context = TcContext::new(skb);
    fragment::queue(fragment_context, &KernelEnv::new(&context))
}

/// Reinjects the packet, with `counted` one that its flow has counted.
#[inline(never)]
pub(crate) fn reinject<A: Globals>(skb: *mut __sk_buff, counted: Option<&Scratch<A>>) {
    let context = TcContext::new(skb);
    if let Some(scratch) = counted {
        fragment::uncount(&scratch.packet, &KernelEnv::new(&context));
    }
    Skb::new(&context).reinject();
}

/// [`fragment::release`], for each fragment that was queued.
#[inline(never)]
pub(crate) fn release<A: Globals>(
    skb: *mut __sk_buff,
    fragment_context: &mut FragmentContext<A>,
    queued: u32,
    reinject: bool,
) {
    let mut turns = Release { skb, fragment_context, reinject };
    // SAFETY: the function has the signature that the helper wants, and what it is given lives
    // until the loop is over.
    unsafe {
        bpf_loop(queued, release_one::<A> as *mut c_void, (&raw mut turns).cast(), 0);
    }
}

/// What one turn of the loop over the queued fragments needs.
struct Release<A> {
    skb: *mut __sk_buff,
    fragment_context: *mut FragmentContext<A>,
    reinject: bool,
}

/// One turn of the loop over the queued fragments; 1 ends it.
extern "C" fn release_one<A: Globals>(number: u64, turns: *mut Release<A>) -> u64 {
    // SAFETY: `release` gives it a value that lives, and uses its context no more until the loop is
    // over.
    let (skb, fragment_context, reinject) =
        unsafe { ((*turns).skb, &mut *(*turns).fragment_context, (*turns).reinject) };
    let context = TcContext::new(skb);
    fragment_context.key.number = number as u32;
    fragment::release(&fragment_context.key, reinject, &KernelEnv::new(&context));
    0
}

/// Rewrites a fragment and sends it on.
#[inline(never)]
pub(crate) fn forward_fragment<A: Globals>(
    skb: *mut __sk_buff,
    scratch: &Scratch<A>,
    fragment_context: &FragmentContext<A>,
) -> Verdict {
    let context = TcContext::new(skb);
    Skb::new(&context)
        .forward_fragment(&scratch.packet, &scratch.entry.translation, fragment_context.id)
        .unwrap_or_else(stop)
}

/// Sees to it that a SYN asks for no longer segments than go through.
#[inline(never)]
pub(crate) fn clamp_mss<A: Globals>(
    skb: *mut __sk_buff,
    packet: &Packet<A>,
    translation: &Translation<A>,
) -> Result<(), DropReason> {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    let Some(limit) = mss::limit(packet, translation, &KernelEnv::new(&context)) else {
        return Ok(());
    };
    let Some(Scratch { mss_search: search, .. }) = A::scratch() else { return Ok(()) };
    skb.reach_for_options(packet);
    *search = MssSearch::new(packet.payload_offset());
    let mut turns = OptionLoop { skb: skb.context().skb.skb, search };
    // SAFETY: the function has the signature that the helper wants, and what it is given lives
    // until the loop is over.
    unsafe {
        bpf_loop(MssSearch::STEPS, search_option as *mut c_void, (&raw mut turns).cast(), 0);
    }
    skb.lower_mss(packet, search, limit)
}

/// What one turn of the loop over TCP's options needs.
struct OptionLoop {
    skb: *mut __sk_buff,
    search: *mut MssSearch,
}

/// One turn of the loop over TCP's options; 1 ends it.
extern "C" fn search_option(_: u64, turns: *mut OptionLoop) -> u64 {
    // SAFETY: `clamp_mss` gives it a value that lives, and uses its search no more until the loop
    // is over.
    let (skb, search) = unsafe { ((*turns).skb, &mut *(*turns).search) };
    let context = TcContext::new(skb);
    u64::from(search.step(&Skb::new(&context)).is_break())
}

/// Sends an IPv6 packet on as one of IPv4.
#[inline(always)]
pub(crate) fn forward_as_ipv4(steps: &Tc<'_>, scratch: &mut Scratch<V6>) -> Verdict {
    match clamp_mss(steps.raw(), &scratch.packet, &scratch.entry.translation) {
        Ok(()) => steps.skb().forward_as_ipv4(scratch).unwrap_or_else(stop),
        Err(reason) => stop(reason),
    }
}

/// Sends an ICMPv6 error on as one of IPv4.
#[inline(always)]
pub(crate) fn forward_error_as_ipv4(steps: &Tc<'_>, scratch: &mut Scratch<V6>) -> Verdict {
    let skb = steps.raw();
    if !make_head4(skb, scratch)
        || !rewrite_quote(skb, &scratch.error_translation, &mut scratch.head4)
    {
        return stop(DropReason::ErrorNotTranslated);
    }
    steps.skb().forward_error_as_ipv4(scratch).unwrap_or_else(stop)
}

/// Sends an IPv4 packet on as one of IPv6.
#[inline(never)]
pub(crate) fn forward_as_ipv6(skb: *mut __sk_buff, scratch: &mut Scratch<V6>) -> Verdict {
    let context = TcContext::new(skb);
    match clamp_mss(skb, &scratch.packet, &scratch.entry.translation) {
        Ok(()) => Skb::new(&context).forward_as_ipv6(scratch).unwrap_or_else(stop),
        Err(reason) => stop(reason),
    }
}

/// Sends an ICMP error on as one of ICMPv6.
#[inline(never)]
pub(crate) fn forward_error_as_ipv6(skb: *mut __sk_buff, scratch: &mut Scratch<V6>) -> Verdict {
    if !make_head6(skb, scratch)
        || !rewrite_quote(skb, &scratch.error_translation, &mut scratch.head6)
    {
        return stop(DropReason::ErrorNotTranslated);
    }
    let context = TcContext::new(skb);
    Skb::new(&context).forward_error_as_ipv6(scratch).unwrap_or_else(stop)
}

#[inline(never)]
fn make_head4(skb: *mut __sk_buff, scratch: &mut Scratch<V6>) -> bool {
    let context = TcContext::new(skb);
    let Scratch { packet, error_translation: error, head4, .. } = scratch;
    nat64_error::error_to_ipv4(&Skb::new(&context), packet, error, skb::random(), head4).is_some()
}

#[inline(never)]
fn make_head6(skb: *mut __sk_buff, scratch: &mut Scratch<V6>) -> bool {
    let context = TcContext::new(skb);
    let Scratch { packet, error_translation: error, head6, .. } = scratch;
    nat64_error::error_to_ipv6(&Skb::new(&context), packet, error, head6).is_some()
}

#[inline(never)]
fn rewrite_quote<H>(skb: *mut __sk_buff, error: &ErrorTranslation<V6>, head: &mut Head<H>) -> bool {
    let context = TcContext::new(skb);
    nat64_error::rewrite_quote(&mut Skb::new(&context), error, head).is_some()
}

/// [`nat64::may_be_nat64`].
#[inline(never)]
pub(crate) fn may_be_nat64(skb: *mut __sk_buff, scratch: &Scratch<V4>) -> bool {
    let context = TcContext::new(skb);
    nat64::may_be_nat64(&scratch.packet, &KernelEnv::new(&context))
}

/// Whether there is an entry for the packet.
#[inline(never)]
pub(crate) fn has_flow(skb: *mut __sk_buff, scratch: &Scratch<V6>) -> bool {
    use causeway_common::env::FlowStore as _;
    let context = TcContext::new(skb);
    KernelEnv::new(&context).flow(&scratch.packet.tuple).is_some()
}

/// [`pipeline::translate_ipv4_error`].
#[inline(never)]
pub(crate) fn translate_ipv4_error(skb: *mut __sk_buff, scratch: &mut Scratch<V6>) -> Outcome {
    let context = TcContext::new(skb);
    pipeline::translate_ipv4_error(&Tc::new(&context), scratch)
}
