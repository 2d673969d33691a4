//! What a check finds.

use std::fmt;
use std::path::Path;

/// The findings of one check.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) list: Vec<Finding>,
    /// What could not be checked, and why.
    pub(crate) unchecked: Option<String>,
}

impl Findings {
    pub(crate) fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.list.extend(findings);
    }
}

impl From<Vec<Finding>> for Findings {
    fn from(list: Vec<Finding>) -> Self {
        Self { list, unchecked: None }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding(String);

impl Finding {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// One of line `line`, counted from 1, of a file.
    pub(crate) fn at(path: &Path, line: usize, text: impl fmt::Display) -> Self {
        Self(format!("{}:{line}: {text}", path.display()))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
