//! Namespaces, links, addresses, routes, sysctls and connected sockets. The only module that names
//! rtnetlink.

pub mod address;
pub mod ethtool;
pub mod link;
pub mod mac;
pub mod netlink;
pub mod netns;
pub mod pair;
mod qdisc;
pub mod sock_diag;
pub mod sysctl;
pub mod watch;
