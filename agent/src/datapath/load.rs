//! The object into the kernel.

use anyhow::Context as _;
use aya::{
    Ebpf, EbpfLoader,
    maps::MapInfo,
    programs::{CgroupSockAddr, Program, ProgramError},
};
use causeway_common::abi::{maps, programs};

use super::{LoadOptions, pins::Pins};

pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/causeway.bpf.o"));

/// The maps that are no family's.
const SHARED: [&str; 6] =
    [maps::EPOCHS, maps::NETWORKS, maps::COUNTS, maps::REASONS, maps::UPLINK_MACS, maps::RECEIVERS];

/// Makes or reuses the maps and loads every program.
pub(super) fn load(options: &LoadOptions, pins: &Pins) -> anyhow::Result<Ebpf> {
    let kept = MapInfo::from_pin(pins.map(maps::V4.flows)).ok().map(|kept| kept.max_entries() / 2);
    if let Some(kept) = kept
        && kept != options.flows
    {
        tracing::warn!(
            kept,
            wanted = options.flows,
            "the flow table of the earlier agent is kept with its size; 'causeway down' first to change it"
        );
    }
    let flows = kept.unwrap_or(options.flows);
    let entries =
        flows.checked_mul(2).context("a table of that many flows has no number for its entries")?;
    let notes = flows.next_power_of_two();
    let begun_mask = notes - 1;
    let mut loader = EbpfLoader::new();
    loader.override_global(maps::HOST_COOKIE, &options.host_cookie, true);
    loader.override_global(maps::AGE_RING_MASK, &begun_mask, true);
    for family in [maps::V4, maps::V6] {
        loader.map_max_entries(family.flows, entries);
        loader.map_max_entries(family.age_ring, notes);
    }
    for map in maps::V4.all().into_iter().chain(maps::V6.all()).chain(SHARED) {
        loader.map_pin_path(map, pins.map(map));
    }
    let mut ebpf = loader.load(OBJECT).with_context(|| {
        format!("making the datapath's maps (the flow table has room for {} flows)", options.flows)
    })?;
    // Those that refuse binds, and XDP, are loaded where they are attached.
    let at_once = |name: &str| !programs::BINDS.contains(&name) && name != programs::XDP_UPLINK;
    for (name, program) in ebpf.programs_mut().filter(|(name, _)| at_once(name)) {
        let result = if let Program::SchedClassifier(program) = program {
            program.load()
        } else {
            let program: &mut CgroupSockAddr = program.try_into()?;
            program.load()
        };
        result.map_err(|error| explain(name, error))?;
    }
    Ok(ebpf)
}

/// The verifier's words are pages long: they go to the log, its verdict into the error. Only its
/// figures come after that.
pub(super) fn explain(name: &str, error: ProgramError) -> anyhow::Error {
    if let ProgramError::LoadError { io_error, verifier_log } = &error {
        let log = verifier_log.to_string();
        tracing::error!(program = name, "{log}");
        let verdict = verdict(&log);
        return anyhow::anyhow!("loading the program '{name}': {io_error}: {verdict}");
    }
    anyhow::Error::new(error).context(format!("loading the program '{name}'"))
}

/// The last line that says something of the program, before the verifier's figures.
fn verdict(log: &str) -> &str {
    const FIGURES: [&str; 3] = ["verification time ", "stack depth ", "processed "];
    let is_verdict =
        |line: &&str| !line.is_empty() && !FIGURES.iter().any(|figure| line.starts_with(figure));
    log.lines().map(str::trim).rfind(is_verdict).unwrap_or("it gave no reason")
}

#[cfg(test)]
mod tests {
    use super::verdict;

    #[test]
    fn the_verdict_is_what_comes_before_the_figures() {
        let log = "; let packet = parse();\ncombined stack size of 4 calls is 544. Too large\nverification time 2022247 usec\n\
                   stack depth 200+8+152\nprocessed 86267 insns (limit 1000000)\n\n";
        assert_eq!(verdict(log), "combined stack size of 4 calls is 544. Too large");
        assert_eq!(verdict("R1 invalid mem access 'scalar'\n"), "R1 invalid mem access 'scalar'");
        assert_eq!(verdict("processed 7 insns\n"), "it gave no reason");
    }
}
