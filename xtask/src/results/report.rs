//! What tests report besides their results, as lines in the file that `CAUSEWAY_REPORT` names:
//! `instructions PROGRAM COUNT`, `skipped TEST FEATURE SINCE` and `rows FAMILY COUNT`; and what of
//! it is wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::instructions::Instructions;
use super::kernel::{Build, Kernel};
use crate::workspace::Workspace;

/// The list of the skips that are right: in each line `SINCE FEATURE TEST`, and behind that what a
/// kernel may be built without.
const SKIPS: &str = "tests/skips.txt";

/// What the tests of one run reported.
#[derive(Debug, Default)]
pub(crate) struct Report {
    instructions: BTreeMap<String, u64>,
    skips: Vec<Skip>,
    /// Of packet tables: IPv4's, and IPv6's.
    rows: [u64; 2],
    strange: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Skip {
    test: String,
    feature: String,
    since: String,
}

impl Report {
    /// The report that a run has left in a file; an empty one if it has left none.
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
            _ => self.strange.push(line.to_owned()),
        }
    }

    /// How many tests were skipped.
    pub(crate) fn skips(&self) -> u32 {
        u32::try_from(self.skips.len()).unwrap_or(u32::MAX)
    }

    /// How many rows of packet tables passed, of IPv4 and of IPv6.
    pub(crate) const fn rows(&self) -> [u64; 2] {
        self.rows
    }

    /// Shows skips and counts, and answers what is wrong with them on that kernel.
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
            println!("skipped {test}: Linux {kernel} has no {feature}, which came with {since}");
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
            self.strange
                .iter()
                .map(|line| format!("a test reported what nobody understands: {line}")),
        );
        Ok(problems)
    }

    /// Writes the counts into the repository's list, if they are not what it says.
    pub(crate) fn record(&self, workspace: &Workspace, kernel: Kernel) -> Result<()> {
        if self.instructions.is_empty() {
            return Ok(());
        }
        Instructions::read(workspace.root())?.record(workspace.root(), kernel, &self.instructions)
    }
}

/// What is wrong with a skip.
fn unlisted(skip: &Skip, list: &str, kernel: Kernel, build: &Build) -> Option<String> {
    let Skip { test, feature, since } = skip;
    let listed = list.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let is_it = words.by_ref().take(3).eq([since, feature, test]);
        is_it.then(|| words.next())
    });
    let Some(option) = listed else {
        return Some(format!(
            "{test} was skipped for want of {feature} (since Linux {since}), and {SKIPS} does not say so"
        ));
    };
    if option.is_some_and(|option| !build.has(option)) {
        return None;
    }
    let has_it = Kernel::parse(since).is_ok_and(|since| kernel >= since);
    has_it.then(|| {
        format!(
            "{test} was skipped for want of {feature}, which Linux {kernel} has (since {since})"
        )
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
    fn a_skip_is_right_if_it_is_listed_and_the_kernel_is_older() {
        let list = "# since  feature  test\n6.6  tcx  a_test\n";
        for build in [Build::Debians, Build::Anybodys(String::new())] {
            assert_eq!(unlisted(&skip(), list, kernel("6.1"), &build), None);
            assert!(unlisted(&skip(), list, kernel("6.6"), &build).unwrap().contains("has"));
            assert!(
                unlisted(&skip(), "", kernel("6.1"), &build).unwrap().contains("does not say so")
            );
            assert!(unlisted(&skip(), "6.7 tcx a_test", kernel("6.1"), &build).is_some());
        }
    }

    #[test]
    fn what_a_kernel_may_be_built_without_debians_have() {
        let list = "6.6  tcx  a_test  CONFIG_TCX\n";
        let wrong = |kernel, build| unlisted(&skip(), list, kernel, &build);
        assert_eq!(wrong(kernel("6.1"), Build::Debians), None);
        assert!(wrong(kernel("6.12"), Build::Debians).unwrap().contains("has"));
        assert_eq!(
            wrong(
                kernel("6.12"),
                Build::Anybodys("CONFIG_TCX_MORE=y\n# CONFIG_TCX is not set\n".into())
            ),
            None
        );
        assert!(
            wrong(kernel("6.12"), Build::Anybodys("CONFIG_TCX=y\n".into()))
                .unwrap()
                .contains("has")
        );
    }

    #[test]
    fn lines_that_nobody_understands_are_a_problem() {
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
        assert_eq!(report.strange, ["instructions uplink many", "hello", "rows v5 1"]);
    }

    #[test]
    fn every_skip_that_is_listed_is_of_a_test_there_is() {
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
