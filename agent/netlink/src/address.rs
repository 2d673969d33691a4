//! Addresses of interfaces.

use std::{net::Ipv6Addr, time::Duration};

use anyhow::{Context as _, bail};
use causeway_api::Error;
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
        route::RouteType,
    },
};
use tokio::time::{Instant, sleep};

use crate::netlink::{Netlink, errno, reason};

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Index of the interface.
    pub index: u32,
    /// The address with its prefix length.
    pub address: IpNet,
    /// IPv6: duplicate address detection has not ended, so the address cannot be used yet.
    pub tentative: bool,
    /// IPv6: the preferred lifetime is over. Only flows that began before use the address (RFC 4862
    /// section 5.5.4).
    pub deprecated: bool,
    /// IPv6: a temporary address, which another one replaces within days (RFC 8981).
    pub temporary: bool,
}

/// How long the kernel may take to route a new IPv6 address: usually less than a millisecond.
const ROUTED_WITHIN: Duration = Duration::from_secs(2);

impl Netlink {
    /// Adds an address with its prefix length (IPv4 with the subnet's broadcast address). Packets
    /// to it are accepted when this returns. Idempotent.
    pub async fn add_address(&self, index: u32, address: IpNet) -> anyhow::Result<()> {
        let mut request = self.handle.address().add(index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            // The agent gives every address once, so there is no duplicate to detect, and a
            // tentative address cannot be used.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let Err(error) = request.execute().await else {
            if let IpNet::V6(address) = address {
                self.wait_until_local(address.addr()).await;
            }
            return Ok(());
        };
        let what = format!("cannot give address {address} to interface number {index}");
        match errno(&error) {
            Some(Errno::EEXIST) => Ok(()),
            Some(Errno::EACCES) if address.addr().is_ipv6() => {
                bail!(
                    Error::unsupported(format!("{what}: IPv6 is disabled there")).hint(
                        "set the sysctls net.ipv6.conf.*.disable_ipv6 to 0, or use IPv4 alone"
                    )
                )
            }
            _ => Err(reason(error)).context(what),
        }
    }

    /// Waits until an IPv6 address has its local route. The kernel adds it in a work queue after it
    /// has acknowledged the address, and drops packets to the address until then. On an interface
    /// that is down there may be no route, so that the wait is limited and cannot fail.
    async fn wait_until_local(&self, address: Ipv6Addr) {
        let end = Instant::now() + ROUTED_WITHIN;
        while !self.is_local(address).await && Instant::now() < end {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Whether the kernel would deliver packets to an address locally.
    async fn is_local(&self, address: Ipv6Addr) -> bool {
        let query = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(address, 128).build();
        let found = self.handle.route().get(query).execute().try_next().await;
        found.is_ok_and(|route| route.is_some_and(|route| route.header.kind == RouteType::Local))
    }

    /// Every address, except those for which duplicate address detection failed.
    pub async fn addresses(&self) -> anyhow::Result<Vec<InterfaceAddress>> {
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(reason)
            .context("cannot list the addresses")?;
        Ok(messages.iter().filter_map(address_of).collect())
    }
}

fn address_of(message: &AddressMessage) -> Option<InterfaceAddress> {
    // On a point-to-point link IFA_ADDRESS is the peer's address and IFA_LOCAL is ours; IPv6 mostly
    // has the first only.
    let (mut own, mut flags) = (None, AddressFlags::empty());
    for attribute in &message.attributes {
        if let AddressAttribute::Local(address) = attribute {
            own = Some(*address);
        } else if let AddressAttribute::Address(address) = attribute {
            own = own.or(Some(*address));
        } else if let AddressAttribute::Flags(all) = attribute {
            flags = *all;
        }
    }
    let address = IpNet::new(own?, message.header.prefix_len).ok()?;
    let has = |flag| address.addr().is_ipv6() && flags.contains(flag);
    (!has(AddressFlags::Dadfailed)).then(|| InterfaceAddress {
        index: message.header.index,
        address,
        tentative: has(AddressFlags::Tentative),
        deprecated: has(AddressFlags::Deprecated),
        // IFA_F_TEMPORARY and IFA_F_SECONDARY are one bit; for IPv4 it marks an address that is not
        // the first of its subnet.
        temporary: has(AddressFlags::Secondary),
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn the_own_end_of_a_point_to_point_address_counts() {
        let mut message = AddressMessage::default();
        message.header.index = 4;
        message.header.prefix_len = 32;
        message.attributes = vec![
            AddressAttribute::Address(Ipv4Addr::new(10, 9, 0, 2).into()),
            AddressAttribute::Local(Ipv4Addr::new(10, 9, 0, 1).into()),
        ];
        let own = address_of(&message).unwrap();
        assert_eq!((own.index, own.address), (4, "10.9.0.1/32".parse().unwrap()));
    }

    #[test]
    fn what_an_address_is_good_for_is_in_its_flags() {
        let of = |address: IpAddr, flags: AddressFlags| {
            let mut message = AddressMessage::default();
            message.header.prefix_len = 24;
            message.attributes =
                vec![AddressAttribute::Address(address), AddressAttribute::Flags(flags)];
            address_of(&message)
                .map(|address| [address.tentative, address.deprecated, address.temporary])
        };
        let (v4, v6) = (
            Ipv4Addr::new(10, 0, 2, 15).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        );
        let tentative = AddressFlags::Tentative | AddressFlags::Optimistic;
        for (address, flags, expected) in [
            (v6, AddressFlags::Permanent, Some([false, false, false])),
            (v6, tentative, Some([true, false, false])),
            (v6, AddressFlags::Deprecated | AddressFlags::Secondary, Some([false, true, true])),
            (v6, tentative | AddressFlags::Dadfailed, None),
            (v4, AddressFlags::Secondary, Some([false, false, false])),
        ] {
            assert_eq!(of(address, flags), expected, "{address} {flags:?}");
        }
    }
}
