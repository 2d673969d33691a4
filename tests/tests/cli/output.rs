//! Output of the verbs: field names are a contract with other programs.

use std::net::{Ipv4Addr, SocketAddr};

use causeway_tests::{
    families,
    family::Family,
    lab::{HOST, Lab},
    ping, place, tcp, udp,
};
use serde_json::{Value, json};

families! {
    flow_has_both_directions_and_counters,
}

#[track_caller]
fn flow<'a>(flows: &'a Value, protocol: &str, forward_source: &str) -> &'a Value {
    let wanted = |flow: &&Value| {
        flow["protocol"] == protocol && flow["forward"]["source"].as_str() == Some(forward_source)
    };
    flows
        .as_array()
        .unwrap()
        .iter()
        .find(wanted)
        .unwrap_or_else(|| panic!("no {protocol} of {forward_source} in {flows:#}"))
}

fn flow_has_both_directions_and_counters(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let _echoes =
        [tcp::Echo::start(&lab.world, (family.far(), 7)), tcp::Echo::start(&c1.netns, c1.at(80))];
    let _udp = udp::Echo::start(&lab.world, (family.far(), 7), "");
    let outgoing = tcp::exchange(&c1.netns, (family.far(), 7));
    let incoming = tcp::exchange(&lab.world, (family.host(), 8080));
    udp::answer(&udp::bind(&c1.netns, (family.any(), 40009)), (family.far(), 7));
    ping::ping(&c1.netns, family.far(), 4711, 56);

    let flows = lab.json(&["flows", "ls"]);
    let at = |address, port| SocketAddr::new(address, port).to_string();
    let port = outgoing.local_addr().unwrap().port();
    let of = flow(&flows, "tcp", &at(c1.address, port));
    assert_eq!(of["container"], *c1.name);
    assert_eq!(of["network"], family.network());
    assert_eq!(
        of["forward"],
        json!({ "source": at(c1.address, port), "destination": at(family.far(), 7) })
    );
    assert_eq!(
        of["reply"],
        json!({ "source": at(family.far(), 7), "destination": at(family.host(), port) })
    );
    assert!(of["state"].as_str().is_some_and(|state| !state.is_empty()), "{of}");
    assert!(
        of["packets"].as_u64().unwrap() >= 6,
        "three of the handshake, two with a line, one acknowledgement: {of}"
    );
    assert!(of["bytes"].as_u64().unwrap() >= 6 * (family.header() as u64 + 20), "{of}");
    assert!(of["expires_in_s"].as_u64().unwrap() > 60, "{of}");

    let client = incoming.local_addr().unwrap();
    let of = flow(&flows, "tcp", &client.to_string());
    assert_eq!(of["container"], *c1.name);
    assert_eq!(of["forward"]["destination"], at(family.host(), 8080));
    assert_eq!(
        of["reply"],
        json!({ "source": at(c1.address, 80), "destination": client.to_string() })
    );

    let of = flow(&flows, "udp", &at(c1.address, 40009));
    assert_eq!(of["packets"], 2, "{of}");
    let of = flow(&flows, family.icmp_name(), &at(c1.address, 4711));
    assert_eq!(
        (&of["packets"], &of["bytes"]),
        (&json!(2), &json!(2 * (family.header() + 8 + 56))),
        "{of}"
    );

    let flushed = lab.json(&["flows", "flush"]);
    assert!(flushed["flows"].as_u64().unwrap() >= 4, "{flushed}");
    assert_eq!(lab.json(&["flows", "ls"]), json!([]));
}

#[test]
fn stats_map_reasons_to_counts() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let count = || lab.json(&["stats"])["reasons"]["to-host"].as_u64();
    let before = count().unwrap_or(0);
    ping::ping(&c1.netns, HOST, 1, 56);
    assert!(count().is_some_and(|now| now > before), "{}", lab.json(&["stats"]));
    let stats = lab.json(&["stats"]);
    assert!(stats["reasons"].as_object().unwrap().values().all(Value::is_u64), "{stats}");
}

