//! Running a command as root: directly, or through sudo.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, stdin};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, iter};

use anyhow::{Context, Result, bail};

/// Where administration programs live on systems whose users do not have them in PATH.
const ADMIN_PATH: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// What puts a command under root's rights: nothing for root itself, otherwise sudo and its
/// options.
///
/// Asks for the password at once if there is someone to ask, so that nothing has to ask in the
/// middle of a display.
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

/// A command that runs as root with the given variables, which sudo would not hand on by itself,
/// and a PATH that has what root may need whoever typed it.
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

/// The words that give a command its variables where there is no shell: `env PATH=...
/// NAME=VALUE...`.
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

/// PATH with the administration directories behind it.
pub(crate) fn path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let all = env::split_paths(&path).chain(ADMIN_PATH.iter().map(PathBuf::from));
    env::join_paths(all).unwrap_or(path)
}

/// Becomes `command`; comes back only to say why it could not.
pub(crate) fn become_it(mut command: Command) -> anyhow::Error {
    let error = command.exec();
    anyhow::Error::new(error)
        .context(format!("cannot run {}", Path::new(command.get_program()).display()))
}

/// The first program of that name in that PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&path()).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}
