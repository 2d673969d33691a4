//! What there is, as plain data without IO: networks, containers, publishes, and which address a container gets.

pub mod container;
pub mod host_ports;
pub mod ipam;
pub mod name;
pub mod network;
pub mod publish;
