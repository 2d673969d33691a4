//! Packages, where apt-get is.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::progress::Steps;
use crate::privilege;

/// apt-get with the rights to install.
pub(crate) struct Apt<'a> {
    steps: &'a Steps,
    prefix: Vec<OsString>,
    /// Why the package lists could not be fetched. Not an error by itself: one unreachable source
    /// of many is none of our business, and what is asked for may be known already.
    stale: Option<anyhow::Error>,
}

impl<'a> Apt<'a> {
    /// Fetches the package lists. `otherwise` is what to do by hand where there is no apt-get.
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

    /// Installs packages, and never removes one to do so.
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

/// Whether an installation was interrupted, this one's predecessor perhaps: until it is finished
/// dpkg refuses all else.
fn half_installed() -> bool {
    let journal =
        fs::read_dir("/var/lib/dpkg/updates").is_ok_and(|mut entries| entries.next().is_some());
    journal
        || Command::new("dpkg").arg("--audit").output().is_ok_and(|audit| !audit.stdout.is_empty())
}
