//! Invalid input: the exit status is right, one line says what is wrong, and nothing changes.

use std::{
    collections::BTreeSet, fs, os::unix::process::CommandExt as _, path::PathBuf, process::Command,
};

use causeway_netlink::{Netlink, Netns, netns};
use causeway_tests::{
    lab::{Lab, ROUTER},
    place,
    snapshot::Snapshot,
    verb::{self, Output},
};
use serde_json::Value;

/// Everything that a verb could change.
struct Everything {
    lists: Vec<Value>,
    links: Snapshot,
    namespaces: BTreeSet<PathBuf>,
}

impl Everything {
    fn of(lab: &Lab) -> Self {
        // Only names of this lab: others may come and go on the machine.
        let ours =
            |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&lab.instance);
        let namespaces = fs::read_dir(netns::FOLDER).unwrap().map(|entry| entry.unwrap().path());
        Self {
            lists: [["network", "ls"], ["container", "ls"], ["publish", "ls"]]
                .map(|verb| lab.json(&verb))
                .into(),
            links: Snapshot::of_links(&lab.host),
            namespaces: namespaces.filter(ours).collect(),
        }
    }
}

#[track_caller]
fn is_refused(output: &Output, status: i32, words: &[&str]) {
    assert_eq!(output.status, Some(status), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "one line on stderr: {output}");
    assert!(output.stdout.is_empty(), "nothing on stdout: {output}");
    for word in words {
        assert!(output.stderr.contains(word), "no '{word}' in what it says: {output}");
    }
}

