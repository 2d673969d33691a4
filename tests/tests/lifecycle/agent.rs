//! Agents and containers that start, stop, crash and are replaced.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use causeway_netlink::{Netns, netns, sysctl};
use causeway_tests::{
    families,
    family::{Family, V4},
    lab::{FAR, HOST, Lab},
    ping, pins,
    snapshot::Snapshot,
    tcp, udp, undo, wait,
};

families! {
    killed_agent_loses_no_packet,
    terminated_agent_loses_no_packet,
    instances_on_two_hosts_are_independent,
    replacement_container_keeps_clients,
    republished_port_keeps_clients,
}

fn forwarding(netns: &Netns) -> String {
    sysctl::get(netns, "ipv4/ip_forward").unwrap().unwrap()
}

#[test]
fn down_restores_the_host() {
    let lab = Lab::without_agent();
    let existing = format!("{}-existing", lab.instance);
    lab.undo().namespaces.push(existing.clone());
    let attached = Netns::create(&existing).unwrap();
    let before = [Snapshot::of(&lab.host), Snapshot::of(&attached)];

    lab.start_agent(&[]);
    lab.json(&["network", "create", "other", "--subnet", "172.30.0.0/24", "--mtu", "1400"]);
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "6000-6010:7000-7010/udp"]);
    let c2 = lab.container("c2", &["--network", "other", "-p", "10.0.2.15:8081:80"]);
    let path = attached.path().display().to_string();
    let c3 = lab.name_of("c3");
    lab.json(&["container", "attach", &c3, "--netns", &path, "-p", "8082:80"]);
    let _far = udp::Echo::start(&lab.world, (FAR, 7), "far");
    for container in [&c1.netns, &c2.netns, &attached] {
        udp::answer(&udp::client(container, V4), (FAR, 7));
    }
    let _echo = tcp::Echo::start(&c1.netns, c1.at(80));
    for from in [&lab.world, &lab.host, &c1.netns] {
        tcp::exchange(from, (HOST, 8080));
    }
    assert_eq!(forwarding(&lab.host), "1", "the agent forwards");
    let objects = pins::objects(&lab.instance);
    assert!(objects.len() > 5 && objects.iter().all(|object| object.is_there()), "{objects:?}");

    let removed = lab.json(&["down"]);
    assert_eq!(removed["containers"].as_array().unwrap().len(), 3, "{removed}");
    assert_eq!(removed["networks"].as_array().unwrap().len(), 2, "{removed}");
    lab.wait_for_agent();
    let after = [Snapshot::of(&lab.host), Snapshot::of(&attached)];
    for (before, after) in before.iter().zip(&after) {
        let differences = before.differences(after);
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
    for name in [&c1.name, &c2.name] {
        assert!(!netns::named(name).exists(), "the namespace {name} is left");
    }
    let ours = lab.undo().namespaces.iter().map(|name| netns::named(name)).collect::<Vec<_>>();
    let left: Vec<_> =
        undo::leftovers(&lab.instance).into_iter().filter(|path| !ours.contains(path)).collect();
    assert!(left.is_empty(), "{left:?}");
    // The kernel frees them after a grace period.
    wait::until("every program, map and link is gone", || {
        (!objects.iter().any(|object| object.is_there())).then_some(())
    });
}

#[test]
fn down_keeps_forwarding_that_was_on() {
    let lab = Lab::without_agent();
    sysctl::set(&lab.host, "ipv4/ip_forward", "1").unwrap();
    lab.start_agent(&[]);
    lab.json(&["down"]);
    lab.wait_for_agent();
    assert_eq!(forwarding(&lab.host), "1");
}

#[test]
fn down_works_after_a_crash() {
    let lab = Lab::without_agent();
    let before = Snapshot::of(&lab.host);
    lab.start_agent(&[]);
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    lab.kill_agent();
    lab.json(&["down"]);
    lab.undo().used = false;
    let differences = before.differences(&Snapshot::of(&lab.host));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(!netns::named(&c1.name).exists());
}

