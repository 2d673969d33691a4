//! The configuration maps of one family. Requests for the other family do nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::{Context as _, bail};
use aya::{
    Ebpf,
    maps::{
        Array, HashMap, Map, MapData, MapFd,
        lpm_trie::{Key, LpmTrie},
    },
};
use causeway_api::types::publish::{PublishPorts, PublishSpec};
use causeway_common::{
    abi::{self, AddressPort, Admitted, Endpoint, Macs, Publish, Uplink, network, publish},
    wire::address::Port,
};
use ipnet::IpNet;

use super::{address::Ip, batch, ignore_missing, raw::Raw, take};
use crate::datapath::types::{EndpointEntry, PublishTarget};

pub(in crate::datapath) struct Family<A: Ip> {
    endpoints: HashMap<MapData, Raw<A>, Raw<Endpoint<A>>>,
    publishes: Array<MapData, Raw<Publish<A>>>,
    ports: Array<MapData, u32>,
    /// For reading in batches.
    ports_fd: MapFd,
    address_ports: HashMap<MapData, Raw<AddressPort<A>>, u32>,
    admitted: LpmTrie<MapData, Raw<Admitted<A>>, u32>,
    local: HashMap<MapData, Raw<A>, u32>,
    uplinks: HashMap<MapData, u32, Raw<Uplink<A>>>,
}

/// What an earlier agent wrote where a publish belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::datapath) enum Existing {
    /// Nothing.
    Nothing,
    /// The same publish, in this slot.
    Slot(u32),
    /// Another publish.
    Other,
}

impl<A: Ip> Family<A> {
    /// Takes the maps from the loaded object.
    pub(in crate::datapath) fn open(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        Ok(Self {
            endpoints: take(ebpf, A::MAPS.endpoints)?,
            publishes: take(ebpf, A::MAPS.publishes)?,
            ports_fd: fd(ebpf, A::MAPS.ports)?,
            ports: take(ebpf, A::MAPS.ports)?,
            address_ports: take(ebpf, A::MAPS.address_ports)?,
            admitted: take(ebpf, A::MAPS.admitted)?,
            local: take(ebpf, A::MAPS.local)?,
            uplinks: take(ebpf, A::MAPS.uplinks)?,
        })
    }

    /// Slots of the endpoints, by host side.
    pub(in crate::datapath) fn host_sides(&self) -> anyhow::Result<BTreeMap<u32, u32>> {
        let endpoints = self.endpoints.iter().map(|entry| {
            let (_, Raw(endpoint)) = entry.context("reading the endpoints")?;
            Ok((endpoint.host_side, endpoint.slot))
        });
        endpoints.collect()
    }

    /// The slots of all endpoints and published ports.
    pub(in crate::datapath) fn slots_in_use(&self) -> anyhow::Result<BTreeSet<u32>> {
        let mut slots = BTreeSet::new();
        for entry in &self.endpoints {
            slots.insert(entry.context("reading the endpoints")?.1.0.slot);
        }
        for entry in &self.address_ports {
            slots.insert(entry.context("reading the publishes with an address")?.1);
        }
        slots.extend(self.ports()?.into_values());
        slots.remove(&abi::BY_ADDRESS);
        Ok(slots)
    }

    pub(in crate::datapath) fn put_endpoint(
        &mut self,
        entry: &EndpointEntry,
        slot: u32,
        network: u32,
    ) -> anyhow::Result<()> {
        let Some(address) = A::of(entry.address) else { return Ok(()) };
        let value = endpoint_value(entry, slot, network)?;
        self.endpoints.insert(Raw(address), Raw(value), 0).with_context(|| {
            format!("writing the endpoint {} (at most {} fit)", entry.address, abi::ENDPOINTS)
        })
    }

    pub(in crate::datapath) fn remove_endpoint(&mut self, address: IpAddr) -> anyhow::Result<()> {
        let Some(key) = A::of(address) else { return Ok(()) };
        ignore_missing(self.endpoints.remove(&Raw(key)))
            .with_context(|| format!("removing the endpoint {address}"))
    }

    /// Writes an uplink, or removes it if it has no address of this family.
    pub(in crate::datapath) fn put_uplink(
        &mut self,
        index: u32,
        address: Option<A>,
        mtu: u32,
    ) -> anyhow::Result<()> {
        let Some(address) = address else { return self.remove_uplink(index) };
        // No packet is longer, except jumbograms of IPv6 (RFC 2675).
        let uplink = Uplink { address, mtu: mtu.min(u32::from(u16::MAX)) };
        self.uplinks
            .insert(index, Raw(uplink), 0)
            .with_context(|| format!("writing the uplink's address {}", address.ip()))
    }