/// All rows share one lab. A row that changes something fails under its own name, and so may later
/// ones.
fn all_are_refused(lab: &Lab, rows: &[(&str, i32, &[&str])]) {
    let before = Everything::of(lab);
    let mut failures = Vec::new();
    for (arguments, status, words) in rows {
        let arguments: Vec<_> =
            arguments.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
        let output = lab.causeway(&arguments);
        if let Some(failure) =
            std::panic::catch_unwind(|| is_refused(&output, *status, words)).err()
        {
            failures.push(failure.downcast_ref::<String>().cloned().unwrap_or_default());
        }
        let after = Everything::of(lab);
        let differences = before.links.differences(&after.links);
        if before.lists != after.lists
            || !differences.is_empty()
            || before.namespaces != after.namespaces
        {
            failures.push(format!("something changed: {output}\n{}", differences.join("\n")));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn network_is_refused() {
    let lab = Lab::without_agent();
    place::block_on(async {
        let netlink = Netlink::open(&lab.host).await?;
        netlink.add_route("198.51.100.0/24".parse()?, ROUTER).await?;
        netlink.add_blackhole("198.18.0.0/16".parse()?).await
    })
    .unwrap();
    lab.start_agent(&[]);
    let c1 = lab.container("c1", &[]);
    lab.json(&["network", "create", "taken", "--subnet", "172.29.0.0/24", "--bridge", "br-taken"]);
    lab.json(&["network", "create", "six", "--subnet", "2001:db8:18::/48"]);
    all_are_refused(
        &lab,
        &[
            ("network create n --subnet 10.300.0.0/16", 2, &["10.300.0.0/16"]),
            ("network create n --subnet 172.30.0.0", 2, &["172.30.0.0"]),
            ("network create n --subnet 172.30.0.0/33", 2, &["172.30.0.0/33"]),
            ("network create n --subnet ''", 2, &[]),
            ("network create n", 2, &["--subnet"]),
            ("network create", 2, &[]),
            ("network create a/b --subnet 172.30.0.0/24", 2, &["a/b"]),
            ("network create n --subnet 172.30.0.0/24 --mtu ten", 2, &["ten"]),
            ("network create n --subnet 172.30.0.0/24 --gateway 172.30.0", 2, &["172.30.0"]),
            (
                "network create n --subnet 172.30.0.0/24 --bridge sixteen-letters-",
                2,
                &["sixteen-letters-"],
            ),
            (
                "network create n --subnet 10.0.2.0/25",
                1,
                &["10.0.2.0/25", "10.0.2.15/24", "uplink0"],
            ),
            ("network create n --subnet 10.0.0.0/8", 1, &["10.0.0.0/8", "10.0.2.15/24"]),
            (
                "network create n --subnet 198.51.100.128/25",
                1,
                &["198.51.100.128/25", "198.51.100.0/24"],
            ),
            ("network create n --subnet 172.18.5.0/24", 1, &["172.18.5.0/24", "default"]),
            (
                "network create n --subnet 172.30.0.0/24 --subnet 172.29.1.0/24",
                1,
                &["172.29.1.0/24"],
            ),
            ("network create taken --subnet 172.30.0.0/24", 1, &["taken"]),
            ("network create n --subnet 172.30.0.0/24 --bridge uplink0", 1, &["uplink0"]),
            ("network create n --subnet 172.30.0.0/24 --bridge br-taken", 1, &["br-taken"]),
            ("network create n --subnet 172.30.0.0/24 --gateway 172.31.0.1", 1, &["172.31.0.1"]),
            (
                "network create n --subnet 172.30.0.0/24 --gateway 172.30.0.255",
                1,
                &["172.30.0.255"],
            ),
            ("network create n --subnet 198.18.7.0/24", 1, &["198.18.7.0/24", "198.18.0.0/16"]),
            (
                "network create n --subnet 169.254.7.0/24",
                1,
                &["169.254.0.0/16", "link-local", "take"],
            ),
            ("network create n --subnet 127.1.0.0/16", 1, &["127.0.0.0/8", "loopback", "take"]),
            ("network create n --subnet 0.0.0.0/8", 1, &["0.0.0.0/8", "take"]),
            ("network create n --subnet 230.0.0.0/16", 1, &["224.0.0.0/4", "multicast", "take"]),
            ("network create n --subnet 250.0.0.0/16", 1, &["240.0.0.0/4", "reserved", "take"]),
            (
                "network create n --subnet 172.30.0.0/24 --gateway 172.32.0.1",
                1,
                &["172.32.0.1", "give"],
            ),
            ("network create n --subnet 172.30.0.0/24 --timeout udp", 2, &["NAME=SECONDS"]),
            (
                "network create n --subnet 172.30.0.0/24 --timeout http=9",
                2,
                &["'http'", "tcp-established"],
            ),
            ("network create n --subnet 172.30.0.0/24 --timeout udp=0", 2, &["from 1 to 2000000"]),
            (
                "network create n --subnet 172.30.0.0/24 --timeout udp=2000001",
                2,
                &["from 1 to 2000000"],
            ),
            ("network create n --subnet 172.30.0.0/24 --timeout udp=1.5", 2, &["whole number"]),
            ("network create n --subnet 172.30.0.0/24 --ports 9-5", 2, &["9-5"]),
            ("network create n --subnet 172.30.0.0/24 --ports 0-5", 2, &["port 0"]),
            ("network create n --subnet 172.30.0.0/24 --ports 1-65536", 2, &["65536"]),
            ("network create n --subnet 172.30.0.0/24 --mapping cone", 2, &["cone", "full-cone"]),
            ("network create n --subnet 172.30.0.0/24 --max-flows 0", 2, &["at least 1"]),
            ("network create n --subnet 172.30.0.0/24 --max-flows all", 2, &["all"]),
            ("network create n --subnet 2001:db8::/129", 2, &["2001:db8::/129"]),
            ("network create n --subnet 2001:db8:::/64", 2, &["2001:db8:::/64"]),
            ("network create n --subnet 2001:db8::1/64", 1, &["host bits", "write 2001:db8::/64"]),
            (
                "network create n --subnet 2001:db8::/127",
                1,
                &["prefix length 127", "from 16 to 126"],
            ),
            ("network create n --subnet fe80::/64", 1, &["fe80::/10", "link-local", "take"]),
            ("network create n --subnet ::ffff:172.30.0.0/112", 1, &["::/8", "take"]),
            ("network create n --subnet ff05::/64", 1, &["ff00::/8", "multicast", "take"]),
            (
                "network create n --subnet 2001:db8:30::/64 --subnet 2001:db8:31::/64",
                1,
                &["a second IPv6 one"],
            ),
            ("network create n --subnet 2001:db8:2::/48", 1, &["2001:db8:2::15/64", "uplink0"]),
            ("network create n --subnet 2001:db8:18:8000::/50", 1, &["2001:db8:18::/48", "six"]),
            (
                "network create n --subnet 2001:db8:30::/64 --gateway 172.30.0.1",
                1,
                &["172.30.0.1", "give"],
            ),
            (
                "network create n --subnet 2001:db8:30::/64 --gateway 2001:db8:30::",
                1,
                &["anycast", "give"],
            ),
            (
                "network create n --subnet 2001:db8:30::/64 --mtu 1279",
                1,
                &["1280 bytes that IPv6 needs"],
            ),
            (
                "network create n --subnet 2001:db8:30::/64 --no-masquerade=v6",
                2,
                &["'v6' is not ipv4 or ipv6"],
            ),
            ("network inspect nowhere", 1, &["nowhere"]),
            ("network rm nowhere", 1, &["nowhere"]),
            ("network rm default", 1, &["default", &c1.name]),
            ("network ls extra", 2, &["extra"]),
            ("network", 2, &[]),
        ],
    );
}

#[test]
fn container_is_refused() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "6000-6010:7000-7010/udp"]);
    let (own, ip) = (&c1.name, c1.address.to_string());
    let new = lab.name_of("new");
    let outside = format!("{}-world", lab.instance);
    let host = lab.host_name();
    let row = |text: &str| {
        text.replace("OWN", own)
            .replace("NEW", &new)
            .replace("IP", &ip)
            .replace("WORLD", &outside)
            .replace("HOST", &host)
    };
    let rows: Vec<(String, i32, Vec<&str>)> = [
        ("container create", 2, vec![]),
        ("container create a/b", 2, vec!["a/b"]),
        ("container create ..", 2, vec![".."]),
        ("container create NEW --ip 172.18.0", 2, vec!["172.18.0"]),
        ("container create NEW --mac 02:00", 2, vec!["02:00"]),
        ("container create NEW --mac 01:00:5e:00:00:01", 2, vec!["01:00:5e:00:00:01"]),
        ("container create NEW -p 80", 2, vec!["80"]),
        ("container create NEW -p 70000:80", 2, vec!["70000"]),
        ("container create NEW -p 0:80", 2, vec!["0"]),
        ("container create NEW -p 9-5:80", 2, vec!["9-5"]),
        ("container create NEW -p 5000-5002:80-81", 2, vec!["5000-5002"]),
        ("container create NEW -p 80:80/icmp", 2, vec!["icmp"]),
        ("container create NEW -p 10.0.2:80:80", 2, vec!["10.0.2"]),
        ("container create OWN", 1, vec![own]),
        ("container create WORLD", 1, vec![&outside]),
        ("container create NEW --network nowhere", 1, vec!["nowhere"]),
        ("container create NEW --ip IP", 1, vec![&ip, own]),
        ("container create NEW --ip 172.18.0.1", 1, vec!["172.18.0.1", "give another"]),
        ("container create NEW --ip 172.18.0.0", 1, vec!["172.18.0.0"]),
        ("container create NEW --ip 172.18.255.255", 1, vec!["172.18.255.255"]),
        ("container create NEW --ip 10.9.0.5", 1, vec!["10.9.0.5", "172.18.0.0/16"]),
        ("container create NEW --ip 172.18.0.50 --ip 172.18.0.51", 1, vec![]),
        ("container create NEW -p 8080:80", 1, vec!["8080", own]),
        ("container create NEW -p 10.0.2.15:8080:80", 1, vec!["8080", own]),
        ("container create NEW -p 9000:80 -p 6005:53/udp", 1, vec!["6000-6010", own]),
        ("container create NEW -p 9000:80 -p 9000:81", 1, vec!["9000"]),
        ("container attach NEW", 2, vec!["--netns"]),
        ("container attach NEW --netns WORLD --pid 1", 2, vec![]),
        ("container attach NEW --pid one", 2, vec!["one", "number of a process"]),
        ("container attach NEW --pid 0", 2, vec!["number of a process"]),
        ("container create NEW -p 80:-1", 2, vec!["write [HOSTIP:]HOSTPORT"]),
        ("container create NEW -p ::1:80:80", 2, vec!["write [HOSTIP:]HOSTPORT"]),
        ("container create NEW -p :", 2, vec!["write [HOSTIP:]HOSTPORT"]),
        (
            "container attach NEW --netns /nowhere/at/all",
            1,
            vec!["/nowhere/at/all", "ip netns add"],
        ),
        ("container attach NEW --netns /dev/null", 1, vec!["/dev/null"]),
        ("container attach NEW --netns /proc/self/ns/uts", 1, vec!["ns/uts"]),
        ("container attach NEW --netns HOST", 1, vec!["host"]),
        ("container attach NEW --netns OWN", 1, vec![own]),
        ("container attach OWN --netns WORLD", 1, vec![own]),
        ("container attach NEW --pid 4194999", 1, vec!["4194999"]),
        ("container inspect nowhere", 1, vec!["nowhere"]),
        ("container rm nowhere", 1, vec!["nowhere"]),
        ("container exec nowhere -- true", 1, vec!["nowhere"]),
        ("container exec OWN", 2, vec![]),
        ("container walk", 2, vec!["walk"]),
    ]
    .map(|(text, status, words)| (row(text), status, words))
    .into();
    let rows: Vec<_> = rows
        .iter()
        .map(|(text, status, words)| (text.as_str(), *status, words.as_slice()))
        .collect();
    all_are_refused(&lab, &rows);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of inputs")]
fn family_is_refused() {
    let lab = Lab::new();
    lab.json(&["network", "create", "six", "--subnet", "2001:db8:19::/64"]);
    lab.json(&[
        "network",
        "create",
        "dual",
        "--subnet",
        "172.27.0.0/16",
        "--subnet",
        "2001:db8:18::/64",
    ]);
    let four = lab.container("four", &["-p", "8080:80"]);
    let six = lab.container("six", &["--network", "six"]);
    let (new, mac) =
        (lab.name_of("new"), six.made["endpoints"][0]["mac"].as_str().unwrap().to_owned());
    // The namespace has an IPv6 default route.
    let routed = format!("{}-routed", lab.instance);
    lab.undo().namespaces.push(routed.clone());
    let netns = Netns::create(&routed).unwrap();
    for setup in ["link add own0 type bridge", "link set own0 up", "-6 route add default dev own0"]
    {
        place::ip(&netns, setup);
    }
    let row = |text: &str| {
        text.replace("FOUR", &four.name)
            .replace("SIX", &six.name)
            .replace("NEW", &new)
            .replace("MAC", &mac)
            .replace("ROUTED", &routed)
    };
    let rows: Vec<(String, i32, Vec<&str>)> = [
        (
            "container create NEW --ip 2001:db8::9",
            1,
            vec!["2001:db8::9 is IPv6", "network 'default' has IPv4 alone"],
        ),
        (
            "container create NEW --network six --ip 172.18.0.9",
            1,
            vec!["is IPv4", "network 'six' has IPv6 alone"],
        ),
        (
            "container create NEW --network dual --ip 2001:db8:19::9",
            1,
            vec!["is not in the subnet 2001:db8:18::/64"],
        ),
        (
            "container create NEW --network dual --ip 2001:db8:18::1",
            1,
            vec!["is the gateway", "give another"],
        ),
        (
            "container create NEW --network dual --ip 2001:db8:18::",
            1,
            vec!["anycast", "give another"],
        ),
        (
            "container create NEW --network six --ip 2001:db8:19::2",
            1,
            vec![&six.name, "give another"],
        ),
        (
            "container create NEW --network dual --ip 2001:db8:18::5 --ip 2001:db8:18::6",
            1,
            vec!["a second IPv6 address"],
        ),
        ("container create NEW --ip 2001:db8::zz", 2, vec!["2001:db8::zz"]),
        // Its link-local address would conflict with the other's.
        (
            "container create NEW --network dual --mac MAC",
            1,
            vec!["belongs to container", "network 'six'", "give another"],
        ),
        (
            "container create NEW --network six -p 10.0.2.15:90:80",
            1,
            vec!["network 'six' has IPv6 alone"],
        ),
        ("container create NEW --network six -p [fe80::1]:90:80", 2, vec!["link-local"]),
        (
            "container attach NEW --netns ROUTED --network dual",
            1,
            vec!["an IPv6 default route", "remove it"],
        ),
        ("publish add SIX 10.0.2.15:90:80", 1, vec!["has IPv6 alone", "give an IPv6 address"]),
        ("publish add SIX [2001:db8::77]:90:80", 1, vec!["no address 2001:db8::77"]),
        ("publish add SIX [::ffff:10.0.2.15]:90:80", 2, vec!["is the IPv4 address 10.0.2.15"]),
        ("publish add SIX [2001:db8:2::15:90:80", 2, vec!["does not close"]),
        ("publish add SIX [2001:db8:2::15]:8080:80", 1, vec!["8080", &four.name]),
        ("publish add SIX 90:80 --from ::ffff:10.0.0.0/104", 1, vec!["write 10.0.0.0/8"]),
        ("publish add SIX 90:80 --from 2001:db8::1/32", 1, vec!["write 2001:db8::/32"]),
        (
            "publish add SIX 90:80 --from 10.0.0.0/8",
            1,
            vec!["admits no client", "IPv6 clients alone"],
        ),
        ("publish move 8080 SIX", 1, vec!["on network 'six'", "container of that network"]),
        ("flows --address 2001:db8::1/32", 2, vec!["write 2001:db8::/32"]),
    ]
    .map(|(text, status, words)| (row(text), status, words))
    .into();
    let rows: Vec<_> = rows
        .iter()
        .map(|(text, status, words)| (text.as_str(), *status, words.as_slice()))
        .collect();
    all_are_refused(&lab, &rows);
}

#[test]
fn publish_is_refused() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "6000-6010:7000-7010/udp"]);
    let c2 = lab.container("c2", &[]);
    let row = |text: &str| text.replace("C1", &c1.name).replace("C2", &c2.name);
    let owner = c1.name.as_str();
    let rows: Vec<(String, i32, Vec<&str>)> = [
        ("publish add C2", 2, vec![]),
        ("publish add C2 8080", 2, vec!["8080"]),
        ("publish add C2 8080:", 2, vec!["8080:"]),
        ("publish add C2 65536:80", 2, vec!["65536"]),
        ("publish add C2 10-5:80", 2, vec!["10-5"]),
        ("publish add C2 10-12:20-21", 2, vec!["10-12"]),
        ("publish add C2 90:80/gre", 2, vec!["gre"]),
        ("publish add C2 90:80 --from 203.0.113.0/40", 2, vec!["203.0.113.0/40"]),
        ("publish add C2 8080:81", 1, vec!["8080", owner]),
        ("publish add C2 8070-8090:70-90", 1, vec![owner]),
        ("publish add C2 127.0.0.1:8080:81", 1, vec!["8080", owner]),
        ("publish add C2 6010-6020:10-20/udp", 1, vec![owner]),
        ("publish add C1 8080:80", 1, vec!["8080", owner]),
        ("publish add nowhere 90:80", 1, vec!["nowhere"]),
        ("publish rm nowhere 90:80", 1, vec!["nowhere"]),
        ("publish rm C1 90:80", 1, vec!["90:80"]),
        ("publish rm C2 8080:80", 1, vec!["8080"]),
        ("publish rm C1 6005:7005/udp", 1, vec!["6005"]),
        ("publish ls C1", 2, vec![owner]),
        ("flows walk", 2, vec!["walk"]),
        ("stats extra", 2, vec!["extra"]),
        ("fly", 2, vec!["fly"]),
    ]
    .map(|(text, status, words)| (row(text), status, words))
    .into();
    let rows: Vec<_> = rows
        .iter()
        .map(|(text, status, words)| (text.as_str(), *status, words.as_slice()))
        .collect();
    all_are_refused(&lab, &rows);
}

