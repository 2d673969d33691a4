//! The tc programs: a frame in, an action out.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, tcx_action_base::TCX_NEXT},
    helpers::generated::bpf_loop,
    macros::classifier,
    programs::TcContext,
};
use causeway_common::{
    abi::{
        Translation,
        drop_reason::{DropReason, Fate},
    },
    env::Kernel,
    flow::{
        collect::{self, Collect},
        evict::{self, Evict},
        limits,
        lookup::{self, Lookup},
        lookup_slow,
    },
    guard::{arp, ndp},
    icmp_reply,
    nat::{
        create, endpoint_independent,
        host_flows::{self, HostFlow},
        icmp_error, mss,
    },
    pipeline,
    scratch::Scratch,
    wire::{
        address::{V4, V6},
        ethernet::{ETHERNET, ether_type, source_mac},
        icmp::{self, IcmpErrorKind},
        packet::{Packet, Payload},
        quote, tcp,
        tcp_options::MssSearch,
        tuple::{Tuple, side},
    },
};

use crate::{
    env::KernelEnv,
    fragments,
    maps::{self, Family},
    skb::{self, Skb},
};

/// tc ingress on a host side: everything a container sends. At a netkit pair also where the
/// container sends it, and then only what comes again is decided about here: fragments that were
/// put back.
#[classifier]
pub(crate) fn from_container(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    if !skb.is_container_egress() && skb.take_processed_mark() {
        return TCX_NEXT;
    }
    let action = decide_from_container(&mut skb);
    skb.set_processed_mark();
    action
}

#[inline(always)]
fn decide_from_container(skb: &mut Skb<'_>) -> i32 {
    if skb.is_tagged() {
        return stop(DropReason::NotIp);
    }
    match skb.ether_type() {
        Some(ether_type::IPV4) => decide_family::<V4>(skb, side::CONTAINER, DropReason::Malformed),
        Some(ether_type::IPV6) => decide_family::<V6>(skb, side::CONTAINER, DropReason::Malformed),
        Some(ether_type::ARP) => {
            skb.reach_for(arp::HEADERS);
            stop(arp::from_container(
                skb,
                skb.arrival(side::CONTAINER),
                &KernelEnv::new(skb.context()),
            ))
        }
        _ => stop(DropReason::NotIp),
    }
}

/// tc ingress on an uplink: replies, and published ports.
#[classifier]
pub(crate) fn from_uplink(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    if skb.is_tagged() || !skb.is_for_host() {
        return stop(DropReason::NotOurs);
    }
    match skb.ether_type() {
        Some(ether_type::IPV4) => decide_family::<V4>(&skb, side::UPLINK, DropReason::NotOurs),
        Some(ether_type::IPV6) => decide_family::<V6>(&skb, side::UPLINK, DropReason::NotOurs),
        _ => stop(DropReason::NotOurs),
    }
}

/// tc egress on an uplink: what the host itself sends.
#[classifier]
pub(crate) fn to_uplink(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    // What came in elsewhere is forwarded, by the stack or by us.
    if skb.ingress_interface() != 0 || skb.take_processed_mark() || skb.is_tagged() {
        return TCX_NEXT;
    }
    match skb.ether_type() {
        Some(ether_type::IPV4) => to_uplink_family::<V4>(ctx.skb.skb),
        Some(ether_type::IPV6) => to_uplink_family::<V6>(ctx.skb.skb),
        _ => TCX_NEXT,
    }
}

#[inline(always)]
fn to_uplink_family<A: Family>(skb: *mut __sk_buff) -> i32 {
    let action = host_fast_path::<A>(skb);
    if action != UNDECIDED && action != UNPARSED {
        return action;
    }
    let Some(scratch) = A::scratch() else { return TCX_NEXT };
    if action == UNPARSED && !parse(skb, scratch, side::HOST) {
        return TCX_NEXT;
    }
    A::decide_to_uplink(skb, scratch)
}

