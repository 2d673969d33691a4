//! The report: tables on the terminal and in Markdown.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;
use comfy_table::{
    CellAlignment, Table,
    presets::{ASCII_MARKDOWN, UTF8_FULL_CONDENSED},
};

use crate::{
    contender::Contender,
    control::Timing,
    measurement::{Measurement, Metric},
    memory::Memory,
    plot,
    programs::{Cost, Program},
    results::Results,
    statistics::Spread,
    targets::Outcome,
};

/// Forwarding.
pub fn forwarding(measurement: &Measurement) -> Table {
    let header = [
        &measurement.name,
        measurement.metric.unit(),
        "±",
        "rate",
        "causeway is",
        "net of the floor",
        "causeway is",
        "lost",
    ];
    let rows = measurement.figures.iter().filter_map(|(contender, figure)| {
        let cost = measurement.cost(*contender)?;
        let net = measurement
            .net(*contender)
            .map_or_else(String::new, |net| format!("{:.0}", net.median));
        Some(vec![
            contender.to_string(),
            format!("{:.0}", cost.median),
            format!("{:.1} %", cost.relative() * 100.0),
            measurement.metric.rate(cost.median).unwrap_or_default(),
            times(*contender, measurement.ratio(*contender)),
            net,
            times(*contender, measurement.net_ratio(*contender)),
            lost(figure.lost, figure.sent),
        ])
    });
    table(&header, rows)
}

/// All metrics of an exchange between processes.
pub fn exchange(measurements: &[Measurement]) -> Option<Table> {
    let first = measurements.first()?;
    let mut header = vec![first.name.as_str()];
    for measurement in measurements {
        header.extend([
            if measurement.metric == Metric::Stream { "rate" } else { measurement.metric.unit() },
            "causeway is",
        ]);
    }
    let rows = first.figures.keys().map(|contender| {
        let mut row = vec![contender.to_string()];
        for measurement in measurements {
            let cost = measurement.cost(*contender);
            let is_rate = measurement.metric == Metric::Stream;
            let shown = |cost: Spread| {
                if is_rate {
                    measurement.metric.rate(cost.median).unwrap_or_default()
                } else {
                    format!("{:.1}", cost.median)
                }
            };
            row.extend([
                cost.map_or_else(String::new, shown),
                times(*contender, measurement.ratio(*contender)),
            ]);
        }
        row
    });
    Some(table(&header, rows))
}

/// Targets.
pub fn targets(outcomes: &[Outcome]) -> Table {
    let row = |outcome: &Outcome| {
        let verdict = if outcome.reached() { "yes" } else { "NO" };
        vec![
            outcome.what.clone(),
            format!("{:.2} x", outcome.target),
            format!("{:.2} x", outcome.ratio),
            verdict.to_owned(),
        ]
    };
    table(&["causeway against", "target", "measured", "reached"], outcomes.iter().map(row))
}

/// Programs of causeway.
pub fn programs(programs: &[Program]) -> Table {
    let row = |program: &Program| {
        let numbers = [program.instructions, program.machine_code, program.verified];
        std::iter::once(program.name.clone())
            .chain(numbers.map(|number| number.to_string()))
            .collect()
    };
    table(
        &["program", "instructions", "bytes of machine code", "looked at by the verifier"],
        programs.iter().map(row),
    )
}

/// Costs of programs.
pub fn costs(costs: &[Cost]) -> Table {
    let shown = |cost: f64| if cost.is_finite() { format!("{cost:.0} ns") } else { String::new() };
    let row = |cost: &Cost| {
        vec![cost.packets.clone(), cost.program.clone(), shown(cost.alone), shown(cost.at_work)]
    };
    table(
        &["packets", "program", "alone (BPF_PROG_TEST_RUN)", "at work (bpf_stats)"],
        costs.iter().map(row),
    )
}

/// Memory use.
pub fn memory(memory: &Memory) -> Table {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let each = |bytes: u64| format!("{bytes} bytes");
    let mut rows = vec![
        vec![format!("all maps, with room for {} flows", memory.flows), mib(memory.maps)],
        vec!["of these the flow table".to_owned(), mib(memory.flow_table)],
        vec!["that is for each flow".to_owned(), each(memory.flow_table / u64::from(memory.flows))],
        vec!["the agent, resident".to_owned(), mib(memory.agent)],
    ];
    if let Some(bytes) = memory.netfilter_flow {
        rows.push(vec![
            "a flow of netfilter's, without its chain and extensions".to_owned(),
            each(bytes),
        ]);
    }
    table(&["memory", ""], rows)
}

/// Control operations.
pub fn timings(timings: &[Timing]) -> Table {
    let row = |timing: &Timing| {
        let took = Spread::of(timing.rounds.iter().copied());
        let took = match (took, &timing.failed) {
            (Some(took), _) => format!("{:.1} ms", took.median),
            (None, reason) => reason.clone().unwrap_or_default(),
        };
        vec![timing.what.clone(), timing.by.clone(), took]
    };
    table(&["what", "by", "median"], timings.iter().map(row))
}

