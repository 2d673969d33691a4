//! Widths of lines. rustfmt wraps code at 100 columns, but neither comments nor strings.

use anyhow::Result;

use super::files::{self, Text};
use super::finding::{Finding, Findings};
use crate::workspace::Workspace;

/// The greatest width of a line with a comment.
const COMMENT: usize = 100;
/// The greatest width of any line.
const LINE: usize = 120;

/// Finds lines that are too long.
pub(crate) fn check(workspace: &Workspace) -> Result<Findings> {
    let files = files::texts(workspace.root(), "rs")?;
    Ok(files.iter().flat_map(of_file).collect::<Vec<_>>().into())
}

fn of_file(file: &Text) -> Vec<Finding> {
    let found = |(number, line): (usize, &str)| {
        let wrong = too_long(line)?;
        Some(Finding::at(&file.path, number + 1, wrong))
    };
    file.text.lines().enumerate().filter_map(found).collect()
}

fn too_long(line: &str) -> Option<String> {
    let columns = line.chars().count();
    let (kind, most) = if has_comment(line) { ("comment", COMMENT) } else { ("line", LINE) };
    (columns > most).then(|| format!("{kind} of {columns} columns: at most {most}"))
}

/// Whether the line has a comment that can be wrapped. A single word, such as a URL, cannot.
fn has_comment(line: &str) -> bool {
    let starts = line.match_indices("//").map(|(start, _)| start);
    let comment = starts.into_iter().find(|start| {
        let before = &line[..*start];
        // Not in a string, and not `https://`.
        before.matches('"').count().is_multiple_of(2) && !before.ends_with(':')
    });
    comment.is_some_and(|start| line[start..].split_whitespace().nth(2).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_end_at_100_columns() {
        let words =
            |columns: usize| format!("{:w$}", "// a b c", w = columns).replace("   ", "  x");
        assert_eq!(too_long(&words(100)), None);
        assert!(too_long(&words(101)).unwrap().starts_with("comment of 101"));
    }

    #[test]
    fn code_ends_at_120_columns() {
        assert_eq!(too_long(&"x".repeat(120)), None);
        assert!(too_long(&"x".repeat(121)).unwrap().starts_with("line of 121"));
    }

    #[test]
    fn comments_are_told_from_strings() {
        assert!(has_comment("let a = 1; // one two three"));
        assert!(!has_comment("let a = \"// one two three\";"));
        assert!(!has_comment("let a = \"https://one two three\";"));
        assert!(!has_comment("// https://a-very-long-address"));
    }
}
