//! How the eBPF object is built, and with which toolchain. Build scripts include this file, so it
//! uses `std` alone.
//!
//! A toolchain is a compiler whose library source is installed beside it (`core` for BPF targets is
//! not shipped built) and a `bpf-linker` that understands the LLVM bitcode this compiler emits. The
//! two are tried together: a linker built for another LLVM is the usual failure, and a version
//! number does not show it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The version of bpf-linker that setup builds; part of the path it is kept at.
pub(crate) const BPF_LINKER_VERSION: &str = "0.13.0";

/// Where Debian's compiler lives: `bin/rustc` and, from package rust-web-src, `lib/rustlib/src`
/// below it.
pub(crate) const DEBIAN_PREFIX: &str = "/usr";

const TARGET: &str = "bpfel-unknown-none";

/// The package of the datapath's object file.
pub(crate) const DATAPATH: &str = "causeway-ebpf";
/// The package of the benchmark's generator and counter.
pub(crate) const BENCH: &str = "causeway-bench-ebpf";

/// The smallest program that makes the linker read bitcode, keep a section and write BTF. It does
/// without `core`, so that it compiles in a tenth of a second.
const PROBE: &str = r#"
#![feature(no_core, lang_items)]
#![allow(internal_features)]
#![no_core]
#![no_main]
#[lang = "pointee_sized"] trait PointeeSized {}
#[lang = "meta_sized"] trait MetaSized: PointeeSized {}
#[lang = "sized"] trait Sized: MetaSized {}
#[lang = "copy"] trait Copy {}
impl Copy for i32 {}
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn probe(context: &i32) -> i32 { *context }
"#;

/// A compiler and a linker that work together.
pub(crate) struct Toolchain {
    /// The compiler's installation, with `bin/cargo`, `bin/rustc` and the library source below it.
    /// Its binaries are called directly and not through rustup's proxies, which variables of an
    /// outer cargo would redirect.
    prefix: PathBuf,
    linker: PathBuf,
}

/// One build of an object: where, and for which machine.
pub(crate) struct Build<'a> {
    /// The workspace's root.
    pub(crate) workspace: &'a Path,
    /// The caller's target directory. The object is built in `bpf` below it, or in `bpf-trace`,
    /// shared by all profiles and callers.
    pub(crate) target_dir: &'a Path,
    /// The architecture whose kernel will run the object, in Rust's spelling.
    pub(crate) arch: &'a str,
    /// Which object: [`DATAPATH`] or [`BENCH`].
    pub(crate) package: &'a str,
    /// Whether the object logs a line for each packet: the package's feature `trace`.
    pub(crate) trace: bool,
}

impl Build<'_> {
    /// The object's target directory. One with the trace has its own: both may be built at once.
    fn directory(&self) -> PathBuf {
        self.target_dir.join(if self.trace { "bpf-trace" } else { "bpf" })
    }

    /// The path of the built object.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory().join(TARGET).join("release").join(self.package)
    }
}

/// Finds the first compiler and linker that work together. The error lists what was tried.
pub(crate) fn find(target_dir: &Path) -> Result<Toolchain, String> {
    let (compilers, linkers) = (compilers(), linkers());
    if compilers.is_empty() {
        return Err("no Rust compiler with its library source is installed (rustup's nightly with rust-src, \
                    or Debian's rustc-web with rust-web-src)"
            .into());
    }
    if linkers.is_empty() {
        return Err(
            "no bpf-linker is installed (looked in causeway's cache, in PATH and in cargo's bin)"
                .into(),
        );
    }
    let mut failures = Vec::new();
    for prefix in &compilers {
        for linker in &linkers {
            let toolchain = Toolchain { prefix: prefix.clone(), linker: linker.clone() };
            match toolchain.probe(target_dir) {
                Ok(()) => return Ok(toolchain),
                Err(reason) => failures.push(format!("{toolchain}: {reason}")),
            }
        }
    }
    Err(format!("no compiler and bpf-linker here work together ({})", failures.join("; ")))
}

impl Toolchain {
    /// Debian's compiler with this linker, not probed.
    pub(crate) fn debian(linker: PathBuf) -> Self {
        Self { prefix: DEBIAN_PREFIX.into(), linker }
    }

