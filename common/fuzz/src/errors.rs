//! ICMP errors: those that the datapath sends about any frame, and those that it translates, with
//! quotes that are cut and damaged.

use causeway_common::{
    testing::model::Model,
    wire::{
        address::{Address as _, V4},
        icmp::IcmpErrorKind,
        packet::Arrival,
        tuple::Side,
    },
};

use crate::{
    both,
    fixture::{
        self, BRIDGE_MAC, CONTAINERS, Fixture, HOST, NEAR, NEAR_MAC, Scenery, WORLD, mac_of,
    },
    history::{check_answer, check_outcome},
    programs::{Hook, Outcome, answered, run as run_program},
    traffic::Arriving,
    wire::{Frame, extension, protocol},
};

/// Runs a case. Byte 0 selects the family, byte 1 the flow that an error is about, byte 2 the
/// error's sender and kind; the rest is mixed by XOR with a correct quote.
///
/// # Panics
///
/// If an invariant does not hold.
pub fn run(data: &[u8]) {
    both!(run_family, data);
}

fn run_family<A: Scenery>(data: &[u8]) {
    let [which, how, damage @ ..] = data else { return };
    let fixture = Fixture::MODEL;
    let v4 = A::FAMILY == V4::FAMILY;
    let model = fixture::model::<A>();
    let sent = first_packets::<A>();
    let mut left = Vec::new();
    for arriving in sent {
        match run_program(arriving.hook, &arriving.frame, arriving.input, true, &model) {
            Outcome::Leave { frame, output, .. } => left.push((frame, output)),
            outcome @ (Outcome::Answer(..) | Outcome::Stop(_) | Outcome::Pass | Outcome::Again) => {
                panic!("{arriving:?} begins a flow, and is {outcome:?}")
            }
        }
    }
    let (frame, output) = &left[usize::from(*which) % left.len()];
    let quoted = Frame::read(frame).expect("a packet left");
    let container = fixture.container_at(*output);
    let mut packet = quoted.bytes()[14..].to_vec();
    if let Some((cut, changes)) = damage.split_first() {
        for change in changes.chunks_exact(2) {
            let at = usize::from(change[0]) % packet.len();
            packet[at] ^= change[1];
        }
        packet.truncate(packet.len().saturating_sub(usize::from(*cut)));
    }
    let kinds = if v4 { [3, 11, 12] } else { [1, 3, 4] };
    let kind = kinds[usize::from(*how) % 3];
    let units = usize::from(how / 3 % 11);
    let options = if units == 0 || v4 {
        Vec::new()
    } else {
        let mut rest = vec![0; units * 8 - 1];
        rest[0] = u8::try_from(units - 1).expect("a short header");
        vec![(extension::DESTINATION, rest)]
    };
    let error = Frame {
        macs: container
            .map_or((fixture.uplink_mac, NEAR_MAC), |container| (BRIDGE_MAC, mac_of(container))),
        source: if container.is_none() && how & 64 != 0 {
            A::named(NEAR).ip()
        } else {
            quoted.destination
        },
        destination: quoted.source,
        ttl: if how & 128 != 0 { 1 } else { 9 },
        options: vec![1; if v4 { units * 4 } else { 0 }],
        extensions: options,
        dont_fragment: false,
        fragment: None,
        protocol: A::ICMP,
        payload: [&[kind, 0, 0, 0, 0, 0, 5, 0x78], &packet[..]].concat(),
    };
    let frame = error.summed().bytes();
    let hook = if container.is_some() { Hook::HostSide } else { Hook::Uplink };
    let arriving = Arriving { hook, input: *output, frame };
    let outcome = run_program(hook, &arriving.frame, *output, true, &model);
    // If the quoted header's checksum is wrong, the checksum of the error is not checked: it is
    // only updated by the changes that are made.
    check_outcome(&arriving, &outcome, &model);
    check_errors_about(&arriving, *how, &model);
    let mut own = Arriving { frame: damage.to_vec(), ..arriving };
    if own.frame.len() >= 14 {
        // The ether type has selected the family before.
        own.frame[12..14].copy_from_slice(if v4 { &[8, 0] } else { &[0x86, 0xdd] });
        check_errors_about(&own, *how, &model);
    }
}

