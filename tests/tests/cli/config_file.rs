//! `up --config`: declared objects exist, and a file that cannot be applied changes nothing.

use std::{fs, path::Path};

use causeway_tests::{lab::Lab, snapshot::Snapshot, undo};
use serde_json::{Value, json};

fn write(folder: &Path, text: &str) -> String {
    let path = folder.join("declared.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn state(lab: &Lab) -> String {
    fs::read_to_string(format!("/run/causeway/{}.json", lab.instance)).unwrap()
}

fn lists(lab: &Lab) -> [Value; 3] {
    [["network", "ls"], ["container", "ls"], ["publish", "ls"]].map(|verb| lab.json(&verb))
}

const DECLARED: &str = r#"
[[network]]
name = "front"
subnets = ["172.30.0.0/24"]

[[container]]
name = "WEB"
network = "front"
publish = ["8080:80"]
"#;

#[test]
fn impossible_file_changes_nothing() {
    let lab = Lab::without_agent();
    let folder = lab.folder("config");
    let (web, other) = (lab.name_of("web"), lab.name_of("other"));
    let with_names = |text: &str| {
        text.replace("WEB", &web).replace("OTHER", &other).replace("BOX", &lab.name_of("box"))
    };
    let path = write(&folder, &with_names(DECLARED));
    lab.start_agent(&["--config", &path]);
    lab.json(&["network", "create", "own", "--subnet", "172.31.0.0/24", "--bridge", "br-own"]);
    lab.container("other", &["--network", "own", "--ip", "172.31.0.7", "-p", "9090:90"]);
    let before = lists(&lab);
    lab.end_agent();
    let (kept, links) = (state(&lab), Snapshot::of_links(&lab.host));

    let front = "[[network]]\nname = \"front\"\nsubnets = [\"172.30.0.0/24\"]\n";
    let rows = [
        // Each file removes or remakes WEB before it fails.
        (
            "[[network]]\nname = \"front\"\nsubnets = [\"172.32.0.0/24\"]\n[[container]]\nname \
             = \"BOX\"\nnetwork = \"front\"\npublish = [\"9090:80\"]",
            "9090",
        ),
        (
            "FRONT[[container]]\nname = \"BOX\"\nnetwork = \"front\"\npublish = \
             [\"80:80\"]\n[[container]]\nname = \"x-BOX\"\nnetwork = \"front\"\npublish = \
             [\"80:81\"]",
            "BOX",
        ),
        (
            "FRONT[[container]]\nname = \"BOX\"\nnetwork = \"front\"\npublish = [\"10.9.9.9:80:80\"]",
            "10.9.9.9",
        ),
        (
            "FRONT[[container]]\nname = \"BOX\"\nnetwork = \"front\"\npublish = [\"8080:80/sctp\"]",
            "sctp",
        ),
        (
            "FRONT[[container]]\nname = \"BOX\"\nnetwork = \"front\"\nip = \"172.31.0.9\"",
            "172.31.0.9",
        ),
        (
            "FRONT[[container]]\nname = \"BOX\"\nnetwork = \"front\"\nip = \"172.30.0.1\"",
            "172.30.0.1",
        ),
        (
            "FRONT[[container]]\nname = \"BOX\"\nnetwork = \"front\"\nip = \"172.30.0.5\"\n\
             [[container]]\nname = \"x-BOX\"\nnetwork = \"front\"\nip = \"172.30.0.5\"",
            "172.30.0.5",
        ),
        ("FRONT[[container]]\nname = \"BOX\"\nnetwork = \"own\"\nip = \"172.31.0.7\"", "OTHER"),
        (
            "FRONT[[container]]\nname = \"BOX\"\nnetwork = \"own\"\nmac = \"02:63:ac:1f:00:07\"",
            "02:63:ac:1f:00:07",
        ),
        ("FRONT[[container]]\nname = \"BOX\"\nnetwork = \"nowhere\"", "nowhere"),
        ("FRONT[[container]]\nname = \"BOX\"", "default"),
        ("FRONT[[network]]\nname = \"n\"\nsubnets = [\"172.31.0.128/25\"]", "own"),
        ("FRONT[[network]]\nname = \"n\"\nsubnets = [\"10.0.2.0/24\"]", "10.0.2.15"),
        ("FRONT[[network]]\nname = \"n\"\nsubnets = [\"172.33.0.0/24\"]\nmtu = 7", "MTU 7"),
        (
            "FRONT[[network]]\nname = \"n\"\nsubnets = [\"172.33.0.0/24\"]\ngateways = [\"172.34.0.1\"]",
            "172.34.0.1",
        ),
        (
            "FRONT[[network]]\nname = \"n\"\nsubnets = [\"172.33.0.0/24\"]\nbridge = \"br-own\"",
            "br-own",
        ),
        ("FRONT[[network]]\nname = \"own\"\nsubnets = [\"172.33.0.0/24\"]", "OTHER"),
    ];
    for (text, word) in rows {
        let text = with_names(&text.replace("FRONT", front));
        let path = write(&folder, &text);
        let output = lab.causeway(&["up", "--netns", &lab.host_name(), "--config", &path]);
        assert_eq!(output.status, Some(1), "{text}\n{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{text}\n{output}");
        for word in ["declared.toml", &with_names(word)] {
            assert!(output.stderr.contains(word), "no '{word}' for {text}\n{output}");
        }
        // No agent runs that another verb could reach.
        assert!(
            !output.stderr.contains("'causeway")
                || output.stderr.contains("start without --config"),
            "{text}\n{output}"
        );
        assert_eq!(state(&lab), kept, "{text}\n{output}");
        let differences = links.differences(&Snapshot::of_links(&lab.host));
        assert!(differences.is_empty(), "{text}\n{output}\n{}", differences.join("\n"));
    }
    lab.start_agent(&[]);
    assert_eq!(lists(&lab), before);
}

#[test]
fn taken_default_subnet_is_refused_at_start() {
    let lab = Lab::without_agent();
    causeway_tests::place::block_on(async {
        let netlink = causeway_netlink::Netlink::open(&lab.host).await?;
        netlink.add_route("172.16.0.0/12".parse()?, causeway_tests::lab::ROUTER).await
    })
    .unwrap();
    let output = lab.causeway(&["up", "--netns", &lab.host_name()]);
    assert_eq!((output.status, output.stderr.lines().count()), (Some(1), 1), "{output}");
    assert!(
        output.stderr.contains("172.16.0.0/12") && output.stderr.contains("--config"),
        "{output}"
    );
}

#[test]
fn declared_items_may_change_container() {
    let lab = Lab::without_agent();
    let folder = lab.folder("config");
    let [one, two] = ["one", "two"].map(|name| lab.name_of(name));
    let container = |name: &str, rest: &str| format!("[[container]]\nname = \"{name}\"\n{rest}\n");
    // A requested address is not allocated to an earlier container.
    let text =
        container(&one, "") + &container(&two, "ip = \"172.18.0.2\"\npublish = [\"8080:80\"]");
    lab.start_agent(&["--config", &write(&folder, &text)]);
    assert_eq!(
        lab.json(&["container", "inspect", &two])["endpoints"][0]["addresses"],
        json!(["172.18.0.2/16"])
    );
    lab.end_agent();
    let text = container(&one, "publish = [\"8080:80\"]") + &container(&two, "");
    lab.start_agent(&["--config", &write(&folder, &text)]);
    let publishes = lab.json(&["publish", "ls"]);
    assert_eq!(
        (publishes.as_array().unwrap().len(), &publishes[0]["container"]),
        (1, &json!(one)),
        "{publishes}"
    );
    lab.end_agent();
    // A container that is remade releases its port to an earlier one.
    let text =
        container(&two, "publish = [\"8080:80\"]") + &container(&one, "ip = \"172.18.0.99\"");
    lab.start_agent(&["--config", &write(&folder, &text)]);
    assert_eq!(lab.json(&["publish", "ls"])[0]["container"], json!(two));
    lab.end_agent();
    // Families are independent.
    let network =
        "[[network]]\nname = \"dual\"\nsubnets = [\"172.27.0.0/24\", \"2001:db8:18::/64\"]\n";
    let declared = [(&one, "2001:db8:18::3"), (&two, "172.27.0.2")]
        .map(|(name, ip)| container(name, &format!("network = \"dual\"\nip = \"{ip}\"")));
    lab.start_agent(&["--config", &write(&folder, &format!("{network}{}", declared.concat()))]);
    let lists = lab.json(&["container", "ls"]);
    let addresses: Vec<_> =
        lists.as_array().unwrap().iter().map(|made| &made["endpoints"][0]["addresses"]).collect();
    assert_eq!(
        addresses,
        [
            &json!(["172.27.0.3/24", "2001:db8:18::3/64"]),
            &json!(["172.27.0.2/24", "2001:db8:18::2/64"])
        ]
    );
}

/// The lines of `up --check` for a file.
fn check(lab: &Lab, path: &str) -> Vec<String> {
    let output = lab.causeway(&["up", "--check", path, "--netns", &lab.host_name()]).ok();
    assert!(output.stderr.is_empty(), "{output}");
    output.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn check_prints_changes_and_touches_nothing() {
    let lab = Lab::without_agent();
    let folder = lab.folder("check");
    let [old, web] = ["old", "web"].map(|name| lab.name_of(name));
    let network = "[[network]]\nname = \"front\"\nsubnets = [\"172.30.0.0/24\"]\n";
    let container = |name: &str, publish: &str| {
        format!("[[container]]\nname = \"{name}\"\nnetwork = \"front\"\npublish = [{publish}]\n")
    };
    let first = container(&old, "") + &container(&web, "\"8080:80\", \"9090:90\"");
    let path = write(&folder, &format!("{network}{first}"));
    let (files, before) = (undo::leftovers(&lab.instance), Snapshot::of(&lab.host));
    assert_eq!(
        check(&lab, &path),
        [
            "set sysctl net.ipv4.ip_forward: 1".to_owned(),
            "create network front: 172.30.0.0/24 on bridge cw0".to_owned(),
            format!("create container {old}: 172.30.0.2, on network front"),
            format!(
                "create container {web}: 172.30.0.3, on network front, publish 8080:80/tcp, publish \
                 9090:90/tcp"
            ),
        ]
    );
    let differences = before.differences(&Snapshot::of(&lab.host));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(undo::leftovers(&lab.instance), files);

    lab.start_agent(&["--config", &path]);
    let made = lists(&lab);
    assert_eq!((&made[0][0]["name"], &made[0][0]["bridge"]), (&json!("front"), &json!("cw0")));
    assert_eq!(made[1][1]["endpoints"][0]["addresses"], json!(["172.30.0.3/24"]));
    assert!(check(&lab, &path).is_empty(), "the host is as declared");

    let second = container(&web, "\"8080:80\", { ports = \"9090:90\", from = [\"10.0.0.0/8\"] }");
    let path = write(&folder, &format!("{network}max_flows = 500\n{second}"));
    let (kept, before) = (state(&lab), Snapshot::of(&lab.host));
    let json = lab.json(&["up", "--check", "--config", &path, "--netns", &lab.host_name()]);
    assert_eq!(
        json,
        json!([
            {"action": "remove", "object": "container", "name": old, "details": null},
            {"action": "update", "object": "network", "name": "front", "details": "max_flows"},
            {
                "action": "remove", "object": "publish", "name": "9090:90/tcp", "container": web,
                "details": null,
            },
            {
                "action": "add", "object": "publish", "name": "9090:90/tcp", "container": web,
                "details": "from 10.0.0.0/8",
            },
        ])
    );
    let differences = before.differences(&Snapshot::of(&lab.host));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!((state(&lab), lists(&lab)), (kept, made));

    lab.end_agent();
    lab.start_agent(&["--config", &path]);
    let [networks, containers, publishes] = lists(&lab);
    assert_eq!(networks[0]["max_flows"], json!(500));
    assert_eq!(
        (containers.as_array().unwrap().len(), &containers[0]["name"]),
        (1, &json!(web)),
        "{containers}"
    );
    let from: Vec<_> = publishes.as_array().unwrap().iter().map(|there| &there["from"]).collect();
    assert_eq!(from, [&json!([]), &json!(["10.0.0.0/8"])], "{publishes}");
    assert!(check(&lab, &path).is_empty(), "the host is as declared");
}

#[test]
fn check_fails_as_up_does() {
    let lab = Lab::without_agent();
    let folder = lab.folder("check");
    let path = write(&folder, "[[network]]\nname = \"n\"\nsubnets = [\"10.0.2.0/24\"]\n");
    let output = lab.causeway(&["up", "--check", "--config", &path, "--netns", &lab.host_name()]);
    assert_eq!((output.status, output.stderr.lines().count()), (Some(1), 1), "{output}");
    assert!(output.stderr.contains("10.0.2.15") && output.stdout.is_empty(), "{output}");
    let output = lab.causeway(&["up", "--check", &path, "--config", &path]);
    assert_eq!((output.status, output.stderr.lines().count()), (Some(2), 1), "{output}");
}
