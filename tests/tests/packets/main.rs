//! Frames through the programs in the kernel: tables of packets, of both families from one row
//! wherever that makes sense ([`causeway_tests::bench::rows`]), and what several packets do
//! together.

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
