//! The maps of the object, in the terms of the agent.

mod address;
mod batch;
pub(super) mod config;
pub(super) mod counters;
mod family;
mod flow_entries;
pub(super) mod flow_table;
pub(super) mod host_sockets;
mod raw;
mod slots;
pub(super) mod xdp;

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Map, MapError},
};

/// Takes a map from the loaded object.
fn take<T>(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<T>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).with_context(|| format!("the object lacks the map '{name}'"))?;
    T::try_from(map).with_context(|| format!("opening the map '{name}'"))
}

/// Removal succeeds if the key does not exist.
fn ignore_missing(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        result => result,
    }
}
