//! The tc programs: a frame in, an action out.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, tcx_action_base::TCX_NEXT},
    helpers::generated::bpf_loop,
    macros::classifier,
    programs::TcContext,
};
use causeway_common::{
    abi::Translation,
    address::{V4, V6},
    answer::{self, Why},
    arp, begin,
    flow::tcp,
    forward::{self, Found},
    from_host::{self, Step},
    icmp_error, mapping,
    mss::{self, Search},
    nd,
    packet::{ETHERNET, Packet, Payload, ether_type, source_mac},
    plan::First,
    reason::{Fate, Reason},
    room::{self, Look},
    sweep::{self, Which},
    tables::Tables,
    tuple::{Tuple, side},
};

use crate::{
    fragments,
    maps::{self, Family},
    skb::{self, Skb},
    tables::Kernel,
};

/// tc ingress on a host side: everything a container sends. At a netkit pair also where the
/// container sends it, and then only what comes again is decided about here: fragments that were
/// put back.
#[classifier]
pub(crate) fn host_side(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    if !skb.is_being_sent() && skb.is_decided() {
        return TCX_NEXT;
    }
    let action = from_container(&mut skb);
    skb.note_decided();
    action
}

#[inline(always)]
fn from_container(skb: &mut Skb<'_>) -> i32 {
    if skb.is_tagged() {
        return stop(Reason::NotIp);
    }
    match skb.ether_type() {
        Some(ether_type::IPV4) => handle::<V4>(skb, side::CONTAINER, Reason::Malformed),
        Some(ether_type::IPV6) => handle::<V6>(skb, side::CONTAINER, Reason::Malformed),
        Some(ether_type::ARP) => {
            skb.reach_for(arp::HEADERS);
            stop(arp::from_container(
                skb,
                skb.arrival(side::CONTAINER),
                &Kernel::new(skb.context()),
            ))
        }
        _ => stop(Reason::NotIp),
    }
}

/// tc ingress on an uplink: replies, and published ports.
#[classifier]
pub(crate) fn uplink(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    if skb.is_tagged() || !skb.is_for_host() {
        return stop(Reason::NotOurs);
    }
    match skb.ether_type() {
        Some(ether_type::IPV4) => handle::<V4>(&skb, side::UPLINK, Reason::NotOurs),
        Some(ether_type::IPV6) => handle::<V6>(&skb, side::UPLINK, Reason::NotOurs),
        _ => stop(Reason::NotOurs),
    }
}

/// tc egress on an uplink: what the host itself sends.
#[classifier]
pub(crate) fn uplink_out(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    // What came in elsewhere is forwarded, by the stack or by us.
    if skb.came_by() != 0 || skb.is_decided() || skb.is_tagged() {
        return TCX_NEXT;
    }
    match skb.ether_type() {
        Some(ether_type::IPV4) => from_host::<V4>(ctx.skb.skb),
        Some(ether_type::IPV6) => from_host::<V6>(ctx.skb.skb),
        _ => TCX_NEXT,
    }
}

#[inline(always)]
fn from_host<A: Family>(skb: *mut __sk_buff) -> i32 {
    let action = host_passes::<A>(skb);
    if action != UNDECIDED && action != UNPARSED {
        return action;
    }
    let Some(place) = A::first() else { return TCX_NEXT };
    if action == UNPARSED && !parse(skb, place, side::HOST) {
        return TCX_NEXT;
    }
    A::decide_of_host(skb, place)
}

/// Nearly every packet of the host's is of no flow, and begins none: it leaves as it is.
#[inline(never)]
fn host_passes<A: Family>(skb: *mut __sk_buff) -> i32 {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    let Ok(packet) = skb.parse_usual::<A>(side::HOST) else { return UNPARSED };
    let tables = Kernel::new(&context);
    if packet.payload != Payload::Error
        && (!from_host::concerns(&packet, &tables)
            || from_host::step(&packet, skb.is_hidden(&packet), &tables) == Step::Pass)
    {
        return TCX_NEXT;
    }
    let Some(place) = A::first() else { return TCX_NEXT };
    place.packet = packet;
    UNDECIDED
}

