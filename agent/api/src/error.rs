//! Errors: a code for programs, a sentence and a remedy for people.

use std::{error, fmt, io};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::instance::DEFAULT_INSTANCE;

/// What kind of failure it is. In JSON it is its name in kebab-case.
///
/// Codes may be added. A reader that does not know one takes it for [`ErrorCode::Internal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The network, container, publish, namespace, file or agent does not exist.
    NotFound,
    /// An object of that name, or for that namespace, exists.
    AlreadyExists,
    /// An address, port, subnet or interface is held by something else, or an object cannot be
    /// removed while others use it.
    InUse,
    /// The request is malformed or contradicts itself; it fails on every host.
    Invalid,
    /// The kernel, a driver or this version of causeway does not have the feature.
    Unsupported,
    /// The kernel refused an operation that should have worked.
    Kernel,
    /// Client and agent, or agent and state file, are of different versions.
    VersionMismatch,
    /// The caller lacks the privilege.
    Permission,
    /// A defect of causeway, or a failure that has no code of its own.
    Internal,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 9] = [
        Self::NotFound,
        Self::AlreadyExists,
        Self::InUse,
        Self::Invalid,
        Self::Unsupported,
        Self::Kernel,
        Self::VersionMismatch,
        Self::Permission,
        Self::Internal,
    ];

    /// The code in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::InUse => "in-use",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Kernel => "kernel",
            Self::VersionMismatch => "version-mismatch",
            Self::Permission => "permission",
            Self::Internal => "internal",
        }
    }

    fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|code| code.name() == name).unwrap_or(Self::Internal)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|name| Self::from_name(&name))
    }
}

/// A failure with its code, what failed and why, and what to do about it.
///
/// `Display` is [`Error::line`] for the default instance.
///
/// ```
/// use causeway_api::{Error, ErrorCode};
///
/// let error = Error::already_exists("there is a container 'web' already")
///     .hint("take another name, or remove it with")
///     .run(["container", "rm", "web"]);
/// assert_eq!(error.code(), ErrorCode::AlreadyExists);
/// assert_eq!(
///     error.line("lab"),
///     "there is a container 'web' already; \
///      take another name, or remove it with 'causeway container rm web --instance lab'"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: ErrorCode,
    message: String,
    remedy: Remedy,
}

/// What to do about an error: text, and commands whose instance is added when it is rendered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remedy(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The arguments of `causeway`.
    Command(Vec<String>),
}

/// An error in JSON: in a reply, and in the object `{"error": ...}` that a verb prints to stderr
/// with `--json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure it is.
    pub code: ErrorCode,
    /// What was tried, on what, and why it failed. One line.
    pub message: String,
    /// What to do about it; null if there is nothing to do.
    #[serde(default)]
    pub remedy: Option<String>,
}

