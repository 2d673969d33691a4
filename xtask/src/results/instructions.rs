//! The number of instructions that the verifier processes to accept each program, per kernel.
//!
//! The counts are recorded in the repository, so that a change shows in its diff. The budget of a
//! program is far below the kernel's limit of one million (`BPF_COMPLEXITY_LIMIT_INSNS`).

use std::collections::BTreeMap;
use std::fs;
use std::iter;
use std::path::Path;

use anyhow::{Context, Result};

use super::kernel::Kernel;

const FILE: &str = "tests/instructions.txt";
const BUDGET: &str = "budget";
const HEAD: &str = "\
# Instructions that the verifier processes to accept a program. Written by `cargo xtask test --kernels`.
# A count over the budget is a failure. Another compiler may give other numbers.
";

/// The file: counts by kernel and program, and a budget by program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Instructions(BTreeMap<Row, BTreeMap<String, u64>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Budget,
    Of(Kernel),
}

impl Instructions {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("cannot understand {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut all = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let [kernel, program, count] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                anyhow::bail!("'{line}' is not of the form KERNEL PROGRAM COUNT");
            };
            let row = if kernel == BUDGET { Row::Budget } else { Row::Of(Kernel::parse(kernel)?) };
            let count =
                count.parse().with_context(|| format!("'{line}' does not end with a number"))?;
            all.0.entry(row).or_default().insert(program.to_owned(), count);
        }
        Ok(all)
    }

    fn text(&self) -> String {
        let line =
            |name: &str, program: &str, count: u64| format!("{name:<8}{program:<14}{count:>9}\n");
        let table = |(row, programs): (&Row, &BTreeMap<String, u64>)| {
            let name = match row {
                Row::Budget => BUDGET.to_owned(),
                Row::Of(kernel) => kernel.to_string(),
            };
            let lines = programs.iter().map(|(program, count)| line(&name, program, *count));
            iter::once("\n".to_owned()).chain(lines).collect::<String>()
        };
        iter::once(HEAD.to_owned()).chain(self.0.iter().map(table)).collect()
    }

    /// The error of a count over the budget, or of a program without one.
    pub(crate) fn over_budget(&self, program: &str, count: u64) -> Option<String> {
        match self.0.get(&Row::Budget).and_then(|budget| budget.get(program)) {
            Some(budget) if count <= *budget => None,
            Some(budget) => Some(format!(
                "the verifier processes {count} instructions of {program}: the budget in {FILE} is {budget}"
            )),
            None => Some(format!("{FILE} has no budget for {program} ({count} instructions)")),
        }
    }

    /// Replaces the counts of a kernel in the file, and prints those that have changed.
    pub(crate) fn record(
        mut self,
        root: &Path,
        kernel: Kernel,
        counts: &BTreeMap<String, u64>,
    ) -> Result<()> {
        let before = self.0.insert(Row::Of(kernel), counts.clone()).unwrap_or_default();
        if before == *counts {
            return Ok(());
        }
        for (program, count) in counts {
            match before.get(program) {
                Some(before) if before == count => {}
                Some(before) => println!(
                    "{FILE}: Linux {kernel}, {program}: {count} instructions, before {before}"
                ),
                None => println!("{FILE}: Linux {kernel}, {program}: {count} instructions"),
            }
        }
        let path = root.join(FILE);
        fs::write(&path, self.text()).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_round_trip() {
        let counts = |count| {
            BTreeMap::from([
                ("to_bridge".to_owned(), count),
                ("from_uplink".to_owned(), 10 * count),
            ])
        };
        let [old, new] = ["6.1", "6.12"].map(|text| Row::Of(Kernel::parse(text).unwrap()));
        let all = Instructions(BTreeMap::from([
            (Row::Budget, counts(100)),
            (new, counts(20)),
            (old, counts(30)),
        ]));
        let text = all.text();
        assert_eq!(Instructions::parse(&text).unwrap(), all);
        assert!(text.find("6.1 ").unwrap() < text.find("6.12").unwrap(), "{text}");
        assert!(Instructions::parse("6.1 from_uplink\n").is_err());
    }

    #[test]
    fn budget_is_an_upper_limit() {
        let all = Instructions::parse("budget from_uplink 100\n").unwrap();
        assert_eq!(all.over_budget("from_uplink", 100), None);
        assert!(all.over_budget("from_uplink", 101).unwrap().contains("101"));
        assert!(all.over_budget("to_bridge", 1).unwrap().contains("no budget"));
    }
}
