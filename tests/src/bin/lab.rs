//! A lab to look at: builds it, shows that it works, and opens a shell in it.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use causeway_tests::{
    articles::{self, PORT, Row},
    http,
    lab::{Container, FAR, HOST, Lab, ROUTER, UPLINK},
    place, undo, verb,
    wait::DEADLINE,
};
use clap::Parser;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use tokio::signal::unix::{SignalKind, signal};

const NAME: &str = "lab";

/// A host, a world and two containers, each a network namespace, with an agent between them.
///
/// Builds what articles on container networking build by hand, does their checks and prints what came of them. Removed at the end,
/// after a failure and on Ctrl-C too. Exit status 1 if a check fails.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask lab")]
struct Options {
    /// Open a shell in the host's namespace after the checks
    #[arg(long)]
    shell: bool,
    /// Leave everything as it is at the end
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    // A panic says all there is to say in its own line.
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<bool> {
    ensure!(nix::unistd::geteuid().is_root(), "a lab is made of network namespaces, which needs root: try 'sudo'");
    ensure_no_other()?;
    let lab = Lab::for_people(NAME, options.keep)?;
    fs::write(removal_script(), removal(&lab))?;
    undo_on_signal(&lab)?;
    lab.try_start_agent(&[])?;
    let c1 = lab.try_container("c1", &["-p", &format!("{PORT}:{PORT}")])?;
    let c2 = lab.try_container("c2", &[])?;
    serve(&lab, &c1)?;

    let guide = guide(&c1, &c2);
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
    }
    if options.keep {
        if !options.shell {
            println!("{guide}");
        }
        println!("The lab is left as it is; to remove it: sh {}", removal_script().display());
    }
    Ok(failed == 0)
}

/// One that was kept, or still runs, or was killed, is told of, not removed: someone may be at work in it.
fn ensure_no_other() -> anyhow::Result<()> {
    let script = removal_script();
    let way = format!("leave its shell if that is open, or else type: sh {}", script.display());
    ensure!(!script.exists(), "there is a lab already; to remove it, {way}");
    Ok(())
}

/// What removes a lab that did not remove itself.
fn removal_script() -> PathBuf {
    undo::folder(NAME).join("remove")
}

/// From now on SIGINT, SIGTERM and SIGHUP remove the lab and end the program.
fn undo_on_signal(lab: &Lab) -> anyhow::Result<()> {
    let undo = lab.shared_undo();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _entered = runtime.enter();
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]
    };
    thread::spawn(move || {
        let [interrupt, terminate, hangup] = &mut signals;
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
        });
        eprintln!("lab: interrupted, removing it");
        // Whoever would make more of the lab needs this lock, and never gets it again.
        let mut undo = undo.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for problem in undo.all() {
            eprintln!("lab: {problem}");
        }
        std::process::exit(130);
    });
    Ok(())
}

/// Starts the web server in `c1`, and waits until it answers there.
fn serve(lab: &Lab, c1: &Container) -> anyhow::Result<()> {
    let folder = lab.folder("page");
    fs::write(folder.join("index.html"), articles::PAGE)?;
    let mut python = Command::new("python3");
    python.args(["-m", "http.server", &PORT.to_string(), "--directory"]).arg(&folder);
    python.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut undo = lab.undo();
    let started = place::run(&c1.netns, || python.spawn());
    undo.children.push(started.context("cannot start python3 for the page in c1; is it installed?")?);
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
        table.add_row([row.what.clone(), shown(&row.expected), shown(&row.seen), verdict.to_owned()]);
    }
    table
}

/// What exists, and what to do with it.
fn guide(c1: &Container, c2: &Container) -> String {
    format!(
        "Network namespaces:
  {NAME}-host    the host: {HOST} on {UPLINK}; the agent of instance '{NAME}' works here
  {NAME}-world   the world: {FAR}, and {ROUTER} at the other end of the uplink
  {c1}          a container: {}; a page on port {PORT}, published as {HOST}:{PORT}
  {c2}          a container: {}
Try:
  causeway --instance {NAME} flows
  causeway --instance {NAME} container exec {c1} -- ip address
  ip netns exec {NAME}-host curl {HOST}:{PORT}
  ip netns exec {NAME}-world curl {HOST}:{PORT}",
        c1.address, c2.address
    )
}

fn shell(lab: &Lab, guide: &str) -> anyhow::Result<()> {
    let folder = lab.folder("bin");
    symlink(verb::binary(), folder.join("causeway"))?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(folder).chain(env::split_paths(&path)))?;
    let mut shell = Command::new(env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    shell.env("PATH", path).env("CAUSEWAY_LAB", guide).env("CAUSEWAY_BIN", verb::binary());
    let mut undo = lab.undo();
    let running = place::run(&lab.host, || shell.spawn()).with_context(|| format!("cannot start {shell:?}"))?;
    let pid = running.id();
    undo.children.push(running);
    drop(undo);
    loop {
        // Not a plain wait: a signal's thread must find it among what is to be undone.
        let mut undo = lab.undo();
        let Some(place) = undo.children.iter().position(|child| child.id() == pid) else { return Ok(()) };
        // How the shell's last command ended is nothing to this program.
        if undo.children[place].try_wait()?.is_some() {
            return undo.children.remove(place).wait().map(drop).context("cannot wait for the shell");
        }
        drop(undo);
        thread::sleep(Duration::from_millis(50));
    }
}

/// The commands that do by hand what this program does at its end.
fn removal(lab: &Lab) -> String {
    let undo = lab.undo();
    let (causeway, folder) = (verb::binary(), undo.folder.display());
    format!(
        "for container in c1 c2; do ip netns pids $container | xargs -r kill; done\n\
         '{}' down --instance {NAME}\n\
         for namespace in {}; do ip netns del $namespace; done\n\
         rm -r '{folder}'\n",
        causeway.display(),
        undo.namespaces.join(" ")
    )
}
