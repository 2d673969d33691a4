//! Reading a map in batches, which aya cannot. Entry by entry a walk takes two system calls each,
//! and starts over when the current entry is removed.
#![expect(
    unsafe_code,
    reason = "one system call, with pointers into buffers whose sizes it is told"
)]

use std::{
    collections::HashMap,
    hash::Hash,
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::Context as _;
use aya::maps::MapFd;
use bytemuck::Pod;
use nix::libc;

/// Entries of a batch: more than any bucket has.
const STEP: u32 = 4096;

/// `BPF_MAP_LOOKUP_BATCH`, since Linux 5.6.
const LOOKUP_BATCH: libc::c_long = 24;

/// The `batch` part of `union bpf_attr` (`linux/bpf.h`).
#[repr(C)]
#[derive(Debug)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// All entries of a hash map. As with any walk, an entry that is inserted again meanwhile may be
/// missed.
pub(in crate::datapath) fn entries<K: Pod + Eq + Hash, V: Pod>(
    map: &MapFd,
) -> anyhow::Result<HashMap<K, V>> {
    let mut found = HashMap::new();
    for_each(map, |key, value| {
        found.insert(key, value);
    })?;
    Ok(found)
}

/// Visits all entries of a hash map or an array.
pub(in crate::datapath) fn for_each<K: Pod, V: Pod>(
    map: &MapFd,
    mut visit: impl FnMut(K, V),
) -> anyhow::Result<()> {
    let mut keys = vec![K::zeroed(); STEP as usize];
    let mut values = vec![V::zeroed(); STEP as usize];
    let mut place = None;
    loop {
        let (count, next) = step(map, place, &mut keys, &mut values)?;
        keys[..count].iter().zip(&values[..count]).for_each(|(key, value)| visit(*key, *value));
        let Some(next) = next else { return Ok(()) };
        place = Some(next);
    }
}

/// Reads a batch from `place` on. Returns the number of entries, and the place of the next batch.
fn step<K: Pod, V: Pod>(
    map: &MapFd,
    place: Option<u32>,
    keys: &mut [K],
    values: &mut [V],
) -> anyhow::Result<(usize, Option<u32>)> {
    let mut next = 0u32;
    let mut attributes = Attributes {
        in_batch: place
            .as_ref()
            .map_or(0, |place| std::ptr::from_ref(place).expose_provenance() as u64),
        out_batch: (&raw mut next).expose_provenance() as u64,
        keys: keys.as_mut_ptr().expose_provenance() as u64,
        values: values.as_mut_ptr().expose_provenance() as u64,
        count: STEP,
        map_fd: map.as_fd().as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    assert!(keys.len() >= STEP as usize && values.len() >= STEP as usize);
    // SAFETY: the buffers have room for `STEP` keys and values, which are plain bytes, and live
    // until the call is over.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut attributes, size_of::<Attributes>())
    };
    let count = attributes.count as usize;
    if result == 0 {
        return Ok((count, Some(next)));
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::NotFound {
        // The last batch.
        return Ok((count, None));
    }
    Err(error).context("walking through a map")
}
