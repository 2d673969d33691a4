//! What the kernel's tc programs do with a frame, byte by byte. The decisions are the same; the
//! programs change the bytes with helpers, this module changes them in a plain buffer.

use causeway_common::{
    abi::{Deliver, Translation, drop_reason::DropReason},
    env::{Config as _, FlowStore as _},
    flow::error::ErrorTranslation,
    icmp_reply,
    nat::{fragment, icmp_error, mss},
    pipeline::Family,
    testing::{
        model::Model,
        steps::{Decision, decide, decide_to_uplink},
    },
    wire::{
        address::{Address as _, V4},
        checksum,
        ethernet::{ETHERNET, Ethernet, ether_type},
        frame::{Frame as _, FrameMut as _},
        icmp::{IcmpError, IcmpErrorKind},
        packet::{Arrival, Packet, Payload},
        protocol,
        tcp_options::MssSearch,
        tuple::{Echo, Side},
    },
};

use crate::fixture::Scenery;

/// Where a frame arrives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hook {
    /// tc ingress on a host side.
    HostSide,
    /// tc ingress on an uplink.
    Uplink,
    /// tc egress on an uplink, for packets of the host itself.
    UplinkOut,
}

/// Outcome of a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The frame leaves, rewritten.
    Leave {
        /// The frame.
        frame: Vec<u8>,
        /// Index of the interface that it leaves through.
        output: u32,
        /// How it is delivered.
        deliver: Deliver,
    },
    /// The frame is dropped, punted or queued for that reason.
    Stop(DropReason),
    /// The frame is dropped, and its sender gets this ICMP error.
    Answer(DropReason, Vec<u8>),
    /// The frame and the fragments that were queued for it are reinjected: they are in
    /// `Model::reinjected`.
    Again,
    /// A packet of the host leaves unchanged.
    Pass,
}

/// Runs a hook's program on a frame that arrived at the interface `input`, for the family of the
/// model. `for_host` says whether the frame's destination MAC is the uplink's, which is checked at
/// the uplink only.
pub fn run<A: Scenery>(
    hook: Hook,
    frame: &[u8],
    input: u32,
    for_host: bool,
    env: &Model<A>,
) -> Outcome {
    let side = match hook {
        Hook::HostSide => Side::CONTAINER,
        Hook::Uplink => Side::UPLINK,
        Hook::UplinkOut => Side::HOST,
    };
    env.frame.replace(frame.to_vec());
    let header: Option<Ethernet> = frame.read(0);
    let arrival = Arrival {
        side,
        input,
        length: u32::try_from(frame.len()).expect("a short frame"),
        gso_size: 0,
    };
    match (hook, header.map(|header| header.ether_type())) {
        (Hook::Uplink, _) if !for_host => Outcome::Stop(DropReason::NotOurs),
        (_, Some(kind)) if kind == own_type::<A>() => run_family(hook, frame, arrival, env),
        (Hook::HostSide, _) => A::other_frame(frame, arrival, env),
        (Hook::Uplink, _) => Outcome::Stop(DropReason::NotOurs),
        (Hook::UplinkOut, _) => Outcome::Pass,
    }
}

fn own_type<A: Family>() -> u16 {
    if A::FAMILY == V4::FAMILY { ether_type::IPV4 } else { ether_type::IPV6 }
}

fn run_family<A: Scenery>(hook: Hook, frame: &[u8], arrival: Arrival, env: &Model<A>) -> Outcome {
    let Ok(packet) = A::parse(frame, arrival) else {
        return match hook {
            Hook::HostSide => Outcome::Stop(DropReason::Malformed),
            Hook::Uplink => Outcome::Stop(DropReason::NotOurs),
            Hook::UplinkOut => Outcome::Pass,
        };
    };
    if hook == Hook::UplinkOut {
        return from_host(frame, &packet, env);
    }
    match decide(frame, &packet, env) {
        Decision::Forward(translation) if translation.deliver == Deliver::CONTAINER_NAT64 => {
            left(&translation, A::to_ipv4(frame, &packet, &translation, env))
        }
        Decision::ForwardError(error) if error.outer.deliver == Deliver::CONTAINER_NAT64 => {
            A::error_to_ipv4(frame, &packet, &error)
        }
        Decision::Forward(translation) => {
            left(&translation, leave(frame, &packet, &translation, env))
        }
        Decision::ForwardFragment(translation, id) => {
            left(&translation, leave_fragment(frame, &packet, &translation, id, env))
        }
        Decision::Reinject => Outcome::Again,
        Decision::ForwardError(translation) => leave_error(frame, &packet, &translation),
        Decision::Stop(reason) => stop(frame, &packet, reason, 0, env),
        Decision::TooLong(mtu) => stop(frame, &packet, DropReason::TooLong, mtu, env),
    }
}