    /// Compiles and links a program of one instruction, with the flags of the real build.
    pub(crate) fn probe(&self, target_dir: &Path) -> Result<(), String> {
        let directory = target_dir.join("bpf");
        fs::create_dir_all(&directory)
            .map_err(|e| format!("cannot create {}: {e}", directory.display()))?;
        let object = directory.join(format!("probe-{}.o", std::process::id()));
        let mut command = Command::new(self.prefix.join("bin/rustc"));
        scrub(&mut command);
        command
            .args(["--edition=2024", "--crate-name=probe", "--crate-type=bin", "--target", TARGET])
            .args(["-Copt-level=3", "-Cpanic=abort"])
            .args(self.flags())
            .arg("-o")
            .arg(&object)
            .arg("-")
            .env("RUSTC_BOOTSTRAP", "1")
            .stdin(Stdio::piped());
        let output = run(command, Some(PROBE.as_bytes()));
        let _ = fs::remove_file(&object); // Absent if the compiler failed.
        output.map(|_| ()).map_err(|stderr| reason(&stderr))
    }

    /// Builds the object. Returns its path and the compiler's warnings.
    pub(crate) fn build(&self, build: &Build<'_>) -> Result<(PathBuf, String), String> {
        let stderr = run(self.cargo("build", build), None)?;
        Ok((build.path(), stderr))
    }

    /// The command that checks the kernel side with clippy, if this toolchain has clippy. Clippy of
    /// another toolchain cannot read what this compiler built.
    pub(crate) fn clippy(&self, build: &Build<'_>) -> Option<Command> {
        self.prefix.join("bin/cargo-clippy").exists().then(|| self.cargo("clippy", build))
    }

    fn cargo(&self, verb: &str, build: &Build<'_>) -> Command {
        let bin = self.prefix.join("bin");
        // By its path: `cargo clippy` looks for cargo-clippy in cargo's home first.
        let mut command =
            Command::new(bin.join(if verb == "clippy" { "cargo-clippy" } else { "cargo" }));
        scrub(&mut command);
        let mut flags = self.flags();
        flags.push(format!("--cfg=bpf_target_arch=\"{}\"", build.arch).into());
        command
            .current_dir(build.workspace)
            .args([
                verb,
                "--quiet",
                "--release",
                "--locked",
                "--package",
                build.package,
                "--target",
                TARGET,
                "-Zbuild-std=core",
            ])
            .arg("--target-dir")
            // Clippy writes no object, so that both kinds can share what they depend on.
            .arg(if verb == "clippy" { build.target_dir.join("bpf") } else { build.directory() })
            .env("CARGO", bin.join("cargo"))
            .env("RUSTC", bin.join("rustc"))
            // Allows -Z flags and the features of `core` on a stable compiler.
            .env("RUSTC_BOOTSTRAP", "1")
            // Empty values override a wrapper in cargo's configuration.
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join(&OsString::from("\u{1f}")))
            .env("CARGO_TERM_COLOR", "never");
        if build.trace {
            command.args(["--features", "trace"]);
        }
        if verb == "clippy" {
            command.env_remove("RUSTC_WORKSPACE_WRAPPER"); // clippy's own to set
        }
        command
    }

    fn flags(&self) -> Vec<OsString> {
        let mut linker = OsString::from("-Clinker=");
        linker.push(&self.linker);
        // BTF is made from debug information, including that of `core`. By default the linker
        // expands every memmove and memset to a loop over bytes.
        vec![
            "-Cdebuginfo=2".into(),
            "-Clink-arg=--btf".into(),
            "-Clink-arg=--disable-expand-memcpy-in-order".into(),
            linker,
        ]
    }
}

impl std::fmt::Display for Toolchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {}", self.prefix.join("bin/rustc").display(), self.linker.display())
    }
}

/// The directory for what setup builds: `causeway` below the user's cache directory.
pub(crate) fn cache_dir() -> Result<PathBuf, String> {
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("causeway"))
        .ok_or_else(|| "neither XDG_CACHE_HOME nor HOME names a directory: set one of them".into())
}

/// Where setup installs bpf-linker, as `cargo install --root` does.
pub(crate) fn linker_root(cache: &Path) -> PathBuf {
    cache.join(format!("bpf-linker-{BPF_LINKER_VERSION}"))
}

/// The bpf-linker below such a root.
pub(crate) fn linker_in(root: &Path) -> PathBuf {
    root.join("bin/bpf-linker")
}

/// Whether the compiler installed at `prefix` has its library source beside it.
pub(crate) fn has_source(prefix: &Path) -> bool {
    prefix.join("bin/rustc").exists()
        && prefix.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
}

