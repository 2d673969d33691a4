//! Errors as one line for a person.

use std::io::{self, Write as _};

use nix::errno::Errno;

/// An error with its causes, on one line whatever it was given.
pub fn of(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// Several errors on one line.
pub fn of_all(errors: &[anyhow::Error]) -> String {
    let lines: Vec<String> = errors.iter().map(of).collect();
    lines.join("; ")
}

/// Writes a line for a person to stderr. Nobody may be reading, which is not worth a panic.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "causeway: {text}");
}

/// The system's words without the number that io's `Display` adds.
pub fn plain(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| Errno::from_raw(number).desc().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let error = anyhow::anyhow!("first\n  second\n").context("outer");
        assert_eq!(of(&error), "outer: first second");
        assert_eq!(of_all(&[anyhow::anyhow!("a"), anyhow::anyhow!("b")]), "a; b");
    }

    #[test]
    fn the_systems_words_come_without_the_number() {
        assert_eq!(plain(&io::Error::from_raw_os_error(2)), "No such file or directory");
    }
}
