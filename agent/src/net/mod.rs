//! Namespaces, links, addresses, routes and sysctls. The only module that names rtnetlink.

pub mod address;
pub mod link;
pub mod mac;
pub mod netlink;
pub mod netns;
mod qdisc;
pub mod sysctl;
pub mod watch;
