//! Links of programs to the container side of netkit pairs (Linux 6.7), where containers send. aya
//! 0.14 has no such links.
#![expect(
    unsafe_code,
    reason = "one system call, with pointers into buffers whose sizes it is told"
)]

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use anyhow::Context as _;
use aya::programs::SchedClassifier;
use nix::libc;

/// Commands of `bpf(2)`.
mod command {
    pub(super) const OBJ_PIN: i64 = 6;
    pub(super) const OBJ_GET: i64 = 7;
    pub(super) const LINK_CREATE: i64 = 28;
    pub(super) const LINK_UPDATE: i64 = 29;
}

/// `BPF_NETKIT_PEER` of `enum bpf_attach_type`.
const NETKIT_PEER: u32 = 55;

/// What stands in `union bpf_attr` for [`command::LINK_CREATE`].
#[repr(C)]
struct Create {
    program: u32,
    /// The host side, whose other end is meant.
    interface: u32,
    attach_type: u32,
    /// From here on: behind all others.
    flags: u32,
    relative: u32,
    _pad: u32,
    revision: u64,
}

/// For [`command::LINK_UPDATE`].
#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// For [`command::OBJ_PIN`] and [`command::OBJ_GET`].
#[repr(C)]
struct Pin {
    path: u64,
    object: u32,
    flags: u32,
}

/// Attaches a program to the other end of a host side, by a link that is pinned at `pin`; one that
/// is there takes the program in one step.
pub(super) fn put(program: &SchedClassifier, host_side: u32, pin: &Path) -> anyhow::Result<()> {
    let program = number(program.fd()?.as_fd().as_raw_fd());
    let path = CString::new(pin.as_os_str().as_bytes())
        .with_context(|| format!("the path {}", pin.display()))?;
    let path = path.as_ptr().expose_provenance() as u64;
    if let Ok(link) = call(command::OBJ_GET, &Pin { path, object: 0, flags: 0 }) {
        // SAFETY: the kernel has just opened this descriptor, and nothing else owns it.
        let link = unsafe { OwnedFd::from_raw_fd(link) };
        let update = Update { link: number(link.as_raw_fd()), program, flags: 0, old_program: 0 };
        // A link whose interface is gone takes no program: its pin is all that is left of it.
        if call(command::LINK_UPDATE, &update).is_ok() {
            return Ok(());
        }
        fs::remove_file(pin).with_context(|| format!("removing the pin {}", pin.display()))?;
    }
    let create = Create {
        program,
        interface: host_side,
        attach_type: NETKIT_PEER,
        flags: 0,
        relative: 0,
        _pad: 0,
        revision: 0,
    };
    let link = call(command::LINK_CREATE, &create)?;
    // SAFETY: as above.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    call(command::OBJ_PIN, &Pin { path, object: number(link.as_raw_fd()), flags: 0 })
        .with_context(|| format!("pinning {}", pin.display()))?;
    Ok(())
}

const fn number(fd: RawFd) -> u32 {
    fd.cast_unsigned()
}

/// Returns a new descriptor, or zero, by command.
fn call<T>(command: i64, attributes: &T) -> io::Result<RawFd> {
    let attributes = std::ptr::from_ref(attributes);
    // SAFETY: the kernel reads as many bytes as it is told, and what they point to outlives the
    // call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}
