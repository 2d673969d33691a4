//! The generator and the counter: what goes in comes out, and what does not is told.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use causeway_bench::address::HOST;
use causeway_bench::{
    contender::{Contender, Publishes},
    forwarding::{self, Comparison, Effort},
    kernel::Kernel,
    report,
    rig::Rig,
    traffic::{self, Ends, Flows, HOST_PORT, Way},
};
use causeway_bench_ebpf::{Expected, MARK, Traffic, fold};
use causeway_tests::{place, undo};

const WAYS: [Way; 4] = [Way::Inwards, Way::Outwards, Way::Across, Way::Wire];

/// A kernel has one place for what it generates, and the machine only so many CPUs: one test at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn rig(contender: Contender) -> Rig {
    static NUMBER: AtomicU32 = AtomicU32::new(2000);
    undo::sweep();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Rig::build(contender, Publishes::Singles(3), 4096, number).unwrap_or_else(|error| panic!("{contender}: {error:#}"))
}

fn gone(rig: Rig) {
    let instance = rig.lab.instance.clone();
    drop(rig);
    assert_eq!(undo::leftovers(&instance), [] as [std::path::PathBuf; 0]);
}

fn comparison(way: Way, flows: Flows) -> Comparison {
    Comparison { way, flows, publishes: Publishes::Singles(3) }
}

#[test]
fn what_goes_in_comes_out_of_every_host_by_every_way() {
    let _turn = turn();
    let mut kernel = Kernel::load().unwrap();
    let effort = Effort { rounds: 2, turn: Duration::from_millis(5), new_flows: 1_000 };
    for contender in Contender::ALL {
        if contender == Contender::NftFlowtable {
            // Not every kernel has it; the benchmark itself says so.
            continue;
        }
        let rig = rig(contender);
        let ways = WAYS.into_iter().filter(|way| contender.takes_part(*way));
        for (way, flows) in ways.flat_map(|way| [(way, Flows::Of(100)), (way, Flows::New)]) {
            let turns =
                forwarding::compare(&mut kernel, std::slice::from_ref(&rig), &comparison(way, flows), &effort, |_| ());
            let turns = turns.unwrap_or_else(|error| panic!("{contender}, {way:?}: {error:#}"));
            assert!(turns[0].frames() >= 2_000, "{contender}, {way:?}: only {} frames", turns[0].frames());
            assert_eq!(turns[0].lost(), 0, "{contender}, {way:?}, {flows:?}: lost of {}", turns[0].frames());
        }
        gone(rig);
    }
}

#[test]
fn causeway_counts_the_same_packets() {
    let _turn = turn();
    let mut kernel = Kernel::load().unwrap();
    let rig = rig(Contender::Causeway);
    let (entry, traffic) = forwarding::entering(&rig, &comparison(Way::Inwards, Flows::Of(7)));
    let expected = Expected { source: 0, destination: rig.containers[0].address.to_bits().to_be() };
    let entered = place::run(&rig.lab.host, || kernel.open(&entry.name)).unwrap();
    let counted = place::run(&rig.containers[0].netns, || kernel.count_at(&rig.containers[0].interface)).unwrap();
    kernel.aim(&traffic, &expected).unwrap();
    let run = place::run(&rig.lab.host, || kernel.run(entry.index, 12_345)).unwrap();
    assert_eq!((run.counts.arrived, run.counts.wrong, run.lost()), (12_345, 0, 0));
    let flows = rig.lab.json(&["flows", "ls"]);
    let flows: Vec<_> = flows.as_array().unwrap().iter().filter(|flow| flow["protocol"] == "udp").collect();
    let packets: u64 = flows.iter().map(|flow| flow["packets"].as_u64().unwrap()).sum();
    assert_eq!((flows.len(), packets), (7, 12_345));
    drop((entered, counted));
    gone(rig);
}

#[test]
fn martians_arrive_nowhere_and_causeway_counts_them() {
    let _turn = turn();
    let mut kernel = Kernel::load().unwrap();
    let effort = Effort { rounds: 2, turn: Duration::from_millis(5), new_flows: 0 };
    for contender in [Contender::Plain, Contender::Causeway, Contender::CausewayXdp] {
        let rig = rig(contender);
        let comparison = comparison(Way::Martian, Flows::Of(100));
        let turns = forwarding::compare(&mut kernel, std::slice::from_ref(&rig), &comparison, &effort, |_| ()).unwrap();
        assert_eq!(turns[0].lost(), 0, "{contender}: some have arrived");
        if contender.is_causeway() {
            // Those that were tried before count too.
            let counted = rig.lab.counted("martian");
            assert!(counted >= turns[0].frames() && counted > 2_000, "{contender}: {counted} of {}", turns[0].frames());
        }
        gone(rig);
    }
}

