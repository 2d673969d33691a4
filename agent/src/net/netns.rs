//! Network namespaces as files, and work done inside them on threads of their own.

use std::path::{Path, PathBuf};

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {}

impl Netns {
    /// The calling thread's.
    pub fn current() -> anyhow::Result<Self> { unimplemented!() }
    /// The one at `path`, which must be a network namespace (NS_GET_NSTYPE), else a clear error.
    pub fn open(_path: &Path) -> anyhow::Result<Self> { unimplemented!() }
    /// Makes `/run/netns/NAME` as `ip netns add` does (so that `ip netns` sees it), `lo` up. Fails if the name is taken.
    pub fn create(_name: &str) -> anyhow::Result<Self> { unimplemented!() }
    /// Unmounts and removes `/run/netns/NAME`. Absent is done.
    pub fn remove(_name: &str) -> anyhow::Result<()> { unimplemented!() }
    /// Where it was opened.
    pub fn path(&self) -> &Path { unimplemented!() }
    /// `SO_NETNS_COOKIE` of a socket in it: what BPF programs know it by.
    pub fn cookie(&self) -> anyhow::Result<u64> { unimplemented!() }
    /// Device and inode of its file: two are equal if and only if they are one namespace.
    pub fn id(&self) -> anyhow::Result<(u64, u64)> { unimplemented!() }
    /// Moves the calling thread into it. Never call this on a thread of a tokio runtime.
    pub fn enter(&self) -> anyhow::Result<()> { unimplemented!() }
    /// Runs `work` in it, on a thread made for that.
    pub fn run<T: Send>(&self, _work: impl FnOnce() -> T + Send) -> anyhow::Result<T> { unimplemented!() }
}

/// `/run/netns/NAME`.
pub fn named(_name: &str) -> PathBuf { unimplemented!() }