/// Checks the error that the datapath would send to the sender of a frame, of each kind.
fn check_errors_about<A: Scenery>(arriving: &Arriving, how: u8, model: &Model<A>) {
    let side = if arriving.hook == Hook::HostSide { Side::CONTAINER } else { Side::UPLINK };
    let Ok(length) = u32::try_from(arriving.frame.len()) else { return };
    let arrival = Arrival { side, input: arriving.input, length, gso_size: 0 };
    let Ok(packet) = A::parse(&arriving.frame[..], arrival) else { return };
    for why in (0..).map_while(IcmpErrorKind::from_number) {
        if let Some(answer) = answered(&arriving.frame, &packet, why, 1280 + u16::from(how), model)
        {
            check_answer(arriving, &answer, model);
            let mtu = if why == IcmpErrorKind::TooLong { 1280 + u16::from(how) } else { 0 };
            let at = 14 + size_of::<A::Header>() + 6;
            assert_eq!(answer[at..at + 2], mtu.to_be_bytes(), "{why:?}");
        }
    }
}

/// First packets of flows of every kind and direction.
fn first_packets<A: Scenery>() -> Vec<Arriving> {
    let fixture = Fixture::MODEL;
    let udp = |source: u16, destination: u16| {
        let data = [0x5a; 24];
        (
            protocol::UDP,
            [&source.to_be_bytes()[..], &destination.to_be_bytes(), &[0, 32, 0, 0], &data].concat(),
        )
    };
    let tcp = |source: u16, destination: u16| {
        let head = [0, 0, 0, 1, 0, 0, 0, 2, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
        (protocol::TCP, [&source.to_be_bytes()[..], &destination.to_be_bytes(), &head].concat())
    };
    let echo = |identifier: u16| {
        (
            A::ICMP,
            [&[A::ECHO_REQUEST, 0, 0, 0], &identifier.to_be_bytes()[..], &[0, 7], &[0x61; 8]]
                .concat(),
        )
    };
    let sctp = |source: u16, destination: u16| {
        let rest = [&[0; 8][..], &[1, 0, 0, 20], &[0, 0, 0, 9], &[0; 12]].concat();
        (protocol::SCTP, [&source.to_be_bytes()[..], &destination.to_be_bytes(), &rest].concat())
    };
    let mut unsummed = udp(4004, 53);
    unsummed.1[6..8].fill(0);
    let from = |container: Option<usize>,
                destination: [u8; 4],
                (protocol, payload): (u8, Vec<u8>),
                sums: bool| {
        let packet = Frame {
            macs: container.map_or((fixture.uplink_mac, NEAR_MAC), |container| {
                (BRIDGE_MAC, mac_of(container))
            }),
            source: A::named(container.map_or(WORLD, |container| CONTAINERS[container])).ip(),
            destination: A::named(destination).ip(),
            ttl: 64,
            options: Vec::new(),
            extensions: Vec::new(),
            dont_fragment: false,
            fragment: None,
            protocol,
            payload,
        };
        let frame = if sums { packet.summed() } else { packet }.bytes();
        let (hook, input) = match container {
            Some(container) => (Hook::HostSide, fixture.sides[container]),
            None => (Hook::Uplink, fixture.uplink),
        };
        Arriving { hook, input, frame }
    };
    vec![
        from(Some(0), WORLD, tcp(4000, 80), true),
        from(Some(1), WORLD, tcp(4000, 80), true),
        from(Some(0), WORLD, udp(4000, 53), true),
        from(Some(1), WORLD, udp(4000, 53), true),
        from(Some(1), WORLD, unsummed, false),
        from(Some(0), WORLD, echo(77), true),
        from(Some(1), WORLD, echo(77), true),
        from(Some(0), WORLD, sctp(4000, 5000), true),
        from(Some(2), WORLD, udp(4000, 53), true),
        from(None, HOST, tcp(4000, 5000), true),
        from(None, HOST, udp(4000, 5001), true),
        from(None, HOST, tcp(4000, 7003), true),
        from(None, HOST, sctp(4000, 5002), true),
        from(Some(1), HOST, udp(4001, 5001), true),
        from(Some(0), HOST, tcp(4001, 5000), true),
    ]
}
