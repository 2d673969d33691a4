//! `down` removes everything that the agent made, and nothing else.

use causeway_netlink::{Netns, netns, sysctl};
use causeway_tests::{
    family::V4,
    lab::{FAR, HOST, Lab},
    pins,
    snapshot::Snapshot,
    tcp, udp, undo, wait,
};

fn forwarding(netns: &Netns) -> String {
    sysctl::get(netns, "ipv4/ip_forward").unwrap().unwrap()
}

#[test]
fn restores_the_host() {
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
fn keeps_forwarding_that_was_on() {
    let lab = Lab::without_agent();
    sysctl::set(&lab.host, "ipv4/ip_forward", "1").unwrap();
    lab.start_agent(&[]);
    lab.json(&["down"]);
    lab.wait_for_agent();
    assert_eq!(forwarding(&lab.host), "1");
}

#[test]
fn works_after_a_crash() {
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
