//! What there is, as plain data without IO: networks, containers, publishes, how flows are kept and
//! which are meant, and which address a container gets.

pub mod container;
pub mod device;
pub mod family;
pub mod flow_filter;
pub mod flows;
pub mod host_ports;
pub mod ipam;
pub mod masquerade;
pub mod name;
pub mod network;
pub mod publish;
pub mod xdp;
