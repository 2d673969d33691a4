//! What a lab leaves on the machine, and how that goes away: at the lab's end, after a panic, on a signal, and after a lab whose
//! process was killed.

use std::{
    collections::BTreeSet,
    fs, mem,
    path::{Path, PathBuf},
    process::{self, Child},
    sync::Once,
};

use causeway::net::netns::{self, Netns};

use crate::{agent::Agent, verb};

const PREFIX: &str = "cwt";

/// All that one lab has made, in the order it was made.
#[derive(Debug)]
pub struct Undo {
    instance: String,
    /// Namespaces by name.
    pub namespaces: Vec<String>,
    /// The agent, if one was started.
    pub agent: Option<Agent>,
    /// Other processes.
    pub children: Vec<Child>,
    /// Files of the lab's own.
    pub folders: Vec<PathBuf>,
    /// An agent was started, so that `down` has something to remove.
    pub used: bool,
    /// Namespaces that the agent made, which are gone after `down`.
    pub containers: Vec<String>,
}

impl Undo {
    /// Nothing yet.
    pub fn new(instance: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            namespaces: Vec::new(),
            agent: None,
            children: Vec::new(),
            folders: Vec::new(),
            used: false,
            containers: Vec::new(),
        }
    }

    /// Undoes everything, and answers what did not go as it should. Again is done.
    pub fn all(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        for mut child in self.children.drain(..) {
            // Fails only if it has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
        if mem::take(&mut self.used) {
            problems.extend(self.down());
        }
        for name in self.namespaces.drain(..).rev() {
            problems.extend(Netns::remove(&name).err().map(|error| format!("{error:#}")));
        }
        for folder in self.folders.drain(..) {
            problems.extend(fs::remove_dir_all(&folder).err().map(|error| format!("{}: {error}", folder.display())));
        }
        let containers = self.containers.drain(..).map(|name| netns::named(&name)).filter(|path| path.exists());
        for left in containers.chain(leftovers(&self.instance)).collect::<BTreeSet<_>>() {
            problems.push(format!("{} is left", left.display()));
            remove(&left);
        }
        problems
    }

    fn down(&mut self) -> Option<String> {
        let down = verb::run_command(&mut verb::command(&verb::binary(), &self.instance, &["down"]));
        let mut problem = match down {
            Ok(down) => (down.status != Some(0)).then(|| format!("{down}\n")),
            Err(error) => Some(format!("{error:#}\n")),
        };
        if let Some(mut agent) = self.agent.take() {
            if problem.is_some() || agent.wait().is_none() {
                problem.get_or_insert_with(|| "the agent did not end after 'down'".to_owned()).push_str(&agent.log());
                agent.kill();
            }
            let _ = fs::remove_file(agent.log_path());
        }
        problem
    }
}

/// A name that no other lab has, by which a later process knows whose it was.
pub fn unique_name(number: u32) -> String {
    format!("{PREFIX}{}-{number}", process::id())
}

/// Removes, once, what labs of processes that were killed have left.
pub fn sweep() {
    static SWEEP: Once = Once::new();
    SWEEP.call_once(|| {
        for place in places() {
            for path in entries(place)
                .filter(|path| owner(path).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()))
            {
                remove(&path);
            }
        }
    });
}

/// Where labs and their agents leave files.
fn places() -> [&'static Path; 3] {
    [Path::new(netns::FOLDER), Path::new("/sys/fs/bpf/causeway"), Path::new("/run/causeway")]
}

/// What is there of that instance.
fn leftovers(instance: &str) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| {
        let rest = path.file_name().and_then(|name| name.to_str()?.strip_prefix(instance));
        // With a unique name everything that begins with it is ours.
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('.') || rest.starts_with('-') && owner(path).is_some()
        })
    };
    places().into_iter().flat_map(entries).filter(ours).collect()
}

/// The process that a name made by [`unique_name`], with something appended, tells.
fn owner(path: &Path) -> Option<u32> {
    let rest = path.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    rest.split_once('-')?.0.parse().ok()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// As well as it can be done.
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
    fn a_name_tells_its_process() {
        assert_eq!(owner(Path::new("/run/netns").join(unique_name(3)).as_path()), Some(process::id()));
        assert_eq!(owner(Path::new("/run/netns/cwt12-1-c1")), Some(12));
        assert_eq!(owner(Path::new("/run/netns/c1")), None);
    }
}
