//! Bridges and their ports.

use anyhow::{Context as _, bail};
use causeway_api::{
    Error,
    types::{mac::Mac, name},
};
use nix::errno::Errno;
use rtnetlink::{
    LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec,
    packet_route::neighbour::{NeighbourFlags, NeighbourState},
};

use crate::netlink::{Netlink, errno, reason};

/// A port of a bridge with one MAC behind it.
#[derive(Clone, Copy, Debug)]
pub struct PortSpec {
    /// Index of the interface.
    pub index: u32,
    /// Index of the bridge.
    pub controller: u32,
    /// Port isolation: no traffic to other isolated ports of the bridge.
    pub isolated: bool,
    /// The MAC behind the port.
    pub mac: Mac,
}

impl Netlink {
    /// Makes a bridge, sets it up and returns its index. The MAC is set explicitly, so that it does
    /// not change as ports come and go.
    pub async fn create_bridge(&self, name: &str, mac: Mac, mtu: u32) -> anyhow::Result<u32> {
        name::check_interface(name)?;
        let message = LinkMessageBuilder::<LinkBridge>::new(name).address(mac.0.to_vec()).build();
        if let Err(error) = self.handle.link().add(message).execute().await {
            match errno(&error) {
                Some(Errno::EEXIST) => {
                    bail!(Error::already_exists(format!(
                        "cannot make bridge '{name}': an interface of that name exists already"
                    )))
                }
                _ => {
                    return Err(reason(error))
                        .with_context(|| format!("cannot make bridge '{name}'"));
                }
            }
        }
        let index = self.index_of(name).await?;
        // In a second request: a bridge keeps its MTU when ports come and go only if the MTU was
        // changed after the bridge was made.
        let change = LinkUnspec::new_with_index(index).mtu(mtu).up().build();
        self.change_or_delete(index, change)
            .await
            .with_context(|| format!("cannot set bridge '{name}' up with MTU {mtu}"))?;
        Ok(index)
    }

    /// Makes an interface a port of its bridge, and sets it up. Idempotent.
    ///
    /// Learning is off: otherwise a frame with a spoofed source MAC would draw the traffic of the
    /// MAC's owner to this port. A static entry names the MAC behind the port instead, so flooding
    /// is not needed to find it.
    pub async fn join_bridge(&self, port: &PortSpec) -> anyhow::Result<()> {
        let PortSpec { index, controller, .. } = *port;
        let what = || format!("cannot make interface number {index} a port of its bridge");
        // In steps: the kernel accepts MACs and options only for an interface that is a port
        // already. The MAC is entered before flooding is switched off, and the port is set up last.
        let join = LinkUnspec::new_with_index(index).controller(controller).build();
        self.change(join).await.with_context(what)?;
        self.handle
            .neighbours()
            .add_bridge(index, &port.mac.0)
            // Static; "permanent" would mark the MAC as the bridge's own.
            .state(NeighbourState::Noarp)
            // In the bridge's table, and not moved by what the bridge learns from ports that other
            // programs have added.
            .flags(NeighbourFlags::Controller | NeighbourFlags::Sticky)
            .replace()
            .execute()
            .await
            .map_err(reason)
            .with_context(|| {
                format!("cannot tell the bridge what is behind interface number {index}")
            })?;
        let options = LinkBridgePort::new(index)
            .isolated(port.isolated)
            .learning(false)
            .flood(false)
            .controller(controller)
            .build();
        self.change(options).await.with_context(what)?;
        self.set_up(index).await
    }
}
