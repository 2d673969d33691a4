//! What a person reads: errors as one line, and hints that can be typed as they stand.

use std::io;

use nix::errno::Errno;

/// The name of the instance that verbs mean when they name none.
pub const DEFAULT_INSTANCE: &str = "default";

/// An error with its causes, on one line whatever it was given.
pub fn line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// Several errors on one line.
pub fn lines(errors: &[anyhow::Error]) -> String {
    let lines: Vec<String> = errors.iter().map(line).collect();
    lines.join("; ")
}

/// Puts `--instance NAME` into every quoted `'causeway …'` of a text, so that what it tells to type
/// reaches the same agent. What names an instance already, and help, stay as they are; so again is
/// done.
pub fn for_instance(text: &str, name: &str) -> String {
    const BEGIN: &str = "'causeway ";
    if name == DEFAULT_INSTANCE {
        return text.to_owned();
    }
    let mut pieces = text.split(BEGIN);
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        whole.push_str(BEGIN);
        let (command, rest) = piece.split_at(piece.find('\'').unwrap_or(piece.len()));
        if rest.is_empty() || command.contains("--instance") || command.ends_with("--help") {
            whole.push_str(piece);
            continue;
        }
        // What follows `--` is another program's.
        let (own, other) = command.split_at(command.find(" -- ").unwrap_or(command.len()));
        whole.extend([own, " --instance ", name, other, rest]);
    }
    whole
}

/// The system's words without the number that io's `Display` adds.
pub fn plain(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |number| Errno::from_raw(number).desc().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let error = anyhow::anyhow!("first\n  second\n").context("outer");
        assert_eq!(line(&error), "outer: first second");
        assert_eq!(lines(&[anyhow::anyhow!("a"), anyhow::anyhow!("b")]), "a; b");
    }

    #[test]
    fn what_is_to_be_typed_names_its_instance() {
        for (text, expected) in [
            (
                "remove it with 'causeway container rm web'",
                "remove it with 'causeway container rm web --instance lab'",
            ),
            (
                "'causeway down' first, then 'causeway up'",
                "'causeway down --instance lab' first, then 'causeway up --instance lab'",
            ),
            ("container 'web' is gone", "container 'web' is gone"),
            ("see 'causeway network create --help'", "see 'causeway network create --help'"),
            ("'causeway up --instance other'", "'causeway up --instance other'"),
            (
                "'causeway container exec web -- ls -l'",
                "'causeway container exec web --instance lab -- ls -l'",
            ),
            ("an open quote 'causeway down", "an open quote 'causeway down"),
            ("", ""),
        ] {
            let line = for_instance(text, "lab");
            assert_eq!(line, expected);
            assert_eq!(for_instance(&line, "lab"), expected, "again is done");
            assert_eq!(for_instance(text, "default"), text);
        }
    }

    #[test]
    fn the_systems_words_come_without_the_number() {
        assert_eq!(plain(&io::Error::from_raw_os_error(2)), "No such file or directory");
    }
}
