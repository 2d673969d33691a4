//! Test programs to run on another kernel, each with the kind of device that connects containers.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::results::kernel::Kernel;
use crate::workspace::Workspace;

/// The quick suites: loading and attaching every program, packet tables, and one test per kind of
/// traffic.
const QUICK: [&str; 3] = ["load", "packets", "smoke"];

/// The kinds of devices that connect containers, as tests name them: the default, and the other.
const USUAL: &str = "veth";
const OTHER: &str = "netkit";

/// The first kernel whose netkit the agent uses.
const OTHER_SINCE: &str = "6.11";

/// Test programs with traffic of containers, which run once with each kind of device.
const TRAFFIC: [&str; 7] =
    ["flows", "fragments", "isolation", "lifecycle", "nat", "publish", "smoke"];

/// A test program, and the kind of device in its labs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    pub(crate) program: String,
    pub(crate) device: String,
}

impl Suite {
    fn new(program: &str, device: &str) -> Self {
        Self { program: program.to_owned(), device: device.to_owned() }
    }

    /// The suites of CI.
    pub(crate) fn quick() -> Vec<Self> {
        QUICK.iter().map(|program| Self::new(program, USUAL)).collect()
    }

    /// Every test program; those with traffic also with the other kind of device, if the kernel has
    /// it.
    pub(crate) fn all(workspace: &Workspace, kernel: Kernel) -> Result<Vec<Self>> {
        let mut suites: Vec<Self> =
            programs(workspace)?.iter().map(|program| Self::new(program, USUAL)).collect();
        if kernel >= Kernel::parse(OTHER_SINCE)? {
            suites.extend(TRAFFIC.iter().map(|program| Self::new(program, OTHER)));
        }
        Ok(suites)
    }

    /// The test programs with these names. Fails if one does not exist.
    pub(crate) fn some(
        workspace: &Workspace,
        names: &[&str],
        device: Option<&str>,
    ) -> Result<Vec<Self>> {
        let there = programs(workspace)?;
        if let Some(unknown) = names.iter().find(|name| !there.contains(**name)) {
            let there: Vec<_> = there.into_iter().collect();
            bail!("there is no test program '{unknown}': choose from {}", there.join(", "));
        }
        Ok(names.iter().map(|name| Self::new(name, device.unwrap_or(USUAL))).collect())
    }

    /// Parses what [`fmt::Display`] prints.
    pub(crate) fn parse(text: &str) -> Self {
        match text.split_once(" with ") {
            Some((program, device)) => Self::new(program, device),
            None => Self::new(text, USUAL),
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        if self.device == USUAL { Ok(()) } else { write!(f, " with {}", self.device) }
    }
}

fn programs(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let folder = workspace.root().join("tests/tests");
    let mut there = BTreeSet::new();
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = PathBuf::from(entry.context("cannot read a name in it")?.file_name());
        there.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    Ok(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suite_round_trips() {
        for suite in [Suite::new("load", USUAL), Suite::new("nat", OTHER)] {
            assert_eq!(Suite::parse(&suite.to_string()), suite);
        }
    }

    #[test]
    fn named_suites_exist() {
        let workspace = Workspace::find().unwrap();
        let there = programs(&workspace).unwrap();
        for name in QUICK.iter().chain(&TRAFFIC) {
            assert!(there.contains(*name), "there is no test program {name}");
        }
        let of = |kernel| Suite::all(&workspace, Kernel::parse(kernel).unwrap()).unwrap().len();
        assert_eq!(of("6.1"), there.len());
        assert_eq!(of("6.12"), there.len() + TRAFFIC.len());
    }
}
