//! The program behind `cargo xtask bench`.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use causeway_api::Error;
use causeway_bench::{
    baseline::{Baseline, TOLERANCE},
    conntrack::Room,
    contender::Contender,
    control, forwarding, guard,
    kernel::Kernel,
    machine::Machine,
    measurement::{Figure, Measurement, Metric},
    memory::Memory,
    programs, report,
    results::Results,
    rig::{Rig, Setup},
    suite::{self, Group, Size},
    targets, tcp,
};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

/// Measures causeway against plain routing, iptables and nft, in network namespaces that it makes
/// and removes.
///
/// Every figure is a median of rounds in which every contender had a turn. Only ratios count. Run
/// it on an otherwise idle machine.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that a person types")]
#[command(name = "cargo xtask bench", disable_version_flag = true)]
struct Options {
    /// Measure what the targets need, in less than four minutes
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Measure everything, with twice the rounds
    #[arg(long)]
    full: bool,
    /// Measure only comparisons whose name contains this; may be repeated
    #[arg(long, value_name = "WORD")]
    only: Vec<String>,
    /// Measure only these contenders, for example to profile one
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    contenders: Vec<Contender>,
    /// Another build of causeway, to measure a change [default: `CAUSEWAY_BEFORE_BIN`]
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Print the names of the comparisons
    #[arg(long)]
    list: bool,
    /// Write all figures to a JSON file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare with the baseline in the repository, and fail if a ratio is more than 20 % smaller
    #[arg(long)]
    check: bool,
    /// Update the baseline in the repository
    #[arg(long, conflicts_with = "check")]
    save: bool,
    /// Folder of the report
    #[arg(long, value_name = "FOLDER", hide = true, default_value = "target/bench")]
    report: PathBuf,
    /// Path of the baseline
    #[arg(long, value_name = "FOLDER", hide = true, default_value = "tests/bench")]
    record: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = if options.list {
        list(&options);
        Ok(ExitCode::SUCCESS)
    } else if guard::is_worker() {
        run(&options)
    } else {
        prepare(&options).and_then(|()| guard::guard())
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("bench: {}", Error::from_chain(&*error));
        ExitCode::FAILURE
    })
}

impl Options {
    const fn size(&self) -> Size {
        match (self.quick, self.full) {
            (true, _) => Size::Quick,
            (_, true) => Size::Full,
            _ => Size::Usual,
        }
    }

    fn before(&self) -> Option<PathBuf> {
        self.before.clone().or_else(|| std::env::var_os("CAUSEWAY_BEFORE_BIN").map(PathBuf::from))
    }

    fn baseline(&self) -> PathBuf {
        self.record.join("baseline.json")
    }
}

fn list(options: &Options) {
    for name in suite::forwarding(options.size(), &options.only).iter().flat_map(Group::names) {
        println!("{name}");
    }
}

/// Checks what would otherwise fail after minutes.
fn prepare(options: &Options) -> anyhow::Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "a lab is made of network namespaces, which needs root: try 'sudo'"
    );
    ensure!(
        !suite::forwarding(options.size(), &options.only).is_empty(),
        "nothing of that name is measured; --list has the names"
    );
    let all: Vec<String> =
        suite::forwarding(options.size(), &[]).iter().flat_map(Group::names).collect();
    for word in &options.only {
        let one = std::slice::from_ref(word);
        ensure!(
            all.iter().any(|name| suite::wanted(name, one, &all)),
            "nothing that is measured is called anything like '{word}'; --list has the names"
        );
    }
    if options.check {
        Baseline::load(&options.baseline())?;
    }
    if let Some(path) = &options.json {
        // Only ratios that were measured are replaced.
        fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    ensure!(
        options.before().is_some() || !options.contenders.contains(&Contender::CausewayBefore),
        "which build of causeway is causeway-before? --before names it"
    );
    if let Some(before) = options.before() {
        ensure!(
            before.is_file(),
            "{} is no file: --before wants a build of causeway",
            before.display()
        );
    }
    Ok(())
}