/// Nearly every packet of the host's is of no flow, and begins none: it leaves as it is.
#[inline(never)]
fn host_fast_path<A: Family>(skb: *mut __sk_buff) -> i32 {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    let Ok(packet) = skb.parse_usual::<A>(side::HOST) else { return UNPARSED };
    let env = KernelEnv::new(&context);
    if packet.payload != Payload::Error
        && (!host_flows::may_belong_to_host_flow(&packet, &env)
            || host_flows::classify(&packet, skb.bypasses_socket_lookup(&packet), &env)
                == HostFlow::None)
    {
        return TCX_NEXT;
    }
    let Some(scratch) = A::scratch() else { return TCX_NEXT };
    scratch.packet = packet;
    UNDECIDED
}

/// Everything about a packet of the host's in this CPU's place. It leaves as it is, if nothing was
/// begun with it.
#[inline(always)]
pub(crate) fn decide_to_uplink<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> i32 {
    let mut action = if scratch.packet.payload == Payload::Error {
        error(skb, scratch)
    } else {
        host_slow_path(skb, scratch)
    };
    if action == UNDECIDED && plan_host_flow(skb, scratch) && A::create(skb, scratch).is_ok() {
        action = send(skb, scratch);
    }
    // Half translated it must not leave.
    if action == TC_ACT_SHOT { action } else { TCX_NEXT }
}

/// A packet of a flow of the host's own.
#[inline(never)]
fn host_slow_path<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> i32 {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    let env = KernelEnv::new(&context);
    let Scratch { packet, entry, .. } = scratch;
    if !host_flows::may_belong_to_host_flow(packet, &env) {
        return TCX_NEXT;
    }
    match host_flows::classify(packet, skb.bypasses_socket_lookup(packet), &env) {
        HostFlow::None => TCX_NEXT,
        HostFlow::Track | HostFlow::Remap => UNDECIDED,
        HostFlow::Existing => {
            match lookup_slow::lookup_slow(packet, &mut entry.translation, &env) {
                Some(Ok(())) => leave(&mut skb, packet, &entry.translation),
                _ => UNDECIDED,
            }
        }
    }
}

/// Plans the flow that a packet of the host's begins; false if it begins none.
#[inline(never)]
fn plan_host_flow<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> bool {
    let context = TcContext::new(skb);
    let skb = Skb::new(&context);
    let env = KernelEnv::new(&context);
    let step =
        host_flows::classify(&scratch.packet, skb.bypasses_socket_lookup(&scratch.packet), &env);
    if !matches!(step, HostFlow::Track | HostFlow::Remap) {
        return false;
    }
    scratch.new_flow = host_flows::plan(&scratch.packet, step, &env);
    true
}

/// tc egress on a bridge: what the host's stack sends into a network.
#[classifier]
pub(crate) fn to_bridge(ctx: TcContext) -> i32 {
    // Nothing of the frame is read.
    stop(pipeline::into_bridge(Skb::new(&ctx).ingress_interface()))
}

/// Run by the agent alone, with a frame of its own making: after the Ethernet header, whose first
/// byte says which ([`Collect`]) and whose second of which family ([`Family::NUMBER`]), the keys of
/// flows to remove. Answers how many it did.
#[classifier]
pub(crate) fn flow_gc(ctx: TcContext) -> i32 {
    match ctx.load::<u8>(1) {
        Ok(V6::NUMBER) => flow_gc_family::<V6>(&ctx),
        _ => flow_gc_family::<V4>(&ctx),
    }
}

#[inline(always)]
fn flow_gc_family<A: Family>(ctx: &TcContext) -> i32 {
    let which = ctx.load::<u8>(0).unwrap_or(Collect::Ended as u8);
    let mut run = GcRun { skb: ctx.skb.skb, which, removed: 0 };
    // SAFETY: as for the loop over the ports.
    unsafe {
        bpf_loop(
            collect::KEYS_PER_RUN as u32,
            collect_one::<A> as *mut c_void,
            (&raw mut run).cast(),
            0,
        );
    }
    run.removed
}

