//! Builds generator and counter by the recipe of causeway's BPF object, into `OUT_DIR/bench.bpf.o`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

#[path = "../../xtask/src/recipe.rs"]
#[expect(dead_code, reason = "the rest of the recipe is for setup")]
mod recipe;

/// Sources of the object, relative to the workspace.
const SOURCES: [&str; 5] = [
    "tests/bench/ebpf/src",
    "tests/bench/ebpf/Cargo.toml",
    "Cargo.toml",
    "Cargo.lock",
    "xtask/src/recipe.rs",
];

fn main() -> ExitCode {
    if let Err(message) = embed() {
        eprintln!("{message}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn embed() -> Result<(), String> {
    let variable = |name: &str| {
        env::var(name).map_err(|e| format!("cannot read {name}, which cargo sets: {e}"))
    };
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = package
        .ancestors()
        .nth(2)
        .map(Path::to_path_buf)
        .ok_or("the benchmark is not in its workspace")?;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let target_dir = recipe::target_dir(&out_dir, &workspace);
    let build = recipe::Build {
        workspace: &workspace,
        target_dir: &target_dir,
        arch: &arch,
        package: recipe::BENCH,
        trace: false,
    };
    let toolchain =
        recipe::find(&target_dir).map_err(|e| format!("{e}: run `cargo xtask setup`"))?;
    let (object, _) = toolchain.build(&build)?;
    let embedded = out_dir.join("bench.bpf.o");
    fs::copy(&object, &embedded).map_err(|e| format!("cannot copy {}: {e}", object.display()))?;
    Ok(())
}
