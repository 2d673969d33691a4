//! Spelling of names, comments and documents, by typos. `typos.toml` has allowed and disallowed
//! words.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::finding::{Finding, Findings};
use crate::setup::tools::Tool;
use crate::workspace::Workspace;

/// Finds misspelled and disallowed words.
pub(crate) fn check(workspace: &Workspace) -> Result<Findings> {
    let typos = Tool::Typos.get()?;
    let mut command = Command::new(&typos);
    command.current_dir(workspace.root()).args(["--format", "brief"]);
    let output = command.output().with_context(|| format!("cannot run {}", typos.display()))?;
    let lines = String::from_utf8_lossy(&output.stdout);
    let findings: Vec<_> = lines.lines().map(Finding::new).collect();
    if !output.status.success() && findings.is_empty() {
        bail!("typos failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(findings.into())
}
