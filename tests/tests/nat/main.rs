//! Address translation of real traffic: masquerade, ports, mappings, ICMP errors, MSS.

mod endpoint_independent;
mod host_flows;
mod icmp;
mod masquerade;
mod mss;
mod peer_to_peer;
mod ports;
mod sctp;
mod transfer;
