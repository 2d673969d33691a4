//! The host: its uplinks, its own addresses, and its changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context as _, bail, ensure};
use causeway_api as api;
use causeway_api::types::{device::Device, family::Family, mac::Mac, subnet, xdp::Xdp};
use causeway_netlink::{
    Netlink, Netns, address::InterfaceAddress, link::Link, route::Route, watch,
};
use ipnet::IpNet;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{Agent, xdp::Drivers};
use crate::datapath::Interface;

/// The MTU where no uplink says one.
const USUAL_MTU: u32 = 1500;

/// The host's namespace and a netlink socket in it.
#[derive(Debug)]
pub struct Handles {
    /// The namespace.
    pub netns: Netns,
    /// A socket in it.
    pub netlink: Netlink,
}

/// The host, and what the datapath was told of it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) handles: Handles,
    /// The uplinks' names; those of the default route if empty.
    wanted: Vec<String>,
    /// A port may be both published and a process's.
    pub(super) allow_bind: bool,
    /// What connects containers that are made from now on.
    pub(super) device: Device,
    changes: Option<mpsc::Receiver<()>>,
    local: BTreeSet<IpAddr>,
    /// Addresses that are the host's no longer, whose flows have not ended yet.
    lost: BTreeSet<IpAddr>,
    uplinks: BTreeMap<u32, Uplink>,
    pub(super) drivers: Drivers,
    /// Said once, until it is over.
    said_no_uplink: bool,
}

/// An interface that leads outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uplink {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Mac,
    /// What masqueraded flows get, of each family; one at least is there.
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    mtu: u32,
    /// The families whose default route it has, or had last.
    routed: BTreeSet<Family>,
}

/// What the host has at one moment.
#[derive(Debug, Default)]
pub(super) struct Sight {
    pub(super) links: Vec<Link>,
    addresses: Vec<InterfaceAddress>,
    routes: Vec<Route>,
}

impl Host {
    pub(super) async fn open(
        netns: Netns,
        wanted: Vec<String>,
        allow_bind: bool,
        xdp: Xdp,
        device: Device,
    ) -> anyhow::Result<Self> {
        // Before the first look, so that no change is missed in between.
        let changes = watch::changes(&netns).await?;
        let netlink = Netlink::open(&netns).await?;
        Ok(Self {
            handles: Handles { netns, netlink },
            wanted,
            allow_bind,
            device,
            changes: Some(changes),
            local: BTreeSet::new(),
            lost: BTreeSet::new(),
            uplinks: BTreeMap::new(),
            drivers: Drivers::new(xdp),
            said_no_uplink: false,
        })
    }

    /// Comes back when something changed; never if that cannot be known.
    pub(super) async fn changed(&mut self) {
        if let Some(changes) = &mut self.changes {
            if changes.recv().await.is_some() {
                return;
            }
            warn!("the kernel no longer tells of changes; restart the agent if the uplink changes");
            self.changes = None;
        }
        std::future::pending::<()>().await;
    }

    pub(super) fn view_uplinks(&self) -> Vec<api::Uplink> {
        self.drivers.view(&self.uplinks)
    }

    pub(super) async fn look(&self) -> anyhow::Result<Sight> {
        let netlink = &self.handles.netlink;
        Ok(Sight {
            links: netlink.links().await?,
            addresses: netlink.addresses().await?,
            routes: netlink.routes().await?,
        })
    }

    /// Whether the uplinks that were asked for by name can ever be some.
    pub(super) async fn check_wanted(&self) -> anyhow::Result<()> {
        let sight = self.look().await?;
        for name in &self.wanted {
            let Some(link) = sight.links.iter().find(|link| link.name == *name) else {
                let names: Vec<&str> = sight.links.iter().map(|link| link.name.as_str()).collect();
                bail!(
                    "the host has no interface '{name}' to be an uplink; it has {}",
                    names.join(", ")
                );
            };
            ensure!(
                has_ethernet_header(link),
                "the interface '{name}' has no Ethernet header, so it cannot be an uplink yet"
            );
        }
        Ok(())
    }

