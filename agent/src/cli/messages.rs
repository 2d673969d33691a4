//! The log and the lines for a person, on stderr.

use std::io::{self, Write};

use causeway_api::{Error, messages};

/// A log on stderr, whose lines' hints are for one instance.
#[derive(Clone, Debug)]
pub struct Log {
    /// The instance's name.
    pub instance: String,
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Each line comes as a whole.
        let text = messages::for_instance(&String::from_utf8_lossy(line), &self.instance);
        io::stderr().write_all(text.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

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
        say(&messages::for_instance(&error.line(instance), instance));
    }
}
