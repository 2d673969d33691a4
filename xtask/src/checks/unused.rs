//! Unused dependencies.
//!
//! A dependency is used if its name is a word in a source file of the package, outside of comments
//! and strings. cargo-machete decides likewise, but takes 210 s of processor time to build.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::files::{self, Text};
use super::finding::{Finding, Findings};
use super::tokens::{Token, tokens};
use crate::workspace::Workspace;

/// Finds unused dependencies of packages and of the workspace.
pub(crate) fn check(workspace: &Workspace) -> Result<Findings> {
    let metadata = workspace.metadata()?;
    let sources = files::texts(workspace.root(), "rs")?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let folders: Vec<&Path> = packages.iter().filter_map(folder).collect();
    let mut findings = Findings::default();
    let mut used = BTreeSet::new();
    for package in &packages {
        let Some(folder) = folder(package) else { continue };
        let words = words_of(&sources, workspace.root(), folder, &folders);
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let name = dependency["rename"].as_str().or_else(|| dependency["name"].as_str());
            let name = name.unwrap_or_default();
            used.insert(name.to_owned());
            if !words.contains(&name.replace('-', "_")) {
                let package = package["name"].as_str().unwrap_or_default();
                findings.extend([Finding::new(format!("{package} does not use {name}"))]);
            }
        }
    }
    let manifest = workspace.root().join("Cargo.toml");
    let manifest = fs::read_to_string(&manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    let unused = of_workspace(&manifest).into_iter().filter(|name| !used.contains(*name));
    findings.extend(unused.map(|name| Finding::new(format!("no package depends on {name}"))));
    Ok(findings)
}

fn folder(package: &Value) -> Option<&Path> {
    Path::new(package["manifest_path"].as_str()?).parent()
}

/// The words of the sources in `folder`, without those of nested packages.
fn words_of(sources: &[Text], root: &Path, folder: &Path, packages: &[&Path]) -> BTreeSet<String> {
    let is_own = |source: &&Text| {
        let path = root.join(&source.path);
        let package = path.ancestors().find(|ancestor| packages.contains(ancestor));
        package == Some(folder)
    };
    let words = |source: &Text| {
        tokens(&source.text).iter().filter_map(Token::word).map(str::to_owned).collect::<Vec<_>>()
    };
    sources.iter().filter(is_own).flat_map(words).collect()
}

/// The keys of `[workspace.dependencies]`.
fn of_workspace(manifest: &str) -> Vec<&str> {
    let lines = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let key = |line: &'_ str| line.split_once(" = ").map(|(key, _)| key.len());
    lines
        .filter(|line| !line.starts_with(['#', ' ', ']', '}']))
        .filter_map(|line| key(line).map(|end| &line[..end]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspace_dependencies_are_keys_of_their_table() {
        let manifest = "[a]\nb = 1\n\n[workspace.dependencies]\nc = \"1\"\n# d = 2\nd-e = { f = 1 }\n\n[g]\nh = 1\n";
        assert_eq!(of_workspace(manifest), ["c", "d-e"]);
    }

    #[test]
    fn package_inside_another_has_words_of_its_own() {
        let text = |path: &str, text: &str| Text { path: path.into(), text: text.into() };
        let sources = [text("a/src/lib.rs", "b // c"), text("a/d/src/lib.rs", "e")];
        let [root, outer, inner] = ["/r", "/r/a", "/r/a/d"].map(Path::new);
        let words = |folder| words_of(&sources, root, folder, &[outer, inner]);
        assert_eq!(words(outer), BTreeSet::from(["b".to_owned()]));
        assert_eq!(words(inner), BTreeSet::from(["e".to_owned()]));
    }
}