/// Everything about a packet of the host's in this CPU's place. It leaves as it is, if nothing was
/// begun with it.
#[inline(always)]
pub(crate) fn decide_of_host<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> i32 {
    let mut action = if place.packet.payload == Payload::Error {
        error(skb, place)
    } else {
        host_known(skb, place)
    };
    if action == UNDECIDED && host_begins(skb, place) && A::begin(skb, place).is_ok() {
        action = send(skb, place);
    }
    // Half translated it must not leave.
    if action == TC_ACT_SHOT { action } else { TCX_NEXT }
}

/// A packet of a flow of the host's own.
#[inline(never)]
fn host_known<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> i32 {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    let tables = Kernel::new(&context);
    let First { packet, half, .. } = place;
    if !from_host::concerns(packet, &tables) {
        return TCX_NEXT;
    }
    match from_host::step(packet, skb.is_hidden(packet), &tables) {
        Step::Pass => TCX_NEXT,
        Step::Note | Step::Shift => UNDECIDED,
        Step::Known => match forward::of_flow(packet, &mut half.translation, &tables) {
            Some(Ok(())) => leave(&mut skb, packet, &half.translation),
            _ => UNDECIDED,
        },
    }
}

/// Plans the flow that a packet of the host's begins; false if it begins none.
#[inline(never)]
fn host_begins<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> bool {
    let context = TcContext::new(skb);
    let skb = Skb::new(&context);
    let tables = Kernel::new(&context);
    let step = from_host::step(&place.packet, skb.is_hidden(&place.packet), &tables);
    if !matches!(step, Step::Note | Step::Shift) {
        return false;
    }
    place.beginning = from_host::beginning(&place.packet, step, &tables);
    true
}

/// tc egress on a bridge: what the host's stack sends into a network.
#[classifier]
pub(crate) fn guard(ctx: TcContext) -> i32 {
    // Nothing of the frame is read.
    stop(forward::into_bridge(Skb::new(&ctx).came_by()))
}

/// Run by the agent alone, with a frame of its own making: after the Ethernet header, whose first
/// byte says which ([`Which`]) and whose second of which family ([`Family::NUMBER`]), the keys of
/// flows to remove. Answers how many it did.
#[classifier]
pub(crate) fn sweep(ctx: TcContext) -> i32 {
    match ctx.load::<u8>(1) {
        Ok(V6::NUMBER) => sweep_family::<V6>(&ctx),
        _ => sweep_family::<V4>(&ctx),
    }
}

#[inline(always)]
fn sweep_family<A: Family>(ctx: &TcContext) -> i32 {
    let which = ctx.load::<u8>(0).unwrap_or(Which::Ended as u8);
    let mut run = SweepRun { skb: ctx.skb.skb, which, removed: 0 };
    // SAFETY: as for the loop over the ports.
    unsafe {
        bpf_loop(sweep::KEYS as u32, sweep_one::<A> as *mut c_void, (&raw mut run).cast(), 0);
    }
    run.removed
}

/// What one turn of the loop over the keys needs.
struct SweepRun {
    skb: *mut __sk_buff,
    which: u8,
    removed: i32,
}

/// One turn of the loop over the keys; 1 ends it.
extern "C" fn sweep_one<A: Family>(turn: u64, run: *mut SweepRun) -> u64 {
    // SAFETY: `sweep_family` gives it a run that lives, and looks at it no more until the loop is
    // over.
    let run = unsafe { &mut *run };
    let context = TcContext::new(run.skb);
    let at = ETHERNET + (turn as usize % sweep::KEYS) * size_of::<Tuple<A>>();
    let Ok(key) = context.load::<Tuple<A>>(at) else { return 1 };
    let which = if run.which == Which::Any as u8 { Which::Any } else { Which::Ended };
    run.removed += i32::from(sweep::sweep(&Kernel::new(&context), &key, which));
    0
}

#[inline(always)]
fn handle<A: Family>(skb: &Skb<'_>, side: u8, malformed: Reason) -> i32 {
    let raw = skb.context().skb.skb;
    let action = established::<A>(raw, side, malformed);
    if action != UNDECIDED && action != UNPARSED {
        return action;
    }
    // There is always one; without it a container's packet must not pass undecided.
    let Some(place) = A::first() else { return stop(malformed) };
    if action == UNPARSED && !parse(raw, place, side) {
        return stop(malformed);
    }
    A::decide(raw, place)
}

