//! The output of test harnesses: forwarded as it comes, and added up.

use std::io::{IsTerminal, Stdout, Write, stdout};
use std::ops::AddAssign;

use anyhow::{Context, Result};

/// Forwards the output of test harnesses.
///
/// A terminal shows the name of a test while it runs. A log gets whole lines, so that other output
/// does not split them.
pub(crate) struct Listing<W> {
    out: W,
    whole_lines: bool,
    /// The text before each line.
    label: String,
    line: Vec<u8>,
    total: Tally,
}

impl Listing<Stdout> {
    /// Forwards to stdout: whole lines unless it is a terminal.
    pub(crate) fn shown() -> Self {
        let out = stdout();
        let whole_lines = !out.is_terminal();
        Self::new(out, whole_lines)
    }

    /// Forwards to stdout, with a label before each line: for several at once.
    pub(crate) fn labelled(label: &str) -> Self {
        Self { label: format!("{label} "), ..Self::new(stdout(), true) }
    }
}

impl<W: Write> Listing<W> {
    pub(crate) fn new(out: W, whole_lines: bool) -> Self {
        Self { out, whole_lines, label: String::new(), line: Vec::new(), total: Tally::default() }
    }

    /// Forwards output, which may end in the middle of a line.
    pub(crate) fn show(&mut self, bytes: &[u8]) -> Result<()> {
        if !self.whole_lines {
            print(&mut self.out, bytes)?;
        }
        for byte in bytes {
            self.line.push(*byte);
            if *byte == b'\n' {
                if self.whole_lines {
                    self.print_line()?;
                }
                self.total += Tally::of(&String::from_utf8_lossy(&self.line)).unwrap_or_default();
                self.line.clear();
            }
        }
        Ok(())
    }

    /// Notes a failure that no harness reported.
    pub(crate) const fn failed(&mut self) {
        self.total.clean = false;
    }

    /// Forwards the rest, and returns the total.
    pub(crate) fn end(mut self) -> Result<Tally> {
        if self.whole_lines && !self.line.is_empty() {
            self.print_line()?;
        }
        Ok(self.total)
    }

    fn print_line(&mut self) -> Result<()> {
        let line = [self.label.as_bytes(), &self.line].concat();
        print(&mut self.out, &line)
    }
}

fn print(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).and_then(|()| out.flush()).context("cannot print the tests' output")
}

/// Results of test harnesses, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) ignored: u32,
    /// Passed tests of IPv4 only and of IPv6 only, by their modules `v4` and `v6`.
    pub(crate) of_family: [u32; 2],
    /// Whether everything was built and run, and passed.
    pub(crate) clean: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Self { passed: 0, failed: 0, ignored: 0, of_family: [0; 2], clean: true }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        for (own, other) in self.of_family.iter_mut().zip(other.of_family) {
            *own += other;
        }
        self.clean &= other.clean;
    }
}

impl Tally {
    /// Reads a line `test result: ok. 3 passed; 0 failed; 1 ignored; ...`, or `test v4::name ...
    /// ok` for its family. `None` for any other line.
    fn of(line: &str) -> Option<Self> {
        let Some(result) = line.strip_prefix("test result: ") else {
            return Self::of_test(line.strip_prefix("test ")?);
        };
        let (_, counts) = result.split_once(". ")?;
        let count = |word: &str| {
            counts
                .split("; ")
                .find_map(|part| part.strip_suffix(word)?.trim().parse::<u32>().ok())
                .unwrap_or(0)
        };
        let (passed, failed, ignored) = (count("passed"), count("failed"), count("ignored"));
        Some(Self { passed, failed, ignored, clean: failed == 0, ..Self::default() })
    }

    /// The tally of one test. Its result may be coloured.
    fn of_test(line: &str) -> Option<Self> {
        let (name, result) = line.split_once(" ... ")?;
        let passed = result.contains("ok") && !result.contains("ignored");
        let is_of =
            |family: &str| u32::from(passed && name.split("::").any(|module| module == family));
        Some(Self { of_family: ["v4", "v6"].map(is_of), ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn tally_reads_result_line() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.01s";
        assert_eq!(
            Tally::of(line),
            Some(Tally { passed: 3, failed: 2, ignored: 1, clean: false, ..Tally::default() })
        );
    }

    #[test]
    fn tally_ignores_colours() {
        let line =
            "test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 12 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(Tally::of(line), Some(Tally { passed: 12, ..Tally::default() }));
    }

    #[test]
    fn tally_counts_families_by_module() {
        for (line, of_family) in [
            ("test v4::a_ping ... ok", [1, 0]),
            ("test forward::tests::v6::a_ping ... \u{1b}[32mok\u{1b}(B\u{1b}[m", [0, 1]),
            ("test v6::a_ping ... FAILED", [0, 0]),
            ("test v6::a_ping ... ignored", [0, 0]),
            ("test lab::ping ... ok", [0, 0]),
        ] {
            assert_eq!(Tally::of(line), Some(Tally { of_family, ..Tally::default() }), "{line}");
        }
    }

    #[test]
    fn tally_ignores_other_lines() {
        assert_eq!(Tally::of("running 3 tests"), None);
        assert_eq!(Tally::of("test v4::a_ping"), None);
    }
}