/// What one turn of the loop over the keys needs.
struct GcRun {
    skb: *mut __sk_buff,
    which: u8,
    removed: i32,
}

/// One turn of the loop over the keys; 1 ends it.
extern "C" fn collect_one<A: Family>(turn: u64, run: *mut GcRun) -> u64 {
    // SAFETY: `flow_gc_family` gives it a run that lives, and looks at it no more until the loop is
    // over.
    let run = unsafe { &mut *run };
    let context = TcContext::new(run.skb);
    let at = ETHERNET + (turn as usize % collect::KEYS_PER_RUN) * size_of::<Tuple<A>>();
    let Ok(key) = context.load::<Tuple<A>>(at) else { return 1 };
    let which = if run.which == Collect::Any as u8 { Collect::Any } else { Collect::Ended };
    run.removed += i32::from(collect::collect(&KernelEnv::new(&context), &key, which));
    0
}

#[inline(always)]
fn decide_family<A: Family>(skb: &Skb<'_>, side: u8, malformed: DropReason) -> i32 {
    let raw = skb.context().skb.skb;
    let action = fast_path::<A>(raw, side, malformed);
    if action != UNDECIDED && action != UNPARSED {
        return action;
    }
    // There is always one; without it a container's packet must not pass undecided.
    let Some(scratch) = A::scratch() else { return stop(malformed) };
    if action == UNPARSED && !parse(raw, scratch, side) {
        return stop(malformed);
    }
    A::decide(raw, scratch)
}

/// Everything about a packet in this CPU's place but the usual.
#[inline(always)]
pub(crate) fn decide<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> i32 {
    let mut action = if scratch.lookup_missed { UNDECIDED } else { slow_path(skb, scratch) };
    if action == UNDECIDED {
        action = A::decide_nat64(skb, scratch);
    }
    if action == UNDECIDED {
        action = lookup_failed(skb, scratch);
    }
    if action == REFUSED {
        return reply_with_error(skb, scratch);
    }
    action
}

/// Everything about a packet that is of no flow. Step after step, and none in another: together
/// they would hold too much on the stack, of which each takes 32 bytes at least before Linux 6.6.
#[inline(always)]
fn lookup_failed<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> i32 {
    if scratch.packet.payload == Payload::Link && scratch.packet.tuple.side == side::CONTAINER {
        return link(skb, scratch);
    }
    if scratch.packet.is_fragment() {
        return fragments::decide(skb, scratch);
    }
    if scratch.packet.payload == Payload::Error {
        match error(skb, scratch) {
            UNDECIDED => {}
            NAT64 => return A::send_error_nat64(skb, scratch),
            action => return action,
        }
    }
    first_packet(skb, scratch)
}

/// What a step answers that leaves the packet to the next one: no action has that number.
pub(crate) const UNDECIDED: i32 = -2;

/// What a step answers that leaves it to [`answer`].
const REFUSED: i32 = -3;

/// What a step answers that leaves an ICMP error to the one that sends it into the other family.
const NAT64: i32 = -5;

/// What a step answers that leaves the packet to [`parse`], and then to the next one.
const UNPARSED: i32 = -4;

/// Parses a packet, whatever is in its header, into this CPU's place. What it says is then the same
/// to the verifier for all of them; false if it is malformed.
#[inline(never)]
fn parse<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>, side: u8) -> bool {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    let Ok(packet) = skb.parse(side) else { return false };
    scratch.packet = packet;
    scratch.source_mac = source_mac(&skb);
    scratch.lookup_missed = false;
    true
}

