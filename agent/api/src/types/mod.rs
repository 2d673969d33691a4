//! The values in requests and replies, as plain data: how each is written and which are valid.

pub mod device;
pub mod family;
pub mod flow_filter;
pub mod flow_options;
pub mod host_ports;
pub mod mac;
pub mod masquerade;
pub mod name;
pub mod publish;
pub mod subnet;
pub mod xdp;
