//! Bytes and values: frames, headers, checksums, addresses and tuples. Nothing here knows of flows
//! or NAT.

pub mod address;
pub mod checksum;
pub mod ethernet;
pub mod frame;
pub mod headers;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod layout;
pub mod ndp;
pub mod packet;
pub mod parse;
pub mod protocol;
pub mod quote;
pub mod sctp;
pub mod tcp;
pub mod tcp_options;
pub mod transport;
pub mod tuple;
