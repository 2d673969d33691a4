//! What a person or CI types: `cargo xtask VERB`. This file parses and dispatches; each verb is a
//! file.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod checks;
mod interrupt;
mod kernels;
mod privilege;
mod recipe;
mod results;
mod setup;
mod verbs;
mod workspace;

use kernels::Wanted;
use verbs::{bench, build, check, ci, fuzz, lab, run, test};
use workspace::{Profile, Workspace};

/// Sets up, builds, runs and tests causeway.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Finds what building and testing need, and installs what is missing.
    Setup,
    /// Builds `causeway`, setting up first what is missing.
    Build {
        /// Build with the optimisations that `run` uses.
        #[arg(long)]
        release: bool,
    },
    /// Builds `causeway` and runs `causeway up ARGS` as root.
    Run {
        /// What follows `causeway up`.
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Runs every test, those that need root and a lab too.
    Test {
        /// All of them, or those of --only, on that kernel instead, of Debian's packages, in a
        /// virtual machine: 6.1 or 6.12.
        #[arg(long, value_name = "VERSION", conflicts_with = "kernels")]
        kernel: Option<String>,
        /// What every kernel is tried with, on those two at once, and then every test on this one.
        #[arg(long)]
        kernels: bool,
        /// Of the tests for other kernels, only this test program, such as `load`; several by
        /// repetition.
        #[arg(long, value_name = "PROGRAM", requires = "kernel", conflicts_with = "kernels")]
        only: Vec<String>,
        /// Of those: what labs connect their containers with, veth or netkit, where a test does not
        /// say.
        #[arg(long, value_name = "KIND", value_parser = ["veth", "netkit"], requires = "only", conflicts_with = "kernels")]
        device: Option<String>,
        /// Parts of test names, and options of the test harness.
        #[arg(last = true, value_name = "FILTER")]
        filter: Vec<OsString>,
    },
    /// Builds a throw-away lab of namespaces, shows that it works, and removes it.
    Lab {
        /// Open a shell in the host's namespace after the checks; leaving it removes the lab.
        #[arg(long)]
        shell: bool,
        /// Leave everything as it is at the end, and say how to use and remove it.
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
    /// Looks for packets and histories that break what must hold; without a target, in all that
    /// need no kernel.
    Fuzz {
        /// What to look at.
        target: Option<fuzz::Target>,
        /// How long each target runs.
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u32,
        /// How many frames, for `frames`.
        #[arg(long, value_name = "N", default_value_t = 10_000_000)]
        count: u64,
    },
    /// Checks the checkout in seconds: import circles.
    Check {
        /// Only these checks.
        #[arg(value_name = "CHECK")]
        checks: Vec<checks::Check>,
    },
    /// Runs everything that gates a change: format, clippy, documentation, tests, each fuzz target
    /// for a while.
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
        Verb::Build { release } => {
            build::verb(&workspace, if release { Profile::Release } else { Profile::Dev })
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
        Verb::Check { checks } => check::verb(&workspace, &checks),
        Verb::Ci => ci::verb(&workspace),
    }
}
