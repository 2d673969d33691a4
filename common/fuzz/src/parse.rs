//! Any bytes at all, at every hook: they are parsed or refused, nothing is read beyond their end, and no decision panics.

use causeway_common::{
    address::V4,
    packet::{Arrival, Family as _, Payload},
    tuple::side,
};

use crate::{
    history::check_outcome,
    programs::{Hook, run as run_program},
    scene::{self, Scene},
    traffic::Arriving,
};

/// Runs some bytes: the first says where they arrive, the next two how, the rest is the frame.
///
/// # Panics
///
/// If something does not hold.
pub fn run(data: &[u8]) {
    let [place, gso_low, gso_high, frame @ ..] = data else { return };
    let Ok(length) = u32::try_from(frame.len()) else { return };
    let scene = Scene::MODEL;
    let (hook, input, side) = match place % 7 {
        5 => (Hook::Uplink, scene.uplink, side::UPLINK),
        6 => (Hook::UplinkOut, scene.uplink, side::HOST),
        container => (Hook::HostSide, scene.sides[usize::from(container)], side::CONTAINER),
    };
    // The part of a frame that is in reach may be shorter than the frame.
    let length = length + u32::from(place / 7) * 64;
    let gso_size = u32::from(u16::from_le_bytes([*gso_low, *gso_high]));
    let arrival = Arrival { side, input, length, gso_size };
    if let Ok(packet) = V4::parse(frame, arrival) {
        assert!((34..=74).contains(&packet.payload_at));
        let in_reach = packet.payload_at <= frame.len();
        assert!(in_reach || packet.payload == Payload::Fragment || packet.payload == Payload::Other);
        assert_eq!(packet.length, length - 14);
        assert!(!packet.begins() || packet.has_ports());
        if matches!(packet.payload, Payload::Tcp | Payload::Udp | Payload::Sctp) {
            let ports = [packet.tuple.source_port.word(), packet.tuple.destination_port.word()].map(u16::to_ne_bytes);
            assert_eq!(ports.concat(), frame[packet.payload_at..][..4]);
        }
        for at in [packet.payload_at, packet.payload_at + 8] {
            if let Some(quote) = V4::parse_quote(frame, at, side) {
                assert!(quote.header_at == at && (at + 20..=at + 60).contains(&quote.payload_at));
                // As much as the masks of the program in the kernel let through.
                assert!(quote.header_at <= 82 && quote.payload_at <= 142);
                assert!(quote.payload_at + 4 <= frame.len());
            }
        }
    }
    let model = scene::model();
    let arriving = Arriving { hook, input, frame: frame.to_vec() };
    // The second time it is of a flow that is known, if it is of any.
    for _ in 0..2 {
        if arriving.frame.len() >= 14 {
            let outcome = run_program(hook, &arriving.frame, input, true, &model);
            check_outcome(&arriving, &outcome, &model);
        }
    }
}
