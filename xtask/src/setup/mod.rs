//! Finds what building and testing need, and installs what is missing.
//!
//! A toolchain that works is used as it is (see `recipe::find`). Otherwise Debian's compiler is
//! installed, whose library source is a package, and a bpf-linker for its LLVM is built into
//! causeway's cache. Every verb that builds asks first: it takes a fraction of a second.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::{env, iter};

use anyhow::{Context, Result, anyhow, bail};

mod cache;
pub(crate) mod debian;
pub(crate) mod emulator;
pub(crate) mod progress;
pub(crate) mod tools;

use self::debian::Apt;
use self::progress::Steps;
use crate::privilege;
use crate::recipe::{self, Toolchain};
use crate::workspace::Workspace;

/// What a verb needs besides Rust. Each includes an eBPF toolchain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needs {
    /// The toolchain alone.
    Toolchain,
    /// The programs that lab and tests start.
    Programs,
    /// [`Needs::Programs`], and the virtual machine for other kernels.
    Machine,
    /// [`Needs::Programs`], and the compiler that builds libFuzzer.
    Fuzzer,
    /// [`Needs::Programs`], and the programs that the benchmark compares causeway with.
    Contenders,
    /// What CI needs: all of these but the contenders, and clippy of Debian's compiler if that
    /// compiler is installed.
    Lints,
}

/// Programs that lab and tests start, each with its Debian package.
const PROGRAMS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("python3", "python3"),
    ("iptables-save", "iptables"),
    ("nft", "nftables"),
    ("curl", "curl"),
    ("ethtool", "ethtool"),
    ("sysctl", "procps"),
];

/// Programs that run tests on another kernel, beside the emulator.
const MACHINE: [(&str, &str); 2] = [("strip", "binutils"), ("xz", "xz-utils")];
/// The compiler of libFuzzer.
const FUZZER: [(&str, &str); 1] = [("c++", "g++")];
/// The programs that the benchmark compares causeway with, each with its Debian package.
const CONTENDERS: [(&str, &str); 3] = [
    ("iptables-legacy", "iptables"),
    ("iptables-nft", "iptables"),
    (CNI_BRIDGE, "containernetworking-plugins"),
];
/// The CNI bridge plugin, whose directory is in no PATH.
const CNI_BRIDGE: &str = "/usr/lib/cni/bridge";

const BY_HAND: &str = "`rustup toolchain install nightly --component rust-src` and `cargo install bpf-linker` \
                       give a toolchain without it; run this again afterwards";

/// Installs what is missing, and returns the toolchain to build with. Prints nothing if nothing is
/// missing.
pub(crate) fn ensure(workspace: &Workspace, needs: Needs) -> Result<Toolchain> {
    let found = recipe::find(workspace.target_dir());
    match found {
        Ok(toolchain) if missing(needs).is_empty() => Ok(toolchain),
        Ok(_) | Err(_) => install(workspace, needs),
    }
}

/// The programs that lab and tests start.
pub(crate) fn programs_of_tests() -> impl Iterator<Item = &'static str> {
    PROGRAMS.into_iter().map(|(program, _)| program)
}

fn install(workspace: &Workspace, needs: Needs) -> Result<Toolchain> {
    let cache = recipe::cache_dir().map_err(anyhow::Error::msg)?;
    fs::create_dir_all(&cache)
        .with_context(|| format!("cannot create causeway's cache {}", cache.display()))?;
    let _lock = cache::lock(&cache)?;
    let steps = Steps::new(cache.join("setup.log"))?;

    // Looked for again: another set-up may have held the lock and installed everything.
    let toolchain = recipe::find(workspace.target_dir());
    let programs = missing(needs);
    let apt = match (&toolchain, programs.is_empty()) {
        (Ok(_), true) => None,
        (Ok(_), false) => {
            let names: Vec<&str> = programs.iter().map(|(program, _)| *program).collect();
            let otherwise =
                format!("install {} with this system's package manager", names.join(", "));
            Some(
                Apt::open(&steps, &otherwise)
                    .context("cannot install the programs that lab and tests start")?,
            )
        }
        (Err(why), _) => {
            eprintln!("setup: {why}");
            Some(Apt::open(&steps, BY_HAND).context("cannot install an eBPF toolchain")?)
        }
    };
    if let (Some(apt), false) = (&apt, programs.is_empty()) {
        // Apart: it may not be installable, and then keeps no other program away.
        let (emulator, packages): (Vec<&str>, Vec<&str>) = programs
            .iter()
            .map(|(_, package)| *package)
            .partition(|package| *package == emulator::PACKAGE);
        if !packages.is_empty() {
            apt.install("programs for lab and tests", &packages)?;
        }
        if !emulator.is_empty() {
            emulator::install(apt, &steps, &cache)?;
        }
    }
    match (toolchain, apt) {
        (Err(_), Some(apt)) => install_toolchain(workspace, &cache, &steps, &apt),
        (Ok(toolchain), _) => Ok(toolchain),
        (Err(why), None) => bail!("{why}: {BY_HAND}"),
    }
}

