//! The host's interfaces, addresses and routes, and what follows from them: its uplinks, and which
//! subnets are free.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use causeway_api::{
    Error,
    types::{family::Family, mac::Mac, subnet},
};
use causeway_netlink::{address::InterfaceAddress, link::Link, route::Route};
use ipnet::IpNet;

/// MTU in bytes of Ethernet, for a host without an uplink.
const USUAL_MTU: u32 = 1500;

/// An interface that leads outside, with at least one masquerade address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uplink {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Mac,
    /// IPv4 address of masqueraded flows.
    pub(super) v4: Option<Ipv4Addr>,
    /// IPv6 address of masqueraded flows.
    pub(super) v6: Option<Ipv6Addr>,
    pub(super) mtu: u32,
    /// The families whose default route it has, or was the last to have.
    routed: BTreeSet<Family>,
}

/// The host's interfaces, addresses and routes at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct HostSnapshot {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<InterfaceAddress>,
    pub(super) routes: Vec<Route>,
}

impl HostSnapshot {
    /// A snapshot of the interfaces alone.
    pub(super) fn of_links(links: Vec<Link>) -> Self {
        Self { links, ..Self::default() }
    }

    /// The addresses of an interface.
    pub(super) fn addresses_on(&self, index: u32) -> impl Iterator<Item = IpAddr> {
        self.addresses
            .iter()
            .filter(move |ours| ours.index == index)
            .map(|ours| ours.address.addr())
    }

    /// Whether an address is the host's, 127.0.0.0/8 and `::1` included.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.iter().any(|ours| ours.address.addr() == address)
    }

    /// Whether the host has routes that it learned from router advertisements.
    pub(super) fn hears_routers(&self) -> bool {
        self.routes.iter().any(|route| route.advertised)
    }

    /// The host's addresses that can be used, except those of loopback.
    pub(super) fn local_addresses(&self) -> BTreeSet<IpAddr> {
        let addresses =
            self.addresses.iter().filter(|ours| !ours.tentative).map(|ours| ours.address.addr());
        addresses.filter(|address| !address.is_loopback()).collect()
    }

    /// The uplinks: the interfaces that were asked for, else those of the default routes of either
    /// family, as far as they have an address.
    pub(super) fn uplinks(
        &self,
        wanted: &[String],
        present: &BTreeMap<u32, Uplink>,
    ) -> BTreeMap<u32, Uplink> {
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

    /// The interfaces of a family's default routes. While there is no default route the interfaces
    /// that had it stay uplinks: neighbours on their link are still reachable, and the route may be
    /// back in a moment.
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

    /// The interface's best global address. Ranked by: preferred before deprecated, global before
    /// unique local, permanent before temporary, the present one before others.
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

    pub(super) fn why_no_uplink(&self, wanted: &[String]) -> String {
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
                    "the interface '{}' has no IPv4 address and no global IPv6 one, so it is no \
                     uplink",
                    link.name
                )
            }
        }
    }

    /// Removes an interface with its addresses and routes from the snapshot.
    pub(super) fn forget_link(&mut self, index: u32) {
        self.links.retain(|link| link.index != index);
        self.addresses.retain(|ours| ours.index != index);
        self.routes.retain(|route| route.output != Some(index));
    }

    /// The interface of that name.
    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The bridge of that name.
    pub(super) fn bridge(&self, name: &str) -> Option<&Link> {
        self.link(name).filter(|link| link.kind.as_deref() == Some("bridge"))
    }

    /// Whether there is an interface with that index.
    pub(super) fn has_index(&self, index: u32) -> bool {
        self.links.iter().any(|link| link.index == index)
    }

    /// The MTU in bytes of a network that names none: the smallest of the uplinks.
    pub(super) fn mtu(&self, wanted: &[String], present: &BTreeMap<u32, Uplink>) -> u32 {
        let uplinks = self.uplinks(wanted, present);
        uplinks.values().map(|uplink| uplink.mtu).min().unwrap_or(USUAL_MTU)
    }

    /// Fails if a subnet overlaps an address or a route of the host.
    pub(super) fn check_free(&self, subnet: IpNet) -> Result<(), Error> {
        let overlaps = |what: String| {
            Err(Error::in_use(format!("the subnet {subnet} overlaps {what}"))
                .hint("take another subnet"))
        };
        let on = |index: Option<u32>| {
            let link = self.links.iter().find(|link| Some(link.index) == index);
            link.map_or_else(String::new, |link| format!(" on {}", link.name))
        };
        // Addresses first: each has a route too, and the error names the interface.
        for InterfaceAddress { index, address, .. } in &self.addresses {
            if subnet::overlap(address.trunc(), subnet) {
                return overlaps(format!("the host's address {address}{}", on(Some(*index))));
            }
        }
        for route in &self.routes {
            // The default route, and the halves of it (and 2000::/3) that VPNs add, do not say that
            // addresses are in use.
            let everything = match route.destination {
                IpNet::V4(_) => route.destination.prefix_len() <= 1,
                IpNet::V6(_) => route.destination.prefix_len() <= 3,
            };
            if !everything && subnet::overlap(route.destination, subnet) {
                let destination = route.destination;
                return overlaps(format!("the host's route {destination}{}", on(route.output)));
            }
        }
        Ok(())
    }
}

