//! eBPF objects, read as far as comparing two of them needs.

mod elf;
pub(crate) mod functions;