#[test]
fn second_agent_of_an_instance_is_refused() {
    let lab = Lab::new();
    let before = Everything::of(&lab);
    let output = lab.causeway(&["up", "--netns", &lab.host_name()]);
    is_refused(&output, 1, &[&lab.instance]);
    assert_eq!(before.lists, Everything::of(&lab).lists);
}

#[test]
fn failed_start_says_why_and_leaves_nothing() {
    let lab = Lab::without_agent();
    let before = Snapshot::of(&lab.host);
    let folder = lab.folder("config");
    let config = folder.join("wrong.toml");
    fs::write(&config, "[network.default]\nsubnet = 7\n").unwrap();
    let (config, host) = (config.display().to_string(), lab.host_name());
    for (arguments, status, word) in [
        (vec!["up", "--netns", "no-such-namespace"], 1, "no-such-namespace; make it"),
        (vec!["up", "--netns", "/dev/null"], 1, "/dev/null"),
        (vec!["up", "--netns", &host, "--uplink", "nothing0"], 1, "nothing0"),
        (
            vec!["up", "--netns", &host, "--config", "/nowhere/causeway.toml"],
            1,
            "/nowhere/causeway.toml",
        ),
        (vec!["up", "--netns", &host, "--config", &config], 1, "wrong.toml"),
        (vec!["up", "--fast"], 2, "--fast"),
    ] {
        let output = lab.causeway(&arguments);
        is_refused(&output, status, &[word]);
        let differences = before.differences(&Snapshot::of(&lab.host));
        assert!(differences.is_empty(), "{output}\n{}", differences.join("\n"));
    }
}

