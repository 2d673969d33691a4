//! Removal of everything that a lab makes: at its end, after a panic, on a signal, and after its
//! process was killed.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, DirBuilder, File},
    io, mem,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{self, Child},
    sync::Once,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use causeway_netlink::{Netns, netns};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{agent::Agent, verb};

const PREFIX: &str = "cwt";
const FOLDER_PREFIX: &str = "causeway-";
const PINS: &str = "/sys/fs/bpf/causeway";
const FILES: &str = "/run/causeway";

/// Everything that one lab has made.
#[derive(Debug)]
pub struct Undo {
    instance: String,
    /// The `causeway` program of its agent.
    pub program: PathBuf,
    /// Namespaces by name.
    pub namespaces: Vec<String>,
    /// The agent, if one was started.
    pub agent: Option<Agent>,
    /// Other processes.
    pub children: Vec<Child>,
    /// Folder of its files.
    pub folder: PathBuf,
    /// Whether an agent was started, so that `down` has something to remove.
    pub used: bool,
    /// Namespaces that the agent made, which `down` removes.
    pub containers: Vec<String>,
}

impl Undo {
    /// Makes the folder of a new lab, which only root can write to.
    pub fn new(instance: &str) -> anyhow::Result<Self> {
        let folder = folder(instance);
        // A folder that exists already may have another owner: the parent is writable for everyone.
        let made = DirBuilder::new().mode(0o755).create(&folder);
        made.with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(Self {
            instance: instance.to_owned(),
            program: verb::binary(),
            namespaces: Vec::new(),
            agent: None,
            children: Vec::new(),
            folder,
            used: false,
            containers: Vec::new(),
        })
    }

    /// Leftovers of a `cargo xtask lab` whose process was killed: its folder exists, and no process
    /// holds its lock.
    pub fn of_dead(instance: &str, namespaces: &[String], containers: Vec<String>) -> Self {
        for name in &containers {
            end_inside(&netns::named(name));
        }
        wait_for_dying_agent(instance);
        Self {
            instance: instance.to_owned(),
            program: verb::binary(),
            namespaces: namespaces.to_vec(),
            agent: None,
            children: Vec::new(),
            folder: folder(instance),
            used: is_used(instance),
            containers,
        }
    }

    /// Removes everything, and returns what went wrong. Idempotent.
    pub fn all(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        self.children.drain(..).for_each(end);
        if mem::take(&mut self.used) {
            problems.extend(self.down());
        }
        for name in self.namespaces.drain(..).rev() {
            problems.extend(Netns::remove(&name).err().map(|error| format!("{error:#}")));
        }
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                problems.push(format!("cannot remove {}: {error}", self.folder.display()));
            }
            _ => {}
        }
        let containers =
            self.containers.drain(..).map(|name| netns::named(&name)).filter(|path| path.exists());
        for left in containers.chain(leftovers(&self.instance)).collect::<BTreeSet<_>>() {
            problems.push(format!("{} is left", left.display()));
            remove(&left);
        }
        problems
    }

    fn down(&mut self) -> Option<String> {
        let down = verb::run_command(&mut verb::command(&self.program, &self.instance, &["down"]));
        let mut problem = match down {
            Ok(down) => (down.status != Some(0)).then(|| format!("{down}\n")),
            Err(error) => Some(format!("{error:#}\n")),
        };
        if let Some(mut agent) = self.agent.take()
            && (problem.is_some() || agent.wait().is_none())
        {
            problem
                .get_or_insert_with(|| "the agent did not end after 'down'".to_owned())
                .push_str(&agent.log());
            agent.kill();
        }
        problem
    }
}

/// The folder of the files of a lab.
pub fn folder(instance: &str) -> PathBuf {
    env::temp_dir().join(format!("{FOLDER_PREFIX}{instance}"))
}

/// A unique name that contains the process ID, so that a later process can tell whether its owner
/// lives.
pub fn unique_name(number: u32) -> String {
    format!("{PREFIX}{}-{number}", process::id())
}

/// Removes leftovers of labs whose processes were killed. Does so once per process.
pub fn sweep() {
    static SWEEP: Once = Once::new();
    SWEEP.call_once(|| {
        let temporary = env::temp_dir();
        for place in [Path::new(netns::FOLDER), Path::new(PINS), Path::new(FILES), &temporary] {
            let dead = |path: &PathBuf| {
                owner(path).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
            };
            entries(place).filter(dead).for_each(|path| remove(&path));
        }
    });
}

