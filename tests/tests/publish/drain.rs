//! Publishes moved to another container while in use, with and without a drain.

use std::{
    collections::BTreeSet,
    fs,
    net::{TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use causeway_tests::{
    families,
    family::Family,
    lab::{Container, Lab},
    tcp, udp, wait,
};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use serde_json::{Value, json};

use crate::server::Server;

families! {
    move_takes_clients_along_at_once,
    move_loses_no_datagram,
    drain_fails_no_connection,
    drain_outlives_the_agent,
    drain_ends_by_itself,
    move_back_resumes_draining_flows,
    drain_ends_with_publish_or_container,
    move_keeps_range_and_client_list,
}

/// Two containers with servers; port 8080 is published to the first.
fn two(lab: &Lab) -> (Container, Container, Server, Server) {
    let (c1, c2) =
        (lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]), lab.container("c2", &[]));
    let servers = (Server::start(&c1, 80), Server::start(&c2, 80));
    (c1, c2, servers.0, servers.1)
}

fn move_both(lab: &Lab, to: &Container, options: &[&str]) {
    for ports in ["8080", "8080/udp"] {
        let moved = lab.json(&[&["publish", "move", ports, &to.name], options].concat());
        assert_eq!(
            (&moved["container"], &moved["host_port"]),
            (&json!(to.name), &json!("8080")),
            "{moved}"
        );
    }
}

/// Whether a connection is no longer answered.
fn is_dead(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(wait::SILENCE)).unwrap();
    tcp::echoes(stream).is_err()
}

fn draining(lab: &Lab) -> Vec<Value> {
    let publishes = lab.json(&["publish", "ls"]);
    let drains =
        publishes.as_array().unwrap().iter().filter_map(|publish| publish["draining"].as_array());
    drains.flatten().cloned().collect()
}

fn move_takes_clients_along_at_once(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2, one, other) = two(&lab);
    let neighbour = lab.container("c3", &[]);
    // The client ports stay the same, so that only the move separates old from new exchanges.
    let clients = [
        (udp::bind(&lab.world, (family.far(), 40008)), family.host()),
        (udp::bind(&lab.world, (family.router(), 40009)), family.host()),
        (udp::bind(&neighbour.netns, (neighbour.address, 40008)), family.host()),
        (udp::client(&lab.host, family), family.loopback()),
    ];
    let mut stream = tcp::exchange(&lab.world, (family.host(), 8080));
    assert!(one.has(&stream));
    for (to, tag) in [(&c2, &c2.name), (&c1, &c1.name), (&c2, &c2.name)] {
        move_both(&lab, to, &[]);
        for (client, address) in &clients {
            assert_eq!(&udp::answer(client, (*address, 8080)), tag);
        }
    }
    assert!(is_dead(&mut stream), "an earlier connection goes on after the move");
    assert!(other.has(&tcp::exchange(&lab.world, (family.host(), 8080))));
    let publishes = lab.json(&["publish", "ls"]);
    assert!(
        publishes.as_array().unwrap().iter().all(|publish| publish["container"] == *c2.name),
        "{publishes}"
    );
    assert_eq!(draining(&lab), [] as [Value; 0]);
}

/// Sets a flag when dropped, so that threads end even if the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Collects the numbers of arriving datagrams until `stop` is set.
fn gather(socket: &UdpSocket, stop: &AtomicBool) -> BTreeSet<u64> {
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut seen = BTreeSet::new();
    let mut buffer = [0; 8];
    loop {
        // Read before receiving, so that datagrams in flight are counted.
        let last = stop.load(Ordering::Acquire);
        match socket.recv(&mut buffer) {
            Ok(_) => assert!(seen.insert(u64::from_be_bytes(buffer)), "a datagram came twice"),
            Err(_) if last => return seen,
            Err(_) => {}
        }
    }
}