/// Everything about a packet in this CPU's place but the usual.
#[inline(always)]
pub(crate) fn decide<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> i32 {
    let mut action = if place.is_of_none { UNDECIDED } else { known(skb, place) };
    if action == UNDECIDED {
        action = A::decide_across(skb, place);
    }
    if action == UNDECIDED {
        action = of_no_flow(skb, place);
    }
    if action == REFUSED {
        return answer(skb, place);
    }
    action
}

/// Everything about a packet that is of no flow. Step after step, and none in another: together
/// they would hold too much on the stack, of which each takes 32 bytes at least before Linux 6.6.
#[inline(always)]
fn of_no_flow<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> i32 {
    if place.packet.payload == Payload::Link && place.packet.tuple.side == side::CONTAINER {
        return link(skb, place);
    }
    if place.packet.is_fragment() {
        return fragments::handle(skb, place);
    }
    if place.packet.payload == Payload::Error {
        match error(skb, place) {
            UNDECIDED => {}
            CROSSES => return A::send_error_across(skb, place),
            action => return action,
        }
    }
    first(skb, place)
}

/// What a step answers that leaves the packet to the next one: no action has that number.
pub(crate) const UNDECIDED: i32 = -2;

/// What a step answers that leaves it to [`answer`].
const REFUSED: i32 = -3;

/// What a step answers that leaves an ICMP error to the one that sends it into the other family.
const CROSSES: i32 = -5;

/// What a step answers that leaves the packet to [`parse`], and then to the next one.
const UNPARSED: i32 = -4;

/// Parses a packet, whatever is in its header, into this CPU's place. What it says is then the same
/// to the verifier for all of them; false if it is malformed.
#[inline(never)]
fn parse<A: Family>(skb: *mut __sk_buff, place: &mut First<A>, side: u8) -> bool {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    let Ok(packet) = skb.parse(side) else { return false };
    place.packet = packet;
    place.source_mac = source_mac(&skb);
    place.is_of_none = false;
    true
}

/// A packet of a flow in the table that changes nothing. What the function holds on the stack is
/// not there while the next ones run, which find the packet in this CPU's place.
#[inline(never)]
fn established<A: Family>(skb: *mut __sk_buff, side: u8, malformed: Reason) -> i32 {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    let Ok(packet) = skb.parse_usual::<A>(side) else { return UNPARSED };
    // Out of the table, without a copy: a step in between costs more than it can change.
    let tables = Kernel::new(&context);
    let found = forward::established(&packet, &tables);
    let is_of_none = matches!(found, Found::Nothing);
    if let Found::Settled(half) = found {
        if A::crosses(&half.translation) {
            let Some(place) = A::first() else { return stop(malformed) };
            place.packet = packet;
            place.half.translation = half.translation;
            return A::send_across(skb.context().skb.skb, place);
        }
        return match skb.leave(&packet, &half.translation) {
            Ok(action) => action,
            Err(reason) => stop(reason),
        };
    }
    let Some(place) = A::first() else { return stop(malformed) };
    place.packet = packet;
    place.source_mac = source_mac(&skb);
    place.is_of_none = is_of_none;
    UNDECIDED
}

/// A packet of a flow in the table.
#[inline(always)]
fn known<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> i32 {
    match find_flow(skb, place) {
        Some(Ok(())) => send_known(skb, place),
        Some(Err(reason)) => refuse(place, reason),
        None => UNDECIDED,
    }
}

/// What becomes of a packet by itself, if it is of a flow in the table.
#[inline(always)]
pub(crate) fn find_flow<A: Family>(
    skb: *mut __sk_buff,
    place: &mut First<A>,
) -> Option<Result<(), Reason>> {
    if forward::may_be_known(&place.packet) { A::of_flow(skb, place) } else { None }
}

#[inline(always)]
pub(crate) fn of_flow<A: Family>(
    skb: *mut __sk_buff,
    place: &mut First<A>,
) -> Option<Result<(), Reason>> {
    let context = TcContext::new(skb);
    forward::of_flow(&place.packet, &mut place.half.translation, &Kernel::new(&context))
}

#[inline(never)]
fn send_known<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> i32 {
    let context = TcContext::new(skb);
    leave_or_cross(&mut Skb::new(&context), place)
}

