//! Causeway's cache directory: its lock, and `cargo install` into it.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::recipe;

/// `cargo install` of one version of a package, with the Rust that runs xtask. Programs go to
/// `bin` below `root`; `build` is its target directory, to be removed afterwards.
pub(crate) fn cargo_install(package: &str, version: &str, root: &Path) -> Command {
    let toolchain = env::var_os("RUSTUP_TOOLCHAIN");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    recipe::scrub(&mut command);
    // Selects the compiler behind rustup's proxies.
    command.envs(toolchain.map(|name| ("RUSTUP_TOOLCHAIN", name)));
    command.args(["install", package, "--version", version, "--locked"]);
    command.arg("--root").arg(root).arg("--target-dir").arg(root.join("build"));
    command
}

/// Waits until no other set-up runs, of this checkout or another. The lock is released on drop.
pub(crate) fn lock(cache: &Path) -> Result<File> {
    let path = cache.join("setup.lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => eprintln!("setup: waiting for another set-up to end"),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Removes a directory. Succeeds if absent.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
