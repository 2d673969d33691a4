//! Filters of `causeway flows ls` and `flows flush`.

use std::net::SocketAddr;

use causeway_tests::{
    families,
    family::{Family, V4, V6},
    lab::{Container, Lab},
    ping, tcp, udp, wait,
};
use serde_json::Value;

families! {
    select_flows_to_list_and_flush,
}

/// The flows that match the filters, as sorted `PROTOCOL SOURCE`.
fn listed(lab: &Lab, filters: &str) -> Vec<String> {
    let words: Vec<&str> = filters.split_whitespace().collect();
    let flows = lab.json(&[&["flows", "ls"], words.as_slice()].concat());
    let name = |flow: &Value| {
        format!(
            "{} {}",
            flow["protocol"].as_str().unwrap(),
            flow["forward"]["source"].as_str().unwrap()
        )
    };
    let mut names: Vec<String> = flows.as_array().unwrap().iter().map(name).collect();
    names.sort();
    names
}

fn select_flows_to_list_and_flush(family: Family) {
    let lab = Lab::shared(family);
    let other = if family == V4 { V6 } else { V4 };
    lab.network("other", 30, &[]);
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let c2 = lab.container("c2", &["--network", "other"]);
    let _echoes =
        [tcp::Echo::start(&lab.world, (family.far(), 7)), tcp::Echo::start(&c1.netns, c1.at(80))];
    let _udp = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let mut outgoing = tcp::exchange(&c1.netns, (family.far(), 7));
    let mut incoming = tcp::exchange(&lab.world, (family.host(), 8080));
    let answered = udp::bind(&c2.netns, (family.any(), 40001));
    udp::answer(&answered, (family.far(), 7));
    let unanswered = udp::bind(&c2.netns, (family.any(), 40002));
    unanswered.send_to(b"no server", (family.far(), 9)).unwrap();
    ping::ping(&c1.netns, family.far(), 4711, 56);

    let out = format!("tcp {}", outgoing.local_addr().unwrap());
    let into = format!("tcp {}", incoming.local_addr().unwrap());
    let from = |container: &Container, port| SocketAddr::from((container.address, port));
    let (yes, no) = (format!("udp {}", from(&c2, 40001)), format!("udp {}", from(&c2, 40002)));
    let echo = format!("{} {}", family.icmp_name(), from(&c1, 4711));
    let all = [&out, &into, &yes, &no, &echo];
    let rows: [(String, &[&String]); 20] = [
        (String::new(), &all),
        (format!("--container {}", c1.name), &[&out, &into, &echo]),
        (format!("--container {}", c2.name), &[&yes, &no]),
        (format!("--network {}", family.network()), &[&out, &into, &echo]),
        ("--network other".to_owned(), &[&yes, &no]),
        ("--protocol tcp".to_owned(), &[&out, &into]),
        ("--protocol 17".to_owned(), &[&yes, &no]),
        ("--protocol sctp".to_owned(), &[]),
        ("--state established".to_owned(), &[&out, &into]),
        ("--state unreplied".to_owned(), &[&no]),
        ("--state closing".to_owned(), &[]),
        (format!("--address {}", family.far()), &[&out, &yes, &no, &echo]),
        (format!("--address {}", family.router()), &[&into]),
        // The external address of outgoing flows, and the published address of incoming ones.
        (format!("--address {}", family.host()), &all),
        (format!("--address {}", c2.address), &[&yes, &no]),
        (format!("--address {}", family.subnet()), &[&out, &into, &echo]),
        (format!("--address {}/0", family.any()), &all),
        (format!("--address {}", other.subnet()), &[]),
        (format!("--address {} --protocol udp --state unreplied", family.far()), &[&no]),
        (format!("--container {} --network other", c1.name), &[]),
    ];
    for (filters, expected) in rows {
        let mut expected: Vec<String> = expected.iter().map(|name| (*name).clone()).collect();
        expected.sort();
        assert_eq!(listed(&lab, &filters), expected, "{filters}");
    }
    // As text, with counters and time left. `ls` may be omitted.
    let table = lab.causeway(&["flows", "--state", "unreplied"]).ok().stdout;
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 2, "{table}");
    let size = (family.header() + 8 + 9).to_string();
    let left: u64 = lines[1].last().unwrap().parse().unwrap();
    assert!(
        lines[1].contains(&&*size) && (1..=121).contains(&left),
        "one datagram of {size} bytes: {table}"
    );

    for (filters, number) in
        [("--protocol sctp", 0), ("--state unreplied", 1), ("--network other", 1)]
    {
        let flushed = lab.json(
            &[&["flows", "flush"], filters.split(' ').collect::<Vec<_>>().as_slice()].concat(),
        );
        assert_eq!(flushed["flows"], number, "{filters}");
    }
    let mut rest = vec![out.clone(), into.clone(), echo];
    rest.sort();
    assert_eq!(listed(&lab, ""), rest);
    assert_eq!(
        lab.json(&["flows", "flush", "--address", &family.router().to_string()])["flows"],
        1
    );
    tcp::echoes(&mut outgoing).unwrap();
    incoming.set_read_timeout(Some(wait::SILENCE)).unwrap();
    assert!(tcp::echoes(&mut incoming).is_err(), "it was ended");
}

#[test]
fn invalid_filter_is_refused_in_one_line() {
    let lab = Lab::new();
    for (filter, status, word) in [
        ("--container=nowhere", 1, "no container 'nowhere'"),
        ("--network=nowhere", 1, "no network 'nowhere'; there is default"),
        ("--container=a/b", 2, "letters, digits"),
        ("--protocol=gre", 2, "tcp, udp, icmp, icmpv6, sctp or a number"),
        ("--protocol=256", 2, "tcp, udp, icmp, icmpv6, sctp or a number"),
        ("--state=open", 2, "there is unreplied, replied"),
        ("--address=10.0.0", 2, "10.0.0"),
        ("--address=10.0.0.1/8", 2, "write 10.0.0.0/8"),
        ("--colour=red", 2, "--colour"),
    ] {
        for verb in [&["flows"][..], &["flows", "ls"], &["flows", "flush"]] {
            let output = lab.causeway(&[verb, &[filter]].concat());
            assert_eq!(
                (output.status, output.stderr.lines().count()),
                (Some(status), 1),
                "{output}"
            );
            assert!(output.stderr.contains(word) && output.stdout.is_empty(), "{output}");
        }
    }
}
