//! Programs that check the checkout, each pinned to one version, in causeway's cache.
//!
//! They are installed in the way that costs least on a new machine: cargo-deny is built without
//! optimisation, typos is its authors' binary from Python's registry. `docs/design/dependencies.md`
//! has figures.

use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::cache;
use super::progress::Steps;
use crate::recipe;

/// A program that checks the checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Licences, duplicates, sources and advisories of dependencies.
    Deny,
    /// Spelling.
    Typos,
}

impl Tool {
    const fn name(self) -> &'static str {
        match self {
            Self::Deny => "cargo-deny",
            Self::Typos => "typos",
        }
    }

    const fn version(self) -> &'static str {
        match self {
            Self::Deny => "0.20.2",
            Self::Typos => "1.52.0",
        }
    }

    /// The program, installed first if it is not there.
    pub(crate) fn get(self) -> Result<PathBuf> {
        let cache = recipe::cache_dir().map_err(anyhow::Error::msg)?;
        let root = cache.join(format!("{}-{}", self.name(), self.version()));
        let program = root.join("bin").join(format!("{}{EXE_SUFFIX}", self.name()));
        if program.exists() {
            return Ok(program);
        }
        fs::create_dir_all(&cache)
            .with_context(|| format!("cannot create causeway's cache {}", cache.display()))?;
        let _lock = cache::lock(&cache)?;
        // Another set-up may have held the lock and installed it.
        if !program.exists() {
            self.install(&cache, &root)
                .with_context(|| format!("cannot install {} {}", self.name(), self.version()))?;
        }
        Ok(program)
    }

    fn install(self, cache: &Path, root: &Path) -> Result<()> {
        let steps = Steps::new(cache.join("setup.log"))?;
        let partial = cache.join(format!("{}-{}.partial", self.name(), self.version()));
        cache::remove(&partial)?;
        match self {
            Self::Deny => {
                steps.run("cargo-deny (from source)", &mut deny(self.version(), &partial))?;
            }
            Self::Typos if has_pip() => {
                steps.run("typos (from PyPI)", &mut typos(self.version(), &partial))?;
            }
            Self::Typos => {
                let mut install = cache::cargo_install("typos-cli", self.version(), &partial);
                steps.run("typos (from source)", &mut install)?;
            }
        }
        cache::remove(&partial.join("build"))?;
        cache::remove(root)?;
        fs::rename(&partial, root)
            .with_context(|| format!("cannot move {} to {}", self.name(), root.display()))
    }
}

/// `cargo install` of cargo-deny, unoptimised: this halves the time to build it, and a check takes
/// two seconds.
fn deny(version: &str, root: &Path) -> Command {
    let mut command = cache::cargo_install("cargo-deny", version, root);
    command.args(["--no-default-features", "--debug"]);
    command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0");
    command
}

/// `pip install` of typos: its wheel holds only the program.
fn typos(version: &str, root: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]);
    command.args(["--only-binary=:all:", "--target"]).arg(root).arg(format!("typos=={version}"));
    command.env("PIP_ROOT_USER_ACTION", "ignore");
    command
}

fn has_pip() -> bool {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
