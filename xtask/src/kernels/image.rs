//! A kernel of Debian's: fetched by apt, unpacked beside the build, installed nowhere.

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
    /// What `uname -r` says in it.
    pub(crate) release: String,
    /// The file to boot.
    pub(crate) kernel: PathBuf,
    /// Its folder of modules.
    pub(crate) modules: PathBuf,
}

impl Image {
    /// The kernel of that version (`6.1`): the one that is unpacked in `folder` already, or the
    /// newest that Debian has.
    pub(crate) fn get(version: &str, folder: &Path) -> Result<Self> {
        if std::env::consts::ARCH != "x86_64" {
            bail!("Linux {version} cannot be tried here: its package and its machine are x86-64's");
        }
        let unpacked = folder.join("package");
        if let Some(image) = Self::find(&unpacked) {
            return Ok(image);
        }
        let steps = Steps::new(folder.join("fetch.log"))?;
        let package = fetch(version, folder, &steps)?;
        // Aside and then moved, so that what is in place is whole.
        let partial = folder.join("package.partial");
        remove(&partial)?;
        steps.run(
            "unpacking it",
            Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&partial),
        )?;
        remove(&unpacked)?;
        fs::rename(&partial, &unpacked)
            .with_context(|| format!("cannot move it to {}", unpacked.display()))?;
        fs::remove_file(&package)
            .with_context(|| format!("cannot remove {}", package.display()))?;
        Self::find(&unpacked).with_context(|| {
            format!("there is no kernel in what was unpacked: {}", unpacked.display())
        })
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
        // No list of packages yet, or one that is older than what the mirror has.
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

/// The name of the newest package of a kernel version that apt knows.
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

/// The numbers in a name, by which the names of one kernel version are in order.
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
    fn the_newest_kernel_is_the_one_with_the_greater_number() {
        let names = ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64"];
        assert!(numbers(names[0]) < numbers(names[1]));
        let names =
            ["linux-image-6.12.9+deb12-cloud-amd64", "linux-image-6.12.117+deb12-cloud-amd64"];
        assert!(numbers(names[0]) < numbers(names[1]));
    }
}
