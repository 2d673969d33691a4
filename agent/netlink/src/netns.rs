//! Network namespaces as files, and work done inside them on threads of their own.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    panic,
    path::{Path, PathBuf},
    process, thread,
};

use anyhow::{Context as _, bail, ensure};
use causeway_api::Error;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::{
        socket::{AddressFamily, SockFlag, SockType, getsockopt, socket},
        statfs::{NSFS_MAGIC, fstatfs},
    },
    unistd::gettid,
};
use nix::{getsockopt_impl, sockopt_impl};

use crate::loopback;

/// The folder of named namespaces, which `ip netns` uses too.
pub const FOLDER: &str = "/run/netns";

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
}

impl Netns {
    /// Opens the calling thread's namespace.
    pub fn current() -> anyhow::Result<Self> {
        // With both numbers, so that the path means the same to every reader.
        let path = PathBuf::from(format!("/proc/{}/task/{}/ns/net", process::id(), gettid()));
        let file = File::open(&path).with_context(|| {
            format!("cannot open this thread's network namespace, {}", path.display())
        })?;
        Ok(Self { file, path })
    }

    /// Opens the namespace at `path`. Fails if the file is not a network namespace.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let tried = || format!("cannot open the network namespace {}", path.display());
        let file = open_for_reading(path).map_err(|error| {
            let kind = error.kind();
            if kind == io::ErrorKind::NotFound {
                return Error::not_found(format!(
                    "there is no network namespace at {}",
                    path.display()
                ))
                .hint("make it with 'ip netns add', or give another's name or path");
            }
            let error = Error::os(error).context(tried());
            if kind == io::ErrorKind::PermissionDenied {
                error.hint("run it as root, for example with sudo")
            } else {
                error
            }
        })?;
        let system = fstatfs(&file)
            .map_err(Error::os)
            .with_context(|| format!("cannot tell what {} is", path.display()))?;
        ensure!(
            system.filesystem_type() == NSFS_MAGIC,
            Error::invalid(format!(
                "{} is not a network namespace, or was mounted in another mount namespace only",
                path.display()
            ))
            .hint("give a name of 'ip netns', a path, or a process with --pid")
        );
        let netns = Self { file, path: path.to_owned() };
        match on_thread(|| setns(&netns.file, CloneFlags::CLONE_NEWNET))? {
            Ok(()) => Ok(netns),
            Err(Errno::EINVAL) => bail!(Error::invalid(format!(
                "{} is a namespace, but not a network namespace",
                path.display()
            ))),
            Err(Errno::EPERM) => bail!(
                Error::permission(format!(
                    "cannot enter the network namespace {}: this needs root",
                    path.display()
                ))
                .hint("run it as root, for example with sudo")
            ),
            Err(error) => bail!(
                Error::os(error)
                    .context(format!("cannot enter the network namespace {}", path.display()))
            ),
        }
    }

    /// Makes `/run/netns/NAME` as `ip netns add` does, so that `ip netns` lists it, and sets `lo`
    /// up. Fails if the name is taken.
    pub fn create(name: &str) -> anyhow::Result<Self> {
        check_name(name)?;
        let path = named(name);
        share_folder()?;
        OpenOptions::new().write(true).create_new(true).mode(0o000).open(&path).map_err(
            |error| {
                if error.kind() == io::ErrorKind::AlreadyExists {
                    Error::already_exists(format!(
                        "a network namespace named '{name}' exists already ({})",
                        path.display()
                    ))
                } else {
                    Error::os(error).context(format!("cannot make {}", path.display()))
                }
            },
        )?;
        let made = unshare_onto(&path).and_then(|()| Self::open(&path));
        if made.is_err() {
            // A file that is left would only occupy the name; the first error is the one to report.
            let _ = Self::remove(name);
        }
        made.with_context(|| format!("cannot make the network namespace '{name}'"))
    }

    /// Makes a namespace without a name; it ends with its last handle.
    pub fn nameless() -> anyhow::Result<Self> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|error| Error::os(error).context("unshare(CLONE_NEWNET) failed"))?;
            Self::current()
        })?
    }

    /// Unmounts and removes `/run/netns/NAME`. Succeeds if absent.
    pub fn remove(name: &str) -> anyhow::Result<()> {
        check_name(name)?;
        let path = named(name);
        loop {
            // In a loop: a namespace may have been mounted over another one.
            match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(error) => {
                    bail!(Error::os(error).context(format!(
                        "cannot unmount the network namespace {}",
                        path.display()
                    )))
                }
            }
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                bail!(Error::os(error).context(format!("cannot remove {}", path.display())))
            }
            _ => Ok(()),
        }
    }

    /// The path at which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a second handle.
    pub fn try_clone(&self) -> anyhow::Result<Self> {
        let file = self
            .file
            .try_clone()
            .with_context(|| format!("cannot open {} again", self.path.display()))?;
        Ok(Self { file, path: self.path.clone() })
    }

    /// `SO_NETNS_COOKIE` of a socket in the namespace; BPF programs compare it.
    pub fn cookie(&self) -> anyhow::Result<u64> {
        self.run(|| {
            let probe = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
            getsockopt(&probe, NetnsCookie)
        })?
        .map_err(Error::os)
        .with_context(|| {
            format!(
                "cannot read the cookie of the network namespace {} (Linux 5.14 and later have one)",
                self.path.display()
            )
        })
    }

    /// Device and inode of its file: equal if and only if the namespaces are the same.
    pub fn id(&self) -> anyhow::Result<(u64, u64)> {
        let of_file = self
            .file
            .metadata()
            .with_context(|| format!("cannot tell which namespace {} is", self.path.display()))?;
        Ok((of_file.dev(), of_file.ino()))
    }

    /// Moves the calling thread into the namespace. Never call this on a thread of a tokio runtime.
    pub fn enter(&self) -> anyhow::Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .map_err(Error::os)
            .with_context(|| format!("cannot enter the network namespace {}", self.path.display()))
    }

    /// Runs `work` in the namespace, on a new thread.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        on_thread(|| self.enter().map(|()| work()))?
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// `/run/netns/NAME`.
pub fn named(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

sockopt_impl!(
    /// `SO_NETNS_COOKIE`, which nix does not name.
    NetnsCookie,
    GetOnly,
    libc::SOL_SOCKET,
    SO_NETNS_COOKIE,
    u64
);

const SO_NETNS_COOKIE: libc::c_int = 71;

fn check_name(name: &str) -> anyhow::Result<()> {
    ensure!(!name.is_empty(), Error::invalid("the name of the network namespace is empty"));
    ensure!(
        name.len() <= 255,
        Error::invalid(format!(
            "'{name}' is too long for the name of a network namespace: 255 bytes at most"
        ))
    );
    ensure!(
        name != "." && name != ".." && !name.contains(['/', '\0']),
        Error::invalid(format!(
            "'{name}' cannot be the name of a network namespace: it must be a plain file name"
        ))
    );
    Ok(())
}

/// Opens a file without blocking on a FIFO or a device.
fn open_for_reading(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// Makes `/run/netns` a shared mount, so that mounts in it appear and disappear in every mount
/// namespace. iproute2 takes the same lock.
fn share_folder() -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o755).create(FOLDER) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            bail!(Error::os(error).context(format!("cannot make {FOLDER}")))
        }
        _ => {}
    }
    let folder = File::open(FOLDER).with_context(|| format!("cannot open {FOLDER}"))?;
    let _lock = Flock::lock(folder, FlockArg::LockExclusive)
        .map_err(|(_, error)| Error::os(error).context(format!("cannot lock {FOLDER}")))?;

    let share = || {
        mount(
            None::<&str>,
            FOLDER,
            None::<&str>,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            None::<&str>,
        )
    };
    let shared = match share() {
        // Not a mount point yet.
        Err(Errno::EINVAL) => mount(
            Some(FOLDER),
            FOLDER,
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        )
        .and_then(|()| share()),
        other => other,
    };
    match shared {
        Ok(()) => Ok(()),
        Err(error) => {
            bail!(Error::os(error).context(format!("cannot make {FOLDER} a shared mount")))
        }
    }
}

