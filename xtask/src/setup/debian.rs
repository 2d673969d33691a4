//! Debian's packages, by apt-get.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::progress::Steps;
use crate::privilege;

/// apt-get, as root.
pub(crate) struct Apt<'a> {
    steps: &'a Steps,
    prefix: Vec<OsString>,
    /// Why `apt-get update` failed. It is no error by itself: one of many sources may be
    /// unreachable, and the package may be in the lists that are there.
    stale: Option<anyhow::Error>,
}

impl<'a> Apt<'a> {
    /// Fetches the package lists. `otherwise` tells what to do where there is no apt-get.
    pub(crate) fn open(steps: &'a Steps, otherwise: &str) -> Result<Self> {
        if privilege::find_program("apt-get").is_none() {
            bail!("there is no apt-get here: {otherwise}");
        }
        let mut apt = Self { steps, prefix: privilege::prefix("apt-get")?, stale: None };
        if half_installed() {
            let mut configure = apt.command("dpkg");
            apt.steps.run(
                "packages left half-installed",
                configure.args(["--configure", "--pending"]),
            )?;
        }
        apt.stale = apt.steps.run("package lists", apt.apt_get().arg("update")).err();
        Ok(apt)
    }

    /// Installs packages, without removing others.
    pub(crate) fn install(&self, name: &str, packages: &[&str]) -> Result<()> {
        let mut command = self.apt_get();
        command.args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(packages);
        let result = self.steps.run(&format!("{name} ({})", packages.join(" ")), &mut command);
        result
            .map_err(|error| match &self.stale {
                Some(stale) => anyhow!("{error} (and `apt-get update` failed before: {stale})"),
                None => error,
            })
            .with_context(|| format!("apt-get cannot install {}", packages.join(" ")))
    }

    /// Downloads a package to `folder`, with the packages that installing it would add. The system
    /// does not change.
    pub(crate) fn download(&self, folder: &Path, package: &str) -> Result<()> {
        let mut archives = OsString::from("Dir::Cache::archives=");
        archives.push(folder);
        let mut command = self.apt_get();
        // apt's own user cannot write where root's cache is.
        command.args(["-o", "APT::Sandbox::User=root", "-o"]).arg(archives).args([
            "install",
            "--download-only",
            "--yes",
            "--no-install-recommends",
            package,
        ]);
        let result = self.steps.run(&format!("download of {package}"), &mut command);
        result.with_context(|| format!("apt-get cannot download {package}"))
    }

    fn apt_get(&self) -> Command {
        let mut command = self.command("apt-get");
        command.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]);
        command
    }

    fn command(&self, program: &str) -> Command {
        let variables =
            [("DEBIAN_FRONTEND", OsStr::new("noninteractive")), ("LC_ALL", OsStr::new("C.UTF-8"))];
        privilege::as_root(&self.prefix, &variables, program.as_ref())
    }
}

/// Whether an installation was interrupted. dpkg refuses to work until it is finished.
fn half_installed() -> bool {
    let journal =
        fs::read_dir("/var/lib/dpkg/updates").is_ok_and(|mut entries| entries.next().is_some());
    journal
        || Command::new("dpkg").arg("--audit").output().is_ok_and(|audit| !audit.stdout.is_empty())
}
