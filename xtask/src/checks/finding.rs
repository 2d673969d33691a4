//! Findings of a check.

use std::fmt;
use std::path::Path;

/// The findings of one check.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) list: Vec<Finding>,
    /// A part that could not be checked, with the reason.
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

/// A fault in the checkout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding(String);

impl Finding {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A fault in line `line` of a file, counted from 1.
    pub(crate) fn at(path: &Path, line: usize, text: impl fmt::Display) -> Self {
        Self(format!("{}:{line}: {text}", path.display()))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
