//! The host's network as the agent changes it: namespaces, links, addresses, routes, sysctls and
//! connected sockets.
//!
//! rtnetlink's types stay in this crate: callers see [`Netlink`], whose methods are spread over the
//! modules of their objects, and plain structs.
//!
//! - [`netns`]: namespaces as files, and work done inside them.
//! - [`netlink`]: a socket in one namespace; [`link`], [`bridge`], [`pair`], [`address`] and
//!   [`route`] are what it lists and changes.
//! - [`watch`]: the kernel's word that something changed.
//! - [`sysctl`], [`ethtool`], [`sock_diag`]: what netlink's route family does not have.
//!
//! No other program is run: every change is a system call.

pub mod address;
pub mod bridge;
pub mod ethtool;
pub mod link;
mod loopback;
pub mod netlink;
pub mod netns;
pub mod pair;
mod qdisc;
pub mod route;
pub mod sock_diag;
pub mod sysctl;
pub mod watch;

pub use self::{netlink::Netlink, netns::Netns};