/// Installs Debian's compiler and a bpf-linker for it. The linker is built in a directory of its
/// own and moved into place once it works.
fn install_toolchain(
    workspace: &Workspace,
    cache: &Path,
    steps: &Steps,
    apt: &Apt<'_>,
) -> Result<Toolchain> {
    let debian = Path::new(recipe::DEBIAN_PREFIX);
    if !recipe::has_source(debian) {
        apt.install(
            "Rust with its library source",
            &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"],
        )
        .with_context(|| format!("cannot install an eBPF toolchain ({BY_HAND})"))?;
    }
    if let Ok(toolchain) = recipe::find(workspace.target_dir()) {
        return Ok(toolchain); // A linker that was there works with the new compiler.
    }

    let llvm = llvm_of(&debian.join("bin/rustc"))?;
    let (llvm_dev, polly_dev) = (format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"));
    apt.install(
        &format!("LLVM {llvm}"),
        &[&llvm_dev, &polly_dev, "libzstd-dev", "zlib1g-dev", "g++"],
    )
    .context("cannot install what bpf-linker is built with")?;

    let root = recipe::linker_root(cache);
    let partial = cache.join(format!("bpf-linker-{}.partial", recipe::BPF_LINKER_VERSION));
    cache::remove(&partial)?;
    let name =
        format!("bpf-linker {} (built from source, about a minute)", recipe::BPF_LINKER_VERSION);
    steps.run(&name, &mut install_linker(llvm, &partial)).context("cannot build bpf-linker")?;
    Toolchain::debian(recipe::linker_in(&partial)).probe(workspace.target_dir()).map_err(|reason| {
        anyhow!("the bpf-linker just built does not work with Debian's rustc: {reason}; it is in {}", partial.display())
    })?;
    cache::remove(&partial.join("build"))?;
    cache::remove(&root)?;
    fs::rename(&partial, &root)
        .with_context(|| format!("cannot move bpf-linker to {}", root.display()))?;
    Ok(Toolchain::debian(recipe::linker_in(&root)))
}

/// `cargo install bpf-linker` against one LLVM.
fn install_linker(llvm: u32, root: &Path) -> Command {
    let prefix = format!("/usr/lib/llvm-{llvm}");
    // The build takes the first llvm-config in PATH, which may be of another LLVM.
    let first = iter::once(Path::new(&prefix).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(first.chain(env::split_paths(&path))).unwrap_or(path);

    let mut command = cache::cargo_install("bpf-linker", recipe::BPF_LINKER_VERSION, root);
    command
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
        .env("PATH", path)
        .env("LLVM_PREFIX", prefix);
    command
}

/// The major version of a compiler's LLVM.
fn llvm_of(rustc: &Path) -> Result<u32> {
    let output = Command::new(rustc)
        .arg("-vV")
        .output()
        .with_context(|| format!("cannot ask {} for its LLVM version", rustc.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
        .and_then(|version| version.split('.').next()?.parse().ok())
        .with_context(|| format!("`{} -vV` does not name its LLVM version", rustc.display()))
}

/// The missing programs, each with its package.
fn missing(needs: Needs) -> Vec<(&'static str, &'static str)> {
    if needs == Needs::Toolchain {
        return Vec::new();
    }
    // An absolute path joined to a directory stays as it is.
    let mut missing = PROGRAMS.to_vec();
    let needs_machine =
        matches!(needs, Needs::Machine | Needs::Lints) && env::consts::ARCH == "x86_64";
    if needs_machine {
        missing.extend(MACHINE);
    }
    if matches!(needs, Needs::Fuzzer | Needs::Lints) {
        missing.extend(FUZZER);
    }
    if needs == Needs::Contenders {
        missing.extend(CONTENDERS);
    }
    missing.retain(|(program, _)| privilege::find_program(program).is_none());
    if needs_machine && !emulator::exists() {
        missing.push((emulator::QEMU, emulator::PACKAGE));
    }
    let debian = Path::new(recipe::DEBIAN_PREFIX);
    if needs == Needs::Lints
        && recipe::has_source(debian)
        && !debian.join("bin/cargo-clippy").exists()
    {
        missing.push(("cargo-clippy", "rust-web-clippy"));
    }
    missing
}
