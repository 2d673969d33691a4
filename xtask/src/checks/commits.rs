//! Commit messages: a subject `area: do this` of at most 72 columns, an empty line, and a body that
//! says why.
//!
//! Only commits since `origin/main` are checked, so that CI, which runs on main, checks none.

use std::process::Command;

use anyhow::{Context, Result};

use super::finding::{Finding, Findings};
use crate::workspace::Workspace;

const BASE: &str = "origin/main";
const SUBJECT: usize = 72;
/// Endings of verbs that are no imperatives.
const ENDINGS: [&str; 3] = ["ed", "ing", "es"];
/// Imperatives with one of these endings.
const IMPERATIVES: [&str; 6] = ["bring", "embed", "need", "seed", "shed", "speed"];

/// Finds messages that do not follow CONTRIBUTING.md.
pub(crate) fn check(workspace: &Workspace) -> Result<Findings> {
    let mut command = Command::new("git");
    command.current_dir(workspace.root()).args(["log", "--no-merges", "-z", "--format=%h %B"]);
    let output = command.arg(format!("{BASE}..HEAD")).output().context("cannot run git")?;
    if !output.status.success() {
        let unchecked = Some(format!("commits: not checked, there is no {BASE}"));
        return Ok(Findings { list: Vec::new(), unchecked });
    }
    let log = String::from_utf8_lossy(&output.stdout);
    let messages = log.split('\0').filter_map(|entry| entry.split_once(' '));
    let findings = messages.flat_map(|(commit, message)| {
        wrong(message).into_iter().map(move |what| Finding::new(format!("commit {commit}: {what}")))
    });
    Ok(findings.collect::<Vec<_>>().into())
}

/// The faults of a message.
fn wrong(message: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut lines = message.trim_end().lines();
    let subject = lines.next().unwrap_or_default();
    let columns = subject.chars().count();
    if columns > SUBJECT {
        wrong.push(format!("a subject of {columns} columns: at most {SUBJECT}"));
    }
    match subject.split_once(": ") {
        Some((_, does)) if does.starts_with(|first: char| first.is_ascii_uppercase()) => {
            wrong.push(format!("'{does}' begins with a capital: write `area: do this`"));
        }
        Some((_, does)) => {
            let verb = does.split(' ').next().unwrap_or_default();
            let is_other = ENDINGS.iter().any(|ending| verb.ends_with(ending));
            if is_other && !IMPERATIVES.contains(&verb) {
                wrong.push(format!("'{verb}' is no imperative: write `area: do this`"));
            }
        }
        None => wrong.push(format!("'{subject}' names no area: write `area: do this`")),
    }
    if subject.ends_with('.') {
        wrong.push("the subject ends with a full stop".into());
    }
    match (lines.next(), lines.next()) {
        (Some(""), Some(body)) if !body.trim().is_empty() => {}
        (Some(line), _) if !line.is_empty() => {
            wrong.push("no empty line behind the subject".into());
        }
        (_, _) => wrong.push("no body: say why, with figures where they were measured".into()),
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_messages_pass() {
        for message in ["a: do this\n\nBecause.\n", "a/b: embed c\n\nIt is\nfaster.\n"] {
            assert!(wrong(message).is_empty(), "{message}: {:?}", wrong(message));
        }
    }

    #[test]
    fn each_fault_is_named() {
        let long = format!("a: do {}\n\nWhy.", "x".repeat(80));
        for (message, fault) in [
            (long.as_str(), "86 columns"),
            ("do this\n\nWhy.", "names no area"),
            ("a: Do this\n\nWhy.", "capital"),
            ("a: added this\n\nWhy.", "'added' is no imperative"),
            ("a: fixes this\n\nWhy.", "'fixes' is no imperative"),
            ("a: do this.\n\nWhy.", "full stop"),
            ("a: do this", "no body"),
            ("a: do this\n\n", "no body"),
            ("a: do this\nWhy.", "no empty line"),
        ] {
            assert!(wrong(message).iter().any(|wrong| wrong.contains(fault)), "{message}");
        }
    }
}
