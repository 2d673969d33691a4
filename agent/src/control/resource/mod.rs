//! How each kind of object is made, changed and removed.

pub(super) mod container;
pub(super) mod drain;
pub(super) mod endpoint;
pub(super) mod flow;
pub(super) mod forwarding;
pub(super) mod host_socket;
pub(super) mod ipv6;
pub(super) mod network;
pub(super) mod port_probe;
pub(super) mod publish;
pub(super) mod uplink;
pub(super) mod xdp;
