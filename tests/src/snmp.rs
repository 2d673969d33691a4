//! The kernel's IP counters of a namespace.

use std::fs;

use causeway_netlink::Netns;

use crate::{
    family::{Family, V4, V6},
    place,
};

/// The IP or IPv6 counter of that name in `/proc/net/snmp`, without the `Ip` in front:
/// `ReasmReqds`.
pub fn ip(netns: &Netns, family: Family, name: &str) -> u64 {
    let path = match family {
        V4 => "/proc/thread-self/net/snmp",
        V6 => "/proc/thread-self/net/snmp6",
    };
    let table =
        place::run(netns, || fs::read_to_string(path)).expect("every namespace has counters");
    let found = match family {
        V4 => in_columns(&table, name),
        V6 => table
            .lines()
            .find_map(|line| line.strip_prefix(&format!("Ip6{name} "))?.trim().parse().ok()),
    };
    found.unwrap_or_else(|| panic!("no counter {name} of {family} in {table}"))
}

fn in_columns(table: &str, name: &str) -> Option<u64> {
    let mut rows = table.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (rows.next()?, rows.next()?);
    names.split(' ').zip(values.split(' ')).find(|(known, _)| *known == name)?.1.parse().ok()
}
