//! Checks of the checkout that run in seconds and need neither root nor a kernel.

use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;

use crate::workspace::Workspace;

mod circles;
mod commits;
mod dependencies;
mod documents;
mod files;
mod finding;
mod lines;
mod spelling;
mod tokens;
mod unused;

/// A check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Check {
    /// Widths of lines.
    Lines,
    /// Import circles between files and between folders.
    Circles,
    /// Unused dependencies.
    Unused,
    /// Spelling, and words that hide what is meant.
    Spelling,
    /// Licences, duplicates, sources and advisories of dependencies.
    Dependencies,
    /// Messages of the commits since `origin/main`.
    Commits,
    /// Links, commands and names of files in documents. Builds `causeway`.
    Documents,
}

impl Check {
    /// Every check, in the order of a run.
    pub(crate) const ALL: [Self; 7] = [
        Self::Lines,
        Self::Circles,
        Self::Unused,
        Self::Spelling,
        Self::Dependencies,
        Self::Commits,
        Self::Documents,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Circles => "circles",
            Self::Unused => "unused",
            Self::Spelling => "spelling",
            Self::Dependencies => "dependencies",
            Self::Commits => "commits",
            Self::Documents => "documents",
        }
    }

    /// Whether a finding is a failure.
    const fn is_enforced(self) -> bool {
        match self {
            // Messages of commits that are pushed cannot be changed.
            Self::Commits => false,
            Self::Lines
            | Self::Circles
            | Self::Unused
            | Self::Spelling
            | Self::Dependencies
            | Self::Documents => true,
        }
    }

    /// Runs the check and prints its findings. `xtask` defines xtask's own command line.
    pub(crate) fn run(self, workspace: &Workspace, xtask: &clap::Command) -> Result<Outcome> {
        let started = Instant::now();
        let findings = match self {
            Self::Lines => lines::check(workspace)?,
            Self::Circles => circles::check(workspace)?,
            Self::Unused => unused::check(workspace)?,
            Self::Spelling => spelling::check(workspace)?,
            Self::Dependencies => dependencies::check(workspace)?,
            Self::Commits => commits::check(workspace)?,
            Self::Documents => documents::check(workspace, xtask)?,
        };
        for finding in &findings.list {
            println!("{finding}");
        }
        let note = match (findings.list.len(), self.is_enforced()) {
            (0, _) | (_, true) => "",
            (_, false) => " (no failure)",
        };
        println!(
            "check {}: {} findings in {:.1} s{note}",
            self.name(),
            findings.list.len(),
            started.elapsed().as_secs_f32(),
        );
        if let Some(unchecked) = &findings.unchecked {
            println!("check {}: {unchecked}", self.name());
        }
        let passed = findings.list.is_empty() || !self.is_enforced();
        Ok(Outcome { passed, unchecked: findings.unchecked })
    }
}

/// The outcome of a check.
pub(crate) struct Outcome {
    pub(crate) passed: bool,
    /// A part that could not be checked, with the reason.
    pub(crate) unchecked: Option<String>,
}
