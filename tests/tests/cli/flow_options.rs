//! Flow options of networks (timeouts, ports, mapping, quota): set by command and file, shown, and
//! kept over restarts.

use std::fs;

use causeway_tests::{
    family::V4,
    lab::{FAR, Lab},
    tcp, udp,
};
use serde_json::{Value, json};

/// The flow options that a network shows.
fn shown(lab: &Lab, name: &str) -> Value {
    let network = lab.json(&["network", "inspect", name]);
    json!([network["timeouts"], network["ports"], network["mapping"], network["max_flows"]])
}

fn log(lab: &Lab) -> String {
    lab.undo().agent.as_ref().unwrap().log()
}

#[test]
fn options_are_shown_and_outlive_the_agent() {
    let lab = Lab::new();
    let usual = json!([
        { "tcp-established": 7440, "tcp-transitory": 240, "udp": 120, "udp-stream": 300, "icmp": 60, "sctp": 300 },
        "1024-32767", "symmetric", null,
    ]);
    assert_eq!(shown(&lab, "default"), usual);
    let options = "network create front --subnet 172.30.0.0/24 --timeout udp=30 --timeout \
                   icmp=2000000 --ports 20000-20009 \
                   --mapping full-cone --max-flows 1000";
    let made = lab.json(&options.split_whitespace().collect::<Vec<_>>());
    let asked = json!([
        {
            "tcp-established": 7440, "tcp-transitory": 240, "udp": 30, "udp-stream": 300,
            "icmp": 2_000_000, "sctp": 300,
        },
        "20000-20009", "full-cone", 1000,
    ]);
    assert_eq!(made["mapping"], "full-cone");
    assert_eq!(shown(&lab, "front"), asked);
    let text = lab.causeway(&["network", "inspect", "front"]).ok().stdout;
    for line in ["udp 30 s", "20000-20009", "full-cone", "1000"] {
        assert!(text.contains(line), "{text}");
    }
    lab.kill_agent();
    lab.start_agent(&[]);
    assert_eq!((shown(&lab, "front"), shown(&lab, "default")), (asked, usual));
}

#[test]
fn timeout_below_rfc_is_accepted_with_warning() {
    let lab = Lab::new();
    let create = |name: &str, subnet: &str, timeout: &str| {
        lab.json(&["network", "create", name, "--subnet", subnet, "--timeout", timeout]);
    };
    create("at", "172.30.0.0/24", "udp=120");
    assert!(!log(&lab).contains("RFC"), "{}", log(&lab));
    create("below", "172.31.0.0/24", "udp=119");
    assert!(
        log(&lab)
            .contains("the timeout udp of 119 s is below the 120 s that RFC 4787 REQ-5 requires"),
        "{}",
        log(&lab)
    );
}

#[test]
fn changed_declaration_ends_no_flow() {
    let lab = Lab::without_agent();
    let path = lab.folder("config").join("lab.toml");
    let name = lab.name_of("c1");
    let declare = |options: &str| {
        let text = format!(
            "[[network]]\nname = \"front\"\nsubnets = \
             [\"172.30.0.0/24\"]\n{options}\n[[container]]\nname = \"{name}\"\nnetwork = \"front\"\n"
        );
        fs::write(&path, text).unwrap();
        lab.start_agent(&["--config", &path.display().to_string()]);
    };
    declare("timeouts = { tcp-established = 8000, udp = 600 }\nmax_flows = 5000");
    lab.undo().containers.push(name.clone());
    let inspected = lab.json(&["container", "inspect", &name]);
    let c1 = causeway_netlink::Netns::open(&causeway_netlink::netns::named(&name)).unwrap();
    let (_far, _far_udp) =
        (tcp::Echo::start(&lab.world, (FAR, 7)), udp::Echo::start(&lab.world, (FAR, 7), "far"));
    let mut stream = tcp::exchange(&c1, (FAR, 7));
    let chatter = udp::Chatter::start(udp::client(&c1, V4), (FAR, 7));
    assert_eq!(shown(&lab, "front")[0]["udp"], 600);
    let unanswered = |port: u16| {
        udp::client(&c1, V4).send_to(b"no server", (FAR, port)).unwrap();
        let flows = lab.json(&["flows"]);
        let to = json!(format!("{FAR}:{port}"));
        let flow =
            flows.as_array().unwrap().iter().find(|flow| flow["forward"]["destination"] == to);
        flow.unwrap_or_else(|| panic!("{flows}"))["expires_in_s"].as_u64().unwrap()
    };
    let left = unanswered(9);
    assert!((500..=601).contains(&left), "{left}");
    lab.end_agent();

    declare("timeouts = { udp = 30 }\nports = \"20000-20009\"\nmapping = \"full-cone\"");
    let changed = json!([
        { "tcp-established": 7440, "tcp-transitory": 240, "udp": 30, "udp-stream": 300, "icmp": 60, "sctp": 300 },
        "20000-20009", "full-cone", null,
    ]);
    assert_eq!(shown(&lab, "front"), changed);
    assert!(log(&lab).contains("below the 120 s"), "{}", log(&lab));
    let left = unanswered(10);
    assert!((1..=31).contains(&left), "{left}");
    assert_eq!(lab.json(&["container", "inspect", &name])["endpoints"], inspected["endpoints"]);
    tcp::echoes(&mut stream).unwrap();
    chatter.finish();
    lab.end_agent();
    lab.start_agent(&[]);
    assert_eq!(shown(&lab, "front"), changed);
}