fn move_loses_no_datagram(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &["-p", "5353:53/udp"]), lab.container("c2", &[]));
    let receivers = [udp::bind(&c1.netns, c1.at(53)), udp::bind(&c2.netns, c2.at(53))];
    for receiver in &receivers {
        // Some 10,000 datagrams: on a busy machine the reading thread may wait for a second.
        setsockopt(receiver, RcvBufForce, &(8 << 20)).unwrap();
    }
    let senders = [40001, 40002, 40003].map(|port| udp::bind(&lab.world, (family.far(), port)));
    let (moved, sent) = (AtomicBool::new(false), AtomicBool::new(false));
    let (number, seen) = thread::scope(|scope| {
        let (all_moved, all_sent) = (Over(&moved), Over(&sent));
        let gatherers = receivers.each_ref().map(|socket| scope.spawn(|| gather(socket, &sent)));
        let sender = scope.spawn(|| {
            let mut number = 0_u64;
            while !moved.load(Ordering::Acquire) {
                for socket in &senders {
                    socket.send_to(&number.to_be_bytes(), (family.host(), 5353)).unwrap();
                    number += 1;
                }
                thread::sleep(Duration::from_micros(200));
            }
            number
        });
        for round in 0..20 {
            let options: &[&str] = if round % 3 == 2 { &["--drain", "60"] } else { &[] };
            for to in [&c2, &c1] {
                lab.json(&[&["publish", "move", "5353/udp", &to.name], options].concat());
            }
        }
        drop(all_moved);
        let number = sender.join().unwrap();
        drop(all_sent);
        (number, gatherers.map(|gatherer| gatherer.join().unwrap()))
    });
    let [one, other] = &seen;
    assert!(
        one.is_disjoint(other) && !one.is_empty() && !other.is_empty(),
        "{} and {}",
        one.len(),
        other.len()
    );
    let lost: Vec<_> =
        (0..number).filter(|number| !one.contains(number) && !other.contains(number)).collect();
    assert!(lost.is_empty(), "{} of {number} were lost: {lost:?}", lost.len());
}

fn drain_fails_no_connection(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2, one, other) = two(&lab);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let all_moved = Over(&stop);
        let connections = scope.spawn(|| {
            let mut number = 0_u32;
            while !stop.load(Ordering::Acquire) {
                let mut stream = tcp::exchange(&lab.world, (family.host(), 8080));
                tcp::echoes(&mut stream).expect("it goes on");
                number += 1;
            }
            number
        });
        for to in [&c2, &c1, &c2, &c1, &c2] {
            let (before, server) =
                (connections.is_finished(), if to.name == c2.name { &other } else { &one });
            assert!(!before, "a connection failed");
            let known = server.tcp.peers().len();
            move_both(&lab, to, &["--drain", "60"]);
            wait::until("a connection arrives where it leads", || {
                (connections.is_finished() || server.tcp.peers().len() > known).then_some(())
            });
        }
        drop(all_moved);
        assert!(connections.join().unwrap() > 5);
    });
}

fn drain_outlives_the_agent(family: Family) {
    let lab = Lab::of(family);
    let (c1, c2, one, other) = two(&lab);
    let mut old = tcp::exchange(&lab.world, (family.host(), 8080));
    let chatter =
        udp::Chatter::start(udp::bind(&lab.world, (family.far(), 40011)), (family.host(), 8080));
    move_both(&lab, &c2, &["--drain", "600"]);
    for restart in [None, Some(Lab::kill_agent as fn(&Lab)), Some(Lab::end_agent)] {
        if let Some(end) = restart {
            end(&lab);
            lab.start_agent(&[]);
            // The next agent must not assign slots that drain.
            let container = lab.container("passing", &["-p", "9000:80"]);
            lab.json(&["container", "rm", &container.name]);
        }
        tcp::echoes(&mut old).unwrap();
        assert!(other.has(&tcp::exchange(&lab.world, (family.host(), 8080))));
        assert_eq!(udp::answer(&udp::client(&lab.world, family), (family.host(), 8080)), c2.name);
        let drains = draining(&lab);
        assert_eq!(drains.len(), 2, "{drains:?}");
        for drain in drains {
            let left = drain["ends_in_s"].as_u64().unwrap();
            assert!(drain["container"] == *c1.name && (1..=600).contains(&left), "{drain}");
        }
    }
    let table = lab.causeway(&["publish", "ls"]).ok().stdout;
    assert!(table.contains(&format!("{} for ", c1.name)), "{table}");
    assert!(one.has(&old) && !chatter.has_lost());
    chatter.finish();

    // A move without a drain ends what is left.
    let mut newer = tcp::exchange(&lab.world, (family.host(), 8080));
    let c3 = lab.container("c3", &[]);
    let _third = Server::start(&c3, 80);
    move_both(&lab, &c3, &[]);
    assert!(
        is_dead(&mut old) && is_dead(&mut newer),
        "a connection of before the second move goes on"
    );
    assert_eq!(draining(&lab), [] as [Value; 0]);
}