/// A packet of a flow in the table that changes nothing. What the function holds on the stack is
/// not there while the next ones run, which find the packet in this CPU's place.
#[inline(never)]
fn fast_path<A: Family>(skb: *mut __sk_buff, side: u8, malformed: DropReason) -> i32 {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    let Ok(packet) = skb.parse_usual::<A>(side) else { return UNPARSED };
    // Out of the table, without a copy: a step in between costs more than it can change.
    let env = KernelEnv::new(&context);
    let found = lookup::lookup_fast(&packet, &env);
    let lookup_missed = matches!(found, Lookup::Miss);
    if let Lookup::FastPath(entry) = found {
        if A::is_nat64(&entry.translation) {
            let Some(scratch) = A::scratch() else { return stop(malformed) };
            scratch.packet = packet;
            scratch.entry.translation = entry.translation;
            return A::send_nat64(skb.context().skb.skb, scratch);
        }
        return match skb.leave(&packet, &entry.translation) {
            Ok(action) => action,
            Err(reason) => stop(reason),
        };
    }
    let Some(scratch) = A::scratch() else { return stop(malformed) };
    scratch.packet = packet;
    scratch.source_mac = source_mac(&skb);
    scratch.lookup_missed = lookup_missed;
    UNDECIDED
}

/// A packet of a flow in the table.
#[inline(always)]
fn slow_path<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> i32 {
    match lookup(skb, scratch) {
        Some(Ok(())) => send_looked_up(skb, scratch),
        Some(Err(reason)) => drop_or_reply(scratch, reason),
        None => UNDECIDED,
    }
}

/// What becomes of a packet by itself, if it is of a flow in the table.
#[inline(always)]
pub(crate) fn lookup<A: Family>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<A>,
) -> Option<Result<(), DropReason>> {
    if lookup::identifies_flow(&scratch.packet) { A::lookup_slow(skb, scratch) } else { None }
}

#[inline(always)]
pub(crate) fn lookup_slow<A: Family>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<A>,
) -> Option<Result<(), DropReason>> {
    let context = TcContext::new(skb);
    lookup_slow::lookup_slow(
        &scratch.packet,
        &mut scratch.entry.translation,
        &KernelEnv::new(&context),
    )
}

#[inline(never)]
fn send_looked_up<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> i32 {
    let context = TcContext::new(skb);
    send_or_nat64(&mut Skb::new(&context), scratch)
}

/// Leaves a packet to [`answer`], if its sender is told why it does not go on.
#[inline(always)]
pub(crate) fn drop_or_reply<A>(scratch: &mut Scratch<A>, reason: DropReason) -> i32 {
    let Some(kind) = reason.icmp_error() else { return stop(reason) };
    maps::count(reason);
    scratch.icmp_error_kind = kind as u8;
    REFUSED
}

/// Tells the sender of a packet why it does not go on.
#[inline(never)]
fn reply_with_error<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> i32 {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    let Scratch { packet, icmp_error_kind, icmp_error, entry, .. } = scratch;
    let now = Kernel::<A>::now(&KernelEnv::new(&context));
    // Who sends too long packets sends them until it is told, and what it gets is shorter: that has
    // no limit.
    let limited = *icmp_error_kind != IcmpErrorKind::TooLong as u8;
    if !icmp_reply::may_reply(packet)
        || (limited && !maps::take_error_budget(packet.tuple.side, now))
    {
        return TC_ACT_SHOT;
    }
    skb.reach_for((ETHERNET + icmp::QUOTE) as u32);
    let Some(source) = icmp_reply::error_source(packet, &KernelEnv::new(&context)) else {
        return TC_ACT_SHOT;
    };
    let Some(kind) = IcmpErrorKind::from_number(*icmp_error_kind) else { return TC_ACT_SHOT };
    match icmp_reply::build(icmp_error, &skb, packet, source, kind, entry.translation.mtu) {
        Some(()) => skb.send_back(packet, icmp_error).unwrap_or(TC_ACT_SHOT),
        None => TC_ACT_SHOT,
    }
}

/// The first packet of a flow, or one that is of none.
#[inline(never)]
fn first_packet<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> i32 {
    if let Err(reason) = A::plan(skb, scratch) {
        return drop_or_reply(scratch, reason);
    }
    if let Err(reason) = create_planned(skb, scratch) {
        return drop_or_reply(scratch, reason);
    }
    send(skb, scratch)
}

