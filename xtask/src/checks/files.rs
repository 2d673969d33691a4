//! The files of the checkout.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A text file of the checkout.
pub(crate) struct Text {
    /// The path relative to the checkout's root.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// The sorted paths of all files below `root`, relative to it. Hidden files and target directories
/// are skipped.
pub(crate) fn all(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        let what = || format!("cannot read the folder {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(what)? {
            let entry = entry.with_context(what)?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let path = entry.path();
            if !path.is_dir() {
                files.extend(path.strip_prefix(root).map(Path::to_path_buf));
            } else if !path.join("CACHEDIR.TAG").exists() {
                open.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The files with an extension.
pub(crate) fn texts(root: &Path, extension: &str) -> Result<Vec<Text>> {
    let files = all(root)?.into_iter();
    files
        .filter(|path| path.extension().is_some_and(|own| own == extension))
        .map(|path| {
            let text = fs::read_to_string(root.join(&path))
                .with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Text { path, text })
        })
        .collect()
}