/// A packet that the host sends: if anything fails, it leaves unchanged.
fn from_host<A: Family>(frame: &[u8], packet: &Packet<A>, env: &Model<A>) -> Outcome {
    let bypasses_socket_lookup = packet.payload == Payload::Echo;
    match decide_to_uplink(frame, packet, bypasses_socket_lookup, env) {
        Some(Decision::Forward(translation)) => {
            left(&translation, leave(frame, packet, &translation, env))
        }
        Some(Decision::ForwardError(translation)) => leave_error(frame, packet, &translation),
        Some(Decision::Stop(reason)) => Outcome::Stop(reason),
        Some(decision) => panic!("{decision:?} of the host's own"),
        None => Outcome::Pass,
    }
}

fn left<A>(translation: &Translation<A>, frame: Option<Vec<u8>>) -> Outcome {
    match frame {
        Some(frame) => {
            Outcome::Leave { frame, output: translation.output, deliver: translation.deliver }
        }
        None => Outcome::Stop(DropReason::RewriteFailed),
    }
}

fn stop<A: Family>(
    frame: &[u8],
    packet: &Packet<A>,
    reason: DropReason,
    mtu: u16,
    env: &Model<A>,
) -> Outcome {
    let Some(why) = reason.icmp_error() else { return Outcome::Stop(reason) };
    match answered(frame, packet, why, mtu, env) {
        Some(answer) => Outcome::Answer(reason, answer),
        None => Outcome::Stop(reason),
    }
}

/// The ICMP error that a packet's sender gets.
pub fn answered<A: Family>(
    frame: &[u8],
    packet: &Packet<A>,
    why: IcmpErrorKind,
    mtu: u16,
    env: &Model<A>,
) -> Option<Vec<u8>> {
    if !icmp_reply::may_reply(packet) {
        return None;
    }
    let speaker = icmp_reply::error_source(packet, env)?;
    let mut answer = IcmpError::NONE;
    icmp_reply::build(&mut answer, frame, packet, speaker, why, mtu)?;
    Some(answer.frame().to_vec())
}

/// The rewritten frame. None if it is shorter than its headers say.
fn leave<A: Family>(
    frame: &[u8],
    packet: &Packet<A>,
    translation: &Translation<A>,
    env: &Model<A>,
) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    clamp_mss(&mut frame, packet, translation, env)?;
    match translation.deliver {
        Deliver::SAME_BRIDGE => {
            frame.put(0, &translation.macs)?;
            return Some(frame);
        }
        Deliver::STACK if translation.port_delta == 0 => return Some(frame),
        _ => {}
    }
    update_sums(&mut frame, packet, translation)?;
    if translation.deliver != Deliver::STACK {
        rewrite(&mut frame, translation)?;
    }
    rewrite_ports(&mut frame, packet, translation)?;
    Some(frame)
}

/// The rewritten payload of a packet that gets a header of the other family.
pub fn rewrite_payload<A: Family>(
    frame: &[u8],
    packet: &Packet<A>,
    translation: &Translation<A>,
    env: &Model<A>,
) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    clamp_mss(&mut frame, packet, translation, env)?;
    update_sums(&mut frame, packet, translation)?;
    rewrite_ports(&mut frame, packet, translation)?;
    Some(frame.split_off(packet.payload_at))
}