#[test]
fn what_is_lost_on_the_way_is_told() {
    let _turn = turn();
    let mut kernel = Kernel::load().unwrap();
    let rig = rig(Contender::IptablesLegacy);
    let (entry, mut traffic) = forwarding::entering(&rig, &comparison(Way::Inwards, Flows::Of(100)));
    // Of four ports three are published.
    traffic.services = 4;
    let expected = Expected { source: 0, destination: rig.containers[0].address.to_bits().to_be() };
    let entered = place::run(&rig.lab.host, || kernel.open(&entry.name)).unwrap();
    let counted = place::run(&rig.containers[0].netns, || kernel.count_at(&rig.containers[0].interface)).unwrap();
    kernel.aim(&traffic, &expected).unwrap();
    let run = place::run(&rig.lab.host, || kernel.run(entry.index, 10_000)).unwrap();
    assert_eq!((run.counts.arrived, run.lost()), (7_500, 2_500));
    assert_eq!(report::lost(run.lost(), run.frames), "LOST 2500 of 10000 (25.00 %)");
    drop((entered, counted));
    gone(rig);
}

#[test]
fn what_arrives_untranslated_is_not_taken_for_success() {
    let _turn = turn();
    let mut kernel = Kernel::load().unwrap();
    let rig = rig(Contender::Plain);
    let (entry, traffic) = forwarding::entering(&rig, &comparison(Way::Outwards, Flows::Of(10)));
    let entered = place::run(&rig.lab.host, || kernel.open(&entry.name)).unwrap();
    let counted = place::run(&rig.lab.world, || kernel.count_at(causeway_tests::lab::WORLD_SIDE)).unwrap();
    kernel.aim(&traffic, &Expected { source: HOST.to_bits().to_be(), destination: 0 }).unwrap();
    let run = place::run(&rig.lab.host, || kernel.run(entry.index, 1_000)).unwrap();
    assert_eq!((run.counts.arrived, run.counts.wrong, run.lost()), (0, 1_000, 0));
    drop((entered, counted));
    gone(rig);
}

/// The kernel verifies both checksums before a socket gets anything.
#[test]
fn a_socket_gets_the_frames_as_datagrams() {
    let _turn = turn();
    let mut kernel = Kernel::load().unwrap();
    let rig = rig(Contender::Plain);
    let c1 = &rig.containers[0];
    let (entry, traffic) = forwarding::entering(&rig, &comparison(Way::Inwards, Flows::New));
    let socket =
        place::run(&c1.netns, || UdpSocket::bind(SocketAddr::from((c1.address, traffic::CONTAINER_PORT))).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let entered = place::run(&rig.lab.host, || kernel.open(&entry.name)).unwrap();
    kernel.aim(&traffic, &Expected::default()).unwrap();
    place::run(&rig.lab.host, || kernel.run(entry.index, 60)).unwrap();
    let mut clients = BTreeSet::new();
    // Of three ports in turn it has one; a socket has room for some 40 frames, each in a page of its own.
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

fn tuples(traffic: &mut Traffic, frames: usize) -> BTreeSet<[u8; 12]> {
    let frame = |_| {
        let frame = traffic.next_frame();
        traffic.advance();
        <[u8; 12]>::try_from(&frame[26..38]).unwrap()
    };
    (0..frames).map(frame).collect()
}

fn ends() -> Ends {
    let mac = causeway::net::mac::Mac([2, 0, 0, 0, 0, 1]);
    Ends { source_mac: mac, destination_mac: mac, source: HOST, destination: HOST, port: HOST_PORT, ports: 5 }
}

#[test]
fn there_are_as_many_flows_as_were_asked_for() {
    for way in WAYS {
        for flows in [1, 7, 1_000] {
            let mut traffic = traffic::frames(way, Flows::Of(flows), &ends());
            let first = tuples(&mut traffic, flows as usize);
            assert_eq!(first.len(), flows as usize, "{way:?}");
            assert_eq!(tuples(&mut traffic, flows as usize), first, "{way:?}: the second time round");
        }
        let mut traffic = traffic::frames(way, Flows::New, &ends());
        assert_eq!(tuples(&mut traffic, 40_000).len(), 40_000, "{way:?}");
    }
}

#[test]
fn checksums_are_right_in_every_frame() {
    let sum = |bytes: &[u8]| {
        bytes.chunks(2).fold(0, |sum, pair| u32::from(fold(sum + u32::from(u16::from_ne_bytes([pair[0], pair[1]])))))
    };
    for way in WAYS {
        let mut traffic = traffic::frames(way, Flows::New, &ends());
        for _ in 0..5_000 {
            let frame = traffic.next_frame();
            traffic.advance();
            assert_eq!(sum(&frame[14..34]), 0xffff, "IP, {way:?}");
            let pseudo = [&frame[26..34], &[0, 17], &frame[38..40], &frame[34..60]].concat();
            assert_eq!(sum(&pseudo), 0xffff, "UDP, {way:?}");
        }
    }
}
