//! Lines and errors on stderr.

use std::io::{self, Write};

use causeway_api::Error;

/// Writes a line for a person to stderr. A closed stderr is ignored.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "causeway: {text}");
}

/// Writes an error to stderr: one line, or with `--json` the object `{"error": ...}`. Commands in
/// the remedy reach the agent of `instance`.
pub fn report(error: &Error, instance: &str, json: bool) {
    if json {
        let object = serde_json::json!({ "error": error.to_failure(instance) });
        let _ = writeln!(io::stderr(), "{object}");
    } else {
        say(&error.line(instance));
    }
}