fn clamp_mss<A: Family>(
    frame: &mut [u8],
    packet: &Packet<A>,
    translation: &Translation<A>,
    env: &Model<A>,
) -> Option<()> {
    let Some(limit) = mss::limit(packet, translation, env) else { return Some(()) };
    let mut search = MssSearch::new(packet.payload_at);
    let _ = (0..MssSearch::STEPS).try_for_each(|_| search.step(&*frame));
    match search.lower(frame, limit)? {
        0 => Some(()),
        delta => add_to_sum(frame, packet.payload_at + 16, delta, protocol::TCP),
    }
}

fn rewrite_ports<A: Family>(
    frame: &mut [u8],
    packet: &Packet<A>,
    translation: &Translation<A>,
) -> Option<()> {
    let tuple = &translation.tuple;
    let at = packet.payload_at;
    match tuple.echo {
        Echo::NONE => frame.put(at, &[tuple.source_port, tuple.destination_port]),
        Echo::REQUEST => frame.put(at + 4, &tuple.source_port),
        _ => frame.put(at + 4, &tuple.destination_port),
    }
}

/// The rewritten fragment: a later one has no ports and no checksum.
fn leave_fragment<A: Family>(
    frame: &[u8],
    packet: &Packet<A>,
    translation: &Translation<A>,
    id: u32,
    env: &Model<A>,
) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    let translated = fragment::is_translated(translation);
    if translated {
        A::rewrite_id(&mut frame[..], packet, id)?;
    } else if !packet.first_fragment && translation.deliver == Deliver::STACK {
        return Some(frame);
    }
    if packet.first_fragment || !translated {
        return leave(&frame, packet, translation, env);
    }
    rewrite(&mut frame, translation)?;
    Some(frame)
}

/// Rewrites MACs and IP header.
fn rewrite<A: Family>(frame: &mut [u8], translation: &Translation<A>) -> Option<()> {
    if translation.deliver == Deliver::CONTAINER || translation.macs.is_resolved() {
        frame.put(0, &translation.macs)?;
    }
    let mut header: A::Header = frame.read(ETHERNET)?;
    A::rewrite(&mut header, translation);
    frame.put(ETHERNET, &header)
}

fn update_sums<A: Family>(
    frame: &mut [u8],
    packet: &Packet<A>,
    translation: &Translation<A>,
) -> Option<()> {
    let protocol = packet.tuple.protocol;
    let at = packet.payload_at
        + match protocol {
            protocol::TCP => 16,
            protocol::UDP => 6,
            _ => 2,
        };
    let pseudo = if A::has_pseudo_header(protocol) { translation.address_delta } else { 0 };
    for delta in [translation.port_delta, pseudo] {
        if delta == 0 {
            continue;
        }
        add_to_sum(frame, at, delta, protocol)?;
    }
    Some(())
}

fn add_to_sum(frame: &mut [u8], at: usize, delta: u16, protocol: u8) -> Option<()> {
    let old: u16 = frame.read(at)?;
    if old == 0 && protocol == protocol::UDP {
        return Some(());
    }
    let new = match checksum::update(old, u32::from(delta)) {
        0 if protocol == protocol::UDP => u16::MAX,
        new => new,
    };
    frame.put(at, &new)
}

fn leave_error<A: Family>(
    frame: &[u8],
    packet: &Packet<A>,
    translation: &ErrorTranslation<A>,
) -> Outcome {
    let outer = &translation.outer;
    match rewrite_error(frame, packet, translation) {
        Some(frame) => Outcome::Leave { frame, output: outer.output, deliver: outer.deliver },
        None => Outcome::Stop(DropReason::RewriteFailed),
    }
}

fn rewrite_error<A: Family>(
    frame: &[u8],
    packet: &Packet<A>,
    translation: &ErrorTranslation<A>,
) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    if translation.outer.deliver == Deliver::CONTAINER {
        frame.put(0, &translation.outer.macs)?;
    }
    icmp_error::apply::<A>(&mut frame[..], packet.payload_at, translation)?;
    Some(frame)
}

/// Whether the entry with that key exists and is live.
pub fn in_use<A: Family>(env: &Model<A>, key: &causeway_common::wire::tuple::Tuple<A>) -> bool {
    env.flow(key).is_some_and(|entry| {
        entry.epoch == env.epoch(entry.slot)
            && env.now.get().wrapping_sub(entry.last_used).cast_signed()
                <= entry.timeout.cast_signed()
    })
}