/// Leaves a packet to [`answer`], if its sender is told why it does not go on.
#[inline(always)]
pub(crate) fn refuse<A>(place: &mut First<A>, reason: Reason) -> i32 {
    let Some(why) = reason.answer() else { return stop(reason) };
    maps::count(reason);
    place.refusal = why as u8;
    REFUSED
}

/// Tells the sender of a packet why it does not go on.
#[inline(never)]
fn answer<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> i32 {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    let First { packet, refusal, answer, half, .. } = place;
    let now = Tables::<A>::now(&Kernel::new(&context));
    // Who sends too long packets sends them until it is told, and what it gets is shorter: that has
    // no limit.
    let limited = *refusal != Why::TooLong as u8;
    if !answer::may_be_answered(packet) || (limited && !maps::may_answer(packet.tuple.side, now)) {
        return TC_ACT_SHOT;
    }
    skb.reach_for((ETHERNET + answer::QUOTE) as u32);
    let Some(speaker) = answer::speaker(packet, &Kernel::new(&context)) else { return TC_ACT_SHOT };
    let Some(why) = Why::from_number(*refusal) else { return TC_ACT_SHOT };
    match answer::make(answer, &skb, packet, speaker, why, half.translation.mtu) {
        Some(()) => skb.send_back(packet, answer).unwrap_or(TC_ACT_SHOT),
        None => TC_ACT_SHOT,
    }
}

/// The first packet of a flow, or one that is of none.
#[inline(never)]
fn first<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> i32 {
    if let Err(reason) = A::plan(skb, place) {
        return refuse(place, reason);
    }
    if let Err(reason) = begin_planned(skb, place) {
        return refuse(place, reason);
    }
    send(skb, place)
}

/// What keeps a container's link going.
#[inline(never)]
fn link<A: Family>(skb: *mut __sk_buff, place: &First<A>) -> i32 {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    skb.reach_for(nd::HEADERS);
    stop(A::link_from_container(&skb, &place.packet, &Kernel::new(&context)))
}

/// Begins the planned flow, and the mapping that it goes by.
#[inline(always)]
pub(crate) fn begin_planned<A: Family>(
    skb: *mut __sk_buff,
    place: &mut First<A>,
) -> Result<(), Reason> {
    if mapping::is_wanted(place) && !find_mapping(skb, place) {
        mapping::stand_in(place);
        let begun = A::begin_with_room(skb, place);
        mapping::stand_out(place);
        begun?;
    }
    A::begin_with_room(skb, place)
}

#[inline(never)]
fn find_mapping<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> bool {
    let context = TcContext::new(skb);
    mapping::find(place, &Kernel::new(&context))
}

/// Begins the planned flow, if need be in the room of another.
#[inline(always)]
pub(crate) fn begin_with_room<A: Family>(
    skb: *mut __sk_buff,
    place: &mut First<A>,
) -> Result<(), Reason> {
    match A::begin(skb, place) {
        Err(Reason::TableFull) if make_room::<A>(skb, 0) => A::begin(skb, place),
        Err(Reason::TooManyFlows) if make_room::<A>(skb, place.half.owner) => A::begin(skb, place),
        begun => begun,
    }
}

/// The last step, apart: what it holds on the stack is not there while the others run.
#[inline(never)]
fn send<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> i32 {
    let context = TcContext::new(skb);
    match forward::leave(&place.packet, &place.half.translation) {
        Ok(()) => leave_or_cross(&mut Skb::new(&context), place),
        Err(reason) => refuse(place, reason),
    }
}

/// An ICMP error, which may be of a flow.
#[inline(never)]
fn error<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> i32 {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    skb.reach_for(icmp_error::HEADERS);
    let First { packet, error, .. } = place;
    let Some(quote) = icmp_error::quote(&skb, skb::payload_at(packet), packet.tuple.side) else {
        return UNDECIDED;
    };
    error.quote = quote;
    match icmp_error::translate(packet, error, &Kernel::new(&context)) {
        None => UNDECIDED,
        Some(Err(reason)) => stop(reason),
        Some(Ok(())) if A::crosses(&error.outer) => CROSSES,
        Some(Ok(())) => match skb.leave_error(packet, error) {
            Ok(action) => action,
            Err(reason) => stop(reason),
        },
    }
}

