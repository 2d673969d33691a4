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
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// None where it has no Ethernet header (a tunnel).
    pub mac: Option<Mac>,
    /// In bytes.
    pub mtu: u32,
    /// `IFF_UP`.
    pub up: bool,
    /// `veth`, `bridge`, …; none for a physical one.
    pub kind: Option<String>,
    /// The bridge it is a port of.
    pub controller: Option<u32>,
    /// The interface that it is upon, or a veth's other end (`IFLA_LINK`).
    pub lower: Option<u32>,
    /// What a physical one is connected by: `pci`, `virtio`, … (`IFLA_PARENT_DEV_BUS_NAME`).
    pub bus: Option<String>,
    /// `IFLA_IFALIAS`.
    pub alias: Option<String>,
    /// `IFLA_GROUP`: zero unless somebody set it.
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
        Ok(link
            .ok_or_else(|| {
                Error::not_found(format!("interface '{name}' was removed while it was set up"))
            })?
            .index)
    }

    pub(super) async fn change(&self, change: LinkMessage) -> anyhow::Result<()> {
        self.handle.link().change(change).execute().await.map_err(|error| reason(error).into())
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