/// Checks that all traffic goes on while `interrupt` ends the agent and while the next one starts,
/// and that the state is the same afterwards.
fn traffic_survives(family: Family, interrupt: impl Fn(&Lab)) {
    let lab = Lab::of(family);
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
    let c2 = lab.container("c2", &[]);
    let (_far, _far_tcp) = (
        udp::Echo::start(&lab.world, (family.far(), 7), "far"),
        tcp::Echo::start(&lab.world, (family.far(), 7)),
    );
    let (_inside, _inside_tcp) =
        (udp::Echo::start(&c1.netns, c1.at(80), "c1"), tcp::Echo::start(&c1.netns, c1.at(80)));
    let chatters = [
        ("to the world", udp::Chatter::start(udp::client(&c1.netns, family), (family.far(), 7))),
        (
            "from the world",
            udp::Chatter::start(udp::client(&lab.world, family), (family.host(), 8080)),
        ),
        (
            "through the hairpin",
            udp::Chatter::start(udp::client(&c2.netns, family), (family.host(), 8080)),
        ),
        ("between containers", udp::Chatter::start(udp::client(&c2.netns, family), c1.at(80))),
    ];
    let lost = || {
        chatters
            .iter()
            .filter(|(_, chatter)| chatter.has_lost())
            .map(|(what, _)| *what)
            .collect::<Vec<_>>()
    };
    let mut streams = [
        tcp::exchange(&c1.netns, (family.far(), 7)),
        tcp::exchange(&lab.world, (family.host(), 8080)),
        tcp::exchange(&c2.netns, (family.host(), 8080)),
        tcp::exchange(&lab.host, (family.loopback(), 8080)),
    ];
    let lists =
        || [["network", "ls"], ["container", "ls"], ["publish", "ls"]].map(|verb| lab.json(&verb));
    let before = lists();

    for _ in 0..3 {
        interrupt(&lab);
        for stream in &mut streams {
            tcp::echoes(stream).unwrap();
        }
        // New flows too: no packet needs the agent.
        tcp::exchange(&c2.netns, (family.far(), 7));
        tcp::exchange(&lab.world, (family.host(), 8080));
        tcp::exchange(&lab.host, (family.host(), 8080));
        ping::ping(&c1.netns, family.far(), 1, 56);
        assert!(lost().is_empty(), "lost without an agent: {:?}", lost());
        let during: Vec<_> = chatters.iter().map(|(_, chatter)| chatter.answered()).collect();
        lab.start_agent(&[]);
        for stream in &mut streams {
            tcp::echoes(stream).unwrap();
        }
        causeway_tests::wait::until("every exchange goes on", || {
            assert!(lost().is_empty(), "lost while the next agent came: {:?}", lost());
            chatters
                .iter()
                .zip(&during)
                .all(|((_, chatter), during)| chatter.answered() > *during)
                .then_some(())
        });
    }

    assert_eq!(lists(), before, "the new agent has the state of the old one");
    let flows = lab.json(&["flows", "ls"]);
    let of_c1 = |flow: &&serde_json::Value| flow["container"].as_str() == Some(&c1.name);
    assert!(flows.as_array().unwrap().iter().filter(of_c1).count() >= 4, "{flows:#}");
    for (_, chatter) in chatters {
        chatter.finish();
    }
    let c3 = lab.container("c3", &["-p", "8083:80"]);
    let _echo = tcp::Echo::start(&c3.netns, c3.at(80));
    tcp::exchange(&lab.world, (family.host(), 8083));
    lab.json(&["container", "rm", &c1.name]);
    assert!(tcp::is_unreachable(&lab.world, (family.host(), 8080)));
}

fn killed_agent_loses_no_packet(family: Family) {
    traffic_survives(family, Lab::kill_agent);
}

fn terminated_agent_loses_no_packet(family: Family) {
    traffic_survives(family, Lab::end_agent);
}