    pub(in crate::datapath) fn remove_uplink(&mut self, index: u32) -> anyhow::Result<()> {
        ignore_missing(self.uplinks.remove(&index)).context("removing an uplink's address")
    }

    pub(in crate::datapath) fn put_subnet(&mut self, subnet: &IpNet) -> anyhow::Result<()> {
        let Some(key) = admitted_key(subnet, abi::SLOT_LOCAL_SUBNETS) else { return Ok(()) };
        self.admitted.insert(&key, 0, 0).with_context(|| format!("writing the subnet {subnet}"))
    }

    pub(in crate::datapath) fn remove_subnet(&mut self, subnet: &IpNet) -> anyhow::Result<()> {
        let Some(key) = admitted_key(subnet, abi::SLOT_LOCAL_SUBNETS) else { return Ok(()) };
        ignore_missing(self.admitted.remove(&key))
            .with_context(|| format!("removing the subnet {subnet}"))
    }

    /// Returns the addresses that were set before and are not any more.
    pub(in crate::datapath) fn set_local_addresses(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
    ) -> anyhow::Result<Vec<IpAddr>> {
        let wanted: BTreeSet<A> = addresses.iter().filter_map(|address| A::of(*address)).collect();
        let known: BTreeSet<A> = self.local.keys().filter_map(|key| Some(key.ok()?.0)).collect();
        for address in wanted.difference(&known) {
            self.local.insert(Raw(*address), 0, 0).context("writing an address of the host")?;
        }
        for address in known.difference(&wanted) {
            ignore_missing(self.local.remove(&Raw(*address)))
                .context("removing an address of the host")?;
        }
        Ok(known.difference(&wanted).map(|address| address.ip()).collect())
    }

    /// Writes a publish. Its ports come last, so that no packet finds it incomplete.
    pub(in crate::datapath) fn write_publish(
        &mut self,
        publish: &PublishSpec,
        target: PublishTarget,
        slot: u32,
    ) -> anyhow::Result<()> {
        let Some((host_address, value)) = publish_value(publish, target) else { return Ok(()) };
        self.publishes.set(slot, Raw(value), 0).context("writing the publish")?;
        for source in &publish.options.from {
            let Some(key) = admitted_key(source, slot) else { continue };
            self.admitted
                .insert(&key, 0, 0)
                .with_context(|| format!("admitting the sources {source}"))?;
        }
        let ports = &publish.ports;
        for port in ports.host_ports {
            let index = port_index(ports, port)?;
            match host_address {
                None => self.ports.set(index, slot, 0),
                Some(address) => {
                    let key = Raw(address_port(ports, address, port));
                    self.address_ports
                        .insert(key, slot, 0)
                        .and_then(|()| self.ports.set(index, abi::BY_ADDRESS, 0))
                }
            }
            .with_context(|| format!("publishing port {port}"))?;
        }
        Ok(())
    }

    /// Moves a publish to another container, under another slot.
    pub(in crate::datapath) fn move_publish(
        &mut self,
        publish: &PublishSpec,
        from: PublishTarget,
        to: PublishTarget,
        slot: u32,
    ) -> anyhow::Result<()> {
        if publish_value::<A>(publish, to).is_none() {
            self.clear_ports(publish, from)?;
        }
        self.write_publish(publish, to, slot)
    }

    /// Undoes [`Self::write_publish`], in reverse order.
    pub(in crate::datapath) fn clear_publish(
        &mut self,
        publish: &PublishSpec,
        target: PublishTarget,
        slot: u32,
    ) -> anyhow::Result<()> {
        self.clear_ports(publish, target)?;
        for source in &publish.options.from {
            let Some(key) = admitted_key(source, slot) else { continue };
            ignore_missing(self.admitted.remove(&key))
                .with_context(|| format!("removing the sources {source}"))?;
        }
        Ok(())
    }

