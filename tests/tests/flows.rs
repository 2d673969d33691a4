//! Flows that are asked for and ended by what they are like.

use std::net::Ipv4Addr;

use causeway_tests::{
    lab::{FAR, HOST, Lab, ROUTER},
    ping, tcp, udp, wait,
};
use serde_json::Value;

/// What is listed with those filters, as `PROTOCOL SOURCE`, sorted.
fn listed(lab: &Lab, filters: &str) -> Vec<String> {
    let words: Vec<&str> = filters.split_whitespace().collect();
    let flows = lab.json(&[&["flows", "ls"], words.as_slice()].concat());
    let name = |flow: &Value| {
        format!("{} {}", flow["protocol"].as_str().unwrap(), flow["forward"]["source"].as_str().unwrap())
    };
    let mut names: Vec<String> = flows.as_array().unwrap().iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn flows_are_listed_and_ended_by_what_they_are_like() {
    let lab = Lab::new();
    lab.json(&["network", "create", "other", "--subnet", "172.30.0.0/24"]);
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let c2 = lab.container("c2", &["--network", "other"]);
    let _echoes = [tcp::Echo::start(&lab.world, (FAR, 7)), tcp::Echo::start(&c1.netns, c1.at(80))];
    let _udp = udp::Echo::start(&lab.world, (FAR, 7), "far");
    let mut outgoing = tcp::exchange(&c1.netns, (FAR, 7));
    let mut incoming = tcp::exchange(&lab.world, (HOST, 8080));
    let answered = udp::bind(&c2.netns, (Ipv4Addr::UNSPECIFIED, 40001));
    udp::answer(&answered, (FAR, 7));
    let unanswered = udp::bind(&c2.netns, (Ipv4Addr::UNSPECIFIED, 40002));
    unanswered.send_to(b"to nobody", (FAR, 9)).unwrap();
    ping::ping(&c1.netns, FAR, 4711, 56);

    let out = format!("tcp {}", outgoing.local_addr().unwrap());
    let into = format!("tcp {}", incoming.local_addr().unwrap());
    let [yes, no, echo] =
        [format!("udp {}:40001", c2.address), format!("udp {}:40002", c2.address), format!("icmp {}:4711", c1.address)];
    let all = [&out, &into, &yes, &no, &echo];
    let rows: [(String, &[&String]); 20] = [
        (String::new(), &all),
        (format!("--container {}", c1.name), &[&out, &into, &echo]),
        (format!("--container {}", c2.name), &[&yes, &no]),
        ("--network default".to_owned(), &[&out, &into, &echo]),
        ("--network other".to_owned(), &[&yes, &no]),
        ("--protocol tcp".to_owned(), &[&out, &into]),
        ("--protocol 17".to_owned(), &[&yes, &no]),
        ("--protocol sctp".to_owned(), &[]),
        ("--state established".to_owned(), &[&out, &into]),
        ("--state unreplied".to_owned(), &[&no]),
        ("--state closing".to_owned(), &[]),
        (format!("--address {FAR}"), &[&out, &yes, &no, &echo]),
        (format!("--address {ROUTER}"), &[&into]),
        // The address that outgoing flows are translated to, and the one that an incoming one was made to.
        (format!("--address {HOST}"), &all),
        (format!("--address {}", c2.address), &[&yes, &no]),
        ("--address 172.18.0.0/16".to_owned(), &[&out, &into, &echo]),
        ("--address 0.0.0.0/0".to_owned(), &all),
        ("--address 2001:db8::/32".to_owned(), &[]),
        (format!("--address {FAR} --protocol udp --state unreplied"), &[&no]),
        (format!("--container {} --network other", c1.name), &[]),
    ];
    for (filters, expected) in rows {
        let mut expected: Vec<String> = expected.iter().map(|name| (*name).clone()).collect();
        expected.sort();
        assert_eq!(listed(&lab, &filters), expected, "{filters}");
    }
    // As a person sees them, with counters and the time that is left; `ls` may be left out.
    let table = lab.causeway(&["flows", "--state", "unreplied"]).ok().stdout;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 2, "{table}");
    let left: u64 = lines[1].last().unwrap().parse().unwrap();
    assert!(lines[1].contains(&"37") && (1..=121).contains(&left), "one datagram of 37 bytes: {table}");

    for (filters, number) in [("--protocol sctp", 0), ("--state unreplied", 1), ("--network other", 1)] {
        let flushed = lab.json(&[&["flows", "flush"], filters.split(' ').collect::<Vec<_>>().as_slice()].concat());
        assert_eq!(flushed["flows"], number, "{filters}");
    }
    let mut rest = vec![out.clone(), into.clone(), echo];
    rest.sort();
    assert_eq!(listed(&lab, ""), rest);
    assert_eq!(lab.json(&["flows", "flush", "--address", &ROUTER.to_string()])["flows"], 1);
    tcp::echoes(&mut outgoing).unwrap();
    incoming.set_read_timeout(Some(wait::SILENCE)).unwrap();
    assert!(tcp::echoes(&mut incoming).is_err(), "it was ended");
}

#[test]
fn a_wrong_filter_is_one_line() {
    let lab = Lab::new();
    for (filter, status, word) in [
        ("--container=nowhere", 1, "no container 'nowhere'"),
        ("--network=nowhere", 1, "no network 'nowhere'; there is default"),
        ("--container=a/b", 2, "letters, digits"),
        ("--protocol=gre", 2, "tcp, udp, icmp, sctp or a number"),
        ("--protocol=256", 2, "tcp, udp, icmp, sctp or a number"),
        ("--state=open", 2, "there is unreplied, replied"),
        ("--address=10.0.0", 2, "10.0.0"),
        ("--address=10.0.0.1/8", 2, "write 10.0.0.0/8"),
        ("--colour=red", 2, "--colour"),
    ] {
        for verb in [&["flows"][..], &["flows", "ls"], &["flows", "flush"]] {
            let output = lab.causeway(&[verb, &[filter]].concat());
            assert_eq!((output.status, output.stderr.lines().count()), (Some(status), 1), "{output}");
            assert!(output.stderr.contains(word) && output.stdout.is_empty(), "{output}");
        }
    }
}
