//! Counts and empties the pinned maps of an instance.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use nix::{errno::Errno, libc};

use crate::pins::{self, bpf};

const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_GET_NEXT_KEY: libc::c_int = 4;

/// Map types, numbered as in `enum bpf_map_type`.
mod kind {
    pub(super) const HASH: u32 = 1;
    pub(super) const ARRAY: u32 = 2;
    pub(super) const PERCPU_ARRAY: u32 = 6;
    pub(super) const LRU_HASH: u32 = 9;
    pub(super) const LPM_TRIE: u32 = 11;
    pub(super) const DEVMAP_HASH: u32 = 25;
}

/// Arrays longer than this have an element for each slot or port, which the datapath clears when it
/// assigns the slot or port.
const SHORT: u32 = 4096;

/// A map.
struct Map {
    fd: OwnedFd,
    kind: u32,
    key_size: usize,
    value_size: usize,
    entries: u32,
}

/// `union bpf_attr` of the element commands.
#[repr(C)]
struct Element {
    map: u32,
    _pad: u32,
    key: u64,
    /// Or a pointer to the next key.
    value: u64,
    flags: u64,
}

/// Empties the maps pinned in a folder: removes hash entries, zeroes arrays. Returns the names of
/// hash maps that were not empty and do not expire their entries by themselves.
pub(crate) fn empty(folder: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for entry in
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    {
        let path = entry.expect("the folder can be read").path();
        let map = Map::open(&path);
        let entries = match map.kind {
            kind::HASH | kind::LPM_TRIE => map.delete_all(),
            // A device map removes entries with their devices.
            kind::LRU_HASH | kind::DEVMAP_HASH => {
                map.delete_all();
                0
            }
            kind::ARRAY | kind::PERCPU_ARRAY => {
                map.zero();
                0
            }
            other => panic!("{} is a map of kind {other}", path.display()),
        };
        if entries > 0 {
            left.push(format!("{} ({entries})", path.display()));
        }
    }
    left
}

/// Number of entries of a hash map pinned in a folder.
pub(crate) fn count(folder: &Path, name: &str) -> usize {
    let map = Map::open(&folder.join(name));
    let mut key = vec![0_u8; map.key_size];
    let mut count = 0;
    let mut found = map.element(MAP_GET_NEXT_KEY, None, Some(&mut key));
    while found.is_ok() {
        count += 1;
        let mut next = vec![0_u8; map.key_size];
        found = map.element(MAP_GET_NEXT_KEY, Some(&key), Some(&mut next));
        key = next;
    }
    count
}

impl Map {
    fn open(pin: &Path) -> Self {
        let fd = pins::open(pin)
            .unwrap_or_else(|error| panic!("cannot open the pin {}: {error}", pin.display()));
        let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
            .expect("it is open");
        let about: BTreeMap<&str, &str> =
            about.lines().filter_map(|line| line.split_once(":\t")).collect();
        let number = |name: &str| about[name].parse::<u32>().expect("a number");
        Self {
            fd,
            kind: number("map_type"),
            key_size: number("key_size") as usize,
            value_size: number("value_size") as usize,
            entries: number("max_entries"),
        }
    }

    /// Returns how many there were.
    fn delete_all(&self) -> usize {
        let mut count = 0;
        let mut key = vec![0_u8; self.key_size];
        // Always the first key, which is then removed.
        while self.element(MAP_GET_NEXT_KEY, None, Some(&mut key)).is_ok() {
            match self.element(MAP_DELETE_ELEM, Some(&key), None) {
                Ok(()) => count += 1,
                // A concurrent writer replaced it.
                Err(Errno::ENOENT) => {}
                Err(error) => panic!("cannot remove an entry: {error}"),
            }
        }
        count
    }

    fn zero(&self) {
        if self.entries > SHORT {
            return;
        }
        let mut value = vec![0_u8; self.value_size];
        if self.kind == kind::PERCPU_ARRAY {
            // One value for each possible CPU.
            value = vec![0; self.value_size.next_multiple_of(8) * possible_cpus()];
        }
        for index in 0..self.entries {
            let key = index.to_ne_bytes();
            self.element(MAP_UPDATE_ELEM, Some(&key), Some(&mut value))
                .expect("an array takes any value");
        }
    }

    fn element(
        &self,
        command: libc::c_int,
        key: Option<&[u8]>,
        value: Option<&mut [u8]>,
    ) -> nix::Result<()> {
        let mut attributes = Element {
            map: self.fd.as_raw_fd().cast_unsigned(),
            _pad: 0,
            key: key.map_or(0, |key| key.as_ptr() as u64),
            value: value.map_or(0, |value| value.as_mut_ptr() as u64),
            flags: 0,
        };
        bpf(command, &mut attributes).map(drop)
    }
}

/// Number of possible CPUs: the last one in `/sys/devices/system/cpu/possible`, such as `0-3`, plus
/// one.
fn possible_cpus() -> usize {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible").expect("Linux has it");
    let last = text.trim().rsplit(['-', ',']).next().expect("there is a processor");
    last.parse::<usize>().expect("a number") + 1
}
