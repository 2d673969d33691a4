//! The modules of a crate, read from its files, and the arrows between the files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::source::{self, Body};

/// A crate.
#[derive(Default)]
pub(crate) struct CrateMap {
    modules: Vec<Module>,
    pub(crate) files: Vec<SourceFile>,
    /// The file of each macro. `#[macro_export]` moves its path to the crate's root.
    macros: BTreeMap<String, usize>,
}

/// A file of a crate.
pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    /// The folder of its module: `flow` for `flow/mod.rs`, and for `flow.rs` with submodules.
    pub(crate) folder: PathBuf,
}

struct Module {
    file: usize,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    body: Body,
}

/// Pairs of file numbers, each with one path by which the first file uses the second.
pub(crate) type Uses = BTreeMap<(usize, usize), String>;

/// The longest chain of imports to follow.
const FOLLOWED: u32 = 16;

impl CrateMap {
    /// Reads the crate whose root module is the file `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut modules = Self::default();
        modules.file(root, root.parent().unwrap_or(root), None)?;
        Ok(modules)
    }

    /// Reads a file and the files of its submodules, which are in `folder`. `None` if all of it is
    /// under `#![cfg(test)]`.
    fn file(&mut self, path: &Path, folder: &Path, parent: Option<usize>) -> Result<Option<usize>> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let Some(body) = source::read(&text) else { return Ok(None) };
        let in_files = body.modules.iter().any(|module| module.body.is_none());
        let own = if in_files { folder } else { path.parent().unwrap_or(folder) };
        self.files.push(SourceFile { path: path.to_path_buf(), folder: own.to_path_buf() });
        self.module(body, self.files.len() - 1, folder, parent).map(Some)
    }

    fn module(
        &mut self,
        mut body: Body,
        file: usize,
        folder: &Path,
        parent: Option<usize>,
    ) -> Result<usize> {
        let declared = std::mem::take(&mut body.modules);
        for name in &body.macros {
            self.macros.entry(name.clone()).or_insert(file);
        }
        let this = self.modules.len();
        self.modules.push(Module { file, parent, children: BTreeMap::new(), body });
        for module in declared {
            let inner = folder.join(&module.name);
            let child = match (module.body, module.path) {
                (Some(body), _) => Some(self.module(body, file, &inner, Some(this))?),
                (None, Some(path)) => {
                    let beside = self.files[file].path.parent().unwrap_or(folder).to_path_buf();
                    self.file(&beside.join(path), &inner, Some(this))?
                }
                (None, None) => {
                    let plain = folder.join(format!("{}.rs", module.name));
                    let path = if plain.exists() { plain } else { inner.join("mod.rs") };
                    self.file(&path, &inner, Some(this))?
                }
            };
            if let Some(child) = child {
                self.modules[this].children.insert(module.name, child);
            }
        }
        Ok(this)
    }

    /// All uses between files.
    pub(crate) fn uses(&self) -> Uses {
        let mut uses = Uses::new();
        for (number, module) in self.modules.iter().enumerate() {
            for path in &module.body.paths {
                if let Some(file) = self.find(number, path, FOLLOWED)
                    && file != module.file
                {
                    uses.entry((module.file, file)).or_insert_with(|| path.join("::"));
                }
            }
        }
        uses
    }

    /// The file that defines `path`, as seen from module `from`. `None` for other crates.
    fn find(&self, from: usize, path: &[String], followed: u32) -> Option<usize> {
        let (at, rest) = self.head(from, path)?;
        match rest {
            Some(rest) => self.within(at, rest, followed).or(Some(self.modules[at].file)),
            None => self.within(at, path, followed),
        }
    }

    /// The module where a path starts, and its segments after `crate`, `self` and `super`. The
    /// latter are `None` if it starts with a name, of module `from` or of another crate.
    fn head<'p>(&self, from: usize, path: &'p [String]) -> Option<(usize, Option<&'p [String]>)> {
        let (first, mut rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some((0, Some(rest))),
            "self" => Some((from, Some(rest))),
            "super" => {
                let mut at = self.modules[from].parent?;
                while let Some(("super", left)) =
                    rest.split_first().map(|(word, left)| (word.as_str(), left))
                {
                    (at, rest) = (self.modules[at].parent?, left);
                }
                Some((at, Some(rest)))
            }
            _ => Some((from, None)),
        }
    }

    /// The file that defines `path`, relative to module `at`. Follows imports. `None` if the module
    /// has no such name.
    fn within(&self, at: usize, path: &[String], followed: u32) -> Option<usize> {
        let module = &self.modules[at];
        let Some((first, rest)) = path.split_first() else { return Some(module.file) };
        if let Some(child) = module.children.get(first) {
            return self.within(*child, rest, followed).or(Some(self.modules[*child].file));
        }
        if module.body.items.contains(first) {
            return Some(module.file);
        }
        let followed = followed.checked_sub(1)?;
        if let Some(import) = module.body.imports.get(first) {
            let whole: Vec<String> = import.iter().chain(rest).cloned().collect();
            return self.find(at, &whole, followed);
        }
        let glob = module.body.globs.iter().find_map(|glob| self.in_glob(at, glob, path, followed));
        glob.or_else(|| (at == 0).then(|| self.macros.get(first).copied()).flatten())
    }

    /// Like [`Self::within`], for a name that `use GLOB::*` imports.
    fn in_glob(&self, at: usize, glob: &[String], path: &[String], followed: u32) -> Option<usize> {
        let module = self.module_of(at, glob)?;
        if module == at { None } else { self.within(module, path, followed) }
    }

    fn module_of(&self, from: usize, path: &[String]) -> Option<usize> {
        let (at, rest) = self.head(from, path)?;
        let rest = rest.unwrap_or(path);
        rest.iter().try_fold(at, |at, name| self.modules[at].children.get(name).copied())
    }
}

impl CrateMap {
    /// For each folder, the uses between its entries.
    pub(crate) fn levels(&self, uses: &Uses) -> BTreeMap<PathBuf, BTreeSet<(PathBuf, PathBuf)>> {
        let mut levels: BTreeMap<PathBuf, BTreeSet<(PathBuf, PathBuf)>> = BTreeMap::new();
        for (from, to) in uses.keys() {
            let (from, to) = (&self.files[*from], &self.files[*to]);
            for level in from.folder.ancestors().filter(|level| to.folder.starts_with(level)) {
                let (from, to) = (from.entry(level), to.entry(level));
                if from != to {
                    levels.entry(level.to_path_buf()).or_default().insert((from, to));
                }
            }
        }
        levels
    }
}

impl SourceFile {
    /// The entry of folder `level` that contains this file.
    pub(crate) fn entry(&self, level: &Path) -> PathBuf {
        match self.folder.strip_prefix(level).ok().and_then(|rest| rest.components().next()) {
            Some(folder) => level.join(folder),
            None => self.path.clone(),
        }
    }
}
