//! Conflicts of source ports toward one destination.

use causeway::datapath::{Action, Entry, Trial};
use causeway_tests::{
    bench::{
        Bench,
        rows::{Names, from, outside, read, set_up},
        with_bench,
    },
    families,
    family::Family,
    packet::{IpFrame, Payload},
    raw::{Packet, flag::SYN},
};

families!(shared_source_port_becomes_two, host_never_takes_the_tuple_of_a_flow);

/// Payloads with source port, or identifier, 4000.
fn payloads() -> [Payload; 3] {
    [Payload::Tcp(4000, 80, SYN), Payload::Udp(4000, 80, vec![]), Payload::Ping(4000)]
}

/// The source port or identifier that a packet leaves with.
fn port(trial: &Trial) -> u16 {
    let packet = read(&trial.frame);
    if is_echo(&packet) { packet.word(4) } else { packet.ports().0 }
}

fn is_echo(packet: &Packet) -> bool {
    packet.protocol == packet.family().icmp()
}

/// The payload with that source port or identifier.
fn moved(payload: &Payload, port: u16) -> Payload {
    if matches!(payload, Payload::Ping(_)) {
        Payload::Ping(port)
    } else {
        payload.with_ports(port, 80)
    }
}

fn shared_source_port_becomes_two(family: Family) {
    let Names { c1, c2, host, world, .. } = Names::of(family);
    with_bench(|bench| {
        set_up(bench);
        for payload in payloads() {
            bench.flush();
            let first =
                bench.kernel(Entry::HostSide, "h1", &from(c1, world, payload.clone()).bytes());
            let second =
                bench.kernel(Entry::HostSide, "h2", &from(c2, world, payload.clone()).bytes());
            assert_eq!(port(&first), 4000, "{payload:?}: the first keeps its port");
            let other = port(&second);
            assert!(
                (1024..32768).contains(&other) && other != 4000,
                "{payload:?}: the second got {other}"
            );
            let sent = from(c2, world, payload.clone());
            let translated =
                IpFrame { source: host, ttl: 63, payload: moved(&payload, other), ..sent };
            assert_eq!(second.frame, translated.bytes(), "{payload:?}: its checksums");
            let answer = outside(bench, world, host, moved(&payload, other).answer());
            let back = bench.kernel(Entry::Uplink, "up0", &answer.bytes());
            assert_eq!(back.action, Action::Redirect);
            assert_eq!(
                read(&back.frame).destination,
                c2,
                "{payload:?}: the answer finds the second"
            );
        }
    });
}

fn host_never_takes_the_tuple_of_a_flow(family: Family) {
    let Names { c1, host, world, .. } = Names::of(family);
    with_bench(|bench| {
        set_up(bench);
        for payload in payloads() {
            bench.flush();
            let hosts = from(host, world, payload.clone());
            let out = |bench: &Bench| bench.kernel(Entry::UplinkOut, "up0", &hosts.bytes());
            let alone = out(bench);
            assert_eq!(
                (alone.action, &alone.frame),
                (Action::Pass, &hosts.bytes()),
                "{payload:?}: no flow has it"
            );
            bench.flush();

            bench.kernel(Entry::HostSide, "h1", &from(c1, world, payload.clone()).bytes());
            let shifted = out(bench);
            let other = port(&shifted);
            assert!(
                shifted.action == Action::Pass && other != 4000,
                "{payload:?}: a container's flow has it, the host got {other}"
            );
            let wanted = IpFrame { payload: moved(&payload, other), ..hosts.clone() };
            assert_eq!(shifted.frame, wanted.bytes(), "{payload:?}: its checksums");
            assert_eq!(port(&out(bench)), other, "{payload:?}: the host keeps it");

            let answer = |port| moved(&payload, port).answer();
            let to_host = outside(bench, world, host, answer(other));
            let back = bench.kernel(Entry::Uplink, "up0", &to_host.bytes());
            let wanted = IpFrame { payload: answer(4000), ..to_host };
            assert_eq!(
                (back.action, back.frame),
                (Action::Pass, wanted.bytes()),
                "{payload:?}: the answer is the host's"
            );
            let to_container = bench.kernel(
                Entry::Uplink,
                "up0",
                &outside(bench, world, host, answer(4000)).bytes(),
            );
            assert_eq!(
                (to_container.action, read(&to_container.frame).destination),
                (Action::Redirect, c1),
                "{payload:?}"
            );
        }
        // Forwarded packets are not packets of the host.
        bench.kernel(
            Entry::HostSide,
            "h1",
            &from(c1, world, Payload::Udp(4001, 80, vec![])).bytes(),
        );
        let forwarded = from(host, world, Payload::Udp(4001, 80, vec![])).bytes();
        let index = bench.index("up0");
        let trial = bench
            .datapath
            .try_frame(Entry::UplinkOut, index, bench.index("h1"), &forwarded)
            .expect("it runs");
        assert_eq!((trial.action, trial.frame), (Action::Pass, forwarded));
    });
}
