//! Interfaces: listed, found, set up, removed.

use std::collections::BTreeSet;

use anyhow::Context as _;
use causeway_api::{
    Error,
    types::{mac::Mac, name},
};
use futures_util::TryStreamExt as _;
use nix::errno::Errno;
use rtnetlink::{
    LinkUnspec,
    packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

use crate::netlink::{Netlink, errno, reason};

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Index in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// MAC; none for an interface without an Ethernet header (a tunnel).
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: u32,
    /// `IFF_UP`.
    pub up: bool,
    /// Kind: `veth`, `bridge`, …; none for a physical interface.
    pub kind: Option<String>,
    /// Index of the bridge that it is a port of.
    pub controller: Option<u32>,
    /// Index of the interface below (of a VLAN, for example), or of a veth's other end
    /// (`IFLA_LINK`).
    pub lower: Option<u32>,
    /// Bus of a physical interface: `pci`, `virtio`, … (`IFLA_PARENT_DEV_BUS_NAME`).
    pub bus: Option<String>,
    /// `IFLA_IFALIAS`.
    pub alias: Option<String>,
    /// `IFLA_GROUP`; 0 by default.
    pub group: u32,
}

impl Link {
    pub(super) fn from_message(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        for attribute in message.attributes {
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "a link has dozens of attributes that do not matter here"
            )]
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(bytes) => {
                    link.mac = <[u8; 6]>::try_from(bytes).ok().map(Mac);
                }
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::Link(lower) => link.lower = Some(lower),
                LinkAttribute::ParentDevBusName(bus) => link.bus = Some(bus),
                LinkAttribute::Group(group) => link.group = group,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.into_iter().find_map(|info| {
                        if let LinkInfo::Kind(kind) = info { Some(kind.to_string()) } else { None }
                    });
                }
                _ => {}
            }
        }
        link
    }
}

impl Netlink {
    /// Lists the interfaces.
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

    /// Finds an interface by its name.
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

    /// Removes an interface. Succeeds if absent.
    pub async fn delete_link(&self, index: u32) -> anyhow::Result<()> {
        match self.handle.link().del(index).execute().await {
            Err(error) if errno(&error) != Some(Errno::ENODEV) => Err(reason(error))
                .with_context(|| format!("cannot remove interface number {index}")),
            _ => Ok(()),
        }
    }

    /// Removes several virtual interfaces at once: one by one, each removal waits for an RCU grace
    /// period. They are put into a group that has no other interface, and the kernel removes the
    /// group. Succeeds for those that are absent.
    pub async fn delete_links(&self, indexes: &[u32]) -> anyhow::Result<()> {
        let taken: BTreeSet<u32> = self.links().await?.into_iter().map(|link| link.group).collect();
        // There are fewer interfaces than numbers; group 0 is the default.
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
        Ok(link
            .ok_or_else(|| {
                Error::not_found(format!("interface '{name}' was removed while it was set up"))
            })?
            .index)
    }

    pub(super) async fn change(&self, change: LinkMessage) -> anyhow::Result<()> {
        self.handle.link().change(change).execute().await.map_err(|error| reason(error).into())
    }

    /// Completes an interface that was just made, and removes it if that fails.
    pub(super) async fn change_or_delete(
        &self,
        index: u32,
        change: LinkMessage,
    ) -> anyhow::Result<()> {
        let changed = self.change(change).await;
        if changed.is_err() {
            // The first error is the one to report.
            let _ = self.delete_link(index).await;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::{LinkBridge, LinkMessageBuilder};

    use super::*;

    #[test]
    fn a_link_is_read_from_its_message() {
        let mut message = LinkMessageBuilder::<LinkBridge>::new("cw0")
            .mtu(1400)
            .address(vec![2, 0x63, 0, 0, 0, 1])
            .alias("x")
            .index(7)
            .build();
        message.header.flags = LinkFlags::Up | LinkFlags::Broadcast;
        assert_eq!(
            Link::from_message(message),
            Link {
                index: 7,
                name: "cw0".to_owned(),
                mac: Some(Mac([2, 0x63, 0, 0, 0, 1])),
                mtu: 1400,
                up: true,
                kind: Some("bridge".to_owned()),
                controller: None,
                lower: None,
                bus: None,
                alias: Some("x".to_owned()),
                group: 0,
            }
        );
    }
}
