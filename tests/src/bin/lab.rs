//! `cargo xtask lab`: builds a lab, checks that it works, and opens a shell in it.

use std::{
    env,
    fs::{self, File, TryLockError},
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use causeway_api::Error;
use causeway_netlink::netns;
use causeway_tests::{
    articles::{self, PORT, Row},
    http,
    lab::{Container, FAR, HOST, Lab, ROUTER, UPLINK},
    place,
    undo::{self, Undo},
    verb,
    wait::DEADLINE,
};
use clap::Parser;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use tokio::signal::unix::{SignalKind, signal};

/// Names of the containers, after the name of the lab.
const CONTAINERS: [&str; 2] = ["c1", "c2"];

/// The file that marks a lab that is kept.
const KEPT: &str = "kept";

/// A host, a world and two containers, each a network namespace, with an agent between them.
///
/// Builds what articles on container networking build by hand, runs their checks and prints the
/// results. Removed at the end, even after a failure and on Ctrl-C. Exit status 1 if a check fails.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask lab")]
struct Options {
    /// Open a shell in the host's namespace after the checks
    #[arg(long)]
    shell: bool,
    /// Leave everything as it is at the end
    #[arg(long)]
    keep: bool,
    /// What the lab's names begin with
    #[arg(long, default_value = "lab", hide = true)]
    name: String,
}

fn main() -> ExitCode {
    let options = Options::parse();
    // A panic prints its own message.
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab: {}", Error::from_chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<bool> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "a lab is made of network namespaces, which needs root: try 'sudo'"
    );
    let name = options.name.as_str();
    ensure_no_other(name)?;
    let lab = Lab::for_people(name, options.keep)?;
    let (_lock, ours) = take_lock(name)?;
    ensure!(ours, "another lab is just being made; try again");
    fs::write(removal_script(name), removal(&lab))?;
    undo_on_signal(&lab)?;
    lab.try_start_agent(&[])?;
    let c1 = lab.try_container(CONTAINERS[0], &["-p", &format!("{PORT}:{PORT}")])?;
    let c2 = lab.try_container(CONTAINERS[1], &[])?;
    serve(&lab, &c1)?;

    let guide = guide(name, &c1, &c2, options.keep);
    let rows = articles::check(&lab, &c1, &c2);
    println!("{}", table(&rows));
    let failed = rows.iter().filter(|row| !row.ok()).count();
    println!("{} checks, {failed} failed", rows.len());

    if options.shell {
        println!("This shell is in the host's network namespace.\n{guide}");
        if !options.keep {
            println!("The lab is removed when you leave the shell.");
        }
        shell(&lab, &guide)?;
        if !options.keep {
            undo::end_in_containers(&verb::binary(), name);
        }
        // The user may have typed `causeway down`.
        lab.undo().used &= undo::is_used(name);
    }
    if options.keep {
        if !options.shell {
            println!("{guide}");
        }
        fs::write(undo::folder(name).join(KEPT), "")?;
        println!("The lab is left as it is; to remove it: sh {}", removal_script(name).display());
    }
    Ok(failed == 0)
}

/// Fails if a lab is kept or still runs, since it may be in use. Leftovers of a lab whose process
/// was killed are removed.
fn ensure_no_other(name: &str) -> anyhow::Result<()> {
    let folder = undo::folder(name);
    let namespaces = ["world", "host"].map(|part| format!("{name}-{part}"));
    let Ok(there) = fs::symlink_metadata(&folder) else {
        // Without the folder of a lab, these may belong to a user.
        ensure!(
            !undo::is_used(name),
            "there is an instance '{name}' already, which is no lab's; remove it with \
             'causeway down --instance {name}' if it is not needed"
        );
        for netns in &namespaces {
            ensure!(
                !netns::named(netns).exists(),
                "there is a network namespace {netns} already, which is no lab's; remove it \
                 with 'ip netns del {netns}' if it is not needed"
            );
        }
        return Ok(());
    };
    ensure!(
        there.is_dir() && there.uid() == 0,
        "{} is not root's folder; remove it",
        folder.display()
    );
    let script = removal_script(name);
    if !take_lock(name)?.1 {
        bail!(
            "there is a lab already; leave its shell to remove it, or else type: sh {}",
            script.display()
        );
    }
    ensure!(
        !folder.join(KEPT).exists(),
        "there is a lab already, which was kept; to remove it, type: sh {}",
        script.display()
    );
    let host = netns::named(&format!("{name}-host")).display().to_string();
    let state =
        fs::read_to_string(format!("/run/causeway/{name}.json")).unwrap_or_else(|_| host.clone());
    ensure!(
        state.contains(&host),
        "there is an instance '{name}' that is not the lab's; remove it with 'causeway down \
         --instance {name}' if it is not needed"
    );
    println!("An earlier lab was killed before it could remove itself; what it left is removed.");
    let containers = CONTAINERS.map(|container| format!("{name}-{container}"));
    let problems = Undo::of_dead(name, &namespaces, containers.into()).all();
    ensure!(
        problems.is_empty(),
        "not everything that the earlier lab left could be removed: {}",
        problems.join("; ")
    );
    Ok(())
}

/// Tries to lock the folder of the lab, and returns whether it succeeded. The kernel releases the
/// lock when the process ends.
fn take_lock(name: &str) -> anyhow::Result<(File, bool)> {
    let path = undo::folder(name).join("lock");
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let ours = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(error)) => bail!("cannot lock {}: {error}", path.display()),
    };
    Ok((file, ours))
}

