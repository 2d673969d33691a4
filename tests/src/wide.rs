//! What lies behind the world, where one host is not enough.
//!
//! ```text
//!   host ── world ─── world1 203.0.113.65/26 ── other0 203.0.113.66 other
//!               └──── world2 203.0.113.129/30 ──1400── hop0 203.0.113.130 hop 203.0.113.193/26 hop1 ── beyond0 203.0.113.194 beyond
//! ```
//!
//! The narrow link is the one in the middle: both ends of a path through it have an MTU of 1500 of their own, and learn of it by being told.

use std::net::Ipv4Addr;

use causeway::net::{netlink::Netlink, netns::Netns, sysctl};

use crate::{
    lab::{Lab, UPLINK},
    place,
};

/// A second host outside.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
/// The world's address on the narrow link.
pub const NEAR_HOP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 129);
/// The address of the router behind the world.
pub const HOP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 130);
/// That router's address toward the host behind it.
pub const FAR_HOP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 193);
/// A host behind the narrow link.
pub const BEYOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 194);
/// The narrow link's MTU.
pub const NARROW: u32 = 1400;

/// The namespaces behind the world. The lab removes them.
#[derive(Debug)]
pub struct Wide {
    /// A second host outside.
    pub other: Netns,
    /// The router behind the world.
    pub hop: Netns,
    /// A host behind that router.
    pub beyond: Netns,
}

impl Lab {
    /// Makes what lies behind the world.
    pub fn widen(&self) -> Wide {
        let make = |part: &str| {
            let name = format!("{}-{part}", self.instance);
            let netns = Netns::create(&name).expect("a namespace");
            self.undo().namespaces.push(name);
            netns
        };
        let wide = Wide { other: make("other"), hop: make("hop"), beyond: make("beyond") };
        for router in [&self.world, &wide.hop] {
            sysctl::set(router, "ipv4/ip_forward", "1").expect("it forwards");
        }
        for netns in [&self.world, &wide.other, &wide.hop, &wide.beyond] {
            // The tests ask more often than Linux likes to answer one peer.
            sysctl::set(netns, "ipv4/icmp_ratelimit", "0").expect("no limit");
        }
        link(&self.world, ("world1", "203.0.113.65/26"), &wide.other, ("other0", "203.0.113.66/26"));
        link(&self.world, ("world2", "203.0.113.129/30"), &wide.hop, ("hop0", "203.0.113.130/30"));
        link(&wide.hop, ("hop1", "203.0.113.193/26"), &wide.beyond, ("beyond0", "203.0.113.194/26"));
        set_mtu(&self.world, "world2", NARROW);
        set_mtu(&wide.hop, "hop0", NARROW);
        place::ip(&self.world, "route add 203.0.113.192/26 via 203.0.113.130");
        place::ip(&wide.other, "route add default via 203.0.113.65");
        place::ip(&wide.hop, "route add default via 203.0.113.129");
        place::ip(&wide.beyond, "route add default via 203.0.113.193");
        wide
    }

    /// Gives the uplink an MTU that its other end does not have. Before the agent starts.
    pub fn narrow_uplink(&self, mtu: u32) {
        set_mtu(&self.host, UPLINK, mtu);
    }
}

/// A link between two namespaces.
fn link(near: &Netns, (near_name, near_address): (&str, &str), far: &Netns, (far_name, far_address): (&str, &str)) {
    place::block_on(async {
        let (near, far_side) = (Netlink::open(near).await?, Netlink::open(far).await?);
        let index = near.create_veth_between(near_name, far_name, far).await?;
        near.add_address(index, near_address.parse()?).await?;
        let index = far_side.link(far_name).await?.expect("the link has another end").index;
        far_side.add_address(index, far_address.parse()?).await
    })
    .unwrap_or_else(|error| panic!("no link {near_name}: {error:#}"));
}

/// Sets an interface's MTU.
pub fn set_mtu(netns: &Netns, interface: &str, mtu: u32) {
    place::ip(netns, &format!("link set {interface} mtu {mtu}"));
}

/// What a namespace has learned of the MTU on the way to an address; none if nothing yet.
pub fn path_mtu(netns: &Netns, to: Ipv4Addr) -> Option<u32> {
    let route = place::ip(netns, &format!("route get {to}"));
    route.split_once(" mtu ")?.1.split_whitespace().next()?.parse().ok()
}
