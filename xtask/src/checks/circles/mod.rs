//! Import circles: files that cannot be understood without each other.
//!
//! File A uses file B if a path in A, in a `use` or in code, names an item that B defines.
//! Re-exports are followed to the definition. Code under `#[cfg(test)]` is skipped. A circle is a
//! strongly connected component of this graph. It may have at most three files, all in one folder.
//!
//! Folders are checked by the same graph: at each level, a use between two files is a use between
//! the entries of that level that contain them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use self::graph::Arrows;
use self::modules::{CrateMap, Uses};
use crate::checks::finding::{Finding, Findings};
use crate::workspace::Workspace;

mod graph;
mod modules;
mod source;

/// The largest permitted circle, in files.
const MOST: usize = 3;

/// Prints a table of all crates. Finds circles that are too large or cross folders.
pub(crate) fn check(workspace: &Workspace) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut table =
        String::from("crate                         files  uses  largest circle  folders\n");
    for root in roots(workspace)? {
        let modules = CrateMap::read(&root)?;
        let name = root.strip_prefix(workspace.root()).unwrap_or(&root).display().to_string();
        let uses = modules.uses();
        let circles = of_files(&modules, &uses);
        let across = of_folders(&modules, &uses);
        let largest = circles.first().map_or(0, |circle| circle.members.len());
        if modules.files.len() > 1 {
            let _ = writeln!(
                table,
                "{name:<30}{:>5}{:>6}{largest:>16}{:>9}",
                modules.files.len(),
                uses.len(),
                across.len(),
            );
        }
        let large = circles.into_iter().filter(|circle| circle.members.len() > MOST);
        findings.extend(large.chain(across).map(|circle| circle.finding(workspace.root())));
    }
    print!("{table}");
    Ok(findings)
}

/// The root file of each crate in the workspace, without build scripts.
fn roots(workspace: &Workspace) -> Result<BTreeSet<PathBuf>> {
    let metadata = workspace.metadata()?;
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let targets = list(&metadata["packages"]).into_iter().flat_map(|of| list(&of["targets"]));
    let is_source =
        |target: &serde_json::Value| !list(&target["kind"]).iter().any(|is| is == "custom-build");
    let path = |target: serde_json::Value| target["src_path"].as_str().map(PathBuf::from);
    Ok(targets.filter(is_source).filter_map(path).collect())
}

/// A circle of files, or of entries of one folder.
struct Circle {
    members: BTreeSet<PathBuf>,
    /// Uses whose removal opens the circle, each with one path that causes it.
    cuts: Vec<(PathBuf, PathBuf, String)>,
}

impl Circle {
    fn finding(&self, root: &Path) -> Finding {
        let short = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
        let members: Vec<_> = self.members.iter().map(|path| short(path)).collect();
        let mut text = format!("{} are a circle: {}", members.len(), members.join(" "));
        for (from, to, path) in &self.cuts {
            let _ = write!(text, "\n    cut {} -> {} ({path})", short(from), short(to));
        }
        Finding::new(text)
    }
}

fn of_files(modules: &CrateMap, uses: &Uses) -> Vec<Circle> {
    let path = |file: usize| modules.files[file].path.clone();
    let arrows: Arrows<PathBuf> = uses.keys().map(|(from, to)| (path(*from), path(*to))).collect();
    circles(&arrows, modules, uses, path)
}

/// Circles between entries of a folder, if at least one entry is a folder.
fn of_folders(modules: &CrateMap, uses: &Uses) -> Vec<Circle> {
    let is_folder = |path: &PathBuf| !modules.files.iter().any(|file| file.path == *path);
    let mut all = Vec::new();
    for (level, arrows) in modules.levels(uses) {
        let found = circles(&arrows, modules, uses, |file| {
            let file = &modules.files[file];
            if file.folder.starts_with(&level) { file.entry(&level) } else { file.path.clone() }
        });
        all.extend(found.into_iter().filter(|circle| circle.members.iter().any(is_folder)));
    }
    all
}

/// The circles of `arrows`. `node` maps a file to its node.
fn circles(
    arrows: &Arrows<PathBuf>,
    modules: &CrateMap,
    uses: &Uses,
    node: impl Fn(usize) -> PathBuf,
) -> Vec<Circle> {
    let mut circles = Vec::new();
    for members in graph::circles(arrows) {
        let cuts = graph::cuts(arrows, &members);
        let is_cut = |((from, to), path): (&(usize, usize), &String)| {
            let file = |file: usize| modules.files[file].path.clone();
            cuts.contains(&(node(*from), node(*to))).then(|| (file(*from), file(*to), path.clone()))
        };
        circles.push(Circle { cuts: uses.iter().filter_map(is_cut).collect(), members });
    }
    circles
}
