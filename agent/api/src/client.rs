//! The asking side of the socket.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;

use crate::{Reply, Request, messages};

/// The folder of every instance's socket.
pub const FOLDER: &str = "/run/causeway";

/// Why there was no answer.
#[derive(Debug)]
pub enum Failure {
    /// No agent of the instance is running.
    NoAgent,
    /// All else, the agent's own refusals too.
    Other(anyhow::Error),
}

/// The path of the socket that the instance's agent serves.
pub fn socket(instance: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{instance}.sock"))
}

/// Asks the instance's agent, and answers its object, or the line that says why there is none.
pub fn ask<T: DeserializeOwned>(instance: &str, request: &Request) -> anyhow::Result<T> {
    try_ask(instance, request).map_err(|failure| {
        let error = match failure {
            Failure::NoAgent => no_agent(instance),
            Failure::Other(error) => error,
        };
        error.context(request.describe())
    })
}

/// What to say when that is in the way.
pub fn no_agent(instance: &str) -> anyhow::Error {
    anyhow::anyhow!("no agent of instance '{instance}' is running; start it with 'causeway up'")
}

/// As [`ask`], for who has something else to do when no agent is running.
pub fn try_ask<T: DeserializeOwned>(instance: &str, request: &Request) -> Result<T, Failure> {
    let path = socket(instance);
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            return Err(Failure::NoAgent);
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(Failure::Other(anyhow::anyhow!(
                "only root may ask the agent at {}; run it as root, for example with sudo",
                path.display()
            )));
        }
        Err(error) => {
            return Err(Failure::Other(anyhow::anyhow!(
                "cannot reach the agent at {}: {}",
                path.display(),
                messages::plain(&error)
            )));
        }
    };
    exchange(&stream, request).map_err(Failure::Other)
}

fn exchange<T: DeserializeOwned>(stream: &UnixStream, request: &Request) -> anyhow::Result<T> {
    let mut text = serde_json::to_string(request)?;
    text.push('\n');
    let ended = "the agent ended before it answered; look at its log, then try again";
    let mut writing = stream;
    writing.write_all(text.as_bytes()).context(ended)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context(ended)?;
    if answer.is_empty() {
        bail!("{ended}");
    }
    let reply = serde_json::from_str(&answer)
        .context("the agent's answer cannot be read; is it of another version?")?;
    match reply {
        Reply::Failed(reason) => bail!("{reason}"),
        Reply::Done(value) => serde_json::from_value(value)
            .context("the agent's answer cannot be read; is it of another version?"),
    }
}