#[inline(always)]
pub(crate) fn plan<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> Result<(), Reason> {
    let context = TcContext::new(skb);
    causeway_common::plan::plan(place, &Kernel::new(&context))
}

#[inline(always)]
pub(crate) fn begin<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> Result<(), Reason> {
    prepare(skb, place);
    let mut trial = PortTrial { skb, place };
    // A loop of the kernel's: the verifier looks at one turn of it, and not at each. SAFETY: the
    // function has the signature that the helper wants, and what it is given lives until the loop
    // is over.
    unsafe {
        bpf_loop(begin::PORT_TRIES, try_port::<A> as *mut c_void, (&raw mut trial).cast(), 0);
    }
    complete(skb, place)
}

#[inline(never)]
fn prepare<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) {
    let context = TcContext::new(skb);
    begin::prepare(place, &Kernel::new(&context));
}

#[inline(never)]
fn complete<A: Family>(skb: *mut __sk_buff, place: &mut First<A>) -> Result<(), Reason> {
    let context = TcContext::new(skb);
    begin::complete(place, &Kernel::new(&context))
}

/// What one turn of the loop over the ports needs.
struct PortTrial<A> {
    skb: *mut __sk_buff,
    place: *mut First<A>,
}

/// One turn of the loop over the ports; 1 ends it.
extern "C" fn try_port<A: Family>(attempt: u64, trial: *mut PortTrial<A>) -> u64 {
    // SAFETY: `begin` gives it a trial that lives, and uses its place no more until the loop is
    // over.
    let (skb, place) = unsafe { ((*trial).skb, &mut *(*trial).place) };
    let context = TcContext::new(skb);
    u64::from(!begin::try_port(place, attempt as u32, &Kernel::new(&context)))
}

#[inline(never)]
fn make_room<A: Family>(skb: *mut __sk_buff, owner: u32) -> bool {
    let mut search = RoomSearch { skb, owner, found: false };
    // SAFETY: as for the loop over the ports.
    unsafe {
        bpf_loop(room::LOOKS, look_for_room::<A> as *mut c_void, (&raw mut search).cast(), 0);
    }
    search.found
}

/// What one turn of the loop over the oldest flows needs.
struct RoomSearch {
    skb: *mut __sk_buff,
    owner: u32,
    found: bool,
}

/// One turn of the loop over the oldest flows; 1 ends it.
extern "C" fn look_for_room<A: Family>(_turn: u64, search: *mut RoomSearch) -> u64 {
    // SAFETY: `make_room` gives it a search that lives, and looks at it no more until the loop is
    // over.
    let search = unsafe { &mut *search };
    let context = TcContext::new(search.skb);
    let look = room::look::<A>(search.owner, &Kernel::new(&context));
    search.found = look == Look::Room;
    u64::from(look != Look::Next)
}

#[inline(always)]
fn leave_or_cross<A: Family>(skb: &mut Skb<'_>, place: &mut First<A>) -> i32 {
    if A::crosses(&place.half.translation) {
        return A::send_across(skb.context().skb.skb, place);
    }
    leave(skb, &place.packet, &place.half.translation)
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
) -> Result<(), Reason> {
    let context = TcContext::new(skb);
    let mut skb = Skb::new(&context);
    let Some(limit) = mss::limit(packet, translation, &Kernel::new(&context)) else {
        return Ok(());
    };
    let Some(First { search, .. }) = A::first() else { return Ok(()) };
    skb.reach_for_options(packet);
    *search = Search::new(skb::payload_at(packet));
    let mut walk = Walk { skb: skb.context().skb.skb, search };
    // SAFETY: as in `begin`.
    unsafe {
        bpf_loop(Search::STEPS, step as *mut c_void, (&raw mut walk).cast(), 0);
    }
    skb.lower_mss(packet, search, limit)
}

/// What one turn of the loop over TCP's options needs.
struct Walk {
    skb: *mut __sk_buff,
    search: *mut Search,
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
pub(crate) fn stop(reason: Reason) -> i32 {
    maps::count(reason);
    match reason.fate() {
        Fate::Punt => TCX_NEXT,
        Fate::Drop | Fate::Hold => TC_ACT_SHOT,
    }
}
