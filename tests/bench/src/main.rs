//! `cargo xtask bench` becomes this.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use causeway::line;
use causeway_bench::{
    conntrack::Room,
    contender::Contender,
    forwarding, guard,
    kernel::Kernel,
    measurement::{Figure, Measurement, Metric},
    report,
    rig::Rig,
    suite::{self, Size},
};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

/// Measures causeway against plain routing, iptables and nft, in network namespaces that it makes and removes.
///
/// Every figure is a median of rounds in which all of them had a turn; what counts are the ratios. Run it on a machine that has nothing else
/// to do.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", disable_version_flag = true)]
struct Options {
    /// What the targets name, in less than four minutes
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// All there is, with twice the rounds
    #[arg(long)]
    full: bool,
    /// Only what has this in its name; may be repeated
    #[arg(long, value_name = "WORD")]
    only: Vec<String>,
    /// Write all figures to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the report goes
    #[arg(long, value_name = "FOLDER", hide = true, default_value = "target/bench")]
    report: PathBuf,
    /// Where the repository keeps what is compared with
    #[arg(long, value_name = "FOLDER", hide = true, default_value = "tests/bench")]
    record: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = if guard::is_worker() { run(&options) } else { prepare().and_then(|()| guard::guard()) };
    outcome.unwrap_or_else(|error| {
        eprintln!("bench: {}", line::of(&error));
        ExitCode::FAILURE
    })
}

fn prepare() -> anyhow::Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "a lab is made of network namespaces, which needs root: try 'sudo'");
    Ok(())
}

fn run(options: &Options) -> anyhow::Result<ExitCode> {
    guard::undo_on_signal()?;
    let found = Room::found();
    let size = match (options.quick, options.full) {
        (true, _) => Size::Quick,
        (_, true) => Size::Full,
        _ => Size::Usual,
    };
    let measured = measure(size, &options.only);
    found.restore();
    let measurements = measured?;
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&measurements)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(size: Size, only: &[String]) -> anyhow::Result<Vec<Measurement>> {
    let groups = suite::forwarding(size, only);
    let effort = size.effort();
    let mut kernel = Kernel::load()?;
    let turns: usize = groups.iter().map(|group| group.comparisons.len()).sum::<usize>() * Contender::ALL.len();
    let bar = ProgressBar::new(turns as u64 * u64::from(effort.rounds + 1));
    bar.set_style(ProgressStyle::with_template("{elapsed} {wide_bar} {eta} {msg}")?);
    let mut measurements = Vec::new();
    let mut number = 0;
    for group in groups {
        let mut rigs = Vec::new();
        let flows = group.flows().max(200_000);
        Room::make(flows)?;
        for contender in Contender::ALL {
            bar.set_message(format!("{contender} with {}", group.publishes));
            number += 1;
            match Rig::build(contender, group.publishes, flows + flows / 8, number) {
                Ok(rig) => rigs.push(rig),
                Err(error) => bar.suspend(|| eprintln!("bench: without {contender}: {}", line::of(&error))),
            }
        }
        for (name, comparison) in &group.comparisons {
            let tick = |contender| {
                bar.set_message(format!("{name}: {contender}"));
                bar.inc(1);
            };
            let turns = forwarding::compare(&mut kernel, &rigs, comparison, &effort, tick)?;
            let figure = |turns: forwarding::Turns| {
                (turns.contender, Figure { rounds: turns.costs(), sent: turns.frames(), lost: turns.lost() })
            };
            let figures = turns.into_iter().map(figure).collect();
            let measurement = Measurement { name: name.clone(), metric: Metric::Packet, figures };
            bar.suspend(|| println!("{}", report::table(&measurement)));
            measurements.push(measurement);
        }
    }
    bar.finish_and_clear();
    Ok(measurements)
}