#[test]
fn objects_show_their_options() {
    let lab = Lab::new();
    let network = lab.json(&[
        "network",
        "create",
        "front",
        "--subnet",
        "172.30.0.0/24",
        "--gateway",
        "172.30.0.9",
        "--mtu",
        "1400",
    ]);
    assert_eq!(network["gateways"], json!(["172.30.0.9"]));
    assert_eq!(network["mtu"], 1400);
    let mac = "02:00:00:00:00:05";
    let c1 = lab.container(
        "c1",
        &[
            "--network",
            "front",
            "--ip",
            "172.30.0.7",
            "--mac",
            mac,
            "-p",
            "6000-6010:7000-7010/udp",
        ],
    );
    lab.json(&["publish", "add", &c1.name, "10.0.2.15:8080:80", "--from", "203.0.113.0/24"]);

    let publishes = lab.json(&["publish", "ls"]);
    let expected = json!([
        {
            "container": c1.name, "protocol": "udp", "host_address": null,
            "host_port": "6000-6010", "container_port": "7000-7010", "from": [],
        },
        {
            "container": c1.name, "protocol": "tcp", "host_address": "10.0.2.15",
            "host_port": "8080", "container_port": "80", "from": ["203.0.113.0/24"],
        },
    ]);
    let sorted = |list: &Value| {
        let mut all: Vec<_> = list.as_array().unwrap().iter().map(Value::to_string).collect();
        all.sort();
        all
    };
    assert_eq!(sorted(&publishes), sorted(&expected));

    let container = lab.json(&["container", "inspect", &c1.name]);
    assert_eq!(container["netns"], format!("/run/netns/{}", c1.name));
    let endpoint = &container["endpoints"][0];
    assert_eq!(endpoint["network"], "front");
    assert_eq!(endpoint["addresses"], json!(["172.30.0.7/24"]));
    assert_eq!((&endpoint["mac"], &endpoint["mtu"]), (&json!(mac), &json!(1400)));
    assert_eq!(sorted(&container["publishes"]), sorted(&expected));
    assert_eq!(lab.json(&["network", "inspect", "front"])["containers"], json!([c1.name]));
    let names: Vec<_> = lab
        .json(&["network", "ls"])
        .as_array()
        .unwrap()
        .iter()
        .map(|network| network["name"].clone())
        .collect();
    assert_eq!(names, [json!("default"), json!("front")]);
}

#[test]
fn tables_have_the_names_of_json() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    for (verb, word) in [
        (&["container", "ls"][..], c1.name.as_str()),
        (&["container", "inspect", &c1.name], "172.18.0."),
        (&["network", "ls"], "172.18.0.0/16"),
        (&["network", "inspect", "default"], "cw0"),
        (&["publish", "ls"], "8080"),
        (&["stats"], "not-ours"),
    ] {
        let output = lab.causeway(verb).ok();
        assert!(output.stdout.contains(word), "no '{word}' in {output}");
        assert!(output.stderr.is_empty(), "{output}");
    }
}

#[test]
fn verbs_work_from_any_namespace() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    for netns in [&lab.host, &lab.world, &c1.netns] {
        let output = place::run(netns, || lab.causeway(&["container", "ls"])).ok();
        assert!(output.stdout.contains(&c1.name), "from {}: {output}", netns.path().display());
    }
}

#[test]
fn addresses_are_allocated_in_turn() {
    let lab = Lab::new();
    lab.json(&["network", "create", "small", "--subnet", "172.30.0.0/29"]);
    let fixed = lab.container("fixed", &["--network", "small", "--ip", "172.30.0.3"]);
    let given: Vec<_> = (0..4)
        .map(|number| lab.container(&format!("c{number}"), &["--network", "small"]))
        .collect();
    let mut addresses: Vec<_> = given.iter().map(|container| container.address).collect();
    addresses.push(fixed.address);
    addresses.sort();
    assert_eq!(addresses, [2, 3, 4, 5, 6].map(|last| Ipv4Addr::new(172, 30, 0, last)));
    let full = lab.causeway(&["container", "create", &lab.name_of("late"), "--network", "small"]);
    assert_eq!(full.status, Some(1), "{full}");
    assert!(full.stderr.contains("small"), "{full}");
}

#[test]
fn exec_returns_the_exit_status() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let output = lab.causeway(&[
        "container",
        "exec",
        &c1.name,
        "--",
        "sh",
        "-c",
        "cat /proc/net/fib_trie; exit 7",
    ]);
    assert_eq!(output.status, Some(7), "{output}");
    assert!(output.stdout.contains(&c1.address.to_string()), "{output}");
    let output = lab.causeway(&["container", "exec", &c1.name, "--", "no-such-command"]);
    assert_eq!((output.status, output.stderr.lines().count()), (Some(127), 1), "{output}");
}

#[test]
fn container_has_uplink_mtu_and_default_route() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let (link, routes) = place::block_on(async {
        let netlink = causeway_netlink::Netlink::open(&c1.netns).await?;
        anyhow::Ok((netlink.link(c1.interface()).await?.unwrap(), netlink.routes().await?))
    })
    .unwrap();
    assert_eq!((link.mtu, link.up), (1500, true));
    let gateway =
        routes.iter().find(|route| route.destination.to_string() == "0.0.0.0/0").unwrap().gateway;
    assert_eq!(gateway, Some(causeway_tests::lab::GATEWAY));
}
