//! Replays the saved corpus: inputs that reached new code, and inputs that once failed.

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
        // The name of the input, which the panic message does not have.
        eprintln!("{}", input.display());
        run(&bytes);
    }
}

#[test]
fn parse_corpus_holds() {
    replay("parse", parse::run);
}

#[test]
fn errors_corpus_holds() {
    replay("errors", errors::run);
}

#[test]
fn history_corpus_holds() {
    replay("history", history::run);
}
