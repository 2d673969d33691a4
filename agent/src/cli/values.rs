//! What an argument can be, checked as it is read: a mistake here is bad usage.

use std::{
    net::IpAddr,
    path::{Path, PathBuf, absolute},
};

use anyhow::{Context as _, ensure};
use causeway_api::types::{family::Family, masquerade::Masquerade, name, subnet};
use causeway_netlink::netns;
use ipnet::IpNet;

pub(super) fn plain_name(text: &str) -> anyhow::Result<String> {
    name::check(text)?;
    Ok(text.to_owned())
}

pub(super) fn interface(text: &str) -> anyhow::Result<String> {
    name::check_interface(text)?;
    Ok(text.to_owned())
}

pub(super) fn subnet(text: &str) -> anyhow::Result<IpNet> {
    text.parse().ok().context("it is not an address with a prefix length, such as 10.20.0.0/16")
}

pub(super) fn address(text: &str) -> anyhow::Result<IpAddr> {
    text.parse().ok().context("it is not an IP address, such as 10.20.0.10")
}

/// What is left of masquerade without that for `ipv4`, for `ipv6`, or for `both`, which is what the
/// option means without a value.
pub(super) fn masquerade_without(text: &str) -> anyhow::Result<Masquerade> {
    match text {
        "both" => Ok(Masquerade::OFF),
        family => Ok(Masquerade::only(family.parse::<Family>()?.other())),
    }
}

pub(super) fn mtu(text: &str) -> anyhow::Result<u32> {
    let mtu = text.parse().ok().context("it is not a number of bytes")?;
    subnet::check_mtu(mtu)?;
    Ok(mtu)
}

pub(super) fn max_flows(text: &str) -> anyhow::Result<u32> {
    text.parse().ok().filter(|flows| *flows > 0).context("it is not a number of flows, at least 1")
}

pub(super) fn pid(text: &str) -> anyhow::Result<u32> {
    let pid = text.parse().ok().filter(|pid| (1..=i32::MAX as u32).contains(pid));
    pid.context("it is not the number of a process, such as 4711")
}

/// From a second to a day.
pub(super) fn drain(text: &str) -> anyhow::Result<u32> {
    let seconds = text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
    seconds.context("it is not a number of seconds from 1 to 86400")
}

/// A name under /run/netns, or a path; absolute, since the agent has a folder of its own.
pub(super) fn namespace(text: &str) -> anyhow::Result<PathBuf> {
    ensure!(!text.is_empty(), "it is empty");
    if text.contains('/') {
        absolute(Path::new(text)).context("this process has no working folder")
    } else {
        Ok(netns::named(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_name_or_a_path() {
        assert_eq!(namespace("host").unwrap(), Path::new("/run/netns/host"));
        assert_eq!(namespace("/proc/1/ns/net").unwrap(), Path::new("/proc/1/ns/net"));
        assert!(namespace("./host").unwrap().is_absolute());
        assert!(namespace("").is_err());
    }

    #[test]
    fn a_process_has_a_number() {
        assert_eq!(pid("4711").unwrap(), 4711);
        for text in ["x", "0", "-1", "", "4294967296"] {
            assert_eq!(
                pid(text).unwrap_err().to_string(),
                "it is not the number of a process, such as 4711",
                "{text}"
            );
        }
    }
}
