//! The checks of `cargo xtask lab`: what articles on container networking check by hand after they
//! have built a bridge and NAT by hand. Each check is a row.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use causeway_netlink::{Netlink, Netns};

use crate::{
    family::V4,
    http::{self, Page},
    lab::{Container, FAR, GATEWAY, HOST, Lab},
    netfilter, ping, place,
};

/// The published port, the same on the host and in the container.
pub const PORT: u16 = 5000;
/// The page that the container serves.
pub const PAGE: &str = "served from a container\n";

const OUTSIDE_PAGE: &str = "served from outside\n";
const PATIENCE: Duration = Duration::from_secs(20);

/// One check: what was done, what should come of it, and what did.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was done, in words.
    pub what: String,
    /// The expected result.
    pub expected: String,
    /// The result seen.
    pub seen: String,
}

impl Row {
    /// Whether the check passed.
    pub fn ok(&self) -> bool {
        self.expected == self.seen
    }

    fn new(what: impl Into<String>, expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { what: what.into(), expected: expected.into(), seen: seen.into() }
    }
}

/// Runs all checks. `c1` must serve [`PAGE`] at [`PORT`], published at the same port.
pub fn check(lab: &Lab, c1: &Container, c2: &Container) -> Vec<Row> {
    let _outside = Page::serve(&lab.world, (FAR, 80), OUTSIDE_PAGE);
    let far = SocketAddr::from((FAR, 80));
    let published = |address: IpAddr| SocketAddr::from((address, PORT));
    let mut rows = vec![
        ping_row("c1 pings c2", &c1.netns, c2.address),
        ping_row("c2 pings c1", &c2.netns, c1.address),
        ping_row("c1 pings the gateway", &c1.netns, GATEWAY),
        ping_row("c1 pings the host's uplink address", &c1.netns, HOST),
        ping_row("c1 pings an outside address", &c1.netns, FAR),
        ping_row("c2 pings an outside address", &c2.netns, FAR),
        ping_row("the host pings c1", &lab.host, c1.address),
        page_row("c1 fetches a page from outside", &c1.netns, far, OUTSIDE_PAGE),
        page_row("c2 fetches a page from outside", &c2.netns, far, OUTSIDE_PAGE),
        routes_row(lab),
        page_row("the world fetches the published page", &lab.world, published(HOST), PAGE),
        page_row(
            "the host fetches it through its uplink address",
            &lab.host,
            published(HOST),
            PAGE,
        ),
        page_row(
            "the host fetches it through 127.0.0.1",
            &lab.host,
            published(V4.loopback()),
            PAGE,
        ),
        page_row(
            "c2 fetches it through the host's uplink address",
            &c2.netns,
            published(HOST),
            PAGE,
        ),
        page_row("c1 fetches it from itself, the same way", &c1.netns, published(HOST), PAGE),
    ];
    rows.extend(neighbours(lab, c1, c2));
    for ruleset in netfilter::rulesets(&lab.host) {
        let how = if ruleset.installed { "" } else { " (not installed: as the kernel says)" };
        rows.push(Row::new(format!("{} on the host{how}", ruleset.command), "", ruleset.rules));
    }
    rows
}

fn ping_row(what: &str, from: &Netns, to: IpAddr) -> Row {
    let seen = ping::try_ping(from, to, 0x5000, 56, PATIENCE);
    Row::new(format!("{what} ({to})"), "an answer", in_words(seen.map(|()| "an answer")))
}

fn page_row(what: &str, from: &Netns, address: SocketAddr, page: &str) -> Row {
    let seen = http::get(from, address, PATIENCE)
        .map(|(status, body)| format!("{status}, '{}'", body.trim_end()));
    Row::new(format!("{what} ({address})"), format!("200, '{}'", page.trim_end()), in_words(seen))
}

/// A bridge per container, as some build it by hand, gives the host the same route twice and cuts
/// one container off.
fn routes_row(lab: &Lab) -> Row {
    let routes = place::block_on(async { Netlink::open(&lab.host).await?.routes().await });
    let count = |routes: Vec<_>| {
        let ours = |route: &causeway_netlink::route::Route| {
            route.destination.to_string() == "172.18.0.0/16"
        };
        routes.iter().filter(|route| ours(route)).count()
    };
    let seen = in_words(routes.map(|routes| format!("{} to 172.18.0.0/16", count(routes))));
    Row::new("routes of the host to the containers", "1 to 172.18.0.0/16", seen)
}

/// As in `ip neigh`: the gateway has the MAC of the bridge, the other container its own.
fn neighbours(lab: &Lab, c1: &Container, c2: &Container) -> Vec<Row> {
    let bridge = place::block_on(async { Netlink::open(&lab.host).await?.link("cw0").await });
    let bridge = bridge
        .ok()
        .flatten()
        .and_then(|link| link.mac)
        .map_or_else(|| "no bridge".to_owned(), |mac| mac.to_string());
    let mac_of = |container: &Container| {
        container.made["endpoints"][0]["mac"].as_str().unwrap_or("none").to_owned()
    };
    let row = |what: &str, of: &Container, address: IpAddr, mac: String| {
        let seen = place::run(&of.netns, arp_table)
            .remove(&address)
            .unwrap_or_else(|| "no entry".to_owned());
        Row::new(format!("{what} ({address})"), mac, seen)
    };
    vec![
        row("ip neigh of c1: the gateway", c1, GATEWAY, bridge.clone()),
        row("ip neigh of c1: c2", c1, c2.address, mac_of(c2)),
        row("ip neigh of c2: the gateway", c2, GATEWAY, bridge),
        row("ip neigh of c2: c1", c2, c1.address, mac_of(c1)),
    ]
}

/// Columns: address, hardware type, flags, MAC, mask, device. Flags 0x0 mark an incomplete entry.
fn arp_table() -> BTreeMap<IpAddr, String> {
    let text = fs::read_to_string("/proc/thread-self/net/arp").unwrap_or_default();
    let entry = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let complete = *words.get(2)? != "0x0";
        complete.then_some((words.first()?.parse().ok()?, (*words.get(3)?).to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

fn in_words<T: Into<String>, E: Display>(seen: Result<T, E>) -> String {
    seen.map_or_else(|error| error.to_string(), Into::into)
}