fn drain_ends_by_itself(family: Family) {
    let lab = Lab::of(family);
    let (c1, c2, _one, _other) = two(&lab);
    let mut old = tcp::exchange(&lab.world, (family.host(), 8080));
    let client = udp::bind(&lab.world, (family.far(), 40012));
    assert_eq!(udp::answer(&client, (family.host(), 8080)), c1.name);
    move_both(&lab, &c2, &["--drain", "2"]);
    wait::until("the drain is over", || draining(&lab).is_empty().then_some(()));
    assert!(is_dead(&mut old), "the connection outlives its drain");
    assert_eq!(udp::answer(&client, (family.host(), 8080)), c2.name);

    // A drain that is over while no agent runs ends with the next agent.
    let mut old = tcp::exchange(&lab.world, (family.host(), 8080));
    move_both(&lab, &c1, &["--drain", "1"]);
    lab.kill_agent();
    thread::sleep(Duration::from_millis(1100));
    lab.start_agent(&[]);
    wait::until("the drain is over", || draining(&lab).is_empty().then_some(()));
    assert!(is_dead(&mut old), "the connection outlives its drain");
}

fn move_back_resumes_draining_flows(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2, one, other) = two(&lab);
    let mut old = tcp::exchange(&lab.world, (family.host(), 8080));
    move_both(&lab, &c2, &["--drain", "600"]);
    let mut newer = tcp::exchange(&lab.world, (family.host(), 8080));
    move_both(&lab, &c1, &[]);
    tcp::echoes(&mut old).unwrap();
    assert!(is_dead(&mut newer), "it should not drain");
    assert!(
        one.has(&old)
            && one.has(&tcp::exchange(&lab.world, (family.host(), 8080)))
            && other.has(&newer)
    );
    assert_eq!(draining(&lab), [] as [Value; 0]);
    lab.json(&["publish", "rm", &c1.name, "8080:80"]);
    assert!(is_dead(&mut old), "it belongs to the publish again, and ends with it");
}

fn drain_ends_with_publish_or_container(family: Family) {
    for end in ["publish", "old", "new"] {
        let lab = Lab::shared(family);
        let (c1, c2, _one, _other) = two(&lab);
        let mut old = tcp::exchange(&lab.world, (family.host(), 8080));
        let client = udp::bind(&lab.world, (family.far(), 40013));
        assert_eq!(udp::answer(&client, (family.host(), 8080)), c1.name);
        move_both(&lab, &c2, &["--drain", "600"]);
        tcp::echoes(&mut old).unwrap();
        match end {
            "publish" => {
                lab.json(&["publish", "rm", &c2.name, "8080:80"]);
                assert!(
                    is_dead(&mut old) && draining(&lab).len() == 1,
                    "a flow of the other publish"
                );
                assert_eq!(
                    udp::answer(&client, (family.host(), 8080)),
                    c1.name,
                    "those of the other publish"
                );
            }
            "old" => {
                lab.json(&["container", "rm", &c1.name]);
                assert!(is_dead(&mut old) && draining(&lab).is_empty());
                assert_eq!(udp::answer(&client, (family.host(), 8080)), c2.name);
            }
            _ => {
                lab.json(&["container", "rm", &c2.name]);
                assert!(is_dead(&mut old) && udp::is_silent(&client, (family.host(), 8080)));
            }
        }
    }
}