/// The target directory that holds `inside`, a path that cargo made; `target` of the workspace if
/// there is none.
pub(crate) fn target_dir(inside: &Path, workspace: &Path) -> PathBuf {
    inside
        .ancestors()
        .skip(1)
        .find(|dir| {
            [".rustc_info.json", "CACHEDIR.TAG"].iter().any(|marker| dir.join(marker).exists())
        })
        .map_or_else(|| workspace.join("target"), Path::to_path_buf)
}

/// Removes the variables of an outer cargo, rustc, rustup and clippy from `command`. Those that
/// configure the registry stay.
pub(crate) fn scrub(command: &mut Command) {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_BUILD_JOBS",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
    ];
    // LD_LIBRARY_PATH: cargo and rustup point it at their own compiler's libraries.
    const DROPPED: [&str; 7] =
        ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP", "CLIPPY", "LD_LIBRARY_PATH"];
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        if DROPPED.iter().any(|p| name.starts_with(p)) && !KEPT.iter().any(|p| name.starts_with(p))
        {
            command.env_remove(&key);
        }
    }
}

/// The line of a tool's output that tells why it failed, followed by the root cause if cargo names
/// one.
pub(crate) fn reason(output: &str) -> String {
    let lines = || output.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines()
        .find(|line| line.starts_with("error") || line.starts_with("E: "))
        .or_else(|| lines().find(|line| line.contains("error:")))
        .or_else(|| lines().next_back())
        .unwrap_or("it failed without output");
    match lines().next_back() {
        Some(cause) if output.contains("Caused by:") => format!("{line}: {cause}"),
        Some(_) | None => line.to_string(),
    }
}

/// Runs `command` and returns its stderr, as an error if it failed.
fn run(mut command: Command, stdin: Option<&[u8]>) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let error = |e: std::io::Error| format!("cannot run {name}: {e}");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(error)?;
    if let (Some(bytes), Some(mut pipe)) = (stdin, child.stdin.take()) {
        let _ = pipe.write_all(bytes); // A child that stopped reading tells why on stderr.
    }
    let output = child.wait_with_output().map_err(error)?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(stderr) } else { Err(stderr) }
}

/// Compilers with library source: rustup's nightlies, rustup's stable ones, Debian's.
fn compilers() -> Vec<PathBuf> {
    let rustup =
        absolute("RUSTUP_HOME").or_else(|| absolute("HOME").map(|home| home.join(".rustup")));
    let mut found: Vec<PathBuf> = rustup
        .and_then(|home| fs::read_dir(home.join("toolchains")).ok())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|prefix| {
            let name = prefix.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("nightly-") || name.starts_with("stable-")
        })
        .collect();
    // In reverse order a plain `nightly-HOST` comes before the dated ones.
    found.sort_by_key(|prefix| {
        let name = prefix.file_name().unwrap_or_default().to_owned();
        (name.to_string_lossy().starts_with("nightly-"), name)
    });
    found.reverse();
    found.push(DEBIAN_PREFIX.into());
    found.retain(|prefix| has_source(prefix));
    found
}

/// Every bpf-linker: the one in causeway's cache, then those in PATH and in cargo's home.
fn linkers() -> Vec<PathBuf> {
    let cached = cache_dir().ok().map(|cache| linker_in(&linker_root(&cache)));
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home =
        absolute("CARGO_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cargo")));
    let mut found: Vec<PathBuf> = cached
        .into_iter()
        .chain(env::split_paths(&path).map(|dir| dir.join("bpf-linker")))
        .chain(cargo_home.map(|home| home.join("bin/bpf-linker")))
        .filter(|linker| linker.is_file())
        .collect();
    let mut seen = Vec::new();
    found.retain(|linker| {
        !seen.contains(linker) && {
            seen.push(linker.clone());
            true
        }
    });
    found
}

fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn reason_has_first_error_and_root_cause() {
        let output = "   Compiling a\nerror: download failed\n\nCaused by:\n  no network\n";
        assert_eq!(reason(output), "error: download failed: no network");
    }

    #[test]
    fn reason_reads_errors_of_apt_get_and_dpkg() {
        assert_eq!(
            reason("Reading lists\nE: Unable to locate package x\n"),
            "E: Unable to locate package x"
        );
        assert_eq!(reason("dpkg: error: no PATH\nNote: nothing\n"), "dpkg: error: no PATH");
    }

    #[test]
    fn reason_of_silent_failure_says_so() {
        assert_eq!(reason("\n"), "it failed without output");
    }
}