/// Writes `report.md` and its plots into a folder.
pub fn write(results: &Results, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let plots = plot::draw(&results.measurements, folder)?;
    let path = folder.join("report.md");
    fs::write(&path, markdown(results, &plots))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn markdown(results: &Results, plots: &[String]) -> String {
    let machine = &results.machine;
    let mut text = format!(
        "# causeway and its alternatives\n\n{}, Linux {}, {} of {}{}.\n`{}`: medians of {} \
         rounds, each contender's turn about {} ms.\n\n",
        machine.date,
        machine.kernel,
        machine.processors,
        machine.processor,
        if machine.is_virtual { " (virtual)" } else { "" },
        results.command,
        results.rounds,
        results.turn
    );
    let mut section = |title: &str, content: String| {
        // Writing to a string cannot fail.
        let _ = write!(text, "## {title}\n\n{content}\n\n");
    };
    let versions: Vec<_> =
        machine.versions.iter().map(|(name, version)| format!("- {name}: {version}")).collect();
    let mitigations: Vec<_> =
        machine.mitigations.iter().map(|(name, value)| format!("- {name}: {value}")).collect();
    let left_out: Vec<_> = results
        .left_out
        .iter()
        .map(|(contender, reason)| format!("- {contender}: {reason}"))
        .collect();
    if !results.targets.is_empty() {
        section("Targets", in_markdown(targets(&results.targets)));
    }
    if !left_out.is_empty() {
        section("Left out", left_out.join("\n"));
    }
    if !plots.is_empty() {
        section(
            "Plots",
            plots.iter().map(|plot| format!("![{plot}]({plot})")).collect::<Vec<_>>().join("\n\n"),
        );
    }
    let packets: Vec<_> = results
        .measurements
        .iter()
        .filter(|measurement| measurement.metric == Metric::Packet)
        .map(|measurement| in_markdown(forwarding(measurement)))
        .collect();
    if !packets.is_empty() {
        section(
            "Packets",
            format!(
                "UDP, 60 bytes with the Ethernet header, one CPU. The floor is the generator \
                 with a drop where frames enter. \
                 \"causeway is 2 x\" means that it needs half the time.\n\n{}",
                packets.join("\n\n")
            ),
        );
    }
    let exchanges: Vec<_> = results
        .measurements
        .chunk_by(|a, b| a.name == b.name)
        .filter(|group| group[0].metric != Metric::Packet)
        .filter_map(|group| Some(in_markdown(exchange(group)?)))
        .collect();
    if !exchanges.is_empty() {
        section(
            "TCP",
            format!(
                "Both ends on one CPU: waking another one takes a virtual machine longer than \
                 all the rest. Offloads on.\n\n{}",
                exchanges.join("\n\n")
            ),
        );
    }
    if !results.costs.is_empty() {
        section("What the programs cost", in_markdown(costs(&results.costs)));
    }
    if !results.programs.is_empty() {
        section("The programs", in_markdown(programs(&results.programs)));
    }
    if let Some(memory_of) = &results.memory {
        section("Memory", in_markdown(memory(memory_of)));
    }
    if !results.timings.is_empty() {
        section("Attaching and publishing", in_markdown(timings(&results.timings)));
    }
    section(
        "The hosts",
        "Each contender has a host of its own, of network namespaces: a bridge with two \
         containers, an uplink (veth, MTU 1500) and the \
         world behind it. Conntrack does not verify checksums (a network card does), bridged \
         packets do not pass iptables, rp_filter is off; \
         for 900,000 flows nf_conntrack_max and the number of its chains are raised."
            .to_owned(),
    );
    section("Versions", versions.join("\n"));
    section("What the kernel does against the processor's weaknesses", mitigations.join("\n"));
    text
}

fn in_markdown(mut table: Table) -> String {
    table.load_preset(ASCII_MARKDOWN).to_string()
}

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn times(contender: Contender, ratio: Option<Spread>) -> String {
    match ratio {
        Some(ratio) if !matches!(contender, Contender::Causeway | Contender::Floor) => {
            format!("{:.2} x", ratio.median)
        }
        _ => String::new(),
    }
}

/// Lost packets are reported.
pub fn lost(lost: u64, sent: u64) -> String {
    match (lost, sent) {
        (_, 0) => String::new(),
        (0, _) => "none".to_owned(),
        _ => format!("LOST {lost} of {sent} ({:.2} %)", lost as f64 * 100.0 / sent as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_reported() {
        assert_eq!(lost(0, 100), "none");
        assert_eq!(lost(1, 100), "LOST 1 of 100 (1.00 %)");
    }
}
