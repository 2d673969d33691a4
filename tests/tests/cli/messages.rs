//! Messages after manual changes of the host, and the commands they suggest, which must reach the
//! same agent.

use std::{fs, process::Command};

use causeway_netlink::{Netlink, Netns};
use causeway_tests::{lab::Lab, place, undo, verb, wait};

fn delete_link(lab: &Lab, name: &str) {
    place::block_on(async {
        let netlink = Netlink::open(&lab.host).await?;
        let link = netlink.link(name).await?.expect("it is there");
        netlink.delete_link(link.index).await
    })
    .unwrap();
}

fn is_logged(lab: &Lab, words: &[&str]) {
    let path = undo::folder(&lab.instance).join("agent.log");
    wait::until("the agent says so", || {
        let log = fs::read_to_string(&path).unwrap();
        log.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    });
}

#[track_caller]
fn refused(lab: &Lab, arguments: &[&str], words: &[&str]) {
    let output = lab.causeway(arguments);
    assert_eq!((output.status, output.stderr.lines().count()), (Some(1), 1), "{output}");
    for word in words {
        assert!(output.stderr.contains(word), "no '{word}' in {output}");
    }
}

#[test]
fn removed_bridge_is_reported() {
    let lab = Lab::new();
    delete_link(&lab, "cw0");
    let option = format!("--instance {}'", lab.instance);
    let words =
        ["the bridge cw0 of network 'default' is gone", "'causeway network rm default", &option];
    is_logged(&lab, &words);
    refused(&lab, &["container", "create", &lab.name_of("c1")], &words);
    // The suggested command works.
    lab.json(&["network", "rm", "default"]);
    lab.json(&["network", "create", "default", "--subnet", "172.18.0.0/16", "--bridge", "cw0"]);
    lab.container("c1", &[]);
}

#[test]
fn vanished_container_takes_no_publish() {
    let lab = Lab::new();
    let (linkless, nameless, whole) =
        (lab.container("a", &[]), lab.container("b", &[]), lab.container("c", &[]));
    delete_link(&lab, linkless.host_side());
    Netns::remove(&nameless.name).unwrap();
    let option = format!("--instance {}'", lab.instance);
    is_logged(&lab, &[&linkless.name, "'causeway container rm", &option]);
    let listed = lab.json(&["container", "ls"]);
    let table = lab.causeway(&["container", "ls"]).ok().stdout;
    for (container, state) in [(&linkless, "gone"), (&nameless, "gone"), (&whole, "running")] {
        let of =
            listed.as_array().unwrap().iter().find(|of| of["name"] == *container.name).unwrap();
        assert_eq!(of["state"], state, "{of}");
        assert_eq!(lab.json(&["container", "inspect", &container.name])["state"], state);
        let line = table.lines().find(|line| line.starts_with(&container.name)).unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some(state), "{table}");
    }
    let hint = |name: &str| format!("'causeway container rm {name} {option}");
    for gone in [&linkless, &nameless] {
        refused(&lab, &["publish", "add", &gone.name, "8080:80"], &["is gone", &hint(&gone.name)]);
        lab.json(&["container", "rm", &gone.name]);
    }
    lab.json(&["publish", "add", &whole.name, "8080:80"]);
}

#[test]
fn suggested_commands_name_the_instance() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let option = format!(" --instance {}'", lab.instance);
    let name = c1.name.as_str();
    refused(
        &lab,
        &["container", "inspect", "nowhere"],
        &[&format!("'causeway container ls{option}")],
    );
    refused(
        &lab,
        &["container", "create", name],
        &[&format!("'causeway container rm {name}{option}")],
    );
    refused(
        &lab,
        &["publish", "add", name, "8080:81"],
        &[&format!("'causeway publish rm {name} 8080:80/tcp{option}")],
    );
    refused(
        &lab,
        &["network", "rm", "default"],
        &[&format!("'causeway container rm {name}{option}")],
    );
    // Not 'causeway down': what the running agent serves would go with it.
    refused(
        &lab,
        &["up", "--netns", &lab.host_name()],
        &["is running already; end it with SIGTERM"],
    );
    lab.end_agent();
    is_logged(&lab, &[&format!("'causeway down{option}")]);
    refused(&lab, &["network", "ls"], &[&format!("'causeway up{option}")]);
}

#[test]
fn down_without_state_file_reports_leftovers() {
    let lab = Lab::new();
    lab.container("c1", &[]);
    lab.kill_agent();
    let state = format!("/run/causeway/{}.json", lab.instance);
    let kept = fs::read(&state).unwrap();
    let [pins, socket] = [
        format!("/sys/fs/bpf/causeway/{}", lab.instance),
        format!("/run/causeway/{}.sock", lab.instance),
    ];

    // With a broken state file the message says what to type.
    fs::write(&state, "{").unwrap();
    let option = format!("'causeway down --instance {}'", lab.instance);
    for verb in [&["down"][..], &["up", "--netns", &lab.host_name()]] {
        refused(&lab, verb, &[&state, &format!("'mv {state} /tmp/'"), &option]);
    }
    fs::remove_file(&state).unwrap();
    // An agent that fails to start leaves the pins of an earlier one.
    refused(&lab, &["up", "--netns", &lab.host_name()], &["cw0"]);
    assert!(fs::exists(&pins).unwrap(), "the datapath is gone");

    let down = lab.causeway(&["down"]).ok();
    for path in [&pins, &socket] {
        assert!(down.stdout.contains(path.as_str()), "{down}");
        assert!(!fs::exists(path).unwrap(), "{path} is left");
    }
    assert!(down.stderr.contains("ip link del") && down.stderr.lines().count() == 1, "{down}");
    refused(&lab, &["down"], &["nothing is left"]);
    // So that the lab can clean up.
    fs::create_dir_all("/run/causeway").unwrap();
    fs::write(&state, kept).unwrap();
}

#[test]
fn down_removes_a_lone_lock_file() {
    let lab = Lab::without_agent();
    let lock = format!("/run/causeway/{}.lock", lab.instance);
    fs::create_dir_all("/run/causeway").unwrap();
    fs::write(&lock, "").unwrap();
    let down = lab.causeway(&["down"]).ok();
    assert!(down.stdout.contains(&lock) && down.stderr.is_empty(), "{down}");
    refused(&lab, &["down"], &["nothing is left"]);
}

#[test]
fn failed_write_to_stdout_is_reported() {
    let lab = Lab::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = verb::command(&verb::binary(), &lab.instance, &["network", "ls"])
        .stdout(full)
        .output()
        .unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
    assert!(line.contains("network ls") && line.contains("No space left"), "{line}");
}

#[test]
fn instance_is_read_from_environment() {
    let lab = Lab::new();
    let mut command = Command::new(verb::binary());
    let output = command
        .args(["network", "ls", "--json"])
        .env("CAUSEWAY_INSTANCE", &lab.instance)
        .output()
        .unwrap();
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("cw0"),
        "{output:?}"
    );
    let help = Command::new(verb::binary()).args(["network", "ls", "--help"]).output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("CAUSEWAY_INSTANCE"), "{help:?}");
}
