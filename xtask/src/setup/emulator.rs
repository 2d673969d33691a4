//! The emulator that runs other kernels: the installed one, or one unpacked into causeway's cache.
//!
//! Debian's `qemu-system-x86` cannot be installed beside a newer `qemu-utils`, for example one of
//! backports: apt would remove that package. Its packages are then downloaded and unpacked into the
//! cache, where nothing of the system changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cache;
use super::debian::Apt;
use super::progress::Steps;
use crate::privilege;
use crate::recipe;

/// The program.
pub(crate) const QEMU: &str = "qemu-system-x86_64";
/// Its Debian package.
pub(crate) const PACKAGE: &str = "qemu-system-x86";

/// Where firmware and keymaps are below the root of the packages.
const DATA: [&str; 3] = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];
/// Where shared libraries are.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// Whether there is an emulator.
pub(crate) fn exists() -> bool {
    privilege::find_program(QEMU).is_some() || unpacked().is_some()
}

/// The command that starts the emulator, without arguments of a machine.
pub(crate) fn command() -> Command {
    match (privilege::find_program(QEMU), unpacked()) {
        (None, Some(root)) => of_root(&root),
        (Some(_), _) | (None, None) => Command::new(QEMU),
    }
}

/// Installs the emulator, or unpacks it into `cache` if that would remove another package.
pub(crate) fn install(apt: &Apt<'_>, steps: &Steps, cache: &Path) -> Result<()> {
    let Err(refused) = apt.install("the virtual machine for other kernels", &[PACKAGE]) else {
        return Ok(());
    };
    eprintln!("setup: {refused:#}: unpacking it beside the system instead");
    unpack(apt, steps, cache).with_context(|| format!("cannot unpack {PACKAGE}"))
}

/// Downloads the packages that an installation would add, unpacks them in a directory of their own,
/// and moves that into place once the program starts.
fn unpack(apt: &Apt<'_>, steps: &Steps, cache: &Path) -> Result<()> {
    let partial = cache.join("qemu.partial");
    cache::remove(&partial)?;
    let (packages, root) = (partial.join("packages"), partial.join("root"));
    for directory in [packages.join("partial"), root.clone()] {
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    apt.download(&packages, PACKAGE)?;
    let mut unpacked = 0_u32;
    let entries =
        fs::read_dir(&packages).with_context(|| format!("cannot list {}", packages.display()))?;
    for entry in entries {
        let package = entry.with_context(|| format!("cannot list {}", packages.display()))?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            let mut extract = Command::new("dpkg-deb");
            steps.run("unpacking", extract.arg("--extract").arg(&package).arg(&root))?;
            unpacked += 1;
        }
    }
    if unpacked == 0 {
        bail!("apt-get has downloaded no package to {}", packages.display());
    }
    steps
        .run("starting it once", of_root(&root).arg("--version"))
        .context("the unpacked program does not start")?;
    cache::remove(&packages)?;
    let place = place(cache);
    cache::remove(&place)?;
    fs::rename(&partial, &place)
        .with_context(|| format!("cannot move the emulator to {}", place.display()))
}

fn place(cache: &Path) -> PathBuf {
    cache.join("qemu")
}

/// The root of the unpacked packages, if they are there.
fn unpacked() -> Option<PathBuf> {
    let root = place(&recipe::cache_dir().ok()?).join("root");
    root.join("usr/bin").join(QEMU).is_file().then_some(root)
}

/// The command for an emulator below `root`, with its own libraries and data.
fn of_root(root: &Path) -> Command {
    let libraries = LIBRARIES.map(|directory| root.join(directory).display().to_string());
    let mut command = Command::new(root.join("usr/bin").join(QEMU));
    command.env("LD_LIBRARY_PATH", libraries.join(":"));
    for directory in DATA {
        command.arg("-L").arg(root.join(directory));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacked_emulator_uses_own_libraries_and_data() {
        let command = of_root(Path::new("/cache/qemu/root"));
        assert_eq!(command.get_program(), "/cache/qemu/root/usr/bin/qemu-system-x86_64");
        let arguments: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(arguments[..2], ["-L", "/cache/qemu/root/usr/share/qemu"]);
        let libraries = command.get_envs().next().and_then(|(_, value)| value).unwrap();
        assert!(libraries.to_string_lossy().starts_with("/cache/qemu/root/usr/lib/"));
    }
}