/// Whether frames on the interface have an Ethernet header. Loopback has a MAC of zeros.
pub(super) fn has_ethernet_header(link: &Link) -> bool {
    link.mac.is_some_and(|mac| mac.0 != [0; 6])
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn snapshot() -> HostSnapshot {
        let ethernet = Some(Mac([2, 0, 0, 0, 0, 1]));
        HostSnapshot {
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

    fn names(snapshot: &HostSnapshot, wanted: &[&str]) -> Vec<String> {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let uplinks = snapshot.uplinks(&wanted, &BTreeMap::new());
        uplinks.values().map(describe).collect()
    }

    fn describe(uplink: &Uplink) -> String {
        let (v4, v6) = (uplink.v4.map(IpAddr::V4), uplink.v6.map(IpAddr::V6));
        let addresses = v4.into_iter().chain(v6).map(|address| format!(" {address}"));
        format!("{}{}", uplink.name, addresses.collect::<String>())
    }

    #[test]
    fn the_uplink_is_the_preferred_default_routes() {
        assert_eq!(names(&snapshot(), &[]), ["eth0 10.0.2.15"]);
    }

    #[test]
    fn an_uplink_stays_while_no_other_interface_has_the_default_route() {
        let mut snapshot = snapshot();
        let present = snapshot.uplinks(&[], &BTreeMap::new());
        let others = snapshot.routes.split_off(2);
        snapshot.routes.clear();
        assert_eq!(snapshot.uplinks(&[], &present), present);
        snapshot.routes = others;
        snapshot.addresses.push(on(3, "10.0.3.15/24"));
        snapshot.routes.push(route("0.0.0.0/0", 3, 0));
        assert_eq!(snapshot.uplinks(&[], &present).into_keys().collect::<Vec<_>>(), [3]);
        snapshot.routes.clear();
        snapshot.addresses.retain(|ours| ours.index != 2);
        assert!(snapshot.uplinks(&[], &present).is_empty());
    }

    #[test]
    fn two_default_routes_of_one_metric_are_two_uplinks() {
        let mut snapshot = snapshot();
        snapshot.routes[1].metric = 100;
        snapshot.addresses.push(on(3, "10.0.3.15/24"));
        assert_eq!(names(&snapshot, &[]), ["eth0 10.0.2.15", "eth1 10.0.3.15"]);
    }

    #[test]
    fn a_named_uplink_is_taken_whatever_the_routes_say() {
        let mut snapshot = snapshot();
        snapshot.addresses.push(on(3, "10.0.3.15/24"));
        assert_eq!(names(&snapshot, &["eth1"]), ["eth1 10.0.3.15"]);
        assert!(names(&snapshot, &["eth7"]).is_empty());
    }

    #[test]
    fn what_cannot_be_an_uplink_is_none_and_the_reason_is_said() {
        let mut snapshot = snapshot();
        assert!(names(&snapshot, &["tun0"]).is_empty());
        assert!(names(&snapshot, &["lo"]).is_empty());
        assert!(names(&snapshot, &["eth1"]).is_empty());
        assert!(
            snapshot
                .why_no_uplink(&["eth1".to_owned()])
                .contains("'eth1' has no IPv4 address and no global IPv6 one")
        );
        assert!(
            snapshot.why_no_uplink(&["tun0".to_owned()]).contains("'tun0' has no Ethernet header")
        );
        assert!(snapshot.why_no_uplink(&["eth7".to_owned()]).contains("none of the uplinks eth7"));
        snapshot.routes.clear();
        assert!(snapshot.why_no_uplink(&[]).contains("no default route"));
    }

    #[test]
    fn a_link_local_address_is_better_than_none() {
        let mut snapshot = snapshot();
        snapshot.addresses.retain(|ours| !ours.address.to_string().starts_with("10.0.2."));
        assert_eq!(names(&snapshot, &[]), ["eth0 169.254.3.4"]);
    }

    #[test]
    fn the_hosts_addresses_are_all_but_loopbacks() {
        let local = snapshot().local_addresses();
        assert_eq!(local.len(), 5);
        assert!(
            local.contains(&"10.0.2.16".parse().unwrap())
                && local.contains(&"fe80::1".parse().unwrap())
        );
        let mut snapshot = snapshot();
        snapshot
            .addresses
            .extend([on(2, "2001:db8::1/64 tentative"), on(2, "2001:db8::2/64 deprecated")]);
        assert_eq!(snapshot.local_addresses().len(), 6, "one that cannot be used yet is none");
    }

    #[test]
    fn an_uplink_may_have_either_family_alone() {
        let mut snapshot = snapshot();
        snapshot.routes = vec![route("::/0", 3, 1024)];
        assert_eq!(
            names(&snapshot, &[]),
            [""; 0],
            "a link-local address is none that the world can answer"
        );
        snapshot.addresses.push(on(3, "2001:db8:2::15/64"));
        assert_eq!(names(&snapshot, &[]), ["eth1 2001:db8:2::15"]);
        snapshot.routes.push(route("0.0.0.0/0", 2, 100));
        assert_eq!(
            names(&snapshot, &[]),
            ["eth0 10.0.2.15", "eth1 2001:db8:2::15"],
            "metrics of two families do not compare"
        );
        snapshot.addresses.push(on(2, "2001:db8:3::15/64"));
        assert_eq!(names(&snapshot, &["eth0"]), ["eth0 10.0.2.15 2001:db8:3::15"]);
    }

    #[test]
    fn an_uplink_stays_while_its_own_family_has_no_default_route() {
        let mut snapshot = snapshot();
        snapshot.addresses.push(on(3, "2001:db8:2::15/64"));
        snapshot.routes = vec![route("0.0.0.0/0", 2, 100), route("::/0", 3, 1024)];
        let present = snapshot.uplinks(&[], &BTreeMap::new());
        for (left, expected) in
            [("::/0", vec![2, 3]), ("0.0.0.0/0", vec![2, 3]), ("10.0.0.0/8", vec![2, 3])]
        {
            let mut snapshot =
                HostSnapshot { routes: snapshot.routes.clone(), ..sight_without_routes(&snapshot) };
            snapshot.routes.retain(|route| route.destination.to_string() == left);
            let uplinks = snapshot.uplinks(&[], &present);
            assert_eq!(uplinks.keys().copied().collect::<Vec<_>>(), expected, "{left}");
            assert_eq!(uplinks, present);
        }
        snapshot.routes = vec![route("0.0.0.0/0", 3, 100), route("::/0", 3, 1024)];
        snapshot.addresses.push(on(3, "10.0.3.15/24"));
        assert_eq!(
            snapshot.uplinks(&[], &present).into_keys().collect::<Vec<_>>(),
            [3],
            "another one has it"
        );
    }

    fn sight_without_routes(snapshot: &HostSnapshot) -> HostSnapshot {
        HostSnapshot {
            links: snapshot.links.clone(),
            addresses: snapshot.addresses.clone(),
            routes: Vec::new(),
        }
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
            let snapshot = HostSnapshot {
                addresses: addresses.iter().map(|address| on(3, address)).collect(),
                ..snapshot()
            };
            let address = |text: &str| text.parse::<Ipv6Addr>().unwrap();
            assert_eq!(
                snapshot.masquerade_v6(3, before.map(address)),
                expected.map(address),
                "{addresses:?} {before:?}"
            );
        }
    }

    #[test]
    fn an_overlap_names_the_address_or_route_and_its_interface() {
        let check = |subnet: &str| {
            let mut snapshot = snapshot();
            snapshot.routes.extend([route("2001:db8::/32", 2, 1024), route("::/0", 2, 1024)]);
            snapshot.check_free(subnet.parse().unwrap())
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
        let mut snapshot = snapshot();
        snapshot.routes.extend([route("0.0.0.0/1", 4, 0), route("128.0.0.0/1", 4, 0)]);
        assert!(snapshot.check_free("172.18.0.0/16".parse().unwrap()).is_ok());
        snapshot.routes.extend([
            route("::/1", 4, 0),
            route("8000::/1", 4, 0),
            route("2000::/3", 4, 0),
        ]);
        assert!(snapshot.check_free("2001:db8::/64".parse().unwrap()).is_ok());
    }
}
