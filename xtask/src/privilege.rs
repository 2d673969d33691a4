//! Runs commands as root: directly, or through sudo.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, stdin};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, iter};

use anyhow::{Context, Result, bail};

/// Directories of administration programs that a user's PATH may lack.
const ADMIN_PATH: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The words that run a command as root: none for root itself, otherwise sudo and its options.
///
/// Asks for the password now if stdin is a terminal, so that sudo does not ask later in the middle
/// of other output. `purpose` names in errors what needs root.
pub(crate) fn prefix(purpose: &str) -> Result<Vec<OsString>> {
    if nix::unistd::geteuid().is_root() {
        return Ok(Vec::new());
    }
    let Some(sudo) = find_program("sudo") else {
        bail!("{purpose} needs root, and there is no sudo: run this as root");
    };
    let mut prefix = vec![sudo.into_os_string()];
    let mut check = Command::new(&prefix[0]);
    if stdin().is_terminal() {
        check.arg("--validate");
    } else {
        prefix.push("--non-interactive".into());
        check.args(["--non-interactive", "true"]);
    }
    let status = check.status().context("cannot run sudo")?;
    if !status.success() {
        bail!("{purpose} needs root, and sudo refused: run this as root");
    }
    Ok(prefix)
}

/// A command that runs as root with these variables, which sudo does not pass on, and with the
/// administration directories in its PATH.
pub(crate) fn as_root(
    prefix: &[OsString],
    variables: &[(&str, &OsStr)],
    program: &OsStr,
) -> Command {
    if prefix.is_empty() {
        let mut command = Command::new(program);
        command.env("PATH", path()).envs(variables.iter().copied());
        return command;
    }
    let mut command = Command::new(&prefix[0]);
    command.args(&prefix[1..]).args(with_variables(variables)).arg(program);
    command
}

/// The words `env PATH=... NAME=VALUE...`, which set variables for a command without a shell.
pub(crate) fn with_variables(variables: &[(&str, &OsStr)]) -> Vec<OsString> {
    let assign = |(name, value): &(&str, &OsStr)| {
        let mut word = OsString::from(format!("{name}="));
        word.push(value);
        word
    };
    let path = path();
    let all = iter::once(("PATH", path.as_os_str())).chain(variables.iter().copied());
    iter::once("env".into()).chain(all.map(|variable| assign(&variable))).collect()
}

/// PATH, followed by the administration directories.
pub(crate) fn path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let all = env::split_paths(&path).chain(ADMIN_PATH.iter().map(PathBuf::from));
    env::join_paths(all).unwrap_or(path)
}

/// Replaces this process with `command`. Returns only on failure.
pub(crate) fn become_it(mut command: Command) -> anyhow::Error {
    let error = command.exec();
    anyhow::Error::new(error)
        .context(format!("cannot run {}", Path::new(command.get_program()).display()))
}

/// The first program of this name in [`path`].
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&path()).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}
