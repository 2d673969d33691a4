//! Dependencies, by cargo-deny and `deny.toml`: licences, duplicates, sources, and advisories of
//! `RustSec` if their database can be fetched.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use super::finding::{Finding, Findings};
use crate::setup::tools::Tool;
use crate::workspace::Workspace;

/// Finds dependencies that `deny.toml` does not allow.
pub(crate) fn check(workspace: &Workspace) -> Result<Findings> {
    let deny = Tool::Deny.get()?;
    let mut findings = judge(workspace, &deny, &["bans", "licenses", "sources"])?;
    let fetched = run(workspace, &deny, &["fetch", "db"])?;
    if fetched.status.success() {
        findings.extend(judge(workspace, &deny, &["--disable-fetch", "advisories"])?);
        return Ok(findings.into());
    }
    eprintln!("{}", String::from_utf8_lossy(&fetched.stderr).trim());
    let unchecked = Some("advisories: not checked, no database".into());
    Ok(Findings { list: findings, unchecked })
}

/// Runs some of cargo-deny's checks.
fn judge(workspace: &Workspace, deny: &Path, checks: &[&str]) -> Result<Vec<Finding>> {
    let words = ["--locked", "--color=never", "check", "--hide-inclusion-graph"];
    let output = run(workspace, deny, &[&words, checks].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let findings: Vec<_> = said
        .split("\n\n")
        .filter(|text| text.trim_start().starts_with("error"))
        .map(|text| Finding::new(text.trim()))
        .collect();
    if !output.status.success() && findings.is_empty() {
        bail!("cargo-deny failed: {}", said.trim());
    }
    Ok(findings)
}

fn run(workspace: &Workspace, deny: &Path, words: &[&str]) -> Result<Output> {
    let mut command = Command::new(deny);
    command.current_dir(workspace.root()).args(words);
    // git gives up after 20 s without data.
    command.env("GIT_HTTP_LOW_SPEED_LIMIT", "1").env("GIT_HTTP_LOW_SPEED_TIME", "20");
    command.env("GIT_TERMINAL_PROMPT", "0");
    command.output().with_context(|| format!("cannot run {}", deny.display()))
}