    /// What a network has that says none: the uplinks' smallest.
    pub(super) fn mtu(&self, sight: &Sight) -> u32 {
        let uplinks = sight.uplinks(&self.wanted, &self.uplinks);
        uplinks.values().map(|uplink| uplink.mtu).min().unwrap_or(USUAL_MTU)
    }
}

impl Agent {
    /// Tells the datapath the host's addresses and uplinks where they are not what it knows.
    pub(super) async fn sync_host(&mut self) -> anyhow::Result<()> {
        let sight = self.host.look().await?;
        let local = sight.local_addresses();
        if local != self.host.local {
            let lost = self.datapath.set_local_addresses(&local)?;
            self.host.lost.extend(lost);
            self.host.local = local;
        }
        let found = sight.uplinks(&self.host.wanted, &self.host.uplinks);
        let gone: Vec<u32> =
            self.host.uplinks.keys().filter(|index| !found.contains_key(index)).copied().collect();
        for index in gone {
            self.datapath.remove_uplink(index)?;
            self.host.drivers.forget(index);
            if let Some(uplink) = self.host.uplinks.remove(&index) {
                info!(uplink = uplink.name, "no longer an uplink");
            }
        }
        for (index, uplink) in found {
            if self.host.uplinks.get(&index) == Some(&uplink) {
                continue;
            }
            let interface = Interface { index, name: uplink.name.clone() };
            self.datapath.put_uplink(&interface, uplink.v4, uplink.v6, uplink.mtu).with_context(
                || format!("cannot take the interface '{}' as an uplink", uplink.name),
            )?;
            let Uplink { name, v4, v6, .. } = &uplink;
            info!(
                uplink = name,
                ipv4 = v4.map(tracing::field::display),
                ipv6 = v6.map(tracing::field::display),
                "uplink"
            );
            self.sync_xdp(&uplink, &sight)?;
            self.host.uplinks.insert(index, uplink);
        }
        // Once new flows have another address.
        if !self.host.lost.is_empty() {
            self.datapath.end_flows_of_addresses(&self.host.lost)?;
            self.host.lost.clear();
        }
        self.sync_receivers(&sight.links);
        let none = self.host.uplinks.is_empty();
        if none && !self.host.said_no_uplink {
            warn!(
                "{}; containers do not reach the world until there is one",
                sight.why_no_uplink(&self.host.wanted)
            );
        }
        self.host.said_no_uplink = none;
        self.keep_forwarding(&sight)?;
        self.restore_ipv6(&sight).await;
        self.forget_vanished(&sight)
    }
}

impl Sight {
    /// The addresses of an interface.
    pub(super) fn addresses_on(&self, index: u32) -> impl Iterator<Item = IpAddr> {
        self.addresses
            .iter()
            .filter(move |ours| ours.index == index)
            .map(|ours| ours.address.addr())
    }

