//! `cargo xtask objdiff OLD NEW`: whether two eBPF objects have the same instructions.
//!
//! Symbols, BTF and the order of functions do not count. The objects are read here, without
//! llvm-objdump: its output depends on symbols, and rustup's toolchains lack it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::object::functions::{Function, Functions};

/// Prints the differences of two objects, and fails if there are any. Each line of the file
/// `renames` has the name of a function or map in `old` and its name in `new`.
pub(crate) fn verb(old: &Path, new: &Path, renames: Option<&Path>) -> Result<ExitCode> {
    let renames = renames.map(read_renames).transpose()?.unwrap_or_default();
    let old = read(old, &renames)?;
    let new = read(new, &BTreeMap::new())?;

    let total = |all: &Functions| all.iter().map(Function::len).sum::<usize>();
    println!(
        "functions {} -> {}, instructions {} -> {}",
        old.iter().count(),
        new.iter().count(),
        total(&old),
        total(&new)
    );
    let mut same = true;
    for (which, functions) in [("old", old.without(&new)), ("new", new.without(&old))] {
        for function in functions {
            println!(
                "only in {which}: {:>6} instructions  {}",
                function.len(),
                plain(&function.name)
            );
            same = false;
        }
    }
    let differences = differing(&old.globals(), &new.globals());
    for name in &differences {
        println!("differs with what it calls: {}", plain(name));
    }
    let maps = differing(&old.maps(), &new.maps());
    for name in &maps {
        println!("map differs: {name}");
    }
    same &= differences.is_empty() && maps.is_empty();
    println!("{}", if same { "the same" } else { "different" });
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &Path, renames: &BTreeMap<String, String>) -> Result<Functions> {
    let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Functions::read(&file, renames)
        .with_context(|| format!("cannot understand the object {}", path.display()))
}

fn read_renames(path: &Path) -> Result<BTreeMap<String, String>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(old, new)| (old.to_owned(), new.trim().to_owned())).collect())
}

/// The keys with different values, or in one map only.
fn differing<'a, V: PartialEq>(
    old: &BTreeMap<&'a str, V>,
    new: &BTreeMap<&'a str, V>,
) -> BTreeSet<&'a str> {
    let keys = old.keys().chain(new.keys());
    keys.filter(|key| old.get(*key) != new.get(*key)).copied().collect()
}

/// The Rust path in a mangled name.
fn plain(name: &str) -> String {
    let mut parts = Vec::new();
    let mut rest = name;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let digits = rest[start..].chars().take_while(char::is_ascii_digit).count();
        let length: usize = rest[start..start + digits].parse().unwrap_or_default();
        let word = &rest[start + digits..];
        let word = word.strip_prefix('_').unwrap_or(word);
        match word.get(..length) {
            Some(part)
                if length > 0 && part.starts_with(|l: char| l.is_alphabetic() || l == '_') =>
            {
                parts.push(part);
                rest = &word[length..];
            }
            Some(_) | None => rest = &rest[start + digits..],
        }
    }
    // bpf-linker shortens long names at either end.
    match parts.iter().position(|part| part.starts_with("causeway")) {
        Some(first) => parts[first..].join("::"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mangled_names_are_paths() {
        assert_eq!(
            plain("_RNvNtCs1234_13causeway_ebpf8programs6handle"),
            "causeway_ebpf::programs::handle"
        );
        assert_eq!(plain("POev1wetY_13causeway_ebpf3ctx4readNt"), "causeway_ebpf::ctx::read");
        assert_eq!(plain("from_container"), "from_container");
    }

    #[test]
    fn differing_keys_are_in_either() {
        let old = BTreeMap::from([("a", 1), ("b", 1), ("c", 1)]);
        let new = BTreeMap::from([("a", 1), ("b", 2), ("d", 1)]);
        assert_eq!(differing(&old, &new), ["b", "c", "d"].into());
    }
}