fn run(options: &Options) -> anyhow::Result<ExitCode> {
    guard::undo_on_signal()?;
    let found = Room::found();
    let measured = Bench::new(options).and_then(|bench| bench.measure(options));
    found.restore();
    let results = measured?;
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&results)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    report::write(&results, &options.report)?;
    if !results.targets.is_empty() {
        println!("{}", report::targets(&results.targets));
    }
    let losses: Vec<String> = results.measurements.iter().flat_map(Measurement::losses).collect();
    for loss in &losses {
        eprintln!("bench: {loss}; what it cost is only of those that arrived");
    }
    println!("The report is {}", options.report.join("report.md").display());
    let ratios = Baseline::of(&results.measurements);
    if options.save {
        ratios.save(&options.baseline())?;
        // Not needed with --only.
        if !results.programs.is_empty() {
            let path = options.record.join("programs.txt");
            fs::write(&path, programs::record(&results.programs))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    for (contender, _) in &results.left_out {
        // The reason has been printed.
        ensure!(
            !options.contenders.contains(contender),
            "{contender} was asked for, and could not be measured"
        );
    }
    if options.check {
        let baseline = Baseline::load(&options.baseline())?;
        let names: Vec<String> = suite::forwarding(options.size(), &options.only)
            .iter()
            .flat_map(Group::names)
            .collect();
        let contenders = if options.contenders.is_empty() {
            &Contender::ALL[..]
        } else {
            &options.contenders[..]
        };
        let missing = baseline.missing(&ratios, &names, contenders);
        for missing in &missing {
            eprintln!("bench: {missing}: it is in the repository's baseline, and was not measured");
        }
        let worse = baseline.worse(&ratios)?;
        for worse in &worse {
            eprintln!("bench: {}: {:.2} x, was {:.2} x", worse.what, worse.now, worse.before);
        }
        if losses.iter().any(|loss| loss.contains(Contender::Causeway.name())) {
            eprintln!("bench: causeway lost packets, so that nothing can be said of its speed");
            return Ok(ExitCode::FAILURE);
        }
        if !worse.is_empty() {
            eprintln!(
                "bench: more than {:.0} % worse than the repository's baseline",
                TOLERANCE * 100.0
            );
            return Ok(ExitCode::FAILURE);
        }
        if !missing.is_empty() {
            return Ok(ExitCode::FAILURE);
        }
        println!(
            "Of {} ratios none is more than {:.0} % smaller than the repository's.",
            baseline.in_common(&ratios),
            TOLERANCE * 100.0
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// One run of the benchmark.
struct Bench {
    size: Size,
    contenders: Vec<Contender>,
    before: Option<PathBuf>,
    groups: Vec<Group>,
    kernel: Kernel,
    bar: ProgressBar,
    /// Number of hosts made so far.
    made: u32,
    results: Results,
}

impl Bench {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let size = options.size();
        let groups = suite::forwarding(size, &options.only);
        let mut contenders = if options.contenders.is_empty() {
            Contender::ALL.to_vec()
        } else {
            options.contenders.clone()
        };
        let before = options.before();
        contenders.retain(|contender| *contender != Contender::CausewayBefore || before.is_some());
        let effort = size.effort();
        let turns = groups.iter().map(|group| group.turns(&contenders)).sum::<usize>();
        let bar = ProgressBar::new(turns as u64 * u64::from(effort.rounds + 1));
        bar.set_style(ProgressStyle::with_template("{elapsed} {bar:30} {eta:>4} {wide_msg}")?);
        let arguments = std::env::args().skip(1).collect::<Vec<_>>();
        let results = Results {
            machine: Machine::here(),
            command: format!("cargo xtask bench {}", shown(&arguments).join(" ")),
            rounds: effort.rounds,
            turn: effort.turn.as_millis(),
            left_out: Vec::new(),
            measurements: Vec::new(),
            targets: Vec::new(),
            programs: Vec::new(),
            costs: Vec::new(),
            memory: None,
            timings: Vec::new(),
        };
        Ok(Self {
            size,
            contenders,
            before,
            groups,
            kernel: Kernel::load()?,
            bar,
            made: 0,
            results,
        })
    }

    fn measure(mut self, options: &Options) -> anyhow::Result<Results> {
        for group in std::mem::take(&mut self.groups) {
            let flows = group.flows().max(200_000);
            let flows = flows + flows / 8;
            let rigs = self.build(&group, flows)?;
            for beside in group.comparisons.chunk_by(|(_, a), (_, b)| a.is_beside(b)) {
                let (names, comparisons): (Vec<_>, Vec<_>) = beside.iter().cloned().unzip();
                let tick = |number: usize, contender| tick(&self.bar, &names[number], contender);
                let all = forwarding::compare(
                    &mut self.kernel,
                    &rigs,
                    &comparisons,
                    &self.size.effort(),
                    tick,
                )?;
                let figure = |turns: forwarding::Turns| {
                    (
                        turns.contender,
                        Figure { rounds: turns.costs(), sent: turns.frames(), lost: turns.lost() },
                    )
                };
                for (name, turns) in names.into_iter().zip(all) {
                    let figures = turns.into_iter().map(figure).collect();
                    let measurement = Measurement { name, metric: Metric::Packet, figures };
                    self.show(&report::forwarding(&measurement));
                    self.results.measurements.push(measurement);
                }
            }
            self.exchanges(&group, &rigs)?;
            if options.only.is_empty() && self.results.memory.is_none() {
                self.causeway_itself(&group, &rigs, flows)?;
            }
        }
        self.bar.finish_and_clear();
        self.results.targets = targets::outcomes(&self.results.measurements);
        Ok(self.results)
    }

    /// Makes a host for each contender that can take part.
    fn build(&mut self, group: &Group, flows: u32) -> anyhow::Result<Vec<Rig>> {
        let mut rigs = Vec::new();
        let (publishes, families) = (group.publishes, group.families());
        // netfilter has one table for both families.
        Room::make(flows * u32::try_from(families.len())?)?;
        let setup = Setup { publishes, flows, families, before: self.before.clone() };
        for contender in self.contenders.clone() {
            if !group.has(contender)
                || self.results.left_out.iter().any(|(out, _)| *out == contender)
            {
                continue;
            }
            self.bar.set_message(format!("a host for {contender} with {}", group.publishes));
            self.made += 1;
            match Rig::build(contender, &setup, self.made) {
                Ok(rig) => rigs.push(rig),
                Err(error) => {
                    let reason = Error::from_chain(&*error).to_string();
                    self.bar.suspend(|| eprintln!("bench: without {contender}: {reason}"));
                    self.results.left_out.push((contender, reason));
                }
            }
        }
        Ok(rigs)
    }

    fn exchanges(&mut self, group: &Group, rigs: &[Rig]) -> anyhow::Result<()> {
        let effort = self.size.effort();
        for (exchange, way) in &group.exchanges {
            let name = tcp::name(*exchange, *way);
            let measurements =
                tcp::compare(rigs, *exchange, *way, effort.rounds, effort.turn * 2, |contender| {
                    tick(&self.bar, &name, contender);
                })?;
            if let Some(table) = report::exchange(&measurements) {
                self.show(&table);
            }
            self.results.measurements.extend(measurements);
        }
        Ok(())
    }

    /// Measures what has no contenders: programs, memory, and control operations.
    fn causeway_itself(&mut self, group: &Group, rigs: &[Rig], flows: u32) -> anyhow::Result<()> {
        let of = |contender| rigs.iter().find(|rig| rig.contender == contender);
        let Some(causeway) = of(Contender::Causeway) else { return Ok(()) };
        self.bar.set_message("causeway's programs");
        let memory = Memory::of(causeway, flows)?;
        self.results.programs = programs::of_instance(&causeway.lab.instance)?;
        for rig in [Contender::Causeway, Contender::CausewayXdp].into_iter().filter_map(of) {
            self.results.costs.extend(programs::costs(&mut self.kernel, rig, group.publishes)?);
        }
        self.show(&report::costs(&self.results.costs));
        self.show(&report::programs(&self.results.programs));
        self.show(&report::memory(&memory));
        self.results.memory = Some(memory);
        if let Some(plain) = of(Contender::Plain) {
            self.bar.set_message("attaching and publishing");
            let (rounds, plugins) = if self.size == Size::Quick { (3, 100) } else { (9, 10_000) };
            self.results.timings = control::compare(causeway, plain, rounds, plugins)?;
            self.show(&report::timings(&self.results.timings));
        }
        Ok(())
    }

    fn show(&self, table: &comfy_table::Table) {
        self.bar.suspend(|| println!("{table}"));
    }
}

fn tick(bar: &ProgressBar, name: &str, contender: Contender) {
    bar.set_message(format!("{name}: {contender}"));
    bar.inc(1);
}

/// The options given by the user, without paths of the repository.
fn shown(arguments: &[String]) -> Vec<String> {
    let mut shown = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--report" | "--record" => {
                rest.next();
            }
            _ if argument.contains(' ') => shown.push(format!("\"{argument}\"")),
            _ => shown.push(argument.clone()),
        }
    }
    shown
}
