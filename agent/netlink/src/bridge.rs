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

/// A port of a bridge, behind which is one MAC.
#[derive(Clone, Copy, Debug)]
pub struct PortSpec {
    /// The interface.
    pub index: u32,
    /// The bridge.
    pub controller: u32,
    /// Port isolation: no traffic to other isolated ports of the bridge.
    pub isolated: bool,
    /// What is behind it.
    pub mac: Mac,
}

impl Netlink {
    /// Makes a bridge, up, and answers its index. The MAC is set, so that it does not change as
    /// ports come and go.
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
        // Not in the first request: a bridge keeps its MTU when ports come and go only if it was
        // changed after it was made.
        let change = LinkUnspec::new_with_index(index).mtu(mtu).up().build();
        self.change_or_delete(index, change)
            .await
            .with_context(|| format!("cannot set bridge '{name}' up with MTU {mtu}"))?;
        Ok(index)
    }

    /// Makes an interface a port of its bridge, and sets it up. Again is done.
    ///
    /// The bridge learns nothing from it, or a frame with another's source MAC would have what is
    /// for that one sent here. It is told what is behind the port instead, and so needs no flooding
    /// to find it.
    pub async fn join_bridge(&self, port: &PortSpec) -> anyhow::Result<()> {
        let PortSpec { index, controller, .. } = *port;
        let what = || format!("cannot make interface number {index} a port of its bridge");
        // In steps: the kernel takes a port's MACs and options only for one that is a port. The MAC
        // is known before flooding ends, and traffic comes last.
        let join = LinkUnspec::new_with_index(index).controller(controller).build();
        self.change(join).await.with_context(what)?;
        self.handle
            .neighbours()
            .add_bridge(index, &port.mac.0)
            // Static; "permanent" would mean that it is the bridge's own.
            .state(NeighbourState::Noarp)
            // In the bridge's table, and not to be moved by what it learns from a port that others
            // have added.
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
