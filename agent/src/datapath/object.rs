//! Loading the object: maps, globals, programs.

use anyhow::Context as _;
use aya::{
    Ebpf, EbpfLoader,
    maps::MapInfo,
    programs::{CgroupSockAddr, Program, ProgramError},
};
use causeway_api::{Error, error::command};
use causeway_common::abi::{maps, programs};

use super::{pins::Pins, types::LoadOptions};

pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/causeway.bpf.o"));

/// Makes or reuses the maps and loads every program.
pub(super) fn load(options: &LoadOptions, pins: &Pins) -> anyhow::Result<Ebpf> {
    let kept = MapInfo::from_pin(pins.map(maps::V4.flows)).ok().map(|kept| kept.max_entries() / 2);
    if let Some(kept) = kept
        && kept != options.flows
    {
        tracing::warn!(
            kept,
            wanted = options.flows,
            "the flow table keeps the size that an earlier agent gave it; {} first to change it",
            command(&["down"], &options.instance)
        );
    }
    let flows = kept.unwrap_or(options.flows);
    let (entries, ring_entries) = maps::flow_entries(flows)
        .zip(maps::age_ring_entries(flows))
        .with_context(|| format!("sizing the flow table: {flows} flows are too many for a map"))?;
    let ring_mask = ring_entries - 1;
    let mut loader = EbpfLoader::new();
    loader.override_global(maps::HOST_COOKIE, &options.host_cookie, true);
    loader.override_global(maps::AGE_RING_MASK, &ring_mask, true);
    for family in [maps::V4, maps::V6] {
        loader.map_max_entries(family.flows, entries);
        loader.map_max_entries(family.age_ring, ring_entries);
    }
    for map in maps::PINNED {
        loader.map_pin_path(map, pins.map(map));
    }
    let mut ebpf = loader.load(OBJECT).with_context(|| {
        format!("making the datapath's maps (the flow table has room for {} flows)", options.flows)
    })?;
    let is_always_loaded =
        |name: &str| programs::by_name(name).is_some_and(programs::Program::is_always_loaded);
    for (name, program) in ebpf.programs_mut().filter(|(name, _)| is_always_loaded(name)) {
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

/// Turns a load error into one line. The verifier's output is pages long: it goes to the log, and
/// only its last message into the error.
pub(super) fn explain(name: &str, error: ProgramError) -> anyhow::Error {
    if let ProgramError::LoadError { io_error, verifier_log } = &error {
        let log = verifier_log.to_string();
        tracing::error!(program = name, "{log}");
        let verdict = verdict(&log);
        let error = Error::kernel(format!("loading the program '{name}': {io_error}: {verdict}"));
        return error.into();
    }
    anyhow::Error::new(error).context(format!("loading the program '{name}'"))
}

/// The last line of the verifier's output before its statistics.
fn verdict(log: &str) -> &str {
    const STATISTICS: [&str; 3] = ["verification time ", "stack depth ", "processed "];
    let is_verdict =
        |line: &&str| !line.is_empty() && !STATISTICS.iter().any(|word| line.starts_with(word));
    log.lines().map(str::trim).rfind(is_verdict).unwrap_or("it gave no reason")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aya_obj::Object;

    use super::*;

    #[test]
    fn tables_and_object_name_the_same() {
        let object = Object::parse(OBJECT).unwrap();
        let names: BTreeSet<&str> = programs::ALL.iter().map(|program| program.name).collect();
        assert_eq!(object.programs.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
        for map in maps::PINNED {
            assert!(object.maps.contains_key(*map), "{map}");
        }
    }

    #[test]
    fn verdict_is_line_before_statistics() {
        let log = "; let packet = parse();\ncombined stack size of 4 calls is 544. Too large\n\
                   verification time 2022247 usec\n\
                   stack depth 200+8+152\nprocessed 86267 insns (limit 1000000)\n\n";
        assert_eq!(verdict(log), "combined stack size of 4 calls is 544. Too large");
        assert_eq!(verdict("R1 invalid mem access 'scalar'\n"), "R1 invalid mem access 'scalar'");
        assert_eq!(verdict("processed 7 insns\n"), "it gave no reason");
    }
}