fn instances_on_two_hosts_are_independent(family: Family) {
    let one = Lab::of(family);
    let other = Lab::of(family);
    let in_one = one.container("c1", &["-p", "8080:80/udp"]);
    let in_other = other.container("c1", &["-p", "8080:80/udp"]);
    assert_eq!(in_one.address, in_other.address, "the same subnet in both");
    let echoes = [
        udp::Echo::start(&in_one.netns, in_one.at(80), "one"),
        udp::Echo::start(&in_other.netns, in_other.at(80), "other"),
        udp::Echo::start(&one.world, (family.far(), 7), "world of one"),
        udp::Echo::start(&other.world, (family.far(), 7), "world of the other"),
    ];
    let from = |netns| udp::bind(netns, (family.any(), 40006));
    assert_eq!(udp::answer(&from(&one.world), (family.host(), 8080)), "one");
    assert_eq!(udp::answer(&from(&other.world), (family.host(), 8080)), "other");
    assert_eq!(udp::answer(&udp::client(&one.host, family), (family.loopback(), 8080)), "one");
    assert_eq!(udp::answer(&udp::client(&other.host, family), (family.loopback(), 8080)), "other");
    assert_eq!(udp::answer(&from(&in_one.netns), (family.far(), 7)), "world of one");
    assert_eq!(udp::answer(&from(&in_other.netns), (family.far(), 7)), "world of the other");

    let chatter = udp::Chatter::start(udp::client(&other.world, family), (family.host(), 8080));
    drop(echoes);
    let _echo = udp::Echo::start(&in_other.netns, in_other.at(80), "other");
    drop(one);
    assert_eq!(udp::answer(&udp::client(&other.world, family), (family.host(), 8080)), "other");
    assert_eq!(udp::answer(&udp::client(&other.host, family), (family.loopback(), 8080)), "other");
    drop(chatter);
}

fn replacement_container_keeps_clients(family: Family) {
    let lab = Lab::shared(family);
    let options = ["-p", "5353:53/udp", "-p", "5353:53"];
    let first = lab.container("c1", &options);
    let client = udp::bind(&lab.world, (family.far(), 40007));
    let neighbour = lab.container("c2", &[]);
    let bind_near = |port| udp::bind(&neighbour.netns, (family.any(), port));
    let (near, nearer) = (bind_near(40007), bind_near(40017));
    let echo = udp::Echo::start(&first.netns, first.at(53), "first");
    for client in [&client, &near] {
        assert_eq!(udp::answer(client, (family.host(), 5353)), "first");
    }
    assert_eq!(udp::answer(&nearer, first.at(53)), "first");

    lab.json(&["container", "rm", &first.name]);
    // Its process lives on in the namespace, which must no longer be reachable.
    for client in [&client, &near] {
        assert!(
            udp::is_silent(client, (family.host(), 5353)),
            "the removed container still answers"
        );
    }
    assert!(udp::is_silent(&nearer, first.at(53)), "the removed container still answers");
    drop(echo);

    let second =
        lab.container("c1", &[&options[..], &["--ip", &first.address.to_string()]].concat());
    let _echo = udp::Echo::start(&second.netns, second.at(53), "second");
    for client in [&client, &near] {
        assert_eq!(udp::answer(client, (family.host(), 5353)), "second");
    }
    assert_eq!(udp::answer(&nearer, second.at(53)), "second");
}

fn republished_port_keeps_clients(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &["-p", "5353:53/udp"]), lab.container("c2", &[]));
    let _echoes = [
        udp::Echo::start(&c1.netns, c1.at(53), "c1"),
        udp::Echo::start(&c2.netns, c2.at(53), "c2"),
    ];
    let client = udp::bind(&lab.world, (family.far(), 40008));
    assert_eq!(udp::answer(&client, (family.host(), 5353)), "c1");
    lab.json(&["publish", "rm", &c1.name, "5353:53/udp"]);
    lab.json(&["publish", "add", &c2.name, "5353:53/udp"]);
    assert_eq!(udp::answer(&client, (family.host(), 5353)), "c2");
}

#[test]
fn container_removal_keeps_attached_namespace() {
    let lab = Lab::without_agent();
    let name = format!("{}-existing", lab.instance);
    lab.undo().namespaces.push(name.clone());
    let netns = Netns::create(&name).unwrap();
    let before = Snapshot::of_links(&netns);
    lab.start_agent(&[]);
    let container = lab.name_of("c1");
    let path = netns.path().display().to_string();
    let made =
        lab.json(&["container", "attach", &container, "--netns", &path, "-p", "8080:80/udp"]);
    let address: Ipv4Addr = made["endpoints"][0]["addresses"][0]
        .as_str()
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let _echo = udp::Echo::start(&netns, SocketAddr::from((address, 80)), "attached");
    assert_eq!(udp::answer(&udp::client(&lab.world, V4), (HOST, 8080)), "attached");
    lab.json(&["container", "rm", &container]);
    assert!(fs::exists(netns.path()).unwrap());
    let differences = before.differences(&Snapshot::of_links(&netns));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