impl Error {
    /// An error without a remedy.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: Remedy::default() }
    }

    /// [`ErrorCode::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// [`ErrorCode::AlreadyExists`].
    pub fn already_exists(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::AlreadyExists, message)
    }

    /// [`ErrorCode::InUse`].
    pub fn in_use(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InUse, message)
    }

    /// [`ErrorCode::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    /// [`ErrorCode::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unsupported, message)
    }

    /// [`ErrorCode::Kernel`].
    pub fn kernel(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Kernel, message)
    }

    /// [`ErrorCode::VersionMismatch`].
    pub fn version_mismatch(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::VersionMismatch, message)
    }

    /// [`ErrorCode::Permission`].
    pub fn permission(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Permission, message)
    }

    /// [`ErrorCode::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// The kernel's answer to a system call: [`ErrorCode::Permission`] for EPERM and EACCES, else
    /// [`ErrorCode::Kernel`]. The message is the errno's text without its number.
    pub fn os(error: impl Into<io::Error>) -> Self {
        let error = error.into();
        Self::new(os_code(&error), os_text(&error))
    }

    /// Flattens an error with its causes. The code is the first one on the way from the outermost
    /// context to the root cause, and so is the remedy. Without one, a cause that is an
    /// [`io::Error`] gives the code as [`Error::os`] does, and all else is
    /// [`ErrorCode::Internal`].
    pub fn from_chain(error: &(dyn error::Error + 'static)) -> Self {
        let mut code = None;
        let mut of_system_call = None;
        let mut remedy = Remedy::default();
        let mut messages: Vec<String> = Vec::new();
        let mut next = Some(error);
        while let Some(cause) = next {
            if let Some(own) = cause.downcast_ref::<Self>() {
                code = code.or(Some(own.code));
                if remedy.is_empty() {
                    remedy = own.remedy.clone();
                }
                messages.push(own.message.clone());
            } else if let Some(failed) = cause.downcast_ref::<io::Error>() {
                of_system_call = of_system_call.or(Some(os_code(failed)));
                messages.push(os_text(failed));
            } else {
                messages.push(cause.to_string());
            }
            next = cause.source();
        }
        // Some libraries print their cause and have it as their source too.
        messages.dedup_by(|cause, outer| outer.ends_with(cause.as_str()));
        Self {
            code: code.or(of_system_call).unwrap_or(ErrorCode::Internal),
            message: messages.join(": "),
            remedy,
        }
    }

    /// Several failures of one attempt: code and remedy of the first, and all messages.
    pub fn all<E: AsRef<dyn error::Error + Send + Sync + 'static>>(errors: &[E]) -> Self {
        let mut errors = errors.iter().map(|error| Self::from_chain(error.as_ref()));
        let first = errors.next().unwrap_or_else(|| Self::internal("no reason is known"));
        errors.fold(first, |all, next| Self {
            message: format!("{}; {}", all.message, next.message),
            ..all
        })
    }

    /// Puts what was tried before the message.
    #[must_use]
    pub fn context(self, tried: impl fmt::Display) -> Self {
        Self { message: format!("{tried}: {}", self.message), ..self }
    }

    /// Adds a text to the remedy.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.remedy.0.push(Part::Text(text.into()));
        self
    }

    /// Sets the remedy if there is none.
    #[must_use]
    pub fn or_hint(self, text: impl Into<String>) -> Self {
        if self.remedy.is_empty() { self.hint(text) } else { self }
    }

    /// Adds a command to the remedy: the arguments of `causeway`.
    #[must_use]
    pub fn run<W: ToString>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        let words = words.into_iter().map(|word| word.to_string()).collect();
        self.remedy.0.push(Part::Command(words));
        self
    }

    /// What kind of failure it is.
    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    /// What was tried, on what, and why it failed. One line.
    pub fn message(&self) -> String {
        one_line(&self.message)
    }

    /// What to do about it, for the agent of an instance; none if there is nothing to do.
    pub fn remedy(&self, instance: &str) -> Option<String> {
        (!self.remedy.is_empty()).then(|| one_line(&self.remedy.render(instance)))
    }

    /// Message and remedy on one line. Commands in it reach the agent of that instance.
    pub fn line(&self, instance: &str) -> String {
        match self.remedy(instance) {
            None => self.message(),
            Some(remedy) => format!("{}; {remedy}", self.message()),
        }
    }

    /// The error as it crosses the socket and as `--json` prints it.
    pub fn to_failure(&self, instance: &str) -> Failure {
        Failure { code: self.code, message: self.message(), remedy: self.remedy(instance) }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let Failure { code, message, remedy } = failure;
        Self { code, message, remedy: Remedy(remedy.into_iter().map(Part::Text).collect()) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line(DEFAULT_INSTANCE))
    }
}

impl error::Error for Error {}

impl Remedy {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn render(&self, instance: &str) -> String {
        let mut whole = String::new();
        for part in &self.0 {
            let text = match part {
                Part::Text(text) => text.clone(),
                Part::Command(words) => command(words, instance),
            };
            if !whole.is_empty() && !text.starts_with([',', ';', '.', ':']) {
                whole.push(' ');
            }
            whole.push_str(&text);
        }
        whole
    }
}