#[test]
fn start_by_ip_netns_exec_names_right_command() {
    let lab = Lab::without_agent();
    let host = lab.host_name();
    let causeway = verb::binary();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &host]).arg(&causeway).args(["up", "--instance", &lab.instance]);
    let output = verb::run_command(&mut command).expect("iproute2 is installed");
    is_refused(&output, 1, &[&format!("causeway up --netns {host}")]);
}

#[test]
fn down_in_ip_netns_exec_removes_nothing() {
    let lab = Lab::new();
    lab.kill_agent();
    let host = lab.host_name();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &host]).arg(verb::binary()).args([
        "down",
        "--instance",
        &lab.instance,
    ]);
    let output = verb::run_command(&mut command).expect("iproute2 is installed");
    is_refused(&output, 1, &["causeway down"]);
    let state = format!("/run/causeway/{}.json", lab.instance);
    assert!(std::path::Path::new(&state).exists(), "what is there is known still");
}

#[test]
fn verbs_without_agent_say_how_to_start_it() {
    let lab = Lab::without_agent();
    for arguments in [
        "network create n --subnet 172.30.0.0/24",
        "network ls",
        "network inspect default",
        "network rm default",
        "container create c1",
        "container attach c1 --pid 1",
        "container ls",
        "container inspect c1",
        "container rm c1",
        "container exec c1 -- true",
        "publish add c1 80:80",
        "publish rm c1 80:80",
        "publish ls",
        "flows",
        "flows flush",
        "stats",
    ] {
        let output = lab.causeway(&arguments.split(' ').collect::<Vec<_>>());
        is_refused(&output, 1, &["causeway up", &lab.instance]);
    }
}

#[test]
fn ordinary_user_is_told_to_be_root() {
    let lab = Lab::new();
    // In a place that every user may read.
    let folder = lab.folder("bin");
    let copy = folder.join("causeway");
    fs::copy(verb::binary(), &copy).unwrap();
    let before = Everything::of(&lab);
    let other = format!("{}-x", lab.instance);
    let host = lab.host_name();
    for (instance, arguments) in [
        (&other, vec!["up", "--netns", &host]),
        (&other, vec!["up"]),
        (&lab.instance, vec!["down"]),
        (&lab.instance, vec!["network", "ls"]),
        (&lab.instance, vec!["network", "create", "n", "--subnet", "172.30.0.0/24"]),
        (&lab.instance, vec!["container", "create", "c1"]),
        (&lab.instance, vec!["flows"]),
        (&lab.instance, vec!["stats"]),
    ] {
        let mut command = verb::command(&copy, instance, &arguments);
        let output = verb::run_command(command.uid(65534).gid(65534).current_dir("/")).unwrap();
        is_refused(&output, 1, &["root"]);
    }
    assert_eq!(before.lists, Everything::of(&lab).lists);
}
