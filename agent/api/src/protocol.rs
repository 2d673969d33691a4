//! The socket protocol: framing, and the version rule.
//!
//! A connection to `/run/causeway/INSTANCE.sock` (unix stream) carries one request and one reply,
//! each one line of JSON in UTF-8. The agent closes the connection after the reply.
//!
//! ```text
//! {"version":1,"verb":"network-inspect","name":"front"}
//! {"version":1,"done":{"name":"front",...}}
//! {"version":1,"failed":{"code":"not-found","message":"...","remedy":"..."}}
//! ```
//!
//! [`VERSION`] is in every request and every reply, and both sides compare it first: a request or
//! reply of another version, or of none, fails with [`ErrorCode::VersionMismatch`]. The agent
//! answers such a request in its own version.
//!
//! Within a version, fields, verbs and codes may be added; none is removed, renamed or given
//! another meaning. So both sides ignore fields that they do not know. The agent answers an unknown
//! verb with [`ErrorCode::Unsupported`].
//!
//! [`ErrorCode::VersionMismatch`]: crate::ErrorCode::VersionMismatch
//! [`ErrorCode::Unsupported`]: crate::ErrorCode::Unsupported

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Reply, Request};

/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;

/// A request or reply with the version beside its own fields.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

/// The version alone: all that may be read before it is compared.
#[derive(Deserialize)]
struct Version {
    version: Option<Value>,
}

/// The verb alone.
#[derive(Deserialize)]
struct Verb {
    verb: Option<String>,
}

/// The request as a line, with its newline.
pub fn write_request(request: &Request) -> Result<String, Error> {
    write(request)
}

/// The reply as a line, with its newline.
pub fn write_reply(reply: &Reply) -> Result<String, Error> {
    write(reply)
}

/// Reads a request: what the agent does first.
pub fn read_request(line: &str) -> Result<Request, Error> {
    check_version(line, "the request")
        .map_err(|error| error.hint("use the client and the agent of one release"))?;
    serde_json::from_str(line).map_err(|error| {
        let verb = serde_json::from_str(line).ok().and_then(|Verb { verb }| verb);
        match verb {
            Some(verb) if !Request::VERBS.contains(&verb.as_str()) => {
                Error::unsupported(format!("the agent has no verb '{verb}'"))
                    .hint("use an agent that has it")
            }
            _ => Error::invalid(format!("the request cannot be read: {error}")),
        }
    })
}

/// Reads a reply: what a client does last.
pub fn read_reply(line: &str) -> Result<Reply, Error> {
    check_version(line, "the agent's reply").map_err(|error| {
        error.hint("use the client of the agent's release, or restart the agent with").run(["up"])
    })?;
    serde_json::from_str(line)
        .map(|Versioned { content, .. }| content)
        .map_err(|error| Error::internal(format!("the agent's reply cannot be read: {error}")))
}

fn write(content: impl Serialize) -> Result<String, Error> {
    let versioned = Versioned { version: VERSION, content };
    let mut line = serde_json::to_string(&versioned)
        .map_err(|error| Error::internal(format!("cannot be written as JSON: {error}")))?;
    line.push('\n');
    Ok(line)
}

fn check_version(line: &str, what: &str) -> Result<(), Error> {
    let Version { version } = serde_json::from_str(line)
        .map_err(|error| Error::invalid(format!("{what} is not a JSON object: {error}")))?;
    match version {
        Some(version) if version == VERSION => Ok(()),
        Some(version) => Err(Error::version_mismatch(format!(
            "{what} is of protocol version {version}, and this side speaks {VERSION}"
        ))),
        None => Err(Error::version_mismatch(format!(
            "{what} names no protocol version, and this side speaks {VERSION}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ErrorCode;

    fn code_of<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorCode {
        result.unwrap_err().code()
    }

    #[test]
    fn requests_carry_the_version() {
        let line = write_request(&Request::NetworkInspect { name: "front".to_owned() }).unwrap();
        assert_eq!(line, "{\"version\":1,\"verb\":\"network-inspect\",\"name\":\"front\"}\n");
        assert_eq!(read_request(&line).unwrap().describe(), "network inspect front");
    }

    #[test]
    fn replies_carry_the_version() {
        let line = write_reply(&Reply::Done(json!([]))).unwrap();
        assert_eq!(line, "{\"version\":1,\"done\":[]}\n");
        assert!(matches!(read_reply(&line).unwrap(), Reply::Done(Value::Array(_))));

        let failure = Error::not_found("no network 'x'").to_failure("default");
        let line = write_reply(&Reply::Failed(failure.clone())).unwrap();
        assert!(matches!(read_reply(&line).unwrap(), Reply::Failed(read) if read == failure));
    }

    #[test]
    fn other_versions_are_refused() {
        for (line, named) in [
            (r#"{"version":2,"verb":"stats"}"#, "version 2, and this side speaks 1"),
            (r#"{"version":"1","verb":"stats"}"#, "version \"1\", and this side speaks 1"),
            (r#"{"verb":"stats"}"#, "names no protocol version, and this side speaks 1"),
            (r#"{"version":2,"verb":{"new":"form"}}"#, "version 2"),
        ] {
            let error = read_request(line).unwrap_err();
            assert_eq!(error.code(), ErrorCode::VersionMismatch, "{line}");
            assert!(error.message().contains(named), "{error}");
        }
        assert_eq!(code_of(read_reply(r#"{"done":[]}"#)), ErrorCode::VersionMismatch);
        assert_eq!(code_of(read_reply(r#"{"version":2,"done":[]}"#)), ErrorCode::VersionMismatch);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        assert!(read_request(r#"{"version":1,"verb":"stats","later":true}"#).is_ok());
        assert!(read_reply(r#"{"version":1,"done":[],"later":true}"#).is_ok());
    }

    #[test]
    fn wrong_requests_have_codes() {
        for (line, code) in [
            ("", ErrorCode::Invalid),
            ("[]", ErrorCode::Invalid),
            (r#"{"version":1}"#, ErrorCode::Invalid),
            (r#"{"version":1,"verb":"network-inspect"}"#, ErrorCode::Invalid),
            (r#"{"version":1,"verb":"network-destroy"}"#, ErrorCode::Unsupported),
        ] {
            assert_eq!(code_of(read_request(line)), code, "{line}");
        }
    }
}
