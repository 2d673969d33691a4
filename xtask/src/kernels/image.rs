//! Debian's kernels: downloaded by apt and unpacked beside the build, but not installed.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::debian::Apt;
use crate::setup::progress::Steps;

const FLAVOUR: &str = "-cloud-amd64";

/// An unpacked kernel.
pub(crate) struct Image {
    /// The release that `uname -r` prints.
    pub(crate) release: String,
    /// The bootable file.
    pub(crate) kernel: PathBuf,
    /// The folder of its modules.
    pub(crate) modules: PathBuf,
}

impl Image {
    /// The kernel of a version such as `6.1`: the one already unpacked in `folder`, otherwise
    /// Debian's newest.
    pub(crate) fn get(version: &str, folder: &Path) -> Result<Self> {
        if std::env::consts::ARCH != "x86_64" {
            bail!(
                "cannot test on Linux {version} here: its package and its virtual machine are for x86-64"
            );
        }
        let unpacked = folder.join("package");
        if let Some(image) = Self::find(&unpacked) {
            return Ok(image);
        }
        let steps = Steps::new(folder.join("fetch.log"))?;
        let package = fetch(version, folder, &steps)?;
        // Unpacked elsewhere and moved, so that an interrupted run leaves no partial package.
        let partial = folder.join("package.partial");
        remove(&partial)?;
        steps.run(
            "unpacking the kernel",
            Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&partial),
        )?;
        remove(&unpacked)?;
        fs::rename(&partial, &unpacked)
            .with_context(|| format!("cannot move it to {}", unpacked.display()))?;
        fs::remove_file(&package)
            .with_context(|| format!("cannot remove {}", package.display()))?;
        Self::find(&unpacked)
            .with_context(|| format!("the package has no kernel in {}", unpacked.display()))
    }

    fn find(unpacked: &Path) -> Option<Self> {
        let modules = ["lib/modules", "usr/lib/modules"].iter().find_map(|folder| {
            let mut releases = fs::read_dir(unpacked.join(folder)).ok()?;
            Some(releases.next()?.ok()?.path())
        })?;
        let release = modules.file_name()?.to_str()?.to_owned();
        let kernel = unpacked.join("boot").join(format!("vmlinuz-{release}"));
        kernel.is_file().then_some(Self { release, kernel, modules })
    }
}

/// Downloads the newest package of that version into `folder`.
fn fetch(version: &str, folder: &Path, steps: &Steps) -> Result<PathBuf> {
    let by_hand = format!(
        "unpack a package linux-image-{version}…{FLAVOUR} into {}/package",
        folder.display()
    );
    let download = |name: &str| {
        let mut command = Command::new("apt-get");
        command.current_dir(folder).args(["-o", "Acquire::Retries=3", "download", name]);
        steps.run(name, &mut command)
    };
    let known = newest(version)?;
    let fetched = known.is_some_and(|name| download(&name).is_ok());
    if !fetched {
        // There are no package lists yet, or they are older than the mirror.
        Apt::open(steps, &by_hand)?;
        let Some(name) = newest(version)? else {
            bail!(
                "apt knows no package linux-image-{version}…{FLAVOUR}: Debian 12 and its security updates have it, \
                 so add bookworm and bookworm-security to apt's sources, or {by_hand}"
            );
        };
        download(&name).with_context(|| format!("cannot fetch Linux {version}: {by_hand}"))?;
    }
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let package = entries.flatten().map(|entry| entry.path()).find(is_package);
    package.with_context(|| format!("apt-get has left no package in {}", folder.display()))
}

/// The newest package of a kernel version that apt knows.
fn newest(version: &str) -> Result<Option<String>> {
    let prefix = format!("linux-image-{version}.");
    let output = Command::new("apt-cache").args(["pkgnames", &prefix]).output();
    let output = output.with_context(|| {
        format!("cannot run apt-cache to look for Linux {version}: the kernels come from Debian's packages")
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut names: Vec<&str> = text.lines().filter(|name| name.ends_with(FLAVOUR)).collect();
    names.sort_by_key(|name| Reverse(numbers(name)));
    Ok(names.first().map(|name| (*name).to_owned()))
}

/// The numbers in a package name, which order the packages of one kernel version.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn kernel_packages_are_ordered_by_number() {
        let names = ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64"];
        assert!(numbers(names[0]) < numbers(names[1]));
        let names =
            ["linux-image-6.12.9+deb12-cloud-amd64", "linux-image-6.12.117+deb12-cloud-amd64"];
        assert!(numbers(names[0]) < numbers(names[1]));
    }
}