/// What keeps a container's link going.
#[inline(never)]
fn link<A: Family>(skb: *mut __sk_buff, scratch: &Scratch<A>) -> i32 {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    skb.reach_for(ndp::HEADERS);
    stop(A::link_from_container(&skb, &scratch.packet, &KernelEnv::new(&context)))
}

/// Begins the planned flow, and the mapping that it goes by.
#[inline(always)]
pub(crate) fn create_planned<A: Family>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    if endpoint_independent::needs_mapping(scratch) && !reuse_mapping(skb, scratch) {
        endpoint_independent::plan_mapping(scratch);
        let created = A::create_with_eviction(skb, scratch);
        endpoint_independent::resume_flow(scratch);
        created?;
    }
    A::create_with_eviction(skb, scratch)
}

#[inline(never)]
fn reuse_mapping<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> bool {
    let context = TcContext::new(skb);
    endpoint_independent::reuse_mapping(scratch, &KernelEnv::new(&context))
}

/// Begins the planned flow, if need be in the room of another.
#[inline(always)]
pub(crate) fn create_with_eviction<A: Family>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    match A::create(skb, scratch) {
        Err(DropReason::TableFull) if evict_one::<A>(skb, 0) => A::create(skb, scratch),
        Err(DropReason::TooManyFlows) if evict_one::<A>(skb, scratch.entry.owner) => {
            A::create(skb, scratch)
        }
        outcome => outcome,
    }
}

/// The last step, apart: what it holds on the stack is not there while the others run.
#[inline(never)]
fn send<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> i32 {
    let context = TcContext::new(skb);
    match limits::check_ttl_and_mtu(&scratch.packet, &scratch.entry.translation) {
        Ok(()) => send_or_nat64(&mut Skb::new(&context), scratch),
        Err(reason) => drop_or_reply(scratch, reason),
    }
}

/// An ICMP error, which may be of a flow.
#[inline(never)]
fn error<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> i32 {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    skb.reach_for(quote::HEADERS);
    let Scratch { packet, error_translation: error, .. } = scratch;
    let Some(quote) = quote::quote(&skb, skb::payload_at(packet), packet.tuple.side) else {
        return UNDECIDED;
    };
    error.quote = quote;
    match icmp_error::translate(packet, error, &KernelEnv::new(&context)) {
        None => UNDECIDED,
        Some(Err(reason)) => stop(reason),
        Some(Ok(())) if A::is_nat64(&error.outer) => NAT64,
        Some(Ok(())) => match skb.leave_error(packet, error) {
            Ok(action) => action,
            Err(reason) => stop(reason),
        },
    }
}

#[inline(always)]
pub(crate) fn plan<A: Family>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    let context = TcContext::new(skb);
    causeway_common::nat::plan::plan(scratch, &KernelEnv::new(&context))
}

#[inline(always)]
pub(crate) fn create<A: Family>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<A>,
) -> Result<(), DropReason> {
    prepare(skb, scratch);
    let mut trial = PortLoop { skb, scratch };
    // A loop of the kernel's: the verifier looks at one turn of it, and not at each. SAFETY: the
    // function has the signature that the helper wants, and what it is given lives until the loop
    // is over.
    unsafe {
        bpf_loop(create::PORT_TRIES, try_port::<A> as *mut c_void, (&raw mut trial).cast(), 0);
    }
    complete(skb, scratch)
}

#[inline(never)]
fn prepare<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) {
    let context = TcContext::new(skb);
    create::prepare(scratch, &KernelEnv::new(&context));
}

#[inline(never)]
fn complete<A: Family>(skb: *mut __sk_buff, scratch: &mut Scratch<A>) -> Result<(), DropReason> {
    let context = TcContext::new(skb);
    create::complete(scratch, &KernelEnv::new(&context))
}

