//! XDP: attached to uplinks, and containers that receive the frames that it redirects.

use std::collections::BTreeMap;

use causeway_api::types::{device::Device, xdp::Xdp};
use causeway_netlink::{Netns, ethtool, link::Link};
use tracing::{debug, info, warn};

use crate::{
    control::{
        agent::Agent,
        observed::cookie_at,
        snapshot::{HostSnapshot, Uplink},
    },
    datapath::Interface,
    state::container::Endpoint,
};

impl Agent {
    /// Attaches the XDP program to an uplink, or detaches it. tc does the same work without it, so
    /// a failure to attach is no error.
    pub(super) fn sync_xdp(
        &mut self,
        uplink: &Uplink,
        snapshot: &HostSnapshot,
    ) -> anyhow::Result<()> {
        let interface = Interface { index: uplink.index, name: uplink.name.clone() };
        let drivers = &mut self.host.drivers;
        let kept_from = match drivers.wanted {
            Xdp::Off => Some("it was not asked for".to_owned()),
            Xdp::Auto => xdp_cost(uplink.index, &snapshot.links)
                .map(|cost| format!("{cost}; 'up --xdp on' has it all the same")),
            Xdp::On => None,
        };
        let why = match kept_from {
            None => self
                .installed
                .datapath
                .put_xdp(&interface, uplink.mac)
                .err()
                .map(|error| self.instance.line(&error)),
            some => some,
        };
        let before = drivers.uplinks.insert(uplink.index, why.clone());
        if before.as_ref() == Some(&why) {
            return Ok(());
        }
        match &why {
            None => info!(uplink = uplink.name, "XDP is on: the driver runs it"),
            Some(why) if drivers.wanted == Xdp::On => {
                warn!(
                    uplink = uplink.name,
                    why, "XDP was asked for and is off; tc does all of the work there"
                );
            }
            Some(why) => info!(uplink = uplink.name, why, "XDP is off"),
        }
        if why.is_some() { self.installed.datapath.remove_xdp(uplink.index) } else { Ok(()) }
    }

    /// Runs [`Self::sync_receivers`] over the host's present interfaces.
    pub(super) async fn find_receivers(&mut self) -> anyhow::Result<()> {
        if self.host.drivers.in_use() {
            let links = self.host.handles.netlink.links().await?;
            self.sync_receivers(&links);
        }
        Ok(())
    }

    /// Lets new containers receive frames that XDP redirects, if it runs on any uplink. A container
    /// that cannot is reached by tc.
    pub(super) fn sync_receivers(&mut self, links: &[Link]) {
        if !self.host.drivers.in_use() {
            return;
        }
        let there: BTreeMap<&str, u32> =
            links.iter().map(|link| (link.name.as_str(), link.index)).collect();
        self.host.drivers.asked.retain(|index| links.iter().any(|link| link.index == *index));
        let containers = self.state.containers.values();
        let mut new = Vec::new();
        for container in containers {
            // A netkit device takes no XDP frames.
            for endpoint in
                container.endpoints.iter().filter(|endpoint| endpoint.device == Device::Veth)
            {
                let index = there.get(endpoint.host_side.as_str()).copied();
                if let Some(index) = index.filter(|index| !self.host.drivers.asked.contains(index))
                {
                    new.push((index, container.clone(), endpoint.clone()));
                }
            }
        }
        for (index, container, endpoint) in new {
            // The path may lead elsewhere by now.
            if container.cookie.is_none() || cookie_at(&container.netns) != container.cookie {
                continue;
            }
            self.host.drivers.asked.insert(index);
            let received = Netns::open(&container.netns)
                .and_then(|netns| self.put_receiver(&netns, &endpoint, index));
            if let Err(error) = received {
                debug!(
                    container = container.name,
                    error = self.instance.line(&error),
                    "it does not take frames from XDP"
                );
            }
        }
    }

    fn put_receiver(
        &mut self,
        netns: &Netns,
        endpoint: &Endpoint,
        host_side: u32,
    ) -> anyhow::Result<()> {
        ethtool::receive_by_napi(netns, &endpoint.interface)?;
        self.installed.datapath.put_receiver(host_side)
    }
}

/// What XDP on an interface would cost the host's own traffic; none if nothing.
fn xdp_cost(index: u32, links: &[Link]) -> Option<&'static str> {
    let link = links.iter().find(|link| link.index == index)?;
    if link.kind.as_deref() == Some("veth") {
        return Some("it is a veth, whose other end would have to cut and sum all TCP itself");
    }
    if link.bus.as_deref() == Some("virtio") {
        return Some(
            "it is a virtio card, which would bring TCP in single packets, and their checksums \
             unlooked at",
        );
    }
    let carries =
        |other: &Link| other.kind.as_deref() == Some("vlan") && other.lower == Some(index);
    if links.iter().any(carries) {
        return Some("it carries VLANs, whose tags the hardware may hide from XDP");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_the_host_is_not_done_unasked() {
        let link = |index, kind: Option<&str>, bus: Option<&str>, lower| Link {
            index,
            kind: kind.map(str::to_owned),
            bus: bus.map(str::to_owned),
            lower,
            ..Link::default()
        };
        let mut links = vec![
            link(2, None, Some("pci"), None),
            link(3, Some("veth"), None, Some(7)),
            link(4, None, Some("virtio"), None),
            link(5, None, Some("pci"), None),
            link(6, Some("vlan"), None, Some(5)),
            link(7, Some("macvlan"), None, Some(2)),
        ];
        assert_eq!(xdp_cost(2, &links), None);
        assert!(xdp_cost(3, &links).unwrap().contains("veth"));
        assert!(xdp_cost(4, &links).unwrap().contains("virtio"));
        assert!(xdp_cost(5, &links).unwrap().contains("VLAN"));
        links.retain(|link| link.index != 6);
        assert_eq!(xdp_cost(5, &links), None);
    }
}
