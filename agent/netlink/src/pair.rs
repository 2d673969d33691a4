//! Pairs of interfaces: one on the host, one in a container.

use anyhow::{Context as _, bail};
use causeway_api::types::{device::Device, name};
use causeway_api::{Error, types::mac::Mac};
use nix::errno::Errno;
use rtnetlink::{
    LinkMessageBuilder, LinkNetkit, LinkUnspec, LinkVeth,
    packet_route::link::{InfoData, InfoNetkit, InfoVeth, LinkMessage, NetkitMode, NetkitPolicy},
};

use crate::{
    netlink::{Netlink, errno, reason},
    netns::Netns,
};

/// A pair to make.
#[derive(Debug)]
pub struct PairSpec<'a> {
    /// Kind of both sides.
    pub device: Device,
    /// Name of the host side.
    pub host_side: &'a str,
    /// Name of the container side.
    pub container_side: &'a str,
    /// Namespace in which the container side is made.
    pub container: &'a Netns,
    /// MAC of the container side.
    pub mac: Mac,
    /// MTU of both sides in bytes.
    pub mtu: u32,
    /// `IFLA_IFALIAS` of the host side: the container's name, as `ip link` shows it.
    pub alias: &'a str,
}

impl PairSpec<'_> {
    fn message(&self) -> LinkMessage {
        let far = LinkMessageBuilder::<LinkUnspec>::new()
            .name(self.container_side)
            .setns_by_fd(self.container.as_raw_fd())
            .address(self.mac.0.to_vec())
            .mtu(self.mtu)
            .build();
        match self.device {
            Device::Veth => veth(self.host_side, far).mtu(self.mtu).build(),
            Device::Netkit => netkit(self.host_side, far).mtu(self.mtu).build(),
        }
    }
}

impl Netlink {
    /// Makes a pair, with the container side in the container's namespace and up, and returns the
    /// index of the host side. The host side is down: no packet passes until [`Self::join_bridge`].
    pub async fn create_pair(&self, spec: &PairSpec<'_>) -> anyhow::Result<u32> {
        let PairSpec { device, host_side, container_side, container, .. } = *spec;
        name::check_interface(host_side)?;
        name::check_interface(container_side)?;
        let index =
            self.add_pair(device, spec.message(), host_side, container_side, container).await?;
        // The kernel accepts an alias only for an interface that exists.
        let change = LinkUnspec::new_with_index(index).alias(spec.alias).build();
        self.change_or_delete(index, change)
            .await
            .with_context(|| format!("cannot describe interface '{host_side}'"))?;
        Ok(index)
    }

    /// Makes a veth pair with the far end `peer` in `peer_netns`, both up, and returns the index of
    /// the near end. For labs.
    pub async fn create_veth_between(
        &self,
        name: &str,
        peer: &str,
        peer_netns: &Netns,
    ) -> anyhow::Result<u32> {
        name::check_interface(name)?;
        name::check_interface(peer)?;
        let far = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer)
            .setns_by_fd(peer_netns.as_raw_fd())
            .build();
        self.add_pair(Device::Veth, veth(name, far).up().build(), name, peer, peer_netns).await
    }

    /// Fails if the kernel does not have the kind: makes a pair in a namespace of its own.
    pub async fn check_device(device: Device) -> anyhow::Result<()> {
        if device == Device::Veth {
            return Ok(());
        }
        let nowhere = Netns::nameless()?;
        let spec = PairSpec {
            device,
            host_side: "near",
            container_side: "far",
            container: &nowhere,
            // Before Linux 6.11 the kernel chooses the MAC.
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            alias: "",
        };
        match Self::open(&nowhere).await?.handle.link().add(spec.message()).execute().await {
            Ok(()) => Ok(()),
            Err(error) if errno(&error) == Some(Errno::EOPNOTSUPP) => bail!(
                Error::unsupported(format!(
                    "this kernel cannot connect containers with {device} pairs: they need Linux 6.11 and CONFIG_NETKIT"
                ))
                .hint("use --device veth")
            ),
            Err(error) => Err(reason(error))
                .with_context(|| format!("cannot try whether this kernel makes {device} pairs")),
        }
    }

    async fn add_pair(
        &self,
        device: Device,
        pair: LinkMessage,
        name: &str,
        peer_name: &str,
        peer_netns: &Netns,
    ) -> anyhow::Result<u32> {
        if let Err(error) = self.handle.link().add(pair).execute().await {
            let place = peer_netns.path().display();
            let what =
                format!("cannot make the {device} pair '{name}' and '{peer_name}' in {place}");
            if errno(&error) == Some(Errno::EEXIST) {
                match self.link(name).await {
                    Ok(Some(_)) => bail!(Error::already_exists(format!(
                        "{what}: an interface named '{name}' exists already"
                    ))),
                    _ => bail!(Error::already_exists(format!(
                        "{what}: that namespace has an interface named '{peer_name}' already"
                    ))),
                }
            }
            return Err(reason(error)).context(what);
        }
        let index = self.index_of(name).await?;
        // In a second request: neither kind can be set up before its other end exists (ENOTCONN).
        if let Err(error) = Self::set_up_in(peer_netns, peer_name).await {
            // The first error is the one to report.
            let _ = self.delete_link(index).await;
            return Err(error);
        }
        Ok(index)
    }

    async fn set_up_in(netns: &Netns, name: &str) -> anyhow::Result<()> {
        let there = Self::open(netns).await?;
        there.set_up(there.index_of(name).await?).await
    }
}

fn veth(name: &str, far: LinkMessage) -> LinkMessageBuilder<LinkVeth> {
    // The builder puts the second name into a peer message, which is replaced here.
    LinkMessageBuilder::<LinkVeth>::new(name, "").set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
}

/// Netkit in L2 mode: with Ethernet headers, which a bridge needs.
fn netkit(name: &str, far: LinkMessage) -> LinkMessageBuilder<LinkNetkit> {
    LinkMessageBuilder::<LinkNetkit>::new(name, "", NetkitMode::L2).set_info_data(InfoData::Netkit(
        vec![
            InfoNetkit::Mode(NetkitMode::L2),
            InfoNetkit::Policy(NetkitPolicy::Pass),
            // Packets of the container are dropped until a program is attached.
            InfoNetkit::PeerPolicy(NetkitPolicy::Drop),
            InfoNetkit::Peer(far),
        ],
    ))
}
