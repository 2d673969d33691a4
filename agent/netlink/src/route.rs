//! Routes of the main table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, bail};
use causeway_api::Error;
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        route::{
            RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol,
            RouteType,
        },
    },
};

use crate::netlink::{Netlink, errno, reason};

/// A route of the main table: unicast, `blackhole`, `unreachable` or `prohibit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; `0.0.0.0/0` or `::/0` for a default route.
    pub destination: IpNet,
    /// Index of the output interface; none for a route that is not unicast (for which the kernel
    /// names loopback in IPv6).
    pub output: Option<u32>,
    /// Next hop; none if the destination is on link.
    pub gateway: Option<IpAddr>,
    /// Metric; the smallest is preferred.
    pub metric: u32,
    /// Learned from a router advertisement.
    pub advertised: bool,
}

impl Netlink {
    /// Adds a default route.
    pub async fn add_default_route(&self, gateway: IpAddr, output: u32) -> anyhow::Result<()> {
        let what = format!("a default route via {gateway}");
        match gateway {
            IpAddr::V4(gateway) => {
                let route = RouteMessageBuilder::<Ipv4Addr>::new()
                    .gateway(gateway)
                    .output_interface(output);
                self.add(route.build(), &what).await
            }
            IpAddr::V6(gateway) => {
                let route = RouteMessageBuilder::<Ipv6Addr>::new()
                    .gateway(gateway)
                    .output_interface(output);
                self.add(route.build(), &what).await
            }
        }
    }

    /// Adds a route through a gateway.
    pub async fn add_route(&self, destination: IpNet, gateway: IpAddr) -> anyhow::Result<()> {
        let what = format!("the route {destination} via {gateway}");
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination.addr(), destination.prefix_len())
            .and_then(|route| route.gateway(gateway))
            .map_err(|error| Error::invalid(format!("cannot write {what}: {error}")))?;
        self.add(route.build(), &what).await
    }

    /// Adds a blackhole route. For labs.
    pub async fn add_blackhole(&self, destination: IpNet) -> anyhow::Result<()> {
        let what = format!("the blackhole route {destination}");
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination.addr(), destination.prefix_len())
            .map_err(|error| Error::invalid(format!("cannot write {what}: {error}")))?
            .kind(RouteType::BlackHole);
        self.add(route.build(), &what).await
    }

    /// Lists the routes of the main table, of both families.
    pub async fn routes(&self) -> anyhow::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for query in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let messages: Vec<_> = self
                .handle
                .route()
                .get(query)
                .execute()
                .try_collect()
                .await
                .map_err(reason)
                .context("cannot list the routes")?;
            routes.extend(messages.iter().flat_map(routes_of));
        }
        Ok(routes)
    }

    async fn add(&self, route: RouteMessage, what: &str) -> anyhow::Result<()> {
        let Err(error) = self.handle.route().add(route).execute().await else {
            return Ok(());
        };
        match errno(&error) {
            Some(Errno::EEXIST) => {
                bail!(Error::already_exists(format!(
                    "cannot add {what}: there is a route to that destination already"
                )))
            }
            Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => {
                bail!(Error::invalid(format!(
                    "cannot add {what}: no interface reaches that gateway"
                )))
            }
            _ => Err(reason(error)).with_context(|| format!("cannot add {what}")),
        }
    }
}

/// One route per next hop of a message.
fn routes_of(message: &RouteMessage) -> Vec<Route> {
    let unspecified: IpAddr = if message.header.address_family == AddressFamily::Inet6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let mut table = u32::from(message.header.table);
    let (mut destination, mut output, mut gateway, mut metric, mut hops) =
        (unspecified, None, None, 0, Vec::new());
    for attribute in &message.attributes {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a route has dozens of attributes that do not matter here"
        )]
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(address) => {
                destination = ip(address).unwrap_or(unspecified);
            }
            RouteAttribute::Oif(index) => output = Some(*index),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::MultiPath(several) => hops.clone_from(several),
            _ => {}
        }
    }
    let Ok(destination) = IpNet::new(destination, message.header.destination_prefix_length) else {
        return Vec::new();
    };
    let counts = matches!(
        message.header.kind,
        RouteType::Unicast | RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit
    );
    if !counts || table != u32::from(RouteHeader::RT_TABLE_MAIN) {
        return Vec::new();
    }
    let advertised = message.header.protocol == RouteProtocol::Ra;
    if hops.is_empty() {
        let output = output.filter(|_| message.header.kind == RouteType::Unicast);
        return vec![Route { destination, output, gateway, metric, advertised }];
    }
    let through = |hop: &RouteNextHop| {
        let (output, gateway) = (Some(hop.interface_index), gateway_of(hop));
        Route { destination, output, gateway, metric, advertised }
    };
    hops.iter().map(through).collect()
}

fn gateway_of(hop: &RouteNextHop) -> Option<IpAddr> {
    hop.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Gateway(address) = attribute { ip(address) } else { None }
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(address) = address {
        Some(IpAddr::V4(*address))
    } else if let RouteAddress::Inet6(address) = address {
        Some(IpAddr::V6(*address))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_has_the_unspecified_destination() {
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(Ipv4Addr::new(10, 0, 2, 2))
            .output_interface(3)
            .priority(100)
            .build();
        let expected = Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            output: Some(3),
            gateway: Some(Ipv4Addr::new(10, 0, 2, 2).into()),
            metric: 100,
            advertised: false,
        };
        assert_eq!(routes_of(&message), [expected]);
    }

    #[test]
    fn a_route_of_another_table_or_kind_does_not_count() {
        let local = RouteMessageBuilder::<Ipv4Addr>::new().kind(RouteType::Local).build();
        assert_eq!(routes_of(&local), []);
        let other = RouteMessageBuilder::<Ipv6Addr>::new().table_id(1000).build();
        assert_eq!(routes_of(&other), []);
        let nowhere = RouteMessageBuilder::<Ipv6Addr>::new()
            .kind(RouteType::BlackHole)
            .output_interface(1)
            .build();
        let outputs: Vec<_> = routes_of(&nowhere).iter().map(|route| route.output).collect();
        assert_eq!(outputs, [None], "what leads nowhere takes its addresses too");
    }
}
