//! `cargo xtask lab`, under a name of its own, since a user may have a lab open.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use causeway_netlink::{Netns, netns};
use causeway_tests::{
    undo::{self, Undo},
    verb::{self, Output},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The name of the lab.
fn name() -> String {
    undo::unique_name(901)
}

fn namespaces() -> [PathBuf; 4] {
    ["world", "host", "c1", "c2"].map(|part| netns::named(&format!("{}-{part}", name())))
}

fn lab(arguments: &[&str], shell: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(["--name", &name()]).args(arguments).env("CAUSEWAY_BIN", verb::binary());
    if let Some(shell) = shell {
        command.env("SHELL", shell);
    }
    command
}

fn run(arguments: &[&str], shell: Option<&Path>) -> Output {
    verb::run_command(&mut lab(arguments, shell)).unwrap()
}

fn nothing_is_left() {
    for path in namespaces() {
        assert!(!path.exists(), "{} is left", path.display());
    }
    assert!(
        !undo::is_used(&name()) && !undo::folder(&name()).exists(),
        "the lab has left something"
    );
}

/// A script to be used as shell.
fn script(own: &Undo, text: &str) -> PathBuf {
    let path = own.folder.join("shell");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

// All parts use one lab name, so that they must run in sequence.
#[test]
fn lab_runs_is_kept_and_is_removed() {
    // Another run of the tests may use the same names. A lock on a folder leaves no file.
    let turn = File::open(env::temp_dir()).unwrap();
    turn.lock().unwrap();
    nothing_is_left();
    let mut own = Undo::new(&undo::unique_name(900)).unwrap();
    // A user may have namespaces of these names.
    let names = ["c1", "c2"].map(|short| (short, !netns::named(short).exists()));
    for (name, _) in names.iter().filter(|(_, free)| *free) {
        Netns::create(name).unwrap();
        own.namespaces.push((*name).to_owned());
    }
    shell_reaches_the_agent(&own);
    killed_lab_is_removed_by_the_next_one(&own);
    suggested_commands_of_kept_lab_work();
    foreign_instance_is_left_alone();
    assert!(own.all().is_empty());
}

fn shell_reaches_the_agent(own: &Undo) {
    let shell = script(own, "causeway container ls; echo \"prompt $PS1\"");
    let output = run(&["--shell"], Some(&shell)).ok();
    let name = name();
    for word in [format!("{name}-c1 "), format!("{name}-c2 "), format!("prompt ({name})")] {
        assert!(output.stdout.contains(&word), "no '{word}' in {output}");
    }
    nothing_is_left();
}

fn killed_lab_is_removed_by_the_next_one(own: &Undo) {
    let reached = own.folder.join("reached");
    let shell = script(own, &format!("echo $$ > '{}'; exec sleep 300", reached.display()));
    let mut killed =
        lab(&["--shell"], Some(&shell)).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let pid = wait::until("the lab's shell runs", || {
        fs::read_to_string(&reached).ok().filter(|pid| pid.ends_with('\n'))
    });
    // While the lab runs, a second one is refused.
    let second = run(&[], None);
    assert_eq!((second.status, second.stderr.lines().count()), (Some(1), 1), "{second}");
    assert!(second.stderr.contains("there is a lab already"), "{second}");
    killed.kill().unwrap();
    killed.wait().unwrap();
    for path in namespaces() {
        assert!(path.exists(), "{} is gone already", path.display());
    }
    let next = run(&[], None).ok();
    assert!(next.stdout.contains("was killed"), "{next}");
    // The lab does not kill the user's shell. The test kills its own.
    kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    nothing_is_left();
}

fn suggested_commands_of_kept_lab_work() {
    let output = run(&["--keep"], None).ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    let begin = lines.iter().position(|line| *line == "Try:").unwrap() + 1;
    let commands: Vec<&str> =
        lines[begin..].iter().map_while(|line| line.strip_prefix("  ")).collect();
    // `ip` and `curl` may be missing.
    let own: Vec<&str> =
        commands.into_iter().filter(|command| !command.starts_with("ip netns")).collect();
    assert!(own.len() == 3 && own[2].contains(&format!("{}-c1", name())), "{output}");
    let own = own.join("\n").replace("-- ip address", "-- true");
    let worked =
        Command::new("sh").args(["-e", "-c", &own]).env("PATH", "/usr/bin:/bin").output().unwrap();
    let second = run(&[], None);
    let removal =
        second.stderr.trim_end().split_once("type: ").map(|(_, command)| command.to_owned());
    let removed = Command::new("sh").args(["-c", &removal.unwrap_or_default()]).output().unwrap();
    assert!(worked.status.success(), "{own}\n{}", String::from_utf8_lossy(&worked.stderr));
    assert!(second.stderr.contains("was kept") && second.stderr.lines().count() == 1, "{second}");
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    nothing_is_left();
}

fn foreign_instance_is_left_alone() {
    let state = PathBuf::from(format!("/run/causeway/{}.json", name()));
    fs::create_dir_all("/run/causeway").unwrap();
    fs::write(&state, "{}").unwrap();
    let refused = run(&[], None);
    let kept = state.exists();
    fs::remove_file(&state).unwrap();
    // Fails if another instance uses it.
    let _ = fs::remove_dir("/run/causeway");
    assert_eq!(
        (refused.status, refused.stderr.lines().count(), kept),
        (Some(1), 1, true),
        "{refused}"
    );
    nothing_is_left();
}
