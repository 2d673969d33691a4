//! The values in requests and replies: the text form of each, and its checks.

pub mod device;
pub mod family;
pub mod flow;
pub mod flow_filter;
pub mod flow_options;
pub mod host_ports;
pub mod mac;
pub mod masquerade;
pub mod name;
pub mod publish;
pub mod subnet;
pub mod xdp;
