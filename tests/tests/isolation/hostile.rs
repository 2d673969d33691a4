//! Hostile or careless containers and hosts: nothing passes unchecked, and failed verbs leave
//! nothing half done.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use causeway_netlink::{Netlink, Netns, netns};
use causeway_tests::{
    families,
    family::{Family, V4, V6},
    lab::{HOST, Lab},
    ping, place,
    snapshot::Snapshot,
    udp, undo,
    verb::{self, Output},
    wait,
};

families! {
    nothing_leaves_untranslated_during_changes,
    vanished_container_leaves_the_datapath,
    spoofed_mac_diverts_no_traffic,
    bridge_carries_broadcast_and_multicast,
}

/// Sends from a namespace to an outside address without pause, and ignores errors.
struct Blaster {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Blaster {
    fn start(netns: &Netns, family: Family) -> Self {
        let (socket, stop) = (udp::client(netns, family), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // There is no route for most of the time.
                let _ = socket.send_to(b"blast", (family.far(), 7));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Blaster {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A namespace to attach, which the lab removes.
fn namespace(lab: &Lab, short: &str) -> Netns {
    let name = format!("{}-{short}", lab.instance);
    lab.undo().namespaces.push(name.clone());
    Netns::create(&name).unwrap()
}

fn delete_link(netns: &Netns, name: &str) {
    place::block_on(async {
        let netlink = Netlink::open(netns).await?;
        let index = netlink.link(name).await?.unwrap().index;
        netlink.delete_link(index).await
    })
    .unwrap();
}

#[track_caller]
fn is_refused(output: &Output, words: &[&str]) {
    assert_eq!(output.status, Some(1), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "one line on stderr: {output}");
    for word in words {
        assert!(output.stderr.contains(word), "no '{word}' in what it says: {output}");
    }
}

fn nothing_leaves_untranslated_during_changes(family: Family) {
    let lab = Lab::of(family);
    // The world must accept packets with a container's address as source, and not drop them as
    // martians.
    place::add_route(&lab.world, family.subnet(), family.host());
    let far = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let netns = namespace(&lab, "busy");
    let (name, path) = (lab.name_of("c1"), netns.path().display().to_string());
    lab.make_network().unwrap();
    let _blaster = Blaster::start(&netns, family);
    for round in 1..=5 {
        let before = far.peers().len();
        lab.json(&["container", "attach", &name, "--netns", &path, "--network", family.network()]);
        if round == 1 {
            wait::until("the blaster reaches the world", || {
                (far.peers().len() > before).then_some(())
            });
        }
        lab.json(&["container", "rm", &name]);
    }
    let leaked: Vec<_> =
        far.peers().into_iter().filter(|peer| peer.ip() != family.host()).collect();
    assert!(leaked.is_empty(), "the world has heard from {leaked:?}");
}

#[test]
fn second_instance_on_a_host_is_refused() {
    let lab = Lab::new();
    let second = undo::unique_name(2000);
    let up = || {
        let host = lab.host_name();
        let output = verb::run_command(&mut verb::command(
            &verb::binary(),
            &second,
            &["up", "--netns", &host],
        ));
        // An agent that was not refused would still run.
        verb::run(&second, &["down"]);
        output.unwrap_or_else(|error| panic!("{error:#}"))
    };
    let before = Snapshot::of(&lab.host);
    is_refused(&up(), &[&lab.instance, "causeway down --instance"]);
    // After the agent has ended its datapath is still attached.
    lab.kill_agent();
    is_refused(&up(), &[&lab.instance, "causeway down --instance"]);
    let differences = before.differences(&Snapshot::of(&lab.host));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(undo::leftovers(&second).is_empty(), "{:?}", undo::leftovers(&second));
    lab.start_agent(&[]);
}

fn vanished_container_leaves_the_datapath(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) =
        (lab.container("c1", &["-p", "8081:80/udp"]), lab.container("c2", &["-p", "8082:80/udp"]));
    let client = udp::client(&lab.world, family);
    for (container, port) in [(&c1, 8081), (&c2, 8082)] {
        let _echo = udp::Echo::start(&container.netns, container.at(80), &container.name);
        assert_eq!(udp::answer(&client, (family.host(), port)), container.name);
    }
    delete_link(&lab.host, c1.host_side());
    // The namespace ends with the last handle.
    let name = c2.name.clone();
    Netns::remove(&name).unwrap();
    drop(c2);
    for port in [8081, 8082] {
        wait::until("a packet to its port is counted as 'container-gone'", || {
            let before = lab.counted("container-gone");
            client.send_to(b"is there an answer?", (family.host(), port)).unwrap();
            (lab.counted("container-gone") > before).then_some(())
        });
    }
    let flows = lab.json(&["flows", "ls"]);
    assert_eq!(flows.as_array().map(Vec::len), Some(0), "{flows}");
    // They stay known until removed: a container with the same address must not inherit their
    // publishes.
    for container in [&c1.name, &name] {
        lab.json(&["container", "inspect", container]);
        lab.json(&["container", "rm", container]);
    }
    let again = lab.container("c1", &["-p", "8081:80/udp"]);
    let _echo = udp::Echo::start(&again.netns, again.at(80), "again");
    assert_eq!(udp::answer(&client, (family.host(), 8081)), "again");
}

fn spoofed_mac_diverts_no_traffic(family: Family) {
    let lab = Lab::shared(family);
    let [thief, peer, victim] = ["c1", "c2", "c3"].map(|short| lab.container(short, &[]));
    let _echoes = [&peer, &victim].map(|c| udp::Echo::start(&c.netns, c.at(7), &c.name));
    let (thieving, host) = (udp::client(&thief.netns, family), udp::client(&lab.host, family));
    assert_eq!(udp::answer(&thieving, peer.at(7)), peer.name);
    assert_eq!(udp::answer(&host, victim.at(7)), victim.name);

    let mac = victim.made["endpoints"][0]["mac"].as_str().unwrap();
    place::ip(&thief.netns, &format!("link set {} address {mac}", thief.interface()));
    for last in 100..120 {
        // An unused address: sending to it makes the victim broadcast from its MAC.
        let unused = match family {
            V4 => IpAddr::from([172, 18, 0, last]),
            V6 => IpAddr::from([0x2001, 0xdb8, 0x18, 0, 0, 0, 0, last.into()]),
        };
        let _ = thieving.send_to(b"", (unused, 7));
        assert_eq!(udp::answer(&host, victim.at(7)), victim.name);
    }
    assert_eq!(udp::answer(&udp::client(&peer.netns, family), victim.at(7)), victim.name);
}

fn bridge_carries_broadcast_and_multicast(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let listener = udp::bind(&c2.netns, (family.any(), 7));
    listener.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    let index = place::run(&c2.netns, || nix::net::if_::if_nametoindex(c2.interface())).unwrap();
    let group = match c2.address {
        IpAddr::V4(address) => {
            let group = Ipv4Addr::new(239, 1, 2, 3);
            listener.join_multicast_v4(&group, &address).unwrap();
            group.into()
        }
        IpAddr::V6(_) => {
            let group = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);
            listener.join_multicast_v6(&group, index).unwrap();
            group.into()
        }
    };
    let broadcast = (family == V4).then(|| IpAddr::from([172, 18, 255, 255]));
    let ways = broadcast
        .into_iter()
        .flat_map(|all| [(&c1.netns, all), (&lab.host, all)])
        .chain([(&c1.netns, group)]);
    for (from, to) in ways {
        let sender = udp::client(from, family);
        if family == V4 {
            sender.set_broadcast(true).unwrap();
        }
        sender.send_to(to.to_string().as_bytes(), (to, 7)).unwrap();
        let mut buffer = [0; 64];
        let (length, _) =
            listener.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{to}: {error}"));
        assert_eq!(buffer[..length], *to.to_string().as_bytes());
    }
    ping::ping(&lab.host, c1.address, 1, 56);
    ping::ping(&c1.netns, c2.address, 2, 56);
}

/// Checks that a container that was not made has left nothing.
#[track_caller]
fn nothing_is_left(lab: &Lab, name: &str, before: &Snapshot) {
    for list in [["container", "ls"], ["publish", "ls"]] {
        assert_eq!(lab.json(&list).as_array().map(Vec::len), Some(0), "{list:?}");
    }
    assert!(!netns::named(name).exists(), "its namespace");
    let differences = before.differences(&Snapshot::of_links(&lab.host));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let state = std::fs::read_to_string(format!("/run/causeway/{}.json", lab.instance)).unwrap();
    assert!(!state.contains(&format!("\"{name}\"")), "{state}");
}

#[test]
fn failed_bridge_port_leaves_nothing() {
    let lab = Lab::new();
    lab.json(&["network", "create", "other", "--subnet", "172.30.0.0/24"]);
    delete_link(&lab.host, "cw0");
    let (name, before) = (lab.name_of("c1"), Snapshot::of_links(&lab.host));
    is_refused(&lab.causeway(&["container", "create", &name, "-p", "8080:80/udp"]), &["bridge"]);
    nothing_is_left(&lab, &name, &before);
    let again = lab.container("c1", &["--network", "other", "-p", "8080:80/udp"]);
    let _echo = udp::Echo::start(&again.netns, again.at(80), "again");
    assert_eq!(udp::answer(&udp::client(&lab.world, V4), (HOST, 8080)), "again");
}

#[test]
fn failed_attach_leaves_namespace_unchanged() {
    let lab = Lab::new();
    let netns = namespace(&lab, "blocked");
    // `container attach` does not look for this route in advance, and it conflicts with the default
    // route.
    place::ip(&netns, "route add unreachable default");
    let (name, path) = (lab.name_of("c1"), netns.path().display().to_string());
    let (before, inside) = (Snapshot::of_links(&lab.host), Snapshot::of_links(&netns));
    let attach = ["container", "attach", &name, "--netns", &path, "-p", "8080:80/udp"];
    is_refused(&lab.causeway(&attach), &["default route"]);
    nothing_is_left(&lab, &name, &before);
    let differences = inside.differences(&Snapshot::of_links(&netns));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    place::ip(&netns, "route del unreachable default");
    let made = lab.json(&attach);
    let address = made["endpoints"][0]["addresses"][0]
        .as_str()
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let _echo = udp::Echo::start(&netns, (address.parse::<Ipv4Addr>().unwrap(), 80), "again");
    assert_eq!(udp::answer(&udp::client(&lab.world, V4), (HOST, 8080)), "again");
}
