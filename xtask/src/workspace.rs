//! The checkout, and cargo inside it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::recipe;

/// The checkout this xtask belongs to.
pub(crate) struct Workspace {
    root: PathBuf,
    target_dir: PathBuf,
    cargo: OsString,
}

/// Two profiles, one purpose each. Tests, lab and CI use `dev`, which xtask itself is built with, so what they depend on
/// is compiled once; packets are handled in the kernel by an object that is always optimised, so a `release` of
/// the agent would make no test faster. `run` uses `release`: that is the program a person keeps.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Workspace {
    /// Finds the checkout from what cargo says of this package, at run time where it can: one target directory may
    /// serve two checkouts.
    pub(crate) fn find() -> Result<Self> {
        let package =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = package.parent().context("xtask's package is not inside a workspace")?.to_path_buf();
        let this = env::current_exe().context("cannot find this program's own path")?;
        let target_dir = recipe::target_dir(&this, &root);
        Ok(Self { root, target_dir, cargo: env::var_os("CARGO").unwrap_or_else(|| "cargo".into()) })
    }

    /// The checkout.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The target directory this xtask was built in, which all it starts uses too.
    pub(crate) fn target_dir(&self) -> &Path {
        &self.target_dir
    }

    /// One build of an eBPF object for this machine.
    pub(crate) fn object<'a>(&'a self, package: &'a str) -> recipe::Build<'a> {
        recipe::Build { workspace: &self.root, target_dir: &self.target_dir, arch: env::consts::ARCH, package }
    }

    /// A cargo command in the checkout, without what the cargo that runs xtask said about xtask.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target_dir);
        for (key, _) in env::vars_os() {
            let name = key.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&key);
            }
        }
        command
    }

    /// Builds binaries, given as pairs of package and name.
    pub(crate) fn build(&self, profile: Profile, binaries: &[(&str, &str)]) -> Result<()> {
        let mut command = self.cargo();
        command.arg("build");
        if matches!(profile, Profile::Release) {
            command.arg("--release");
        }
        for (package, name) in binaries {
            command.args(["--package", package, "--bin", name]);
        }
        let status = command.status().with_context(|| format!("cannot run {}", self.cargo.display()))?;
        if !status.success() {
            let names: Vec<&str> = binaries.iter().map(|(_, name)| *name).collect();
            bail!("{} did not build ({status}): the compiler's message is above", names.join(" and "));
        }
        Ok(())
    }

    /// Where a binary is, once built.
    pub(crate) fn binary(&self, profile: Profile, name: &str) -> PathBuf {
        let directory = match profile {
            Profile::Dev => "debug",
            Profile::Release => "release",
        };
        self.target_dir.join(directory).join(name)
    }
}