    fn clear_ports(&mut self, publish: &PublishSpec, target: PublishTarget) -> anyhow::Result<()> {
        let Some((host_address, _)) = publish_value::<A>(publish, target) else { return Ok(()) };
        let ports = &publish.ports;
        let by_address: BTreeSet<(Port, u8)> = match host_address {
            None => BTreeSet::new(),
            Some(address) => {
                for port in ports.host_ports {
                    let key = Raw(address_port(ports, address, port));
                    ignore_missing(self.address_ports.remove(&key))
                        .with_context(|| format!("ending the publish of port {port}"))?;
                }
                let keys = self.address_ports.keys().filter_map(Result::ok);
                keys.map(|Raw(key)| (key.port, key.protocol)).collect()
            }
        };
        for port in ports.host_ports {
            // Other addresses may publish the same port.
            if !by_address.contains(&(Port::new(port), ports.protocol.number())) {
                self.ports
                    .set(port_index(ports, port)?, 0, 0)
                    .with_context(|| format!("ending the publish of port {port}"))?;
            }
        }
        Ok(())
    }

    /// Removes the sources of the publish with that slot.
    pub(in crate::datapath) fn forget_sources(&mut self, slot: u32) -> anyhow::Result<()> {
        let keys: Vec<_> = self.admitted.keys().filter_map(Result::ok).collect();
        for key in keys.iter().filter(|key| u32::from_be_bytes(key.data().0.slot) == slot) {
            ignore_missing(self.admitted.remove(key)).context("removing sources")?;
        }
        Ok(())
    }

    /// What an earlier agent wrote where the publish belongs.
    pub(in crate::datapath) fn existing(
        &self,
        publish: &PublishSpec,
        target: PublishTarget,
    ) -> anyhow::Result<Existing> {
        let Some((host_address, value)) = publish_value(publish, target) else {
            return Ok(Existing::Nothing);
        };
        let ports = &publish.ports;
        let mut slots = BTreeSet::new();
        for port in ports.host_ports {
            let found = match host_address {
                None => self.ports.get(&port_index(ports, port)?, 0).ok(),
                Some(address) => {
                    self.address_ports.get(&Raw(address_port(ports, address, port)), 0).ok()
                }
            };
            slots.insert(found.filter(|slot| *slot != 0 && *slot != abi::BY_ADDRESS));
        }
        match slots.pop_first() {
            Some(None) if slots.is_empty() => Ok(Existing::Nothing),
            Some(Some(slot)) if slots.is_empty() => {
                let written = self.publishes.get(&slot, 0);
                let written =
                    written.with_context(|| format!("reading the publish in slot {slot}"))?;
                Ok(if written.0 == value { Existing::Slot(slot) } else { Existing::Other })
            }
            _ => Ok(Existing::Other),
        }
    }

    /// Removes all uplinks, endpoints, publishes and sources that are not listed.
    pub(in crate::datapath) fn retain(
        &mut self,
        uplinks: &BTreeSet<u32>,
        endpoints: &BTreeMap<IpAddr, u32>,
        publishes: &BTreeSet<u32>,
        inside: &BTreeSet<IpNet>,
    ) -> anyhow::Result<()> {
        self.retain_uplinks(uplinks)?;
        self.retain_endpoints(endpoints)?;
        self.retain_publishes(publishes)?;
        self.retain_admitted(publishes, inside)
    }

    fn retain_uplinks(&mut self, indexes: &BTreeSet<u32>) -> anyhow::Result<()> {
        let known: Vec<u32> = self.uplinks.keys().filter_map(Result::ok).collect();
        known
            .into_iter()
            .filter(|index| !indexes.contains(index))
            .try_for_each(|index| self.remove_uplink(index))
    }

    fn retain_endpoints(&mut self, put: &BTreeMap<IpAddr, u32>) -> anyhow::Result<()> {
        let put: BTreeSet<A> = put.keys().filter_map(|address| A::of(*address)).collect();
        let known: Vec<_> = self.endpoints.keys().filter_map(Result::ok).collect();
        for address in known.iter().filter(|address| !put.contains(&address.0)) {
            ignore_missing(self.endpoints.remove(address)).context("removing an endpoint")?;
        }
        Ok(())
    }

    fn retain_publishes(&mut self, slots: &BTreeSet<u32>) -> anyhow::Result<()> {
        let mut by_address = BTreeSet::new();
        let address_ports: Vec<_> = self.address_ports.iter().filter_map(Result::ok).collect();
        for (key, slot) in address_ports {
            if slots.contains(&slot) {
                by_address.insert(abi::port_index(key.0.protocol, key.0.port));
            } else {
                ignore_missing(self.address_ports.remove(&key)).context("ending a publish")?;
            }
        }
        for (index, slot) in self.ports()? {
            let keep = match slot {
                abi::BY_ADDRESS => by_address.contains(&Some(index)),
                slot => slots.contains(&slot),
            };
            if !keep {
                self.ports.set(index, 0, 0).context("ending a publish")?;
            }
        }
        Ok(())
    }

