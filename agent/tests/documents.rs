//! `docs/config.md` and `examples/causeway.toml` name every key of the configuration file, and the
//! documents name counters that exist.

use std::{collections::BTreeSet, fs, path::Path};

use causeway::config_file::Config;
use causeway_common::abi::drop_reason::DropReason;

/// Each table of the file: its heading in the document, and a file whose last key is unknown there.
const TABLES: [(&str, &str); 5] = [
    ("Top level", "unknown = 1"),
    ("`[tables]`", "[tables]\nunknown = 1"),
    ("`[[network]]`", "[[network]]\nunknown = 1"),
    ("`[[container]]`", "[[container]]\nunknown = 1"),
    ("A publish", "[[container]]\nname = \"c\"\npublish = [{ ports = \"80:80\", unknown = 1 }]"),
];

#[test]
fn config_names_every_key() {
    let document = fs::read_to_string(at("docs/config.md")).unwrap();
    for (heading, text) in TABLES {
        let (_, section) = document
            .split_once(&format!("\n## {heading}\n"))
            .unwrap_or_else(|| panic!("docs/config.md has no section '{heading}'"));
        let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
        // The first table; another one of the section lists the timeouts.
        let table = section.split("\n\n").find(|part| part.contains("| key |")).unwrap_or_default();
        let name = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
        let documented: BTreeSet<String> = table.lines().filter_map(name).collect();
        let mut keys = keys(text);
        if heading == "A publish" {
            // Read before the options, whose type lists its own keys only.
            keys.insert("ports".to_owned());
        }
        assert_eq!(documented, keys, "docs/config.md, section '{heading}'");
    }
}

#[test]
fn example_has_every_key() {
    let path = at("examples/causeway.toml");
    Config::load(Path::new(&path)).unwrap();
    let example = fs::read_to_string(path).unwrap();
    for (_, text) in TABLES {
        for key in keys(text) {
            let has = |line: &str| {
                line.contains(&format!("{key} = ")) || line.trim_matches(['[', ']']) == key
            };
            assert!(example.lines().any(has), "examples/causeway.toml lacks '{key}'");
        }
    }
}

#[test]
fn limits_name_counters_that_exist() {
    let reasons: BTreeSet<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    let document = fs::read_to_string(at("docs/limits.md")).unwrap();
    let mut counters = None;
    let mut seen = 0;
    for line in document.lines() {
        let cells: Vec<&str> = line.split('|').collect();
        if !line.starts_with('|') {
            counters = None;
        } else if line.starts_with("| behaviour |") {
            counters = cells.iter().position(|cell| cell.trim() == "counter");
        } else if let Some(cell) = counters.and_then(|column| cells.get(column)) {
            for counter in cell.split('`').skip(1).step_by(2) {
                assert!(
                    reasons.contains(counter),
                    "docs/limits.md: no counter '{counter}': {line}"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "the tables have another form now");
}

/// The keys that a table takes: what the error about an unknown one lists.
fn keys(text: &str) -> BTreeSet<String> {
    // Tests run at once, each in a thread of its own.
    let thread = std::thread::current().id();
    let name = format!("causeway-documents-{}-{thread:?}.toml", std::process::id());
    let path = std::env::temp_dir().join(name);
    fs::write(&path, text).unwrap();
    let error = format!("{:#}", Config::load(&path).unwrap_err());
    fs::remove_file(&path).unwrap();
    let (_, expected) = error.split_once("expected ").expect("the error lists the keys");
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn at(path: &str) -> String {
    format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))
}
