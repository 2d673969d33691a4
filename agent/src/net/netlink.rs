//! Links of one namespace. Their addresses and routes are in [`super::address`].

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use futures_util::TryStreamExt as _;
use nix::errno::Errno;
use rtnetlink::{
    Error, Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, new_connection,
    packet_route::{
        link::{LinkAttribute, LinkMessage},
        neighbour::{NeighbourFlags, NeighbourState},
    },
};

pub use super::{
    address::{InterfaceAddress, Route},
    link::Link,
};
use super::{mac::Mac, netns::Netns};
use crate::model::name;

/// A netlink socket in one namespace.
#[derive(Clone, Debug)]
pub struct Netlink {
    pub(super) handle: Handle,
}

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
    /// Opens a socket in `netns`; its connection task runs on the current tokio runtime.
    #[expect(
        clippy::unused_async,
        reason = "it must be called on a runtime, which async says best"
    )]
    pub async fn open(netns: &Netns) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let opened = netns.run(|| {
            let _entered = runtime.enter();
            new_connection()
        })?;
        let (connection, handle, _) = opened.with_context(|| {
            format!("cannot open a netlink socket in {}", netns.path().display())
        })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Sets `lo` up in the namespace of the calling thread, which must not be one of a tokio
    /// runtime.
    pub(super) fn set_loopback_up() -> anyhow::Result<()> {
        // In a namespace of its own `lo` is always the first.
        const LOOPBACK: u32 = 1;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let (connection, handle, _) =
                new_connection().context("cannot open a netlink socket")?;
            tokio::spawn(connection);
            Self { handle }.set_up(LOOPBACK).await
        })
    }

    /// Every interface.
    pub async fn links(&self) -> anyhow::Result<Vec<Link>> {
        let messages: Vec<_> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(reason)
            .context("cannot list the interfaces")?;
        Ok(messages.into_iter().map(Link::from_message).collect())
    }

    /// The interface of that name.
    pub async fn link(&self, name: &str) -> anyhow::Result<Option<Link>> {
        if name::check_interface(name).is_err() {
            return Ok(None);
        }
        let found: Result<Vec<_>, _> =
            self.handle.link().get().match_name(name).execute().try_collect().await;
        match found {
            Ok(messages) => Ok(messages.into_iter().next().map(Link::from_message)),
            Err(error) if errno(&error) == Some(Errno::ENODEV) => Ok(None),
            Err(error) => {
                Err(reason(error)).with_context(|| format!("cannot look up interface '{name}'"))
            }
        }
    }

    /// Makes a bridge, up, and answers its index. The MAC is set, so that it does not change as
    /// ports come and go.
    pub async fn create_bridge(&self, name: &str, mac: Mac, mtu: u32) -> anyhow::Result<u32> {
        name::check_interface(name)?;
        let message = LinkMessageBuilder::<LinkBridge>::new(name).address(mac.0.to_vec()).build();
        if let Err(error) = self.handle.link().add(message).execute().await {
            match errno(&error) {
                Some(Errno::EEXIST) => {
                    bail!("cannot make bridge '{name}': an interface of that name exists already")
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

    /// Removes an interface. Absent is done.
    pub async fn delete_link(&self, index: u32) -> anyhow::Result<()> {
        match self.handle.link().del(index).execute().await {
            Err(error) if errno(&error) != Some(Errno::ENODEV) => Err(reason(error))
                .with_context(|| format!("cannot remove interface number {index}")),
            _ => Ok(()),
        }
    }

    /// Removes several interfaces at once, which must be ones that can be removed: one by one, each
    /// waits for every CPU to have forgotten it. They are put into a group that no other interface
    /// is in, and the kernel removes that. One that is gone is done.
    pub async fn delete_links(&self, indexes: &[u32]) -> anyhow::Result<()> {
        let taken: BTreeSet<u32> = self.links().await?.into_iter().map(|link| link.group).collect();
        // There are fewer interfaces than numbers; zero is the group of all others.
        let group = (1..u32::MAX).find(|group| !taken.contains(group)).unwrap_or(u32::MAX);
        let mut any = false;
        for index in indexes {
            let mut change = LinkUnspec::new_with_index(*index).build();
            change.attributes.push(LinkAttribute::Group(group));
            match self.handle.link().change(change).execute().await {
                Ok(()) => any = true,
                Err(error) if errno(&error) == Some(Errno::ENODEV) => {}
                Err(error) => {
                    return Err(reason(error)).with_context(|| {
                        format!("cannot put interface number {index} into a group")
                    });
                }
            }
        }
        if !any {
            return Ok(());
        }
        let mut request = self.handle.link().del(0);
        request.message_mut().attributes.push(LinkAttribute::Group(group));
        match request.execute().await {
            Err(error) if errno(&error) != Some(Errno::ENODEV) => Err(reason(error))
                .with_context(|| format!("cannot remove {} interfaces at once", indexes.len())),
            _ => Ok(()),
        }
    }

    /// Sets an interface up.
    pub async fn set_up(&self, index: u32) -> anyhow::Result<()> {
        let change = self.change(LinkUnspec::new_with_index(index).up().build());
        change.await.with_context(|| format!("cannot set interface number {index} up"))
    }

    pub(super) async fn index_of(&self, name: &str) -> anyhow::Result<u32> {
        let link = self.link(name).await?;
        Ok(link.with_context(|| format!("interface '{name}' went away while it was set up"))?.index)
    }

    async fn change(&self, change: LinkMessage) -> anyhow::Result<()> {
        self.handle.link().change(change).execute().await.map_err(reason)
    }

    /// The second half of making an interface: if it fails, there is none.
    pub(super) async fn change_or_delete(
        &self,
        index: u32,
        change: LinkMessage,
    ) -> anyhow::Result<()> {
        let changed = self.change(change).await;
        if changed.is_err() {
            // The first error is the one to tell.
            let _ = self.delete_link(index).await;
        }
        changed
    }
}

/// The kernel's answer, if that is what the error is.
pub(super) fn errno(error: &Error) -> Option<Errno> {
    if let Error::NetlinkError(message) = error {
        Some(Errno::from_raw(-message.raw_code()))
    } else {
        None
    }
}

/// The kernel's answer in words.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
pub(super) fn reason(error: Error) -> anyhow::Error {
    match errno(&error) {
        Some(Errno::EPERM) => anyhow::anyhow!("this needs root (CAP_NET_ADMIN)"),
        Some(Errno::EOPNOTSUPP) => {
            anyhow::anyhow!(
                "the kernel cannot do it; is the module for this kind of interface missing?"
            )
        }
        Some(other) => anyhow::anyhow!("{}", other.desc()),
        None => anyhow::anyhow!("{error}"),
    }
}
