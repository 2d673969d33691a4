//! What an interface is.

use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use super::mac::Mac;

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
