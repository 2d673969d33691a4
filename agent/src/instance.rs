//! An instance: its name, and its files under `/run/causeway`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::ErrorKind,
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use causeway_api::client;
use causeway_api::{Error, types::name};

/// Where every instance's files are.
const FOLDER: &str = client::FOLDER;

/// Where every instance's datapath is pinned.
const PINS: &str = "/sys/fs/bpf/causeway";

/// An agent and all that it made. Several can run on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    name: String,
}

/// Held by the one process that may change what the instance has. The kernel gives it back when the
/// process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Instance {
    /// The one of that name, which must be usable as a file's.
    pub fn new(name: &str) -> Result<Self, Error> {
        name::check_instance(name)?;
        Ok(Self { name: name.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An error with its causes and remedy on one line. Commands in it reach this instance.
    pub fn line(&self, error: &anyhow::Error) -> String {
        Error::from_chain(&**error).line(&self.name)
    }

    /// Where its agent serves.
    pub fn socket(&self) -> PathBuf {
        client::socket(&self.name)
    }

    /// What it has, for the next agent.
    pub fn state(&self) -> PathBuf {
        self.file("json")
    }

    /// Where its datapath is pinned.
    pub fn pins(&self) -> PathBuf {
        Path::new(PINS).join(&self.name)
    }

    /// What is there of it beside its state file and its lock: the datapath's pins first.
    pub fn traces(&self) -> Vec<PathBuf> {
        // A name has no dot, so that no other instance's files begin so.
        let prefix = format!("{}.", self.name);
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(&prefix) && *path != self.state() && *path != self.file("lock")
        };
        let files = fs::read_dir(FOLDER)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(is_ours);
        std::iter::once(self.pins()).filter(|pins| pins.exists()).chain(files).collect()
    }

    /// Whether the lock file exists. It may be unlocked.
    pub fn has_lock_file(&self) -> bool {
        self.file("lock").exists()
    }

    /// The others that have something.
    pub fn others(&self) -> Vec<Self> {
        let files = fs::read_dir(FOLDER).into_iter().flatten().flatten().map(|entry| entry.path());
        let states =
            files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let named = states.filter_map(|path| Self::new(path.file_stem()?.to_str()?).ok());
        named.filter(|other| other != self).collect()
    }

    /// Waits for its turn among the instances that are about to say which host is theirs. It ends
    /// when what is answered is dropped.
    pub fn turn() -> anyhow::Result<File> {
        make_folder()?;
        let folder = File::open(FOLDER).and_then(|folder| folder.lock().map(|()| folder));
        folder.map_err(Error::os).with_context(|| format!("cannot lock {FOLDER}"))
    }

    /// Takes the lock, and makes the folder if need be; none if another process has it.
    pub fn lock(&self) -> anyhow::Result<Option<Lock>> {
        let path = self.file("lock");
        // A `down` that ends between our opening and our locking takes the file away, and its
        // folder: then it is tried again. Each further round takes another `down`.
        for _ in 0..100 {
            make_folder()?;
            let opened =
                OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
            let file = match opened {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other
                    .map_err(Error::os)
                    .with_context(|| format!("cannot open the lock file {}", path.display()))?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    bail!(Error::os(error).context(format!("cannot lock {}", path.display())))
                }
            }
            if is_at(&file, &path) {
                return Ok(Some(Lock { path, _file: file }));
            }
        }
        bail!(
            Error::internal(format!("the lock file {} does not stay", path.display()))
                .hint("try again when no other 'causeway down' runs")
        )
    }

    fn file(&self, extension: &str) -> PathBuf {
        Path::new(FOLDER).join(format!("{}.{extension}", self.name))
    }
}

impl Lock {
    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it back and leaves no file behind; the folder goes with the last instance.
    pub fn remove(self) {
        // Both are tidiness: a lock file that stays locks nothing, and a folder in use is not
        // empty.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(FOLDER);
    }
}

fn make_folder() -> anyhow::Result<()> {
    // The mode again, since the umask takes from it: without it others are told of a missing right
    // instead of a missing agent.
    let made = DirBuilder::new()
        .mode(0o755)
        .create(FOLDER)
        .and_then(|()| fs::set_permissions(FOLDER, Permissions::from_mode(0o755)));
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            bail!(Error::os(error).context(format!("cannot make {FOLDER}")))
        }
        _ => Ok(()),
    }
}

/// Whether what is at `path` is still `file`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_files_of_its_own() {
        let lab = Instance::new("lab").unwrap();
        assert_eq!(lab.socket(), Path::new("/run/causeway/lab.sock"));
        assert_eq!(lab.state(), Path::new("/run/causeway/lab.json"));
        assert_eq!(lab.pins(), Path::new("/sys/fs/bpf/causeway/lab"));
        assert!(Instance::new("../lab").is_err());
    }
}