/// Mounts a new namespace on `path`, with `lo` up.
fn unshare_onto(path: &Path) -> anyhow::Result<()> {
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|error| Error::os(error).context("unshare(CLONE_NEWNET) failed"))?;
        loopback::set_up()?;
        mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(Error::os)
            .with_context(|| format!("cannot mount it on {}", path.display()))
    })?
}

/// Runs `work` on a thread of its own: a thread that entered another namespace is not used again.
fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work);
        match thread.context("cannot start a thread for a network namespace")?.join() {
            Ok(answer) => Ok(answer),
            Err(payload) => panic::resume_unwind(payload),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_a_plain_file_name_is_refused() {
        for name in ["", ".", "..", "a/b", "/", "a\0b", &"x".repeat(256)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["c1", "...", "a.b", &"x".repeat(255)] {
            check_name(name).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_no_namespace_is_refused() {
        let error = Netns::open(Path::new("/dev/null")).unwrap_err();
        assert!(error.to_string().contains("/dev/null is not a network namespace"), "{error}");
        let error = Netns::open(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("there is no network namespace at /nowhere/at/all; make it"),
            "{error}"
        );
    }

    #[test]
    fn the_current_namespace_is_equal_to_itself() {
        let one = Netns::current().unwrap();
        let other = Netns::current().unwrap();
        assert_eq!(one.id().unwrap(), other.id().unwrap());
    }
}
