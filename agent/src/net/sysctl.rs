//! Network sysctls of one namespace: read before written, written only if different.

use super::netns::Netns;

/// The value of `/proc/sys/net/KEY` in `netns` (`KEY` as `ipv4/ip_forward`), without its newline; none if there is no such key.
pub fn get(_netns: &Netns, _key: &str) -> anyhow::Result<Option<String>> { unimplemented!() }

/// Sets it, and answers what it was if that was different.
pub fn set(_netns: &Netns, _key: &str, _value: &str) -> anyhow::Result<Option<String>> { unimplemented!() }