/// What one turn of the loop over the ports needs.
struct PortLoop<A> {
    skb: *mut __sk_buff,
    scratch: *mut Scratch<A>,
}

/// One turn of the loop over the ports; 1 ends it.
extern "C" fn try_port<A: Family>(attempt: u64, trial: *mut PortLoop<A>) -> u64 {
    // SAFETY: `begin` gives it a trial that lives, and uses its place no more until the loop is
    // over.
    let (skb, scratch) = unsafe { ((*trial).skb, &mut *(*trial).scratch) };
    let context = TcContext::new(skb);
    u64::from(!create::try_port(scratch, attempt as u32, &KernelEnv::new(&context)))
}

#[inline(never)]
fn evict_one<A: Family>(skb: *mut __sk_buff, owner: u32) -> bool {
    let mut search = EvictionScan { skb, owner, found: false };
    // SAFETY: as for the loop over the ports.
    unsafe {
        bpf_loop(evict::EVICTION_SCAN, evict_step::<A> as *mut c_void, (&raw mut search).cast(), 0);
    }
    search.found
}

/// What one turn of the loop over the oldest flows needs.
struct EvictionScan {
    skb: *mut __sk_buff,
    owner: u32,
    found: bool,
}

/// One turn of the loop over the oldest flows; 1 ends it.
extern "C" fn evict_step<A: Family>(_turn: u64, search: *mut EvictionScan) -> u64 {
    // SAFETY: `evict_one` gives it a search that lives, and looks at it no more until the loop is
    // over.
    let search = unsafe { &mut *search };
    let context = TcContext::new(search.skb);
    let look = evict::try_evict::<A>(search.owner, &KernelEnv::new(&context));
    search.found = look == Evict::Done;
    u64::from(look != Evict::Skip)
}

#[inline(always)]
fn send_or_nat64<A: Family>(skb: &mut Skb<'_>, scratch: &mut Scratch<A>) -> i32 {
    if A::is_nat64(&scratch.entry.translation) {
        return A::send_nat64(skb.context().skb.skb, scratch);
    }
    leave(skb, &scratch.packet, &scratch.entry.translation)
}

#[inline(always)]
fn leave<A: Family>(skb: &mut Skb<'_>, packet: &Packet<A>, translation: &Translation<A>) -> i32 {
    if packet.flags & tcp::SYN != 0
        && let Err(reason) = clamp_mss(skb.context().skb.skb, packet, translation)
    {
        return stop(reason);
    }
    match skb.leave(packet, translation) {
        Ok(action) => action,
        Err(reason) => stop(reason),
    }
}

/// Sees to it that a SYN asks for no longer segments than go through.
#[inline(never)]
pub(crate) fn clamp_mss<A: Family>(
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
    *search = MssSearch::new(skb::payload_at(packet));
    let mut walk = Walk { skb: skb.context().skb.skb, search };
    // SAFETY: as in `begin`.
    unsafe {
        bpf_loop(MssSearch::STEPS, step as *mut c_void, (&raw mut walk).cast(), 0);
    }
    skb.lower_mss(packet, search, limit)
}

/// What one turn of the loop over TCP's options needs.
struct Walk {
    skb: *mut __sk_buff,
    search: *mut MssSearch,
}

/// One turn of the loop over TCP's options; 1 ends it.
extern "C" fn step(_: u64, walk: *mut Walk) -> u64 {
    // SAFETY: as in `try_port`.
    let (skb, search) = unsafe { ((*walk).skb, &mut *(*walk).search) };
    let context = TcContext::new(skb);
    u64::from(!search.step(&Skb::new(&context)))
}

/// Counts the reason, and answers its action.
#[inline(always)]
pub(crate) fn stop(reason: DropReason) -> i32 {
    maps::count(reason);
    match reason.fate() {
        Fate::Punt => TCX_NEXT,
        Fate::Drop | Fate::Hold => TC_ACT_SHOT,
    }
}
