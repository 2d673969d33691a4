//! The outcome of the tests on a kernel, and a table of several outcomes.

use std::time::Duration;

use super::tally::Tally;

/// The outcome of the tests on one kernel.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The kernel's release.
    pub(crate) kernel: String,
    pub(crate) tally: Tally,
    pub(crate) skipped: u32,
    pub(crate) took: Duration,
    /// Whether no test failed and nothing else went wrong.
    pub(crate) right: bool,
}

impl Outcome {
    /// The number of passed tests. The harness counts skipped ones as passed.
    pub(crate) const fn passed(&self) -> u32 {
        self.tally.passed.saturating_sub(self.skipped)
    }
}

/// A table with a line for each kernel.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let width =
        outcomes.iter().map(|outcome| outcome.kernel.len()).max().unwrap_or_default().max(6);
    let mut lines =
        vec![format!("{:<width$}  passed  failed  ignored  skipped    time\n", "kernel")];
    for outcome in outcomes {
        let Tally { failed, ignored, .. } = outcome.tally;
        let verdict = if outcome.right { "" } else { "  FAILED" };
        let (kernel, passed, skipped, took) =
            (&outcome.kernel, outcome.passed(), outcome.skipped, outcome.took.as_secs());
        lines.push(format!(
            "{kernel:<width$}{passed:>8}{failed:>8}{ignored:>9}{skipped:>9}{took:>6} s{verdict}\n"
        ));
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_line_per_kernel() {
        let outcome = |kernel: &str, failed, right| Outcome {
            kernel: kernel.into(),
            tally: Tally { passed: 24, failed, ignored: 1, clean: failed == 0, ..Tally::default() },
            skipped: 2,
            took: Duration::from_secs(100),
            right,
        };
        let table =
            table(&[outcome("6.1.0-56-cloud-amd64", 0, true), outcome("6.18.44", 3, false)]);
        let lines = [
            "kernel                passed  failed  ignored  skipped    time",
            "6.1.0-56-cloud-amd64      22       0        1        2   100 s",
            "6.18.44                   22       3        1        2   100 s  FAILED",
        ];
        assert_eq!(table.lines().collect::<Vec<_>>(), lines);
    }
}
