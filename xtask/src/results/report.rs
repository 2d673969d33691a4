//! The report of tests: what they tell besides their results.
//!
//! Tests append lines to the file that `CAUSEWAY_REPORT` names: `instructions PROGRAM COUNT`,
//! `skipped TEST FEATURE SINCE` and `rows FAMILY COUNT`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::instructions::Instructions;
use super::kernel::{Build, Kernel};
use crate::workspace::Workspace;

/// The list of permitted skips, one a line: `SINCE FEATURE TEST [OPTION]`. A kernel built without
/// `OPTION` lacks the feature at any version.
const SKIPS: &str = "tests/skips.txt";

/// The report of one run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    instructions: BTreeMap<String, u64>,
    skips: Vec<Skip>,
    /// Rows of packet tables that passed, of IPv4 and of IPv6.
    rows: [u64; 2],
    /// Lines that were not understood.
    unknown: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Skip {
    test: String,
    feature: String,
    since: String,
}

impl Report {
    /// Reads the report in a file. It is empty if there is no file.
    pub(crate) fn read(path: &Path) -> Self {
        let mut report = Self::default();
        fs::read_to_string(path).unwrap_or_default().lines().for_each(|line| report.add(line));
        report
    }

    pub(crate) fn add(&mut self, line: &str) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["instructions", program, count] if count.parse::<u64>().is_ok() => {
                self.instructions.insert(program.to_owned(), count.parse().unwrap_or_default());
            }
            ["skipped", test, feature, since] => {
                self.skips.push(Skip {
                    test: test.to_owned(),
                    feature: feature.to_owned(),
                    since: since.to_owned(),
                });
            }
            ["rows", family @ ("v4" | "v6"), count] if count.parse::<u64>().is_ok() => {
                self.rows[usize::from(family == "v6")] += count.parse::<u64>().unwrap_or_default();
            }
            _ => self.unknown.push(line.to_owned()),
        }
    }

    /// The number of skipped tests.
    pub(crate) fn skips(&self) -> u32 {
        u32::try_from(self.skips.len()).unwrap_or(u32::MAX)
    }

    /// The number of rows of packet tables that passed, of IPv4 and of IPv6.
    pub(crate) const fn rows(&self) -> [u64; 2] {
        self.rows
    }

    /// Prints skips and instruction counts. Returns what is wrong with them for this kernel.
    pub(crate) fn check(
        &self,
        workspace: &Workspace,
        kernel: Kernel,
        build: &Build,
    ) -> Result<Vec<String>> {
        let path = workspace.root().join(SKIPS);
        let list =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut problems: Vec<_> =
            self.skips.iter().filter_map(|skip| unlisted(skip, &list, kernel, build)).collect();
        for Skip { test, feature, since } in &self.skips {
            println!("skipped {test}: Linux {kernel} has no {feature} (since {since})");
        }
        for (program, count) in &self.instructions {
            println!("Linux {kernel}: {program:<14}{count:>9} instructions");
        }
        let recorded = Instructions::read(workspace.root())?;
        problems.extend(
            self.instructions
                .iter()
                .filter_map(|(program, count)| recorded.over_budget(program, *count)),
        );
        problems.extend(
            self.unknown
                .iter()
                .map(|line| format!("a test reported a line that is not understood: {line}")),
        );
        Ok(problems)
    }

    /// Updates the instruction counts in the repository, if they have changed.
    pub(crate) fn record(&self, workspace: &Workspace, kernel: Kernel) -> Result<()> {
        if self.instructions.is_empty() {
            return Ok(());
        }
        Instructions::read(workspace.root())?.record(workspace.root(), kernel, &self.instructions)
    }
}

/// What is wrong with a skip: it is not in the list, or this kernel has the feature.
fn unlisted(skip: &Skip, list: &str, kernel: Kernel, build: &Build) -> Option<String> {
    let Skip { test, feature, since } = skip;
    let listed = list.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let is_it = words.by_ref().take(3).eq([since, feature, test]);
        is_it.then(|| words.next())
    });
    let Some(option) = listed else {
        return Some(format!(
            "{test} was skipped without {feature} (since Linux {since}), and {SKIPS} does not list it"
        ));
    };
    if option.is_some_and(|option| !build.has(option)) {
        return None;
    }
    let has_it = Kernel::parse(since).is_ok_and(|since| kernel >= since);
    has_it.then(|| {
        format!("{test} was skipped without {feature}, but Linux {kernel} has it (since {since})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(version: &str) -> Kernel {
        Kernel::parse(version).unwrap()
    }

    fn skip() -> Skip {
        Skip { test: "a_test".into(), feature: "tcx".into(), since: "6.6".into() }
    }

    #[test]
    fn skip_is_right_if_listed_and_kernel_is_older() {
        let list = "# since  feature  test\n6.6  tcx  a_test\n";
        for build in [Build::Debian, Build::Custom(String::new())] {
            assert_eq!(unlisted(&skip(), list, kernel("6.1"), &build), None);
            assert!(unlisted(&skip(), list, kernel("6.6"), &build).unwrap().contains("has"));
            assert!(
                unlisted(&skip(), "", kernel("6.1"), &build).unwrap().contains("does not list it")
            );
            assert!(unlisted(&skip(), "6.7 tcx a_test", kernel("6.1"), &build).is_some());
        }
    }

    #[test]
    fn skip_of_build_option_is_wrong_on_debian() {
        let list = "6.6  tcx  a_test  CONFIG_TCX\n";
        let wrong = |kernel, build| unlisted(&skip(), list, kernel, &build);
        assert_eq!(wrong(kernel("6.1"), Build::Debian), None);
        assert!(wrong(kernel("6.12"), Build::Debian).unwrap().contains("has"));
        assert_eq!(
            wrong(
                kernel("6.12"),
                Build::Custom("CONFIG_TCX_MORE=y\n# CONFIG_TCX is not set\n".into())
            ),
            None
        );
        assert!(
            wrong(kernel("6.12"), Build::Custom("CONFIG_TCX=y\n".into())).unwrap().contains("has")
        );
    }

    #[test]
    fn report_keeps_unknown_lines() {
        let mut report = Report::default();
        let lines = [
            "instructions uplink 7",
            "instructions uplink many",
            "skipped a_test tcx 6.6",
            "hello",
        ];
        for line in lines.into_iter().chain(["rows v4 3", "rows v6 4", "rows v6 5", "rows v5 1"]) {
            report.add(line);
        }
        assert_eq!(report.instructions, BTreeMap::from([("uplink".into(), 7)]));
        assert_eq!(report.skips, [skip()]);
        assert_eq!(report.rows, [3, 9]);
        assert_eq!(report.unknown, ["instructions uplink many", "hello", "rows v5 1"]);
    }

    #[test]
    fn listed_skips_name_existing_tests() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let entries = |path: &Path| {
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        };
        // One whose subject has become too long for a file has a folder.
        let suites = entries(&root.join("tests/tests")).into_iter();
        let files = suites.flat_map(|path| if path.is_dir() { entries(&path) } else { vec![path] });
        let tests: String = files.map(|path| read(&path)).collect();
        for line in read(&root.join(SKIPS)).lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<_> = line.split_whitespace().collect();
            let ([since, _, test] | [since, _, test, _]) = words[..] else { panic!("{line}") };
            assert!(Kernel::parse(since).is_ok(), "{line}");
            assert!(tests.contains(&format!("fn {test}(")), "there is no test {test}");
        }
    }
}
