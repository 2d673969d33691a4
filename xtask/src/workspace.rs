//! The checkout, and cargo inside it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::recipe;

/// The checkout that this xtask belongs to.
pub(crate) struct Workspace {
    root: PathBuf,
    target_dir: PathBuf,
    cargo: OsString,
}

/// A cargo profile.
///
/// Tests, lab and CI use `dev`, which xtask itself is built with, so that dependencies are compiled
/// once. The eBPF object is always optimised, so a `release` agent would make no test faster. `run`
/// uses `release`, because that program is kept.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Workspace {
    /// Finds the checkout by `CARGO_MANIFEST_DIR`, preferring the variable's value at run time: one
    /// target directory may serve two checkouts.
    pub(crate) fn find() -> Result<Self> {
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root =
            package.parent().context("xtask's package is not inside a workspace")?.to_path_buf();
        let this = env::current_exe().context("cannot find this program's own path")?;
        let target_dir = recipe::target_dir(&this, &root);
        Ok(Self { root, target_dir, cargo: env::var_os("CARGO").unwrap_or_else(|| "cargo".into()) })
    }

    /// The checkout's root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The target directory that this xtask was built in; everything it starts uses it too.
    pub(crate) fn target_dir(&self) -> &Path {
        &self.target_dir
    }

    /// A build of an eBPF object for this machine.
    pub(crate) fn object<'a>(&'a self, package: &'a str) -> recipe::Build<'a> {
        recipe::Build {
            workspace: &self.root,
            target_dir: &self.target_dir,
            arch: env::consts::ARCH,
            package,
            trace: false,
        }
    }

    /// A cargo command in the checkout, without the variables that cargo set for xtask's package.
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

    /// The output of `cargo metadata` for the packages of the workspace, without dependencies.
    pub(crate) fn metadata(&self) -> Result<serde_json::Value> {
        let mut command = self.cargo();
        command.args(["metadata", "--no-deps", "--format-version=1", "--offline"]);
        let output = command.output().context("cannot run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata prints")
    }

    /// Builds binaries, each given as package and name.
    pub(crate) fn build(&self, profile: Profile, binaries: &[(&str, &str)]) -> Result<()> {
        self.build_with(profile, binaries, &[])
    }

    /// Builds binaries with features, given as `PACKAGE/FEATURE`.
    pub(crate) fn build_with(
        &self,
        profile: Profile,
        binaries: &[(&str, &str)],
        features: &[&str],
    ) -> Result<()> {
        let mut command = self.cargo();
        command.arg("build");
        if matches!(profile, Profile::Release) {
            command.arg("--release");
        }
        command.args(features.iter().flat_map(|feature| ["--features", feature]));
        for (package, name) in binaries {
            command.args(["--package", package, "--bin", name]);
        }
        let status =
            command.status().with_context(|| format!("cannot run {}", self.cargo.display()))?;
        if !status.success() {
            let names: Vec<&str> = binaries.iter().map(|(_, name)| *name).collect();
            bail!(
                "{} did not build ({status}): the compiler's message is above",
                names.join(" and ")
            );
        }
        Ok(())
    }

    /// Builds test programs of package `causeway-tests`. Returns the name and file of each.
    pub(crate) fn tests(&self, names: &[String]) -> Result<Vec<(String, PathBuf)>> {
        let mut command = self.cargo();
        command.args(["test", "--no-run", "--package", "causeway-tests"]);
        // Messages for a person on stderr, those for a program on stdout.
        command
            .args(names.iter().flat_map(|name| ["--test", name]))
            .arg("--message-format=json-render-diagnostics");
        let output = command.stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("cannot run {}", self.cargo.display()))?;
        if !output.status.success() {
            bail!("the tests did not build ({}): the compiler's message is above", output.status);
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let built: Vec<_> = messages.lines().filter_map(test_program).collect();
        let of = |name: &String| {
            let found = built.iter().find(|(built, _)| built == name).cloned();
            found.with_context(|| format!("cargo has built no test program '{name}'"))
        };
        names.iter().map(of).collect()
    }

    /// The path of a built binary.
    pub(crate) fn binary(&self, profile: Profile, name: &str) -> PathBuf {
        let directory = match profile {
            Profile::Dev => "debug",
            Profile::Release => "release",
        };
        self.target_dir.join(directory).join(name)
    }
}

/// The name and file of a test program, from one of cargo's JSON messages.
fn test_program(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let executable = message["executable"].as_str()?;
    let is_test = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "test");
    is_test.then_some((message["target"]["name"].as_str()?.to_owned(), executable.into()))
}
