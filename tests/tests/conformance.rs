//! Checks `docs/conformance.md`: every requirement has a row, every row a mark, and every test that
//! a row names exists.

use std::{collections::BTreeSet, fs, path::Path};

const MARKS: [&str; 4] = ["yes", "partly", "no", "does not apply"];
/// Number of requirements of each RFC.
const REQUIREMENTS: [(&str, u32); 3] = [("4787", 14), ("5382", 10), ("5508", 11)];
/// Number of causeway's own cases.
const CASES: u32 = 12;

struct Row {
    name: String,
    mark: String,
    tests: Vec<String>,
}

/// The rows of all tables whose first column is `row`.
fn rows(text: &str) -> Vec<Row> {
    let (mut rows, mut inside) = (Vec::new(), false);
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        inside = line.starts_with('|') && (inside || cells[0] == "row");
        if !inside || cells[0] == "row" || cells[0].starts_with("---") {
            continue;
        }
        assert_eq!(cells.len(), 5, "a row has five cells: {line}");
        let tests =
            cells[4].split_whitespace().map(|test| test.trim_matches('`').to_owned()).collect();
        rows.push(Row { name: cells[0].to_owned(), mark: cells[2].to_owned(), tests });
    }
    rows
}

fn table() -> (Vec<Row>, &'static Path) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let text = fs::read_to_string(workspace.join("docs/conformance.md")).expect("the table");
    (rows(&text), workspace)
}

/// Whether a test is in the file that its path leads to.
fn exists(test: &str, workspace: &Path) -> bool {
    let Some((module, name)) = test.rsplit_once("::") else { return false };
    let module = module.replace("::", "/");
    let files = match module.strip_prefix("common/") {
        // Unit tests are in the module's file, or in a `tests.rs` of their own.
        Some(module) => {
            let file = module.strip_suffix("/tests").unwrap_or(module);
            [format!("common/src/{module}.rs"), format!("common/src/{file}.rs")]
        }
        None => [format!("tests/tests/{module}.rs"), format!("tests/tests/{module}/main.rs")],
    };
    files
        .into_iter()
        .filter_map(|file| fs::read_to_string(workspace.join(file)).ok())
        .any(|text| has_test(&text, name))
}

/// Whether the text has a function of that name with `#[test]`, or lists it in `families!`.
fn has_test(text: &str, name: &str) -> bool {
    let listed =
        |list: &str| list.split([',', ';', ':', ' ', '\n', '(', '{']).any(|word| word == name);
    if text.split("families!").skip(1).any(|rest| rest.split([')', '}']).next().is_some_and(listed))
    {
        return true;
    }
    let mut is_test = false;
    text.lines().map(str::trim).any(|line| {
        let found = is_test
            && line.strip_prefix("fn ").is_some_and(|rest| {
                rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('('))
            });
        // There may be other attributes in between.
        is_test = line == "#[test]" || (is_test && line.starts_with("#["));
        found
    })
}

#[test]
fn rows_have_marks_and_existing_tests() {
    let (rows, workspace) = table();
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for Row { name, mark, tests: named } in &rows {
        if !seen.insert(name) {
            problems.push(format!("{name}: there are two"));
        }
        if !MARKS.contains(&&**mark) {
            problems.push(format!("{name}: '{mark}' is no mark"));
        }
        if named.is_empty() && ["yes", "partly"].contains(&&**mark) {
            problems.push(format!("{name}: '{mark}' needs a test that shows it"));
        }
        for test in named.iter().filter(|test| !exists(test, workspace)) {
            problems.push(format!("{name}: there is no test {test}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn requirements_and_cases_have_rows() {
    let (rows, _) = table();
    let of_rfcs = REQUIREMENTS
        .iter()
        .flat_map(|(rfc, last)| (1..=*last).map(move |number| format!("{rfc} REQ-{number}")));
    for wanted in of_rfcs {
        assert!(rows.iter().any(|row| row.name == wanted), "{wanted} has no row");
    }
    for case in 1..=CASES {
        let wanted = format!("case {case} ");
        assert!(rows.iter().any(|row| row.name.starts_with(&wanted)), "{wanted}has no row");
    }
}

#[test]
fn tests_are_found_by_exact_name() {
    let text = "#[test]\n#[ignore]\nfn one() {}\n\nfn two() {}\n\n    #[test]\n    fn three(a in 0..1) {}\n";
    assert!(has_test(text, "one") && has_test(text, "three"));
    assert!(!has_test(text, "two") && !has_test(text, "thr"));
    let text =
        "families! {\n    one,\n    two;\n    V4:\n    three,\n}\n\nfn four(family: Family) {}\n";
    assert!(
        ["one", "two", "three"].iter().all(|name| has_test(text, name)) && !has_test(text, "four")
    );
    assert!(has_test("families!(one);\n\nfn two(family: Family) {}\n", "one"));
    assert!(!has_test("families!(one);\n\nfn two(family: Family) {}\n", "two"));
}
