//! The BPF objects of an instance: found by their pins, and by ID once those are gone.

use std::{
    collections::BTreeSet,
    ffi::CString,
    fs,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use causeway_common::abi;
use nix::{errno::Errno, libc};

const OBJ_GET: libc::c_int = 7;
const PROG_GET_NEXT_ID: libc::c_int = 11;
const MAP_GET_NEXT_ID: libc::c_int = 12;
const LINK_GET_NEXT_ID: libc::c_int = 31;

/// A program, map or link in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// The `bpf(2)` command that iterates over its kind.
    list: libc::c_int,
    id: u32,
}

impl Object {
    /// Whether the kernel still has it.
    pub fn is_there(self) -> bool {
        #[repr(C)]
        struct Attributes {
            start: u32,
            next: u32,
            flags: u32,
        }
        let mut attributes = Attributes { start: self.id - 1, next: 0, flags: 0 };
        bpf(self.list, &mut attributes).is_ok() && attributes.next == self.id
    }
}

/// All pinned objects of an instance, and the programs of its links.
pub fn objects(instance: &str) -> BTreeSet<Object> {
    let mut all = BTreeSet::new();
    add(&folder(instance), &mut all);
    all
}

/// Where an instance's maps are pinned.
pub(crate) fn maps(instance: &str) -> PathBuf {
    folder(instance).join(format!("v{}", abi::LAYOUT)).join("maps")
}

fn folder(instance: &str) -> PathBuf {
    Path::new("/sys/fs/bpf/causeway").join(instance)
}

fn add(path: &Path, all: &mut BTreeSet<Object>) {
    if path.is_dir() {
        for entry in
            fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        {
            add(&entry.expect("the folder can be read").path(), all);
        }
        return;
    }
    let pinned = open(path)
        .unwrap_or_else(|error| panic!("cannot open the pin {}: {error}", path.display()));
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", pinned.as_raw_fd()))
        .expect("it is open");
    for line in about.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let list = match key {
            "prog_id" => PROG_GET_NEXT_ID,
            "map_id" => MAP_GET_NEXT_ID,
            "link_id" => LINK_GET_NEXT_ID,
            _ => continue,
        };
        all.insert(Object { list, id: value.trim().parse().expect("a number") });
    }
}

pub(crate) fn open(path: &Path) -> nix::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path has no NUL");
    let mut attributes = Attributes { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    let fd = bpf(OBJ_GET, &mut attributes)?;
    // SAFETY: the kernel has just returned this descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor is small")) })
}

pub(crate) fn bpf<T>(command: libc::c_int, attributes: &mut T) -> nix::Result<libc::c_long> {
    // SAFETY: the kernel accesses no more than the given size of the attributes, and the buffers
    // they point to outlive the call.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    })
}