    /// Whether an address is one of the host's own, 127.0.0.0/8 and `::1` included.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.iter().any(|ours| ours.address.addr() == address)
    }

    /// Whether the host has routes from the advertisements of routers.
    pub(super) fn hears_routers(&self) -> bool {
        self.routes.iter().any(|route| route.advertised)
    }

    /// All of the host's addresses that can be used, but loopback's.
    fn local_addresses(&self) -> BTreeSet<IpAddr> {
        let addresses =
            self.addresses.iter().filter(|ours| !ours.tentative).map(|ours| ours.address.addr());
        addresses.filter(|address| !address.is_loopback()).collect()
    }

    /// Those that were asked for, else those of the default routes of either family, as far as they
    /// have an address.
    fn uplinks(&self, wanted: &[String], present: &BTreeMap<u32, Uplink>) -> BTreeMap<u32, Uplink> {
        let mut candidates: BTreeMap<u32, BTreeSet<Family>> = BTreeMap::new();
        if wanted.is_empty() {
            for family in Family::ALL {
                for index in self.routed(family, present) {
                    candidates.entry(index).or_default().insert(family);
                }
            }
        } else {
            let named = self.links.iter().filter(|link| wanted.contains(&link.name));
            candidates.extend(named.map(|link| (link.index, BTreeSet::new())));
        }
        let links = self.links.iter().filter(|link| has_ethernet_header(link));
        let uplinks = links.filter_map(|link| {
            let (mac, routed) = (link.mac?, candidates.remove(&link.index)?);
            let before = present.get(&link.index).and_then(|uplink| uplink.v6);
            let (v4, v6) = (self.masquerade_v4(link.index), self.masquerade_v6(link.index, before));
            let uplink = Uplink {
                index: link.index,
                name: link.name.clone(),
                mac,
                v4,
                v6,
                mtu: link.mtu,
                routed,
            };
            (v4.is_some() || v6.is_some()).then_some((link.index, uplink))
        });
        uplinks.collect()
    }

    /// The interfaces of a family's default routes. While it has none those that had it stay: what
    /// is on their own link is still to be reached, and the route may be back in a moment.
    fn routed(&self, family: Family, present: &BTreeMap<u32, Uplink>) -> BTreeSet<u32> {
        let outputs = self.default_outputs(family);
        if !outputs.is_empty() {
            return outputs;
        }
        let routed = present.values().filter(|uplink| uplink.routed.contains(&family));
        routed.map(|uplink| uplink.index).collect()
    }

    /// The interfaces of the default routes that the kernel prefers.
    fn default_outputs(&self, family: Family) -> BTreeSet<u32> {
        let default = |route: &&Route| {
            let everything = route.destination.prefix_len() == 0
                && Family::of_subnet(route.destination) == family;
            everything && route.output.is_some()
        };
        let routes: Vec<&Route> = self.routes.iter().filter(default).collect();
        let best = routes.iter().map(|route| route.metric).min();
        let preferred = routes.iter().filter(|route| Some(route.metric) == best);
        preferred.filter_map(|route| route.output).collect()
    }

    /// The interface's first address; a link-local one only if there is no other.
    fn masquerade_v4(&self, index: u32) -> Option<Ipv4Addr> {
        let on_it = self.addresses.iter().filter(|ours| ours.index == index);
        let mut on_it = on_it.filter_map(|ours| match ours.address {
            IpNet::V4(address) => Some(address.addr()),
            IpNet::V6(_) => None,
        });
        let first = on_it.clone().next();
        on_it.find(|address| !address.is_link_local()).or(first)
    }

    /// The interface's best global address: first one that is still preferred, then one that the
    /// whole world can answer, then one that lasts. Of equals the one that it is already.
    fn masquerade_v6(&self, index: u32, before: Option<Ipv6Addr>) -> Option<Ipv6Addr> {
        let on_it = self.addresses.iter().filter(|ours| ours.index == index && !ours.tentative);
        let candidates = on_it.filter_map(|ours| {
            let IpNet::V6(address) = ours.address else { return None };
            let address = address.addr();
            let rank = (
                ours.deprecated,
                address.is_unique_local(),
                ours.temporary,
                Some(address) != before,
            );
            (!address.is_unicast_link_local() && !address.is_loopback()).then_some((rank, address))
        });
        candidates.min_by_key(|(rank, _)| *rank).map(|(_, address)| address)
    }

    fn why_no_uplink(&self, wanted: &[String]) -> String {
        let candidates: BTreeSet<u32> =
            Family::ALL.into_iter().flat_map(|family| self.default_outputs(family)).collect();
        let named = |link: &&Link| {
            wanted.contains(&link.name) || (wanted.is_empty() && candidates.contains(&link.index))
        };
        match self.links.iter().find(named) {
            None if wanted.is_empty() => "the host has no default route, so no uplink".to_owned(),
            None => format!("the host has none of the uplinks {}", wanted.join(", ")),
            Some(link) if !has_ethernet_header(link) => {
                format!("the interface '{}' has no Ethernet header, so it is no uplink", link.name)
            }
            Some(link) => {
                format!(
                    "the interface '{}' has no IPv4 address and no global IPv6 one, so it is no uplink",
                    link.name
                )
            }
        }
    }

    /// As if those interfaces were not there.
    pub(super) fn without(mut self, indexes: &[u32]) -> Self {
        self.links.retain(|link| !indexes.contains(&link.index));
        self.addresses.retain(|ours| !indexes.contains(&ours.index));
        self.routes.retain(|route| route.output.is_none_or(|index| !indexes.contains(&index)));
        self
    }

    /// Fails if a subnet holds addresses that the host knows already.
    pub(super) fn check_free(&self, subnet: IpNet) -> anyhow::Result<()> {
        let on = |index: Option<u32>| {
            let link = self.links.iter().find(|link| Some(link.index) == index);
            link.map_or_else(String::new, |link| format!(" on {}", link.name))
        };
        // Addresses first: each has a route too, and the address says more.
        for InterfaceAddress { index, address, .. } in &self.addresses {
            ensure!(
                !subnet::overlap(address.trunc(), subnet),
                "the subnet {subnet} overlaps the host's address {address}{}; take another subnet",
                on(Some(*index))
            );
        }
        for route in &self.routes {
            // The default route, and what VPNs put over it (two halves; of IPv6 also 2000::/3), say
            // nothing about who has which address.
            let everything = match route.destination {
                IpNet::V4(_) => route.destination.prefix_len() <= 1,
                IpNet::V6(_) => route.destination.prefix_len() <= 3,
            };
            ensure!(
                everything || !subnet::overlap(route.destination, subnet),
                "the subnet {subnet} overlaps the host's route {}{}; take another subnet",
                route.destination,
                on(route.output)
            );
        }
        Ok(())
    }
}

