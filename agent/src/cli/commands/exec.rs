//! `container exec`: this process becomes the command, in the container's network.

use std::{
    ffi::OsString, io::ErrorKind, os::unix::process::CommandExt as _, path::PathBuf,
    process::Command,
};

use anyhow::Context as _;
use causeway_api::{Request, client, messages};
use causeway_netlink::Netns;

use crate::{cli::commands::Failure, instance::Instance};

/// Enters the container's namespace and becomes the command. Comes back only if that fails: with
/// 127 when there is no such command and 126 when it cannot be run, as shells do. No runtime may
/// run in this process: a namespace is a thread's.
pub fn exec(instance: &Instance, name: &str, command: &[OsString]) -> Failure {
    run(instance, name, command).unwrap_or_else(Failure::from)
}

fn run(instance: &Instance, name: &str, command: &[OsString]) -> anyhow::Result<Failure> {
    let what = format!("container exec {name}");
    let (program, arguments) =
        command.split_first().with_context(|| format!("{what}: no command is given"))?;
    let netns: PathBuf =
        client::ask(instance.name(), &Request::ContainerEnter { name: name.to_owned() })?;
    Netns::open(&netns).and_then(|netns| netns.enter()).with_context(|| what.clone())?;
    let error = Command::new(program).args(arguments).exec();
    Ok(Failure {
        status: if error.kind() == ErrorKind::NotFound { 127 } else { 126 },
        error: anyhow::anyhow!(
            "{what}: cannot run '{}': {}",
            program.display(),
            messages::plain(&error)
        ),
    })
}
