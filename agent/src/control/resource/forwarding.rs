//! `ip_forward` of the host, and what the kernel changes together with it.

use causeway_api::Error;
use causeway_netlink::{Netns, sysctl};
use tracing::info;

use crate::{control::agent::Agent, state::Sysctl};

const FORWARD: &str = "ipv4/ip_forward";

impl Agent {
    /// Sets `ip_forward`. The state file has the former values before they change.
    pub(in crate::control) async fn enable_forwarding(&mut self) -> anyhow::Result<()> {
        let netns = &self.host.handles.netns;
        let before = sysctl::get(netns, FORWARD)?
            .ok_or_else(|| Error::unsupported("this kernel has no IPv4"))?;
        if before == "1" {
            return Ok(());
        }
        if self.state.host.sysctls.is_empty() {
            let links = self.host.handles.netlink.links().await?;
            let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
            self.state.host.sysctls = before_forwarding(netns, &names)?;
            self.save()?;
        }
        sysctl::set(netns, FORWARD, "1")?;
        info!("ip_forward of the host is on");
        Ok(())
    }
}

/// The present values of `ip_forward` and of the sysctls that a write to it changes: the kernel
/// sets `forwarding` of every interface and of `default` to the same value, and `accept_redirects`
/// of `all` to the opposite (`inet_forward_change`).
fn before_forwarding(netns: &Netns, interfaces: &[&str]) -> anyhow::Result<Vec<Sysctl>> {
    let common = [FORWARD, "ipv4/conf/all/accept_redirects", "ipv4/conf/default/forwarding"]
        .map(str::to_owned);
    let of_each = interfaces.iter().map(|name| format!("ipv4/conf/{name}/forwarding"));
    let mut sysctls = Vec::new();
    for key in common.into_iter().chain(of_each) {
        if let Some(value) = sysctl::get(netns, &key)? {
            sysctls.push(Sysctl { key, value });
        }
    }
    Ok(sysctls)
}

/// Writes former values back in the order of the list: `ip_forward` first, since a write to it
/// changes the others.
pub(in crate::control) fn restore(netns: &Netns, sysctls: &[Sysctl]) -> Vec<anyhow::Error> {
    let mut errors = Vec::new();
    for Sysctl { key, value } in sysctls {
        match sysctl::get(netns, key) {
            // The interface of the key is gone.
            Ok(None) => {}
            Ok(Some(_)) => errors.extend(sysctl::set(netns, key, value).err()),
            Err(error) => errors.push(error),
        }
    }
    errors
}