/// Leftovers of an instance that only this lab can have made.
pub fn leftovers(instance: &str) -> Vec<PathBuf> {
    let pins = Some(Path::new(PINS).join(instance)).filter(|path| path.exists());
    // Names of instances have no dot.
    let files = entries(Path::new(FILES))
        .filter(|path| path.file_prefix().is_some_and(|name| name == instance));
    // The name is unique, so that every namespace whose name begins with it belongs to this lab.
    let ours = |path: &PathBuf| {
        let rest = path.file_name().and_then(|name| name.to_str()?.strip_prefix(instance));
        rest.is_some_and(|rest| rest.starts_with('-')) && owner(path) == Some(process::id())
    };
    pins.into_iter().chain(files).chain(entries(Path::new(netns::FOLDER)).filter(ours)).collect()
}

/// Whether an agent of that instance has left anything, so that `down` has something to remove.
pub fn is_used(instance: &str) -> bool {
    Path::new(PINS).join(instance).exists()
        || Path::new(FILES).join(format!("{instance}.json")).exists()
}

/// Waits until no agent holds the instance's lock: the kernel kills the agent of a lab that was
/// killed, but only after it has released the lab's own lock. The agent of a lab with `--keep` goes
/// on, so the wait is limited.
fn wait_for_dying_agent(instance: &str) {
    let Ok(lock) = File::open(Path::new(FILES).join(format!("{instance}.lock"))) else { return };
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end && lock.try_lock().is_err() {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends SIGTERM to every process in that network namespace.
fn end_inside(path: &Path) {
    let Ok(there) = Netns::open(path).and_then(|netns| netns.id()) else { return };
    for process in entries(Path::new("/proc")) {
        let pid = process.file_name().and_then(|name| name.to_str()?.parse().ok());
        let is_inside =
            || fs::metadata(process.join("ns/net")).is_ok_and(|of| (of.dev(), of.ino()) == there);
        if let Some(pid) = pid.filter(|_| is_inside()) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

/// Sends SIGTERM to every process in the containers of that instance: a namespace lives as long as
/// a process is in it.
pub fn end_in_containers(program: &Path, instance: &str) {
    let list = &mut verb::command(program, instance, &["container", "ls", "--json"]);
    let Ok(list) = verb::run_command(list) else { return };
    if list.status == Some(0)
        && let Some(containers) = list.json().as_array()
    {
        let paths = containers.iter().filter_map(|container| container["netns"].as_str());
        paths.for_each(|path| end_inside(Path::new(path)));
    }
}

/// The process ID in a name made by [`unique_name`], perhaps with a suffix.
fn owner(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_prefix(FOLDER_PREFIX).unwrap_or(name);
    let (pid, rest) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let after = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let numbered = after.len() < rest.len() && (after.is_empty() || after.starts_with(['-', '.']));
    numbered.then(|| pid.parse().ok())?
}

/// Ends a child with SIGHUP, which a shell passes on to its jobs, and after two seconds with
/// SIGKILL.
fn end(mut child: Child) {
    let pid = i32::try_from(child.id()).map(Pid::from_raw);
    let _ = pid.map(|pid| kill(pid, Signal::SIGHUP));
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(Duration::from_millis(10));
    }
    // Fails only if the child has ended.
    let _ = child.kill();
    let _ = child.wait();
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// Removes a namespace, folder or file. Errors are ignored.
fn remove(path: &Path) {
    if path.parent() == Some(Path::new(netns::FOLDER)) {
        let _ = path.file_name().and_then(|name| name.to_str()).map(Netns::remove);
    } else if path.is_dir() {
        let _ = fs::remove_dir_all(path);
    } else {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_contains_process_id() {
        assert_eq!(
            owner(Path::new("/run/netns").join(unique_name(3)).as_path()),
            Some(process::id())
        );
        assert_eq!(owner(Path::new("/run/netns/cwt12-1-c1")), Some(12));
        assert_eq!(owner(&folder("cwt12-1")), Some(12));
        for other in ["c1", "cwt", "cwt12", "cwt12-", "cwt12-a", "cwt12-1a", "cwta-1"] {
            assert_eq!(owner(Path::new(other)), None, "{other}");
        }
    }
}
