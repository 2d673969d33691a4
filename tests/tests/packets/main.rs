//! Frames through the programs in the kernel: tables of packets, of both families from one row
//! wherever that makes sense ([`causeway_tests::bench::rows`]), and what several packets do
//! together.

mod containers;
mod crossing;
mod errors;
mod extensions;
mod fragments;
mod full_cone;
mod link;
mod mss;
mod outside;
mod ports;
mod room;
mod sctp;
mod tables;