#[test]
fn restart_restores_declared_target() {
    let lab = Lab::without_agent();
    let (c1, c2) = (lab.name_of("c1"), lab.name_of("c2"));
    let path = lab.folder("config").join("lab.toml");
    fs::write(&path, format!("[[container]]\nname = \"{c1}\"\npublish = [\"8080:80/udp\"]\n"))
        .unwrap();
    let path = path.display().to_string();
    lab.start_agent(&["--config", &path]);
    lab.undo().containers.push(c1.clone());
    let second = lab.container("c2", &[]);
    let leads_to =
        || lab.json(&["container", "inspect", &c1])["publishes"].as_array().unwrap().len();
    assert_eq!(leads_to(), 1);
    lab.json(&["publish", "move", "8080/udp", &c2, "--drain", "600"]);
    assert_eq!(leads_to(), 0);
    lab.end_agent();
    // An agent without the file leaves the publish as it is.
    lab.start_agent(&[]);
    assert_eq!(leads_to(), 0);
    lab.end_agent();
    lab.start_agent(&["--config", &path]);
    assert_eq!((leads_to(), draining(&lab).len()), (1, 0));
    assert_eq!(lab.json(&["container", "inspect", &second.name])["publishes"], json!([]));
}

#[test]
fn invalid_move_changes_nothing() {
    let lab = Lab::new();
    let c1 = lab.container(
        "c1",
        &["-p", "8080:80", "-p", "6000-6010:7000-7010/udp", "-p", "10.0.2.15:9000:90"],
    );
    let c2 = lab.container("c2", &[]);
    lab.json(&["network", "create", "other", "--subnet", "172.30.0.0/24"]);
    let far = lab.container("c3", &["--network", "other"]);
    let before = lab.json(&["publish", "ls"]);
    for (ports, container, status, words) in [
        ("8080", c1.name.as_str(), 1, vec!["already", c1.name.as_str()]),
        ("8081", &c2.name, 1, vec!["8081/tcp is not published", "publish ls"]),
        ("8080/udp", &c2.name, 1, vec!["8080/udp is not published"]),
        ("8080", "nowhere", 1, vec!["no container 'nowhere'"]),
        ("8080", &far.name, 1, vec!["'other'", "'default'", "publish add"]),
        ("6005/udp", &c2.name, 1, vec!["6000-6010/udp", "as a whole"]),
        ("9000", &c2.name, 1, vec!["10.0.2.15:9000/tcp", "as a whole"]),
        ("10.0.2.15:8080", &c2.name, 1, vec!["8080/tcp", "as a whole"]),
        ("8080:80", &c2.name, 2, vec!["host port alone"]),
        ("8080/icmp", &c2.name, 2, vec!["icmp"]),
    ] {
        let output = lab.causeway(&["publish", "move", ports, container]);
        assert_eq!((output.status, output.stderr.lines().count()), (Some(status), 1), "{output}");
        assert!(words.iter().all(|word| output.stderr.contains(word)), "{words:?}: {output}");
    }
    for drain in ["0", "-1", "x", "86401", "1.5"] {
        let output =
            lab.causeway(&["publish", "move", "8080", &c2.name, &format!("--drain={drain}")]);
        assert_eq!((output.status, output.stderr.lines().count()), (Some(2), 1), "{output}");
        assert!(output.stderr.contains("from 1 to 86400"), "{output}");
    }
    assert_eq!(lab.json(&["publish", "ls"]), before);
}

fn move_keeps_range_and_client_list(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    lab.json(&["publish", "add", &c1.name, "6000-6010:7000-7010/udp", "--from", family.outside()]);
    let _echoes = [7000, 7010].map(|port| udp::Echo::start(&c2.netns, c2.at(port), &c2.name));
    lab.json(&["publish", "move", "6000-6010/udp", &c2.name]);
    for port in [6000, 6010] {
        assert_eq!(
            udp::answer(&udp::bind(&lab.world, (family.far(), 0)), (family.host(), port)),
            c2.name
        );
        assert!(
            udp::is_silent(&udp::bind(&lab.world, (family.router(), 0)), (family.host(), port)),
            "not in the list"
        );
    }
}
