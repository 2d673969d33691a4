//! Programs for system calls on sockets, at the root of the cgroups.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, links::FdLink};
use causeway_common::abi::programs::{self, Attachment};

use super::Attached;
use crate::datapath::{object, pins::unpin};

impl Attached {
    /// Attaches the cgroup programs at the root of the cgroups. They run for every socket, and
    /// leave sockets of other namespaces unchanged.
    pub(super) fn put_sockets(&mut self) -> anyhow::Result<()> {
        let Some(root) = cgroup2()? else {
            tracing::warn!(
                "no cgroup2 is mounted: processes of the host do not reach published ports by the host's addresses"
            );
            return Ok(());
        };
        let file =
            File::open(&root).with_context(|| format!("opening the cgroup {}", root.display()))?;
        for name in programs::attached_to(Attachment::SocketAddress) {
            self.put_socket(name, &file, &root)?;
        }
        for name in programs::attached_to(Attachment::SocketBind) {
            let program: &mut CgroupSockAddr = self
                .ebpf
                .program_mut(name)
                .context("the object lacks a cgroup program")?
                .try_into()?;
            if self.allow_bind {
                unpin(&self.pins.link(name))?;
            } else if let Err(error) = program.load() {
                // It needs more of the kernel than the others: BTF, and an error code of its own
                // for the system call.
                tracing::warn!(
                    error = format!("{:#}", object::explain(name, error)),
                    "processes of the host can bind published ports"
                );
            } else {
                self.put_socket(name, &file, &root)?;
            }
        }
        Ok(())
    }

    fn put_socket(&mut self, name: &str, file: &File, root: &Path) -> anyhow::Result<()> {
        let program: &mut CgroupSockAddr =
            self.ebpf.program_mut(name).context("the object lacks a cgroup program")?.try_into()?;
        // The mode is for attachments without links. A link never excludes others.
        let link = program
            .attach(file, CgroupAttachMode::Single)
            .and_then(|id| program.take_link(id))
            .with_context(|| {
                format!("attaching the program '{name}' to the cgroup {}", root.display())
            })?;
        // R19: for a moment the programs of both agents run.
        let pin = self.pins.link(name);
        unpin(&pin)?;
        FdLink::try_from(link)?.pin(&pin).with_context(|| format!("pinning {}", pin.display()))?;
        Ok(())
    }
}

/// The mount point of cgroup2. Beside hierarchies of v1 it is not `/sys/fs/cgroup`.
fn cgroup2() -> anyhow::Result<Option<PathBuf>> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    Ok(mounts.lines().find_map(mount_point_of_cgroup2))
}

/// In a line of mountinfo, the mount point is the fifth field, and the type is the first one after
/// the separator.
fn mount_point_of_cgroup2(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    if kind.split(' ').next()? != "cgroup2" {
        return None;
    }
    mount.split(' ').nth(4).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_among_mounts() {
        let unified = "31 24 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(mount_point_of_cgroup2(unified), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let v1 = "32 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        assert_eq!(mount_point_of_cgroup2(v1), None);
        assert_eq!(mount_point_of_cgroup2(""), None);
    }
}
