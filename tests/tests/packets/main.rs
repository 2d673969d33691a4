//! Frames through the programs in the kernel by `BPF_PROG_TEST_RUN`: tables of packets
//! ([`causeway_tests::bench::rows`]), where possible with one row for both families, and sequences
//! of packets.

mod endpoint_independent;
mod eviction;
mod extension_headers;
mod fragments;
mod from_container;
mod from_uplink;
mod icmp_errors;
mod link_layer;
mod map_entries;
mod mss;
mod nat64;
mod ports;
mod sctp;
mod slots;
mod xdp;
