//! Generator and counter: frames arrive on every path, and loss is reported.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use causeway_bench::{
    contender::{Contender, Publishes},
    forwarding::{self, Comparison, Effort},
    kernel::Kernel,
    report,
    rig::{Rig, Setup},
    traffic::{self, Ends, Flows, HOST_PORT, Way},
};
use causeway_bench_ebpf::{Expected, MARK, Traffic, fold};
use causeway_tests::{
    families,
    family::{Family, V4},
    place, undo, verb,
};

const WAYS: [Way; 4] = [Way::Inwards, Way::Outwards, Way::Across, Way::Wire];

/// One test at a time: the machine has few CPUs.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn rig(contender: Contender) -> Rig {
    static NUMBER: AtomicU32 = AtomicU32::new(2000);
    undo::sweep();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let setup = Setup {
        publishes: Publishes::Singles(3),
        flows: 4096,
        families: Family::ALL.into(),
        before: Some(verb::binary()),
    };
    Rig::build(contender, &setup, number).unwrap_or_else(|error| panic!("{contender}: {error:#}"))
}

fn gone(rig: Rig) {
    let instance = rig.lab.instance.clone();
    drop(rig);
    assert_eq!(undo::leftovers(&instance), [] as [std::path::PathBuf; 0]);
}

fn comparison(family: Family, way: Way, flows: Flows) -> Comparison {
    Comparison { way, family, flows, publishes: Publishes::Singles(3) }
}

#[test]
fn every_frame_arrives_on_every_path() {
    let _turn = turn();
    let mut kernel = Kernel::load().unwrap();
    let effort = Effort { rounds: 2, turn: Duration::from_millis(5), new_flows: 1_000 };
    for contender in Contender::ALL {
        if contender == Contender::NftFlowtable {
            // Not every kernel has it, as the benchmark reports.
            continue;
        }
        let rig = rig(contender);
        for (way, flows) in
            WAYS.into_iter().flat_map(|way| [(way, Flows::Of(100)), (way, Flows::New)])
        {
            let both = Family::ALL.map(|family| comparison(family, way, flows));
            let all = forwarding::compare(
                &mut kernel,
                std::slice::from_ref(&rig),
                &both,
                &effort,
                |_, _| (),
            );
            let all = all.unwrap_or_else(|error| panic!("{contender}, {way:?}: {error:#}"));
            for (comparison, turns) in both.iter().zip(&all) {
                let what = format!("{contender}, {comparison:?}");
                assert_eq!(turns.len(), usize::from(contender.takes_part(comparison)), "{what}");
                for turns in turns {
                    assert!(turns.frames() >= 2_000, "{what}: only {} frames", turns.frames());
                    assert_eq!(turns.lost(), 0, "{what}: lost of {}", turns.frames());
                }
            }
        }
        gone(rig);
    }
}

families!(
    causeway_counts_the_same_packets,
    martians_are_dropped_and_counted,
    loss_on_the_path_is_reported,
    untranslated_frames_are_not_success,
    socket_receives_frames_as_datagrams,
    flow_count_is_as_requested,
    checksums_are_valid_in_every_frame,
);

fn causeway_counts_the_same_packets(family: Family) {
    let _turn = turn();
    let mut kernel = Kernel::load().unwrap();
    let rig = rig(Contender::Causeway);
    let comparison = comparison(family, Way::Inwards, Flows::Of(7));
    let (entry, traffic) = forwarding::entering(&rig, &comparison).unwrap();
    let entered = place::run(&rig.lab.host, || kernel.open(&entry.name)).unwrap();
    let counted =
        place::run(&rig.containers[0].netns, || kernel.count_at(&rig.containers[0].interface))
            .unwrap();
    kernel.aim(&traffic, &forwarding::expected(&rig, &comparison).unwrap()).unwrap();
    let run = place::run(&rig.lab.host, || kernel.run(family, entry.index, 12_345)).unwrap();
    assert_eq!((run.counts.arrived, run.counts.wrong, run.lost()), (12_345, 0, 0));
    let flows = rig.lab.json(&["flows", "ls"]);
    let flows: Vec<_> =
        flows.as_array().unwrap().iter().filter(|flow| flow["protocol"] == "udp").collect();
    let packets: u64 = flows.iter().map(|flow| flow["packets"].as_u64().unwrap()).sum();
    assert_eq!((flows.len(), packets), (7, 12_345));
    drop((entered, counted));
    gone(rig);
}

fn martians_are_dropped_and_counted(family: Family) {
    let _turn = turn();
    let mut kernel = Kernel::load().unwrap();
    let effort = Effort { rounds: 2, turn: Duration::from_millis(5), new_flows: 0 };
    for contender in [Contender::Plain, Contender::Causeway, Contender::CausewayXdp] {
        let rig = rig(contender);
        let comparison = comparison(family, Way::Martian, Flows::Of(100));
        let all = forwarding::compare(
            &mut kernel,
            std::slice::from_ref(&rig),
            &[comparison],
            &effort,
            |_, _| (),
        );
        let turns = &all.unwrap()[0][0];
        assert_eq!(turns.lost(), 0, "{contender}: some have arrived");
        if contender.is_causeway() {
            // Frames of earlier trials count too.
            let counted = rig.lab.counted("martian");
            assert!(
                counted >= turns.frames() && counted > 2_000,
                "{contender}: {counted} of {}",
                turns.frames()
            );
        }
        gone(rig);
    }
}

