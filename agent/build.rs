//! Builds the eBPF object with the recipe it shares with xtask and leaves it in `OUT_DIR` as
//! `causeway.bpf.o`.
//!
//! `CAUSEWAY_BPF_OBJECT=/path` takes an object that is already built. The path is absolute: cargo
//! runs this in `agent/`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

#[path = "../xtask/src/recipe.rs"]
#[expect(dead_code, reason = "the rest of the recipe is for setup")]
mod recipe;

const OBJECT_VARIABLE: &str = "CAUSEWAY_BPF_OBJECT";

/// All that the object is made from, relative to the workspace.
const SOURCES: [&str; 7] = [
    "ebpf/src",
    "ebpf/Cargo.toml",
    "common/src",
    "common/Cargo.toml",
    "Cargo.toml",
    "Cargo.lock",
    "xtask/src/recipe.rs",
];

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Line(line)) => {
            // cargo prints this alone; an exit status of failure would print the whole dialogue
            // with it.
            println!("cargo::error={line}");
            ExitCode::SUCCESS
        }
        Err(Failure::Compiler(output)) => {
            eprintln!("{output}");
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    /// One line that says it all.
    Line(String),
    /// The kernel side does not compile: what the compiler said, whole.
    Compiler(String),
}

fn embed() -> Result<(), Failure> {
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    println!("cargo::rerun-if-env-changed={OBJECT_VARIABLE}");
    let object = match env::var_os(OBJECT_VARIABLE) {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", path.display());
            PathBuf::from(path)
        }
        None => build(&out_dir)?,
    };
    let embedded = out_dir.join("causeway.bpf.o");
    // Read and written instead of copied: the path may be a pipe or a device.
    fs::read(&object)
        .map_err(|e| {
            format!(
                "cannot read the eBPF object {}: {e}: {OBJECT_VARIABLE} wants the absolute path of one",
                object.display()
            )
        })
        .and_then(|bytes| fs::write(&embedded, bytes).map_err(|e| format!("cannot write {}: {e}", embedded.display())))
        .map_err(Failure::Line)
}

fn build(out_dir: &Path) -> Result<PathBuf, Failure> {
    let agent = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let Some(workspace) = agent.parent() else {
        return Err(Failure::Line(format!(
            "{} is not inside causeway's workspace",
            agent.display()
        )));
    };
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let target_dir = recipe::target_dir(out_dir, workspace);
    let toolchain = recipe::find(&target_dir).map_err(|e| {
        Failure::Line(format!("cannot build the eBPF object: {e}: run `cargo xtask setup`"))
    })?;
    let (object, output) = toolchain
        .build(&recipe::Build {
            workspace,
            target_dir: &target_dir,
            arch: &arch,
            package: recipe::DATAPATH,
            trace: env::var_os("CARGO_FEATURE_TRACE").is_some(),
        })
        .map_err(Failure::Compiler)?;
    for line in output.lines().filter(|line| !line.trim().is_empty()) {
        println!("cargo::warning={line}");
    }
    Ok(object)
}

fn variable(name: &str) -> Result<String, Failure> {
    env::var(name).map_err(|e| Failure::Line(format!("cannot read {name}, which cargo sets: {e}")))
}