    /// Slots of the published ports, by index.
    fn ports(&self) -> anyhow::Result<BTreeMap<u32, u32>> {
        let mut published = BTreeMap::new();
        let read = batch::for_each(&self.ports_fd, |index, slot| {
            if slot != 0 {
                published.insert(index, slot);
            }
        });
        read.context("reading the published ports")?;
        Ok(published)
    }

    fn retain_admitted(
        &mut self,
        slots: &BTreeSet<u32>,
        inside: &BTreeSet<IpNet>,
    ) -> anyhow::Result<()> {
        let admitted: Vec<_> = self.admitted.keys().filter_map(Result::ok).collect();
        for key in admitted {
            let slot = u32::from_be_bytes(key.data().0.slot);
            let is_of_network = || inside.iter().any(|subnet| is_key_of(&key, subnet));
            if !(slots.contains(&slot) || slot == abi::SLOT_LOCAL_SUBNETS && is_of_network()) {
                ignore_missing(self.admitted.remove(&key)).context("removing sources")?;
            }
        }
        Ok(())
    }
}

/// Host address and map value of a publish. None if the family does not serve it: the container has
/// no address of it, or the host address is of the other family.
pub(in crate::datapath) fn publish_value<A: Ip>(
    publish: &PublishSpec,
    target: PublishTarget,
) -> Option<(Option<A>, Publish<A>)> {
    let PublishSpec { ports, options } = publish;
    let host_address = match ports.host_address {
        Some(address) => Some(A::of(address)?),
        None => None,
    };
    let value = Publish {
        container: target.written().find_map(A::of)?,
        host_port: Port::new(ports.host_ports.start()),
        container_port: Port::new(ports.container_ports.start()),
        flags: if options.from.is_empty() { 0 } else { publish::SOURCES_LISTED },
    };
    Some((host_address, value))
}

/// A second descriptor of an array.
fn fd(ebpf: &Ebpf, name: &str) -> anyhow::Result<MapFd> {
    let Some(Map::Array(map)) = ebpf.map(name) else {
        bail!("the object lacks the array '{name}'")
    };
    map.info().and_then(|info| info.fd()).with_context(|| format!("opening the map '{name}'"))
}

fn endpoint_value<A: Ip>(
    entry: &EndpointEntry,
    slot: u32,
    network_number: u32,
) -> anyhow::Result<Endpoint<A>> {
    let of = |address| {
        A::of(address).with_context(|| {
            format!("{address} is not of the family of the endpoint {}", entry.address)
        })
    };
    let flag = |set, bit| if set { bit } else { 0 };
    Ok(Endpoint {
        subnet: of(entry.subnet.network())?,
        mask: of(entry.subnet.netmask())?,
        gateway: of(entry.gateway)?,
        host_side: entry.host_side,
        bridge: entry.bridge,
        slot,
        network: flag(entry.masquerade, network::MASQUERADE)
            | flag(entry.internal, network::INTERNAL)
            | flag(!entry.icc, network::NO_ICC),
        network_number,
        mtu: entry.mtu.min(u32::from(u16::MAX)),
        macs: Macs::new(entry.mac.0, entry.bridge_mac.0),
    })
}

fn port_index(ports: &PublishPorts, port: u16) -> anyhow::Result<u32> {
    abi::port_index(ports.protocol.number(), Port::new(port))
        .with_context(|| format!("{} ports are not published", ports.protocol))
}

fn address_port<A: Ip>(ports: &PublishPorts, address: A, port: u16) -> AddressPort<A> {
    AddressPort { address, port: Port::new(port), protocol: ports.protocol.number(), _pad: 0 }
}

/// The key for a source. None for a subnet of the other family.
fn admitted_key<A: Ip>(source: &IpNet, slot: u32) -> Option<Key<Raw<Admitted<A>>>> {
    let data = Admitted { slot: slot.to_be_bytes(), source: A::of(source.network())? };
    Some(Key::new(32 + u32::from(source.prefix_len()), Raw(data)))
}

fn is_key_of<A: Ip>(key: &Key<Raw<Admitted<A>>>, subnet: &IpNet) -> bool {
    let of_subnet = admitted_key::<A>(subnet, abi::SLOT_LOCAL_SUBNETS);
    of_subnet.is_some_and(|wanted| {
        wanted.prefix_len() == key.prefix_len() && wanted.data().0 == key.data().0
    })
}
