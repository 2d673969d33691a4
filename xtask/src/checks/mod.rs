//! Checks of the checkout that run in seconds and need neither root nor a kernel.

use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;

use crate::workspace::Workspace;

mod circles;
mod finding;
mod tokens;

/// What can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Check {
    /// Import circles between files and between folders.
    Circles,
}

impl Check {
    /// Every check, the fastest first.
    pub(crate) const ALL: [Self; 1] = [Self::Circles];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Circles => "circles",
        }
    }

    /// Runs it; what it finds is printed, and counts as a failure where the check is enforced.
    pub(crate) fn run(self, workspace: &Workspace) -> Result<bool> {
        let started = Instant::now();
        let (findings, enforced) = match self {
            Self::Circles => (circles::check(workspace)?, false),
        };
        for finding in &findings {
            println!("{}", finding.0);
        }
        println!(
            "check {}: {} findings, in {:.1} s{}",
            self.name(),
            findings.len(),
            started.elapsed().as_secs_f32(),
            if enforced { "" } else { " (not enforced)" }
        );
        Ok(findings.is_empty() || !enforced)
    }
}