/// Loopback has one too, of zeros.
fn has_ethernet_header(link: &Link) -> bool {
    link.mac.is_some_and(|mac| mac.0 != [0; 6])
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_api::types::mac::Mac;

    fn link(index: u32, name: &str, mac: Option<Mac>) -> Link {
        Link { index, name: name.to_owned(), mac, mtu: 1500, up: true, ..Link::default() }
    }

    fn route(destination: &str, output: u32, metric: u32) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            output: Some(output),
            gateway: None,
            metric,
            advertised: false,
        }
    }

    /// What follows the address: `tentative`, `deprecated`, `temporary`.
    fn on(index: u32, address: &str) -> InterfaceAddress {
        let (address, flags) = address.split_once(' ').unwrap_or((address, ""));
        let has = |flag| flags.contains(flag);
        InterfaceAddress {
            index,
            address: address.parse().unwrap(),
            tentative: has("tentative"),
            deprecated: has("deprecated"),
            temporary: has("temporary"),
        }
    }

    fn sight() -> Sight {
        let ethernet = Some(Mac([2, 0, 0, 0, 0, 1]));
        Sight {
            links: vec![
                link(1, "lo", Some(Mac([0; 6]))),
                link(2, "eth0", ethernet),
                link(3, "eth1", ethernet),
                link(4, "tun0", None),
            ],
            addresses: vec![
                on(1, "127.0.0.1/8"),
                on(1, "::1/128"),
                on(2, "169.254.3.4/16"),
                on(2, "10.0.2.15/24"),
                on(2, "10.0.2.16/24"),
                on(3, "fe80::1/64"),
                on(4, "10.8.0.2/24"),
            ],
            routes: vec![
                route("0.0.0.0/0", 2, 100),
                route("0.0.0.0/0", 3, 200),
                route("192.168.0.0/16", 4, 0),
            ],
        }
    }

    fn names(sight: &Sight, wanted: &[&str]) -> Vec<String> {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let uplinks = sight.uplinks(&wanted, &BTreeMap::new());
        uplinks.values().map(describe).collect()
    }

    fn describe(uplink: &Uplink) -> String {
        let (v4, v6) = (uplink.v4.map(IpAddr::V4), uplink.v6.map(IpAddr::V6));
        let addresses = v4.into_iter().chain(v6).map(|address| format!(" {address}"));
        format!("{}{}", uplink.name, addresses.collect::<String>())
    }

    #[test]
    fn the_uplink_is_the_preferred_default_routes() {
        assert_eq!(names(&sight(), &[]), ["eth0 10.0.2.15"]);
    }

    #[test]
    fn an_uplink_stays_while_no_other_interface_has_the_default_route() {
        let mut sight = sight();
        let present = sight.uplinks(&[], &BTreeMap::new());
        let others = sight.routes.split_off(2);
        sight.routes.clear();
        assert_eq!(sight.uplinks(&[], &present), present);
        sight.routes = others;
        sight.addresses.push(on(3, "10.0.3.15/24"));
        sight.routes.push(route("0.0.0.0/0", 3, 0));
        assert_eq!(sight.uplinks(&[], &present).into_keys().collect::<Vec<_>>(), [3]);
        sight.routes.clear();
        sight.addresses.retain(|ours| ours.index != 2);
        assert!(sight.uplinks(&[], &present).is_empty());
    }

    #[test]
    fn two_default_routes_of_one_metric_are_two_uplinks() {
        let mut sight = sight();
        sight.routes[1].metric = 100;
        sight.addresses.push(on(3, "10.0.3.15/24"));
        assert_eq!(names(&sight, &[]), ["eth0 10.0.2.15", "eth1 10.0.3.15"]);
    }

    #[test]
    fn a_named_uplink_is_taken_whatever_the_routes_say() {
        let mut sight = sight();
        sight.addresses.push(on(3, "10.0.3.15/24"));
        assert_eq!(names(&sight, &["eth1"]), ["eth1 10.0.3.15"]);
        assert!(names(&sight, &["eth7"]).is_empty());
    }

    #[test]
    fn what_cannot_be_an_uplink_is_none_and_the_reason_is_said() {
        let mut sight = sight();
        assert!(names(&sight, &["tun0"]).is_empty());
        assert!(names(&sight, &["lo"]).is_empty());
        assert!(names(&sight, &["eth1"]).is_empty());
        assert!(
            sight
                .why_no_uplink(&["eth1".to_owned()])
                .contains("'eth1' has no IPv4 address and no global IPv6 one")
        );
        assert!(
            sight.why_no_uplink(&["tun0".to_owned()]).contains("'tun0' has no Ethernet header")
        );
        assert!(sight.why_no_uplink(&["eth7".to_owned()]).contains("none of the uplinks eth7"));
        sight.routes.clear();
        assert!(sight.why_no_uplink(&[]).contains("no default route"));
    }

    #[test]
    fn a_link_local_address_is_better_than_none() {
        let mut sight = sight();
        sight.addresses.retain(|ours| !ours.address.to_string().starts_with("10.0.2."));
        assert_eq!(names(&sight, &[]), ["eth0 169.254.3.4"]);
    }

    #[test]
    fn the_hosts_addresses_are_all_but_loopbacks() {
        let local = sight().local_addresses();
        assert_eq!(local.len(), 5);
        assert!(
            local.contains(&"10.0.2.16".parse().unwrap())
                && local.contains(&"fe80::1".parse().unwrap())
        );
        let mut sight = sight();
        sight
            .addresses
            .extend([on(2, "2001:db8::1/64 tentative"), on(2, "2001:db8::2/64 deprecated")]);
        assert_eq!(sight.local_addresses().len(), 6, "one that cannot be used yet is none");
    }

    #[test]
    fn an_uplink_may_have_either_family_alone() {
        let mut sight = sight();
        sight.routes = vec![route("::/0", 3, 1024)];
        assert_eq!(
            names(&sight, &[]),
            [""; 0],
            "a link-local address is none that the world can answer"
        );
        sight.addresses.push(on(3, "2001:db8:2::15/64"));
        assert_eq!(names(&sight, &[]), ["eth1 2001:db8:2::15"]);
        sight.routes.push(route("0.0.0.0/0", 2, 100));
        assert_eq!(
            names(&sight, &[]),
            ["eth0 10.0.2.15", "eth1 2001:db8:2::15"],
            "metrics of two families do not compare"
        );
        sight.addresses.push(on(2, "2001:db8:3::15/64"));
        assert_eq!(names(&sight, &["eth0"]), ["eth0 10.0.2.15 2001:db8:3::15"]);
    }

    #[test]
    fn an_uplink_stays_while_its_own_family_has_no_default_route() {
        let mut sight = sight();
        sight.addresses.push(on(3, "2001:db8:2::15/64"));
        sight.routes = vec![route("0.0.0.0/0", 2, 100), route("::/0", 3, 1024)];
        let present = sight.uplinks(&[], &BTreeMap::new());
        for (left, expected) in
            [("::/0", vec![2, 3]), ("0.0.0.0/0", vec![2, 3]), ("10.0.0.0/8", vec![2, 3])]
        {
            let mut sight = Sight { routes: sight.routes.clone(), ..sight_without_routes(&sight) };
            sight.routes.retain(|route| route.destination.to_string() == left);
            let uplinks = sight.uplinks(&[], &present);
            assert_eq!(uplinks.keys().copied().collect::<Vec<_>>(), expected, "{left}");
            assert_eq!(uplinks, present);
        }
        sight.routes = vec![route("0.0.0.0/0", 3, 100), route("::/0", 3, 1024)];
        sight.addresses.push(on(3, "10.0.3.15/24"));
        assert_eq!(
            sight.uplinks(&[], &present).into_keys().collect::<Vec<_>>(),
            [3],
            "another one has it"
        );
    }

    fn sight_without_routes(sight: &Sight) -> Sight {
        Sight { links: sight.links.clone(), addresses: sight.addresses.clone(), routes: Vec::new() }
    }

    #[test]
    fn new_flows_get_the_address_that_will_last_and_be_answered() {
        for (addresses, before, expected) in [
            (&["2001:db8::1/64"][..], None, Some("2001:db8::1")),
            (&["2001:db8::1/64 tentative"], None, None),
            (&["2001:db8::1/64 deprecated"], None, Some("2001:db8::1")),
            (&["2001:db8::1/64 deprecated", "fd00::1/64"], Some("2001:db8::1"), Some("fd00::1")),
            (&["2001:db8::1/64 temporary", "2001:db8::2/64"], None, Some("2001:db8::2")),
            (&["2001:db8::1/64 temporary", "2001:db8::2/64 deprecated"], None, Some("2001:db8::1")),
            (
                &["2001:db8::1/64 temporary deprecated", "2001:db8::2/64 temporary"],
                None,
                Some("2001:db8::2"),
            ),
            (&["fd00::1/64", "2001:db8::2/64 temporary"], None, Some("2001:db8::2")),
            (&["2001:db8::1/64", "2001:db8::2/64"], None, Some("2001:db8::1")),
            (&["2001:db8::1/64", "2001:db8::2/64"], Some("2001:db8::2"), Some("2001:db8::2")),
            (
                &["2001:db8::1/64", "2001:db8::2/64 temporary"],
                Some("2001:db8::2"),
                Some("2001:db8::1"),
            ),
            (
                &["2001:db8::1/64", "2001:db8::2/64 tentative"],
                Some("2001:db8::2"),
                Some("2001:db8::1"),
            ),
            (&["fe80::2/64"], None, None),
        ] {
            let sight = Sight {
                addresses: addresses.iter().map(|address| on(3, address)).collect(),
                ..sight()
            };
            let address = |text: &str| text.parse::<Ipv6Addr>().unwrap();
            assert_eq!(
                sight.masquerade_v6(3, before.map(address)),
                expected.map(address),
                "{addresses:?} {before:?}"
            );
        }
    }

    #[test]
    fn an_overlap_names_the_address_or_route_and_its_interface() {
        let check = |subnet: &str| {
            let mut sight = sight();
            sight.routes.extend([route("2001:db8::/32", 2, 1024), route("::/0", 2, 1024)]);
            sight.check_free(subnet.parse().unwrap())
        };
        assert!(check("172.18.0.0/16").is_ok());
        for (subnet, reason) in [
            ("10.0.0.0/8", "the host's address 10.0.2.15/24 on eth0"),
            ("10.0.2.128/25", "the host's address 10.0.2.15/24 on eth0"),
            ("192.168.7.0/24", "the host's route 192.168.0.0/16 on tun0"),
            ("2001:db8:7::/64", "the host's route 2001:db8::/32 on eth0"),
        ] {
            let error = check(subnet).unwrap_err().to_string();
            assert!(error.contains(reason), "{subnet}: {error}");
        }
    }

    #[test]
    fn the_default_route_in_halves_overlaps_nothing() {
        let mut sight = sight();
        sight.routes.extend([route("0.0.0.0/1", 4, 0), route("128.0.0.0/1", 4, 0)]);
        assert!(sight.check_free("172.18.0.0/16".parse().unwrap()).is_ok());
        sight.routes.extend([
            route("::/1", 4, 0),
            route("8000::/1", 4, 0),
            route("2000::/3", 4, 0),
        ]);
        assert!(sight.check_free("2001:db8::/64".parse().unwrap()).is_ok());
    }
}
