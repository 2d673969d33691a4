//! `cargo xtask VERB`: the commands that people and CI type.
//!
//! This file parses the command line and calls a verb.
//!
//! | module | what it does |
//! |---|---|
//! | `verbs` | one file for each verb |
//! | `checks` | checks of the checkout that need neither root nor a kernel |
//! | `kernels` | the tests on other kernels, in virtual machines |
//! | `setup` | finds what building and testing need, and installs what is missing |
//! | `object` | reads eBPF objects, for `objdiff` |
//! | `results` | reads what tests print and report |
//! | `recipe` | how the eBPF object is built; build scripts include it |
//! | `workspace`, `privilege`, `interrupt` | cargo in the checkout, root, Ctrl-C |

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

mod checks;
mod interrupt;
mod kernels;
mod object;
mod privilege;
mod recipe;
mod results;
mod setup;
mod verbs;
mod workspace;

use kernels::Wanted;
use verbs::{bench, build, check, ci, fuzz, lab, objdiff, run, test};
use workspace::{Profile, Workspace};

/// Sets up, builds, runs and tests causeway.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Installs what building and testing need.
    Setup,
    /// Builds `causeway`.
    Build {
        /// Build with optimisations, as `run` does.
        #[arg(long)]
        release: bool,
        /// Log a line for each packet, with the steps that it took. Replaces the binary of a build
        /// without it. For finding faults: it costs about as much as handling the packet.
        #[arg(long)]
        trace: bool,
    },
    /// Builds `causeway` and runs `causeway up ARGS` as root.
    Run {
        /// Arguments of `causeway up`.
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Runs every test, including those that need root and a lab.
    Test {
        /// Run on this kernel, from Debian's packages, in a virtual machine: 6.1 or 6.12.
        #[arg(long, value_name = "VERSION", conflicts_with = "kernels")]
        kernel: Option<String>,
        /// Run the quick suites on 6.1 and 6.12, then every test on the running kernel.
        #[arg(long)]
        kernels: bool,
        /// Run only this test program, such as `load`, on the other kernel. Can be repeated.
        #[arg(long, value_name = "PROGRAM", requires = "kernel", conflicts_with = "kernels")]
        only: Vec<String>,
        /// Connect containers with veth or netkit, where a test does not choose.
        #[arg(
            long,
            value_name = "KIND",
            value_parser = ["veth", "netkit"],
            requires = "only",
            conflicts_with = "kernels"
        )]
        device: Option<String>,
        /// Substrings of test names, and options of the test harness.
        #[arg(last = true, value_name = "FILTER")]
        filter: Vec<OsString>,
    },
    /// Builds a throw-away lab of namespaces, shows that it works, and removes it.
    Lab {
        /// Open a shell in the host's namespace after the checks; its exit removes the lab.
        #[arg(long)]
        shell: bool,
        /// Keep the lab, and print how to use and remove it.
        #[arg(long)]
        keep: bool,
    },
    /// Measures causeway against plain routing, iptables and nft, in namespaces of its own.
    #[command(disable_help_flag = true)]
    Bench {
        /// Options of the benchmark: --quick, --full, --only WORD, --json FILE, --check; --help has
        /// them all.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
        args: Vec<OsString>,
    },
    /// Fuzzes a target; without one, each target that needs no kernel.
    Fuzz {
        /// The target.
        target: Option<fuzz::Target>,
        /// Seconds per target.
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u32,
        /// Number of frames, for `frames`.
        #[arg(long, value_name = "N", default_value_t = 10_000_000)]
        count: u64,
    },
    /// Checks the checkout in seconds: widths of lines, import circles, unused dependencies,
    /// spelling, licences, documents.
    Check {
        /// Run only these checks.
        #[arg(value_name = "CHECK")]
        checks: Vec<checks::Check>,
    },
    /// Compares the instructions of two eBPF objects; symbols and BTF do not count.
    Objdiff {
        /// The object before a change.
        old: PathBuf,
        /// The object after it.
        new: PathBuf,
        /// A file with a line `OLD NEW` for each function or map that has another name.
        #[arg(long, value_name = "FILE")]
        renames: Option<PathBuf>,
    },
    /// Runs everything that gates a change: checks, clippy, documentation, fuzzing, tests.
    Ci,
}

fn main() -> ExitCode {
    if kernels::guest::is_this() {
        return kernels::guest::run_all();
    }
    dispatch(Cli::parse().verb).unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn dispatch(verb: Verb) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match verb {
        Verb::Setup => verbs::setup::verb(&workspace),
        Verb::Build { release, trace } => {
            let profile = if release { Profile::Release } else { Profile::Dev };
            build::verb(&workspace, profile, trace)
        }
        Verb::Run { args } => run::verb(&workspace, &args),
        Verb::Test { kernel: Some(kernel), only, device, filter, .. } => {
            let only: Vec<&str> = only.iter().map(String::as_str).collect();
            let wanted =
                Wanted { only: &only, device: device.as_deref(), filter: &filter, quick: false };
            test::on_kernels(&workspace, &[&kernel], wanted)
        }
        Verb::Test { kernels: true, filter, .. } => test::everywhere(&workspace, &filter),
        Verb::Test { filter, .. } => test::verb(&workspace, &filter),
        Verb::Lab { shell, keep } => lab::verb(&workspace, shell, keep),
        Verb::Bench { args } => bench::verb(&workspace, &args),
        Verb::Fuzz { target, seconds, count } => fuzz::verb(&workspace, target, seconds, count),
        Verb::Check { checks } => check::verb(&workspace, &checks, &Cli::command()),
        Verb::Objdiff { old, new, renames } => objdiff::verb(&old, &new, renames.as_deref()),
        Verb::Ci => ci::verb(&workspace, &Cli::command()),
    }
}
