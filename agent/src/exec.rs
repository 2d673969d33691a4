//! `container exec`: this process becomes the command, in the container's network.

use std::{ffi::OsString, io::ErrorKind, os::unix::process::CommandExt as _, process::Command};

use crate::{
    api::{Container, Request},
    client,
    instance::Instance,
    line,
    net::netns::Netns,
    run::Failure,
};

/// Enters the container's namespace and becomes the command; comes back only if that fails: with
/// 127 when there is no such command and 126 when it cannot be run, as shells do. No runtime may run in this process: a
/// namespace is a thread's.
pub fn exec(instance: &Instance, name: &str, command: &[OsString]) -> Failure {
    let failed = |error: anyhow::Error| Failure { status: 1, error: error.context(format!("container exec {name}")) };
    let request = Request::ContainerInspect { name: name.to_owned() };
    let container: Container = match client::try_ask(instance, &request) {
        Ok(container) => container,
        Err(client::Failure::NoAgent) => return failed(client::no_agent(instance)),
        Err(client::Failure::Other(error)) => return failed(error),
    };
    let Some((program, arguments)) = command.split_first() else {
        return failed(anyhow::anyhow!("no command is given"));
    };
    if let Err(error) = Netns::open(&container.netns).and_then(|netns| netns.enter()) {
        return failed(error);
    }
    let error = Command::new(program).args(arguments).exec();
    let status = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
    Failure { status, ..failed(anyhow::anyhow!("cannot run '{}': {}", program.display(), line::plain(&error))) }
}
