//! A snapshot of everything in a namespace, for comparison with a later one.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use causeway_netlink::{Netlink, Netns, address::InterfaceAddress};

use crate::{netfilter, place};

/// Name and value of each item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    /// Takes links, addresses, routes, rules, queueing disciplines, sysctls and netfilter rules of
    /// `netns`.
    pub fn of(netns: &Netns) -> Self {
        let mut all = links(netns);
        for (path, value) in place::run(netns, sysctls) {
            all.insert(path.display().to_string(), value);
        }
        for ruleset in netfilter::rulesets(netns) {
            all.insert(ruleset.command.to_owned(), ruleset.rules);
        }
        for command in [
            "ip rule",
            "ip -6 rule",
            "ip route show table all",
            "ip -6 route show table all",
            "tc qdisc show",
        ] {
            let mut words = command.split(' ');
            let text =
                place::output(netns, Command::new(words.next().unwrap_or_default()).args(words));
            // Without these a snapshot could not show what the agent left.
            let text = text.unwrap_or_else(|| {
                panic!("'{command}' cannot be run: install the package iproute2")
            });
            all.insert(
                command.to_owned(),
                text.lines().filter(|line| !is_link_local(line)).collect(),
            );
        }
        Self(all)
    }

    /// Takes links, addresses and routes only, which is quick.
    pub fn of_links(netns: &Netns) -> Self {
        Self(links(netns))
    }

    /// One line for each item that differs in `later`.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let names = self.0.keys().chain(later.0.keys().filter(|name| !self.0.contains_key(*name)));
        let differs = |name: &&String| self.0.get(*name) != later.0.get(*name);
        names
            .filter(differs)
            .map(|name| format!("{name}: {:?}, later {:?}", self.0.get(name), later.0.get(name)))
            .collect()
    }
}

fn links(netns: &Netns) -> BTreeMap<String, String> {
    place::block_on(async {
        let netlink = Netlink::open(netns).await?;
        let mut all = BTreeMap::new();
        for link in netlink.links().await? {
            all.insert(format!("link {}", link.name), format!("{link:?}"));
        }
        for InterfaceAddress { index, address, .. } in netlink.addresses().await? {
            if !is_link_local(&address.to_string()) {
                all.insert(format!("address {address} on {index}"), String::new());
            }
        }
        for route in netlink.routes().await? {
            if !is_link_local(&route.destination.to_string()) {
                all.insert(format!("route {route:?}"), String::new());
            }
        }
        anyhow::Ok(all)
    })
    .unwrap_or_else(|error| panic!("{error:#}"))
}

/// The kernel adds these some time after an interface is up, perhaps between two snapshots.
fn is_link_local(line: &str) -> bool {
    line.contains("fe80:")
}

fn sysctls() -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    read_below(Path::new("/proc/sys/net"), &mut all).expect("every namespace has sysctls");
    all
}

fn read_below(folder: &Path, all: &mut BTreeMap<PathBuf, String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            read_below(&entry.path(), all)?;
        } else if let Ok(value) = fs::read_to_string(entry.path())
            // A counter, not a setting.
            && entry.file_name() != "nf_conntrack_count"
        {
            all.insert(entry.path(), value);
        }
    }
    Ok(())
}
