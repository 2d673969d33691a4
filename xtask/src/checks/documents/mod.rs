//! Documents: their links and anchors lead somewhere, their command lines are valid, and the files
//! that they name exist. The last is also checked for comments in source code.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use self::commands::Help;
use self::markdown::Line;
use self::paths::Paths;
use crate::checks::files::{self, Text};
use crate::checks::finding::{Finding, Findings};
use crate::setup::{self, Needs};
use crate::workspace::{Profile, Workspace};

mod commands;
mod markdown;
mod paths;

/// Finds faults in documents. Builds `causeway`, whose help lists its verbs and options.
pub(crate) fn check(workspace: &Workspace, xtask: &clap::Command) -> Result<Findings> {
    let root = workspace.root();
    let all = files::all(root)?;
    let documents = files::texts(root, "md")?;
    let mut findings = Findings::default();

    let anchors: BTreeMap<_, _> = documents
        .iter()
        .map(|document| (document.path.clone(), markdown::anchors(&document.text)))
        .collect();
    let paths = Paths::new(&all);
    for document in &documents {
        for line in markdown::lines(&document.text).iter().filter(|line| !line.fenced) {
            let at = |text: String| Finding::at(&document.path, line.number, text);
            findings.extend(dead_links(line, &document.path, &all, &anchors).map(at));
            findings.extend(missing(line.text, &document.path, &paths).map(at));
        }
    }
    for source in files::texts(root, "rs")? {
        for (number, line) in source.text.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                let at = |text: String| Finding::at(&source.path, number + 1, text);
                let folder = source.path.parent().unwrap_or(root);
                let spans = markdown::code_spans(line).0.into_iter();
                let spans = spans.filter(|span| paths.is_missing_in_comment(span, folder));
                findings.extend(spans.map(|span| at(format!("there is no {span}"))));
            }
        }
    }

    let called: Vec<_> = documents.iter().flat_map(calls).collect();
    setup::ensure(workspace, Needs::Toolchain)?;
    workspace.build(Profile::Dev, &[("causeway", "causeway")])?;
    let mut programs = Programs {
        causeway: workspace.binary(Profile::Dev, CAUSEWAY),
        xtask,
        known: BTreeMap::new(),
    };
    // Without verbs every command line would pass.
    for program in [CAUSEWAY, XTASK] {
        ensure!(programs.help(program, &[]).has_verbs(), "the help of {program} lists no verb");
    }
    for call in called {
        let mut help = |verbs: &[String]| programs.help(call.program, verbs);
        if let Some(wrong) = commands::wrong(&call.words, &mut help) {
            let text = format!("{} {}: {wrong}", call.program, call.words.join(" "));
            findings.extend([Finding::at(call.document, call.line, text)]);
        }
    }
    Ok(findings)
}

/// The links of a line that lead to no file, or to no heading of a document.
fn dead_links<'a>(
    line: &Line<'_>,
    document: &'a Path,
    files: &'a [PathBuf],
    anchors: &'a BTreeMap<PathBuf, Vec<String>>,
) -> impl Iterator<Item = String> {
    let (_, text) = markdown::code_spans(line.text);
    let links: Vec<String> = markdown::links(&text).into_iter().map(str::to_owned).collect();
    links.into_iter().filter_map(move |link| {
        if link.contains("://") || link.starts_with("mailto:") {
            return None;
        }
        let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let target = if file.is_empty() { document.to_path_buf() } else { beside(document, file) };
        if !files.iter().any(|file| file.starts_with(&target)) {
            return Some(format!("the link {link} leads to no file"));
        }
        let known = anchors.get(&target);
        let is_dead = !anchor.is_empty()
            && known.is_some_and(|known| !known.iter().any(|known| known == anchor));
        is_dead.then(|| format!("the link {link} leads to no heading"))
    })
}

/// The path of a file, given relative to `document`.
fn beside(document: &Path, file: &str) -> PathBuf {
    let mut path = PathBuf::new();
    let folder = document.parent().unwrap_or(document);
    for part in folder.join(file).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    path
}

/// The code spans of a line that name missing files.
fn missing<'a>(
    line: &'a str,
    document: &'a Path,
    paths: &'a Paths<'_>,
) -> impl Iterator<Item = String> + 'a {
    let (spans, _) = markdown::code_spans(line);
    let folder = document.parent().unwrap_or(document);
    let spans = spans.into_iter().filter(|span| paths.is_missing(span, folder));
    spans.map(|span| format!("there is no {span}"))
}

/// A command line of `causeway` or xtask in a document.
struct Call<'a> {
    document: &'a Path,
    line: usize,
    program: &'static str,
    words: Vec<String>,
}

const CAUSEWAY: &str = "causeway";
const XTASK: &str = "cargo xtask";

/// The command lines in fenced blocks and code spans. Lines that end with a backslash are joined.
fn calls(document: &Text) -> Vec<Call<'_>> {
    let mut calls = Vec::new();
    let mut begun = String::new();
    for line in markdown::lines(&document.text) {
        let texts = if line.fenced {
            begun.push_str(line.text.trim_end_matches('\\'));
            if line.text.ends_with('\\') {
                continue;
            }
            vec![std::mem::take(&mut begun)]
        } else {
            markdown::code_spans(line.text).0.into_iter().map(str::to_owned).collect()
        };
        for program in [CAUSEWAY, XTASK] {
            let words = texts.iter().flat_map(|text| commands::commands(text, program));
            let call = |words| Call { document: &document.path, line: line.number, program, words };
            calls.extend(words.map(call));
        }
    }
    calls
}

/// The verbs and options of `causeway` and xtask, cached.
struct Programs<'a> {
    causeway: PathBuf,
    xtask: &'a clap::Command,
    known: BTreeMap<(&'static str, Vec<String>), Help>,
}

impl Programs<'_> {
    /// The verbs and options below `verbs`, which exist.
    fn help(&mut self, program: &'static str, verbs: &[String]) -> Help {
        let key = (program, verbs.to_vec());
        if let Some(help) = self.known.get(&key) {
            return help.clone();
        }
        let help = if program == XTASK {
            let mut of = Some(self.xtask);
            for verb in verbs {
                of = of.and_then(|of| of.find_subcommand(verb));
            }
            of.map(Help::of).unwrap_or_default()
        } else {
            let output = Command::new(&self.causeway).args(verbs).arg("--help").output();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            Help::parse(&text.unwrap_or_default())
        };
        self.known.insert(key, help.clone());
        help
    }
}