/// A command in quotes, as it is typed for the agent of an instance. Words after `--` belong to
/// another program.
pub fn command<W: AsRef<str>>(words: &[W], instance: &str) -> String {
    let mut words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let own = words.iter().position(|word| *word == "--").unwrap_or(words.len());
    if instance != DEFAULT_INSTANCE && !words[..own].contains(&"--instance") {
        words.splice(own..own, ["--instance", instance]);
    }
    format!("'causeway {}'", words.join(" "))
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

fn os_code(error: &io::Error) -> ErrorCode {
    if error.kind() == io::ErrorKind::PermissionDenied {
        ErrorCode::Permission
    } else {
        ErrorCode::Kernel
    }
}

/// The errno's text without the number that `Display` adds.
fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => text.trim_end_matches(&format!(" (os error {number})")).to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    struct Outer(Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("network create front")
        }
    }

    impl error::Error for Outer {
        fn source(&self) -> Option<&(dyn error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn codes_read_what_they_print() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
            assert_eq!(serde_json::from_value::<ErrorCode>(json!(code.name())).unwrap(), code);
        }
    }

    #[test]
    fn unknown_codes_are_internal() {
        let code: ErrorCode = serde_json::from_value(json!("too-hot")).unwrap();
        assert_eq!(code, ErrorCode::Internal);
    }

    #[test]
    fn chains_keep_code_and_remedy() {
        let error = Outer(Error::in_use("port 80 is taken").hint("take another host port"));
        let flat = Error::from_chain(&error);
        assert_eq!(flat.code(), ErrorCode::InUse);
        assert_eq!(flat.message(), "network create front: port 80 is taken");
        assert_eq!(flat.remedy("lab").as_deref(), Some("take another host port"));
    }

    #[test]
    fn chains_of_system_calls_have_codes() {
        for (number, code, text) in [
            (1, ErrorCode::Permission, "Operation not permitted"),
            (2, ErrorCode::Kernel, "No such file or directory"),
            (13, ErrorCode::Permission, "Permission denied"),
        ] {
            let error = io::Error::from_raw_os_error(number);
            let flat = Error::from_chain(&error);
            assert_eq!((flat.code(), flat.message().as_str()), (code, text));
            assert_eq!(Error::os(error), flat);
        }
        let other = Error::from_chain(&fmt::Error);
        assert_eq!(other.code(), ErrorCode::Internal);
    }

    #[test]
    fn lines_are_single_lines() {
        let error = Error::kernel("first\n  second\n").hint("third\nfourth");
        assert_eq!(error.line("lab"), "first second; third fourth");
    }

    #[test]
    fn commands_name_their_instance() {
        for (words, expected) in [
            (&["down"][..], "'causeway down --instance lab'"),
            (&["container", "rm", "web"], "'causeway container rm web --instance lab'"),
            (&["up", "--instance", "other"], "'causeway up --instance other'"),
            (
                &["container", "exec", "web", "--", "ls", "--instance"],
                "'causeway container exec web --instance lab -- ls --instance'",
            ),
        ] {
            assert_eq!(command(words, "lab"), expected);
        }
        assert_eq!(command(&["down"], "default"), "'causeway down'");
    }

    #[test]
    fn remedies_join_texts_and_commands() {
        let error = Error::in_use("x").run(["down"]).hint("first, then").run(["up"]).hint(", or z");
        assert_eq!(
            error.remedy("lab").unwrap(),
            "'causeway down --instance lab' first, then 'causeway up --instance lab', or z"
        );
    }

    #[test]
    fn failures_become_errors_again() {
        let error = Error::not_found("no network 'x'").hint("make it with").run(["network"]);
        let failure = error.to_failure("lab");
        assert_eq!(
            serde_json::to_value(&failure).unwrap(),
            json!({
                "code": "not-found",
                "message": "no network 'x'",
                "remedy": "make it with 'causeway network --instance lab'",
            })
        );
        let read = Error::from(failure);
        assert_eq!(read.line("other"), error.line("lab"));
        let bare = serde_json::to_value(Error::internal("x").to_failure("lab")).unwrap();
        assert_eq!(bare, json!({"code": "internal", "message": "x", "remedy": null}));
    }
}
