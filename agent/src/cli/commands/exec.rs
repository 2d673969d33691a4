//! `container exec`: this process becomes the command, in the container's network namespace.

use std::{
    ffi::OsString, io::ErrorKind, os::unix::process::CommandExt as _, path::PathBuf,
    process::Command,
};

use anyhow::Context as _;
use causeway_api::{Error, Request, client};
use causeway_netlink::Netns;

use crate::{cli::commands::VerbError, instance::Instance};

/// Enters the container's namespace and executes the command. Returns only on failure, with the
/// exit status of shells: 127 if the command does not exist, 126 if it cannot be executed.
///
/// The process must have one thread: setns(2) moves the calling thread alone.
pub fn exec(instance: &Instance, name: &str, command: &[OsString]) -> VerbError {
    run(instance, name, command).unwrap_or_else(VerbError::from)
}

fn run(instance: &Instance, name: &str, command: &[OsString]) -> anyhow::Result<VerbError> {
    let what = format!("container exec {name}");
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| Error::invalid(format!("{what}: no command is given")))?;
    let netns: PathBuf =
        client::ask(instance.name(), &Request::ContainerEnter { name: name.to_owned() })?;
    Netns::open(&netns).and_then(|netns| netns.enter()).with_context(|| what.clone())?;
    let error = Command::new(program).args(arguments).exec();
    let missing = error.kind() == ErrorKind::NotFound;
    let tried = format!("{what}: cannot run '{}'", program.display());
    Ok(if missing {
        let error = Error::not_found(format!("{tried}: {}", Error::os(error).message()))
            .hint("give a program of the host: only the network is the container's");
        VerbError { status: 127, error }
    } else {
        VerbError { status: 126, error: Error::os(error).context(tried) }
    })
}
