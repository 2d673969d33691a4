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
    /// The file of each macro: by `#[macro_export]` its path is the crate's root.
    macros: BTreeMap<String, usize>,
}

/// A file of a crate.
pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    /// The folder of its module: for `flow/mod.rs`, and for `flow.rs` beside `flow/`, it is `flow`.
    pub(crate) folder: PathBuf,
}

struct Module {
    file: usize,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    body: Body,
}

/// An arrow between two files, by their numbers, with a path that makes it.
pub(crate) type Uses = BTreeMap<(usize, usize), String>;

/// How many imports are followed to find where a name is defined.
const FOLLOWED: u32 = 16;

impl CrateMap {
    /// Reads the crate whose root module is the file `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut modules = Self::default();
        modules.file(root, root.parent().unwrap_or(root), None)?;
        Ok(modules)
    }

    /// Reads one file and those of its modules, which are in `folder`. `None` if all of it is for
    /// tests.
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

    /// Every pair of files of which the first names something that is defined in the second.
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

    /// The file where what `path` names from module `from` is defined; `None` for other crates.
    fn find(&self, from: usize, path: &[String], followed: u32) -> Option<usize> {
        let (at, rest) = self.head(from, path)?;
        match rest {
            Some(rest) => self.within(at, rest, followed).or(Some(self.modules[at].file)),
            None => self.within(at, path, followed),
        }
    }

    /// Where a path begins, and what of it is left. It has no rest if its first word is a name of
    /// module `from` or of another crate.
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

    /// The file where a path from inside module `at` ends: imports are followed to where the name
    /// is defined. `None` if the module has no such name.
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

    /// Like `within`, for the names that `use GLOB::*` imports.
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
    /// The folders and files of each folder, as circles see them: an arrow between two of its
    /// entries is one between files below them.
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
    /// The entry of folder `level` that this file is, or is below.
    pub(crate) fn entry(&self, level: &Path) -> PathBuf {
        match self.folder.strip_prefix(level).ok().and_then(|rest| rest.components().next()) {
            Some(folder) => level.join(folder),
            None => self.path.clone(),
        }
    }
}
