//! Code spans that look like files of the checkout.

use std::path::{Path, PathBuf};

/// Extensions by which a name without a folder is taken for a file.
const KINDS: [&str; 7] = ["rs", "md", "toml", "txt", "service", "sh", "svg"];

/// The files of the checkout.
pub(crate) struct Paths<'a> {
    files: &'a [PathBuf],
}

impl<'a> Paths<'a> {
    pub(crate) const fn new(files: &'a [PathBuf]) -> Self {
        Self { files }
    }

    /// Like [`Self::is_missing`], for a comment of source code: it also names files that are made
    /// at run time, so that only names with a folder count.
    pub(crate) fn is_missing_in_comment(&self, span: &str, folder: &Path) -> bool {
        span.contains('/') && self.is_missing(span, folder)
    }

    /// Whether `span`, in a document of `folder`, looks like a file or folder of the checkout but
    /// does not exist.
    pub(crate) fn is_missing(&self, span: &str, folder: &Path) -> bool {
        let Some(path) = self.candidate(span) else { return false };
        let beside = folder.join(path);
        !self
            .files
            .iter()
            .any(|file| file.starts_with(path) || file.starts_with(&beside) || file.ends_with(path))
    }

    /// The path in a span, without a line number such as `:12`.
    fn candidate<'s>(&self, span: &'s str) -> Option<&'s str> {
        let (path, line) = span.split_once(':').unwrap_or((span, "1"));
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
        let is_path = path.chars().all(is_plain) && path.starts_with(|l: char| l.is_alphanumeric());
        if !is_path || !line.chars().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let (stem, kind) = path.rsplit_once('.').unwrap_or((path, ""));
        let is_file = KINDS.contains(&kind) && !stem.is_empty();
        let top = path.split_once('/').map(|(top, _)| top);
        let below_top = top.is_some_and(|top| self.is_top(top));
        (below_top || (is_file && top.is_none())).then_some(path.trim_end_matches('/'))
    }

    /// Whether `name` is a folder in the checkout's root.
    fn is_top(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.components().count() > 1 && file.starts_with(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_that_are_there_are_found() {
        let files = ["agent/src/main.rs", "docs/design/xdp.md", "Cargo.toml"].map(PathBuf::from);
        let paths = Paths::new(&files);
        let docs = Path::new("docs");
        for span in
            ["agent/src/main.rs", "agent/src/", "main.rs", "design/xdp.md", "agent/src/main.rs:12"]
        {
            assert!(!paths.is_missing(span, docs), "{span}");
        }
        for span in ["/etc/causeway.toml", "10.0.0.0/8", "agent::x", "a/b", "v0.1", "A.b"] {
            assert!(!paths.is_missing(span, docs), "{span}");
        }
        for span in ["agent/src/lib.rs", "agent/tests", "gone.rs", "LIMITS.md"] {
            assert!(paths.is_missing(span, docs), "{span}");
        }
    }
}
