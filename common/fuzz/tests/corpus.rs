//! Every input that was saved holds still: those that led the fuzzer somewhere new, and those that
//! once found something.

use std::{fs, path::Path};

use causeway_fuzz::{errors, history, parse};

fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("a saved input").path())
        .collect();
    inputs.sort();
    assert!(inputs.len() > 20, "{} has {} saved inputs", directory.display(), inputs.len());
    for input in inputs {
        let bytes = fs::read(&input).expect("a saved input");
        // Its name is what a failure does not tell by itself.
        eprintln!("{}", input.display());
        run(&bytes);
    }
}

#[test]
fn saved_bytes_are_parsed_or_refused() {
    replay("parse", parse::run);
}

#[test]
fn saved_errors_are_whole() {
    replay("errors", errors::run);
}

#[test]
fn what_must_hold_holds_in_saved_histories() {
    replay("history", history::run);
}
