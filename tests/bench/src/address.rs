//! The lab's IPv4 addresses.

use std::net::{IpAddr, Ipv4Addr};

use causeway_tests::lab;

/// [`lab::HOST`].
pub const HOST: Ipv4Addr = ipv4(lab::HOST);
/// [`lab::ROUTER`].
pub const ROUTER: Ipv4Addr = ipv4(lab::ROUTER);
/// [`lab::FAR`].
pub const FAR: Ipv4Addr = ipv4(lab::FAR);
/// [`lab::GATEWAY`].
pub const GATEWAY: Ipv4Addr = ipv4(lab::GATEWAY);

const fn ipv4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => panic!("an IPv4 address"),
    }
}
