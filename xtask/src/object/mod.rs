//! Reads eBPF objects, as far as needed to compare two of them.

mod elf;
pub(crate) mod functions;
