//! Parsers of arguments. Their errors are bad usage: exit status 2.

use std::{
    net::IpAddr,
    path::{Path, PathBuf, absolute},
};

use causeway_api::{
    Error,
    types::{family::Family, masquerade::Masquerade, name, subnet},
};
use causeway_netlink::netns;
use ipnet::IpNet;

pub(super) fn plain_name(text: &str) -> Result<String, Error> {
    name::check(text)?;
    Ok(text.to_owned())
}

pub(super) fn interface(text: &str) -> Result<String, Error> {
    name::check_interface(text)?;
    Ok(text.to_owned())
}

pub(super) fn subnet(text: &str) -> Result<IpNet, Error> {
    text.parse().map_err(|_| {
        Error::invalid("it is not an address with a prefix length, such as 10.20.0.0/16")
    })
}

pub(super) fn address(text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| Error::invalid("it is not an IP address, such as 10.20.0.10"))
}

/// The value of `--no-masquerade`: masquerade without `ipv4`, `ipv6`, or `both`, its default.
pub(super) fn masquerade_without(text: &str) -> Result<Masquerade, Error> {
    match text {
        "both" => Ok(Masquerade::OFF),
        family => Ok(Masquerade::only(family.parse::<Family>()?.other())),
    }
}

pub(super) fn mtu(text: &str) -> Result<u32, Error> {
    let mtu = text.parse().map_err(|_| Error::invalid("it is not a number of bytes"))?;
    subnet::check_mtu(mtu)?;
    Ok(mtu)
}

pub(super) fn max_flows(text: &str) -> Result<u32, Error> {
    let flows = text.parse().ok().filter(|flows| *flows > 0);
    flows.ok_or_else(|| Error::invalid("it is not a number of flows, at least 1"))
}

pub(super) fn pid(text: &str) -> Result<u32, Error> {
    let pid = text.parse().ok().filter(|pid| (1..=i32::MAX as u32).contains(pid));
    pid.ok_or_else(|| Error::invalid("it is not the number of a process, such as 4711"))
}

/// Seconds, at most a day.
pub(super) fn drain(text: &str) -> Result<u32, Error> {
    let seconds = text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
    seconds.ok_or_else(|| Error::invalid("it is not a number of seconds from 1 to 86400"))
}

/// A name under /run/netns, or a path. The result is absolute: the agent has another working
/// directory.
pub(super) fn namespace(text: &str) -> Result<PathBuf, Error> {
    if text.is_empty() {
        return Err(Error::invalid("it is empty"));
    }
    if text.contains('/') {
        absolute(Path::new(text))
            .map_err(|error| Error::os(error).context("cannot find the working directory"))
    } else {
        Ok(netns::named(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_is_name_or_path() {
        assert_eq!(namespace("host").unwrap(), Path::new("/run/netns/host"));
        assert_eq!(namespace("/proc/1/ns/net").unwrap(), Path::new("/proc/1/ns/net"));
        assert!(namespace("./host").unwrap().is_absolute());
        assert!(namespace("").is_err());
    }

    #[test]
    fn pid_is_positive() {
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