fn loss_on_the_path_is_reported(family: Family) {
    let _turn = turn();
    let mut kernel = Kernel::load().unwrap();
    let rig = rig(Contender::IptablesLegacy);
    let comparison = comparison(family, Way::Inwards, Flows::Of(100));
    let (entry, mut traffic) = forwarding::entering(&rig, &comparison).unwrap();
    // Three of four ports are published.
    traffic.services = 4;
    let entered = place::run(&rig.lab.host, || kernel.open(&entry.name)).unwrap();
    let counted =
        place::run(&rig.containers[0].netns, || kernel.count_at(&rig.containers[0].interface))
            .unwrap();
    kernel.aim(&traffic, &forwarding::expected(&rig, &comparison).unwrap()).unwrap();
    let run = place::run(&rig.lab.host, || kernel.run(family, entry.index, 10_000)).unwrap();
    assert_eq!((run.counts.arrived, run.lost()), (7_500, 2_500));
    assert_eq!(report::lost(run.lost(), run.frames), "LOST 2500 of 10000 (25.00 %)");
    drop((entered, counted));
    gone(rig);
}

fn untranslated_frames_are_not_success(family: Family) {
    let _turn = turn();
    let mut kernel = Kernel::load().unwrap();
    let rig = rig(Contender::Plain);
    let (entry, traffic) =
        forwarding::entering(&rig, &comparison(family, Way::Outwards, Flows::Of(10))).unwrap();
    let entered = place::run(&rig.lab.host, || kernel.open(&entry.name)).unwrap();
    let counted =
        place::run(&rig.lab.world, || kernel.count_at(causeway_tests::lab::WORLD_SIDE)).unwrap();
    kernel.aim(&traffic, &Expected::new(Some(family.host()), None)).unwrap();
    let run = place::run(&rig.lab.host, || kernel.run(family, entry.index, 1_000)).unwrap();
    assert_eq!((run.counts.arrived, run.counts.wrong, run.lost()), (0, 1_000, 0));
    drop((entered, counted));
    gone(rig);
}

/// The kernel verifies the checksums before a socket gets anything.
fn socket_receives_frames_as_datagrams(family: Family) {
    let _turn = turn();
    let mut kernel = Kernel::load().unwrap();
    let rig = rig(Contender::Plain);
    let c1 = &rig.containers[0];
    let (entry, traffic) =
        forwarding::entering(&rig, &comparison(family, Way::Inwards, Flows::New)).unwrap();
    let own = SocketAddr::from((c1.address(family).unwrap(), traffic::CONTAINER_PORT));
    let socket = place::run(&c1.netns, || UdpSocket::bind(own).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let entered = place::run(&rig.lab.host, || kernel.open(&entry.name)).unwrap();
    kernel.aim(&traffic, &Expected::default()).unwrap();
    place::run(&rig.lab.host, || kernel.run(family, entry.index, 60)).unwrap();
    let mut clients = BTreeSet::new();
    // It receives one of three ports in turn. The socket buffer holds some 40 frames, each in a
    // page.
    for _ in 0..20 {
        let mut datagram = [0; 64];
        let (length, from) = socket.recv_from(&mut datagram).unwrap();
        assert!(datagram[..length].starts_with(&MARK));
        clients.insert(from);
    }
    assert_eq!(clients.len(), 20);
    drop(entered);
    gone(rig);
}

/// Addresses and ports of adjacent frames.
fn tuples(family: Family, traffic: &mut Traffic, frames: usize) -> BTreeSet<Vec<u8>> {
    let layout = traffic::layout(family);
    let frame = |_| {
        let frame = traffic.next_frame(layout);
        traffic.advance();
        frame[layout.source_at..layout.ports_at + 4].to_vec()
    };
    (0..frames).map(frame).collect()
}

fn ends(family: Family) -> Ends {
    let mac = causeway_api::types::mac::Mac([2, 0, 0, 0, 0, 1]);
    let host = family.host();
    Ends {
        source_mac: mac,
        destination_mac: mac,
        source: host,
        destination: host,
        port: HOST_PORT,
        ports: 5,
    }
}

fn flow_count_is_as_requested(family: Family) {
    for way in WAYS {
        for flows in [1, 7, 1_000] {
            let mut traffic = traffic::frames(way, Flows::Of(flows), &ends(family));
            let first = tuples(family, &mut traffic, flows as usize);
            assert_eq!(first.len(), flows as usize, "{way:?}");
            assert_eq!(
                tuples(family, &mut traffic, flows as usize),
                first,
                "{way:?}: the second time round"
            );
        }
        let mut traffic = traffic::frames(way, Flows::New, &ends(family));
        assert_eq!(tuples(family, &mut traffic, 40_000).len(), 40_000, "{way:?}");
    }
}

fn checksums_are_valid_in_every_frame(family: Family) {
    let layout = traffic::layout(family);
    let sum = |bytes: &[u8]| {
        bytes.chunks(2).fold(0, |sum, pair| {
            u32::from(fold(sum + u32::from(u16::from_ne_bytes([pair[0], pair[1]]))))
        })
    };
    for way in WAYS {
        let mut traffic = traffic::frames(way, Flows::New, &ends(family));
        for _ in 0..5_000 {
            let frame = &traffic.next_frame(layout)[..layout.frame];
            traffic.advance();
            if family == V4 {
                assert_eq!(sum(&frame[14..layout.ports_at]), 0xffff, "IP, {way:?}");
            }
            let (addresses, datagram) =
                (&frame[layout.source_at..layout.ports_at], &frame[layout.ports_at..]);
            let pseudo = [addresses, &[0, 17], &datagram[4..6], datagram].concat();
            assert_eq!(sum(&pseudo), 0xffff, "UDP, {way:?}");
        }
    }
}
