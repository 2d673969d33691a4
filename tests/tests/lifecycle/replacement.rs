//! Containers and publishes that are removed and replaced.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use causeway_netlink::Netns;
use causeway_tests::{
    families,
    family::{Family, V4},
    lab::{HOST, Lab},
    snapshot::Snapshot,
    udp,
};

families! {
    new_container_keeps_clients,
    republished_port_keeps_clients,
}

fn new_container_keeps_clients(family: Family) {
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
fn removal_keeps_attached_namespace() {
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
