//! The client's side of the socket. Blocking, one connection per request.

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind, Write as _},
    os::unix::net::UnixStream,
};

use serde::de::DeserializeOwned;

pub use crate::instance::{DEFAULT_INSTANCE, FOLDER, socket};
use crate::{Error, Reply, Request, protocol};

/// Why a request has no answer.
#[derive(Debug)]
pub enum AskError {
    /// No agent of the instance is running.
    NoAgent,
    /// The agent cannot be asked, or its answer cannot be read.
    Client(Error),
    /// The agent refused the request, or failed.
    Agent(Error),
}

/// Sends a request to the agent of an instance, and returns the object in its reply. The verb
/// stands before the message of an error.
pub fn ask<T: DeserializeOwned>(instance: &str, request: &Request) -> Result<T, Error> {
    try_ask(instance, request).map_err(|error| {
        let error = match error {
            AskError::NoAgent => no_agent(instance),
            AskError::Client(error) | AskError::Agent(error) => error,
        };
        error.context(request.describe())
    })
}

/// The error of a request that needs an agent when none is running.
pub fn no_agent(instance: &str) -> Error {
    Error::not_found(format!("no agent of instance '{instance}' is running"))
        .hint("start it with")
        .run(["up"])
}

/// As [`ask`], for callers that tell a missing agent from other failures.
pub fn try_ask<T: DeserializeOwned>(instance: &str, request: &Request) -> Result<T, AskError> {
    let path = socket(instance);
    let stream = UnixStream::connect(&path).map_err(|error| {
        let (kind, path) = (error.kind(), path.display());
        if matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
            return AskError::NoAgent;
        }
        AskError::Client(if kind == ErrorKind::PermissionDenied {
            Error::permission(format!("only root may ask the agent at {path}"))
                .hint("run it as root, for example with sudo")
        } else {
            Error::os(error).context(format!("cannot reach the agent at {path}"))
        })
    })?;
    let reply = exchange(&stream, request).map_err(AskError::Client)?;
    match reply {
        Reply::Failed(failure) => Err(AskError::Agent(failure.into())),
        Reply::Done(value) => serde_json::from_value(value).map_err(|error| {
            AskError::Client(Error::internal(format!("the agent's reply cannot be read: {error}")))
        }),
    }
}

fn exchange(mut stream: &UnixStream, request: &Request) -> Result<Reply, Error> {
    let ended = |error: io::Error| {
        Error::os(error)
            .context("the agent ended before it answered")
            .hint("look at its log, then try again")
    };
    let line = protocol::write_request(request)?;
    stream.write_all(line.as_bytes()).map_err(ended)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(ended)?;
    if answer.is_empty() {
        return Err(ended(ErrorKind::UnexpectedEof.into()));
    }
    protocol::read_reply(&answer)
}
