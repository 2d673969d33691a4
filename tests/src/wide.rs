//! Hosts behind the world, where one outside host is not enough.
//!
//! ```text
//!   host ── world ── world1 ── other0 other
//!               └─── world2 ──1400── hop0 hop hop1 ── beyond0 beyond
//! ```
//!
//! [`Family`] has their addresses.
//!
//! The narrow link is in the middle of a path, so that both ends have an MTU of 1500 and must be
//! told of the smaller one.

use std::net::IpAddr;

use causeway_netlink::{Netlink, Netns, sysctl};

use crate::{
    family::{Family, V4, V6},
    lab::{self, Lab, UPLINK},
    place,
};

/// MTU of the narrow link.
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
    /// Makes the hosts behind the world.
    pub fn widen(&self) -> Wide {
        let make = |part: &str| {
            let name = format!("{}-{part}", self.instance);
            let netns = Netns::create(&name).expect("a namespace");
            self.undo().namespaces.push(name);
            netns
        };
        let wide = Wide { other: make("other"), hop: make("hop"), beyond: make("beyond") };
        for router in [&self.world, &wide.hop] {
            for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                sysctl::set(router, key, "1").expect("it forwards");
            }
        }
        for netns in [&self.world, &wide.other, &wide.hop, &wide.beyond] {
            lab::speak_freely(netns).expect("no limit");
        }
        let links = [
            (
                (&self.world, "world1", Family::near_other as At),
                (&wide.other, "other0", Family::other as At),
                26,
            ),
            ((&self.world, "world2", Family::near_hop), (&wide.hop, "hop0", Family::hop), 30),
            ((&wide.hop, "hop1", Family::far_hop), (&wide.beyond, "beyond0", Family::beyond), 26),
        ];
        for (near, far, prefix) in links {
            link(near, far, prefix);
        }
        set_mtu(&self.world, "world2", NARROW);
        set_mtu(&wide.hop, "hop0", NARROW);
        for family in Family::ALL {
            let behind = match family {
                V4 => "203.0.113.192/26",
                V6 => "2001:db8:113:3::/64",
            };
            place::ip(&self.world, &format!("route add {behind} via {}", family.hop()));
            for (netns, gateway) in [
                (&wide.other, family.near_other()),
                (&wide.hop, family.near_hop()),
                (&wide.beyond, family.far_hop()),
            ] {
                place::ip(netns, &format!("route add default via {gateway}"));
            }
        }
        wide
    }

    /// Sets the MTU of the uplink, but not of its other end. To be called before the agent starts.
    pub fn narrow_uplink(&self, mtu: u32) {
        set_mtu(&self.host, UPLINK, mtu);
    }
}

/// An address of each family.
type At = fn(Family) -> IpAddr;

/// A link between two namespaces: for each end namespace, name and addresses, with the IPv4 prefix
/// length.
fn link(
    (near, near_name, near_at): (&Netns, &str, At),
    (far, far_name, far_at): (&Netns, &str, At),
    prefix: u8,
) {
    place::block_on(async {
        let (near, far_side) = (Netlink::open(near).await?, Netlink::open(far).await?);
        let index = near.create_veth_between(near_name, far_name, far).await?;
        let far_index = far_side.link(far_name).await?.expect("the link has another end").index;
        for (family, prefix) in [(V4, prefix), (V6, 64)] {
            near.add_address(index, ipnet::IpNet::new(near_at(family), prefix)?).await?;
            far_side.add_address(far_index, ipnet::IpNet::new(far_at(family), prefix)?).await?;
        }
        anyhow::Ok(())
    })
    .unwrap_or_else(|error| panic!("no link {near_name}: {error:#}"));
}

/// Sets the MTU of an interface.
pub fn set_mtu(netns: &Netns, interface: &str, mtu: u32) {
    place::ip(netns, &format!("link set {interface} mtu {mtu}"));
}

/// The path MTU that a namespace has learned for an address, if any.
pub fn path_mtu(netns: &Netns, to: impl Into<IpAddr>) -> Option<u32> {
    let route = place::ip(netns, &format!("route get {}", to.into()));
    route.split_once(" mtu ")?.1.split_whitespace().next()?.parse().ok()
}