/// The script that removes a lab that did not remove itself.
fn removal_script(name: &str) -> PathBuf {
    undo::folder(name).join("remove")
}

/// Makes SIGINT, SIGTERM and SIGHUP remove the lab and end the program.
fn undo_on_signal(lab: &Lab) -> anyhow::Result<()> {
    let undo = lab.shared_undo();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _entered = runtime.enter();
        [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]
    };
    thread::spawn(move || {
        let [interrupt, terminate, hangup] = &mut signals;
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
        });
        eprintln!("lab: interrupted, removing it");
        // The main thread needs this lock to add to the lab, and never gets it again.
        let mut undo = undo.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for problem in undo.all() {
            eprintln!("lab: {problem}");
        }
        std::process::exit(130);
    });
    Ok(())
}

/// Starts the web server in `c1`, and waits until it answers.
fn serve(lab: &Lab, c1: &Container) -> anyhow::Result<()> {
    let folder = lab.folder("page");
    fs::write(folder.join("index.html"), articles::PAGE)?;
    let mut python = Command::new("python3");
    python.args(["-m", "http.server", &PORT.to_string(), "--directory"]).arg(&folder);
    python.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut undo = lab.undo();
    let started = place::run(&c1.netns, || python.spawn());
    undo.children
        .push(started.context("cannot start python3 for the page in c1; is it installed?")?);
    drop(undo);
    let end = std::time::Instant::now() + DEADLINE;
    while http::get(&c1.netns, c1.at(PORT), Duration::from_secs(1)).is_err() {
        ensure!(std::time::Instant::now() < end, "python3 in c1 does not serve");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(["what", "expected", "seen", "ok"]);
    for row in rows {
        let shown = |text: &str| if text.is_empty() { "empty".to_owned() } else { text.to_owned() };
        let verdict = if row.ok() { "yes" } else { "NO" };
        table.add_row([
            row.what.clone(),
            shown(&row.expected),
            shown(&row.seen),
            verdict.to_owned(),
        ]);
    }
    table
}

/// Describes the lab and suggests commands.
fn guide(name: &str, c1: &Container, c2: &Container, keep: bool) -> String {
    // The shell of the lab has `causeway` in its path. Other shells need this line.
    let binary = verb::binary();
    let path = binary
        .parent()
        .filter(|_| keep)
        .map(|folder| format!("export PATH='{}':$PATH\n  ", folder.display()));
    let path = path.unwrap_or_default();
    format!(
        "Network namespaces:
  {name}-host    the host: {HOST} on {UPLINK}; the agent of instance '{name}' works here
  {name}-world   the world: {FAR}, and {ROUTER} at the other end of the uplink
  {c1}      a container: {}; a page on port {PORT}, published as {HOST}:{PORT}
  {c2}      a container: {}
Try:
  {path}causeway --instance {name} flows
  causeway --instance {name} container exec {c1} -- ip address
  ip netns exec {name}-host curl {HOST}:{PORT}
  ip netns exec {name}-world curl {HOST}:{PORT}",
        c1.address, c2.address
    )
}

/// Opens a shell whose prompt names the lab and whose `causeway` reaches the agent of the lab.
fn shell(lab: &Lab, guide: &str) -> anyhow::Result<()> {
    let name = lab.instance.as_str();
    let folder = lab.folder("bin");
    symlink(verb::binary(), folder.join("causeway"))?;
    let program = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut shell = Command::new(&program);
    if Path::new(&program).file_name().is_some_and(|name| name == "bash") {
        // bash takes its prompt, and perhaps its path, from the user's file.
        let file = folder.join("bashrc");
        let folder = folder.display();
        fs::write(
            &file,
            format!(
                "[ -f ~/.bashrc ] && . ~/.bashrc\nPATH='{folder}':$PATH\nPS1=\"({name}) $PS1\"\n"
            ),
        )?;
        shell.arg("--rcfile").arg(file);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(folder).chain(env::split_paths(&path)))?;
    shell.env("PATH", path).env("PS1", format!("({name}) # ")).env("CAUSEWAY_INSTANCE", name);
    shell.env("CAUSEWAY_LAB", guide).env("CAUSEWAY_BIN", verb::binary());
    let mut undo = lab.undo();
    let running = place::run(&lab.host, || shell.spawn())
        .with_context(|| format!("cannot start {shell:?}"))?;
    let pid = running.id();
    undo.children.push(running);
    drop(undo);
    loop {
        // Not a blocking wait: the signal thread must find the child in the list.
        let mut undo = lab.undo();
        let Some(place) = undo.children.iter().position(|child| child.id() == pid) else {
            return Ok(());
        };
        // The exit status of the shell does not matter.
        if undo.children[place].try_wait()?.is_some() {
            return undo
                .children
                .remove(place)
                .wait()
                .map(drop)
                .context("cannot wait for the shell");
        }
        drop(undo);
        thread::sleep(Duration::from_millis(50));
    }
}

/// The commands that remove the lab.
fn removal(lab: &Lab) -> String {
    let (name, undo) = (&lab.instance, lab.undo());
    let (causeway, folder) = (verb::binary(), undo.folder.display());
    format!(
        "for container in {}; do ip netns pids $container | xargs -r kill; done\n\
         '{}' down --instance {name}\n\
         for namespace in {}; do ip netns del $namespace; done\n\
         rm -r '{folder}'\n",
        CONTAINERS.map(|container| lab.name_of(container)).join(" "),
        causeway.display(),
        undo.namespaces.join(" ")
    )
}
