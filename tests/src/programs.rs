//! BPF programs: those that this process has loaded, and those attached to an interface.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use nix::libc;

use crate::pins::bpf;

const PROG_LOAD: libc::c_int = 5;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const LINK_CREATE: libc::c_int = 28;

/// `struct bpf_prog_info` of `linux/bpf.h`, as long as Linux 5.16 made it.
mod info {
    pub(super) const SIZE: usize = 224;
    pub(super) const NAME: usize = 64;
    pub(super) const NAME_SIZE: usize = 16;
    pub(super) const VERIFIED: usize = 216;
}

/// Attach points of tcx, numbered as in `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tcx {
    /// Ingress.
    Ingress = 46,
    /// Egress.
    Egress = 47,
}

/// Number of instructions that the verifier processed for each program loaded by this process.
pub fn verified() -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").expect("every process has it") {
        let path = entry.expect("the folder can be read").path();
        // The descriptor that was reading the folder is closed by now.
        let Ok(target) = fs::read_link(&path) else { continue };
        if target.to_str() == Some("anon_inode:bpf-prog") {
            let fd =
                path.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a number");
            let (name, count) = about(fd)
                .unwrap_or_else(|error| panic!("cannot ask about the program {fd}: {error}"));
            all.insert(name, count);
        }
    }
    all
}

/// The tcx programs at an interface of the calling thread's namespace, in order. Linux before 6.6
/// answers `EINVAL`.
pub fn at(index: u32, hook: Tcx) -> nix::Result<Vec<String>> {
    #[repr(C)]
    struct Attributes {
        index: u32,
        hook: u32,
        flags: [u32; 2],
        ids: u64,
        count: u32,
        _pad: u32,
    }
    let mut ids = [0_u32; 16];
    let count = u32::try_from(ids.len()).expect("small");
    let mut attributes = Attributes {
        index,
        hook: hook as u32,
        flags: [0; 2],
        ids: ids.as_mut_ptr() as u64,
        count,
        _pad: 0,
    };
    bpf(PROG_QUERY, &mut attributes)?;
    ids[..attributes.count as usize].iter().map(|id| name_of(*id)).collect()
}

/// Attaches an XDP program that passes everything to an interface of the calling thread's
/// namespace, until it is dropped.
pub fn pass_by_xdp(index: u32) -> nix::Result<OwnedFd> {
    const PROG_TYPE_XDP: u32 = 6;
    const ATTACH_XDP: u32 = 37;
    const XDP_PASS: u8 = 2;
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        rest: [u64; 16],
    }
    #[repr(C)]
    struct Create {
        program: u32,
        target: u32,
        attach: u32,
        flags: u32,
        rest: [u64; 4],
    }
    // r0 = XDP_PASS; exit
    let instructions: [[u8; 8]; 2] =
        [[0xb7, 0, 0, 0, XDP_PASS, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let license = c"GPL";
    let mut load = Load {
        kind: PROG_TYPE_XDP,
        count: 2,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        rest: [0; 16],
    };
    let program = owned(bpf(PROG_LOAD, &mut load)?);
    let target = u32::try_from(program.as_raw_fd()).expect("a descriptor is no less than zero");
    let mut create =
        Create { program: target, target: index, attach: ATTACH_XDP, flags: 0, rest: [0; 4] };
    // The link keeps the program.
    Ok(owned(bpf(LINK_CREATE, &mut create)?))
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor, which nothing else owns.
    unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).expect("a descriptor is small")) }
}

fn name_of(id: u32) -> nix::Result<String> {
    let fd = owned(bpf(PROG_GET_FD_BY_ID, &mut [id, 0, 0])?);
    Ok(about(fd.as_raw_fd())?.0)
}

fn about(fd: RawFd) -> nix::Result<(String, u64)> {
    #[repr(C)]
    struct Attributes {
        fd: u32,
        size: u32,
        info: u64,
    }
    let mut answer = [0_u8; info::SIZE];
    let size = u32::try_from(answer.len()).expect("small");
    let mut attributes =
        Attributes { fd: fd.cast_unsigned(), size, info: answer.as_mut_ptr() as u64 };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes)?;
    let name =
        answer[info::NAME..][..info::NAME_SIZE].split(|byte| *byte == 0).next().unwrap_or_default();
    let count = answer[info::VERIFIED..][..4].try_into().expect("four bytes");
    Ok((String::from_utf8_lossy(name).into_owned(), u32::from_ne_bytes(count).into()))
}
