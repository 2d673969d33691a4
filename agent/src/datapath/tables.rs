//! Networks, containers and publishes in the words of the maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context as _, bail};
use aya::{
    Ebpf,
    maps::{
        Array, HashMap, Map, MapData, MapError, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
};
use causeway_common::{
    abi::{
        self, AddressPort, Admitted, Endpoint, Flow, Macs, Network, Publish, Uplink, mapping, name, network, publish,
    },
    address::{Address, Port, V4},
    flow::ticks,
    reason::Reason,
    tuple::Tuple,
};
use ipnet::IpNet;

use super::{EndpointEntry, PublishEntry, Terms, abi::Raw, slots::Slots};

pub(super) type FlowMap<A> = HashMap<MapData, Raw<Tuple<A>>, Raw<Flow<A>>>;

/// The maps, and what this agent put into them.
pub(super) struct Tables {
    v4: Family<V4>,
    epochs: Array<MapData, u32>,
    counts: Array<MapData, u64>,
    networks: Array<MapData, Raw<Network>>,
    /// By the bridge's index.
    numbers: BTreeMap<u32, u32>,
    /// The numbers of networks with mappings.
    full_cone: BTreeSet<u32>,
    reasons: PerCpuArray<MapData, u64>,
    slots: Slots,
    uplinks: BTreeMap<u32, IpAddr>,
    inside: BTreeSet<IpNet>,
    endpoints: BTreeMap<IpAddr, Put>,
    publishes: Vec<(PublishEntry, u32)>,
    /// Slots of publishes that were moved, whose flows may finish.
    draining: BTreeSet<u32>,
}

/// The maps of one family.
struct Family<A: Address> {
    endpoints: HashMap<MapData, Raw<A>, Raw<Endpoint<A>>>,
    publishes: Array<MapData, Raw<Publish<A>>>,
    ports: Array<MapData, u32>,
    address_ports: HashMap<MapData, Raw<AddressPort<A>>, u32>,
    admitted: LpmTrie<MapData, Raw<Admitted<A>>, u32>,
    local: HashMap<MapData, Raw<A>, u32>,
    uplinks: HashMap<MapData, u32, Raw<Uplink<A>>>,
}

#[derive(Debug)]
struct Put {
    slot: u32,
    host_side: u32,
}

impl Tables {
    /// Takes the maps from the loaded object.
    pub(super) fn open(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let v4 = Family {
            endpoints: take(ebpf, name::V4.endpoints)?,
            publishes: take(ebpf, name::V4.publishes)?,
            ports: take(ebpf, name::V4.ports)?,
            address_ports: take(ebpf, name::V4.address_ports)?,
            admitted: take(ebpf, name::V4.admitted)?,
            local: take(ebpf, name::V4.local)?,
            uplinks: take(ebpf, name::V4.uplinks)?,
        };
        let mut slots = Slots::default();
        for slot in v4.slots_in_use()? {
            slots.keep(slot);
        }
        let mut tables = Self {
            v4,
            epochs: take(ebpf, name::EPOCHS)?,
            counts: take(ebpf, name::COUNTS)?,
            networks: take(ebpf, name::NETWORKS)?,
            numbers: BTreeMap::new(),
            full_cone: BTreeSet::new(),
            reasons: take(ebpf, name::REASONS)?,
            slots,
            uplinks: BTreeMap::new(),
            inside: BTreeSet::new(),
            endpoints: BTreeMap::new(),
            publishes: Vec::new(),
            draining: BTreeSet::new(),
        };
        // What is of no network goes by the defaults. Whether there are mappings stays as it was until every network is put again.
        let mapping = tables.network(0)?.mapping;
        tables.write_network(0, Network { mapping, ..Network::DEFAULT })?;
        Ok(tables)
    }

    /// Makes a network's terms known, under the number that it has already or a free one.
    pub(super) fn put_network(&mut self, bridge: u32, terms: &Terms) -> anyhow::Result<()> {
        let mut network = Network {
            first_port: terms.ports.start().into(),
            ports: terms.ports.count().into(),
            max_flows: terms.max_flows,
            bridge,
            mapping: if terms.full_cone { mapping::FULL_CONE } else { 0 },
            ..Network::DEFAULT
        };
        for (timer, seconds) in &terms.timeouts {
            network.timeouts[*timer as usize] = ticks(*seconds);
        }
        let number = match self.numbers.get(&bridge) {
            Some(number) => *number,
            None => self.number_for(bridge)?,
        };
        self.write_network(number, network)?;
        self.numbers.insert(bridge, number);
        if terms.full_cone {
            self.full_cone.insert(number)
        } else {
            self.full_cone.remove(&number)
        };
        if terms.full_cone { self.write_defaults() } else { Ok(()) }
    }

    /// Network 0: what goes for no network, and whether any has mappings.
    fn write_defaults(&mut self) -> anyhow::Result<()> {
        let mapping = if self.full_cone.is_empty() { 0 } else { mapping::FULL_CONE };
        self.write_network(0, Network { mapping, ..Network::DEFAULT })
    }

    /// The number that an earlier agent gave the network, whose flows go by it, or a free one.
    fn number_for(&self, bridge: u32) -> anyhow::Result<u32> {
        let mut free = None;
        for number in 1..abi::NETWORKS {
            match self.network(number)?.bridge {
                known if known == bridge => return Ok(number),
                0 if free.is_none() => free = Some(number),
                _ => {}
            }
        }
        free.with_context(|| format!("there is room for {} networks; remove one first", abi::NETWORKS - 1))
    }

    /// Forgets a network.
    pub(super) fn remove_network(&mut self, bridge: u32) -> anyhow::Result<()> {
        match self.numbers.remove(&bridge) {
            Some(number) => {
                self.write_network(number, Network::DEFAULT)?;
                if self.full_cone.remove(&number) { self.write_defaults() } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    fn network(&self, number: u32) -> anyhow::Result<Network> {
        Ok(self.networks.get(&number, 0).with_context(|| format!("reading the network {number}"))?.0)
    }

    fn write_network(&mut self, number: u32, network: Network) -> anyhow::Result<()> {
        self.networks.set(number, Raw(network), 0).with_context(|| format!("writing the network {number}"))
    }

    /// The slot's epoch.
    fn epoch(&self, slot: u32) -> anyhow::Result<u32> {
        self.epochs.get(&slot, 0).with_context(|| format!("reading the epoch of slot {slot}"))
    }

    /// Answers whether flows that left by the uplink before have an address that is the host's no longer.
    pub(super) fn put_uplink(&mut self, index: u32, address: IpAddr, mtu: u32) -> anyhow::Result<bool> {
        // No IPv4 packet is longer, whatever the interface can carry.
        let uplink = Uplink { address: v4(address)?, mtu: mtu.min(u32::from(u16::MAX)) };
        let before = self.v4.uplinks.get(&index, 0).ok();
        self.v4
            .uplinks
            .insert(index, Raw(uplink), 0)
            .with_context(|| format!("noting the uplink's address {address}"))?;
        self.uplinks.insert(index, address);
        Ok(before.is_some_and(|before| before.0.address != uplink.address))
    }

    /// Notes the subnets of a network: nothing from outside has an address in them.
    pub(super) fn put_subnets(&mut self, subnets: &[IpNet]) -> anyhow::Result<()> {
        for subnet in subnets {
            self.v4
                .admitted
                .insert(&admitted_key(subnet, abi::INSIDE)?, 0, 0)
                .with_context(|| format!("noting the subnet {subnet}"))?;
            self.inside.insert(*subnet);
        }
        Ok(())
    }

    /// Forgets the subnets of a network.
    pub(super) fn remove_subnets(&mut self, subnets: &[IpNet]) -> anyhow::Result<()> {
        for subnet in subnets {
            self.inside.remove(subnet);
            gone_is_done(self.v4.admitted.remove(&admitted_key(subnet, abi::INSIDE)?))
                .with_context(|| format!("forgetting the subnet {subnet}"))?;
        }
        Ok(())
    }

    pub(super) fn remove_uplink(&mut self, index: u32) -> anyhow::Result<()> {
        self.uplinks.remove(&index);
        gone_is_done(self.v4.uplinks.remove(&index)).context("forgetting an uplink's address")
    }

    pub(super) fn set_local_addresses(&mut self, addresses: &BTreeSet<IpAddr>) -> anyhow::Result<()> {
        let wanted: BTreeSet<V4> = addresses.iter().filter_map(|address| v4(*address).ok()).collect();
        let known: BTreeSet<V4> = self.v4.local.keys().filter_map(|key| Some(key.ok()?.0)).collect();
        for address in wanted.difference(&known) {
            self.v4.local.insert(Raw(*address), 0, 0).context("noting an address of the host")?;
        }
        for address in known.difference(&wanted) {
            gone_is_done(self.v4.local.remove(&Raw(*address))).context("forgetting an address of the host")?;
        }
        Ok(())
    }

    pub(super) fn put_endpoint(&mut self, entry: &EndpointEntry) -> anyhow::Result<()> {
        let address = v4(entry.address)?;
        let kept = self.v4.endpoints.get(&Raw(address), 0).ok().filter(|kept| kept.0.host_side == entry.host_side);
        let slot = match kept {
            Some(kept) => kept.0.slot,
            None => self.take_slot()?,
        };
        let number = self.numbers.get(&entry.bridge).context("the endpoint's network is not known")?;
        let value = endpoint_value(entry, slot, *number)?;
        self.v4.endpoints.insert(Raw(address), Raw(value), 0).with_context(|| {
            format!("making the endpoint {} known (there is room for {})", entry.address, abi::ENDPOINTS)
        })?;
        self.endpoints.insert(entry.address, Put { slot, host_side: entry.host_side });
        Ok(())
    }

    /// Answers the host side that it was attached to.
    pub(super) fn remove_endpoint(&mut self, address: IpAddr) -> anyhow::Result<Option<u32>> {
        gone_is_done(self.v4.endpoints.remove(&Raw(v4(address)?)))
            .with_context(|| format!("forgetting the endpoint {address}"))?;
        let Some(put) = self.endpoints.remove(&address) else { return Ok(None) };
        self.free_slot(put.slot)?;
        Ok(Some(put.host_side))
    }

    pub(super) fn put_publish(&mut self, entry: &PublishEntry) -> anyhow::Result<()> {
        if self.publishes.iter().any(|(put, _)| put == entry) {
            return Ok(());
        }
        let value = publish_value(entry)?;
        let slot = match self.v4.kept_slot(entry, &value)? {
            Some(kept) => kept,
            None => self.take_slot()?,
        };
        if let Err(error) = self.v4.write_publish(entry, slot, value) {
            self.v4.clear_publish(entry, slot)?;
            self.free_slot(slot)?;
            return Err(error);
        }
        self.publishes.push((entry.clone(), slot));
        Ok(())
    }

    pub(super) fn remove_publish(&mut self, entry: &PublishEntry) -> anyhow::Result<()> {
        let Some(at) = self.publishes.iter().position(|(put, _)| put == entry) else { return Ok(()) };
        let (_, slot) = self.publishes[at];
        self.v4.clear_publish(entry, slot)?;
        self.free_slot(slot)?;
        self.publishes.remove(at);
        Ok(())
    }

    /// The slot of a publish that was put.
    pub(super) fn publish_slot(&self, entry: &PublishEntry) -> Option<u32> {
        self.publishes.iter().find(|(put, _)| put == entry).map(|(_, slot)| *slot)
    }

    /// Writes `to` in the place of `from`: no packet finds neither. `resumed` is a slot that drains and becomes that of `to` again. That of
    /// `from` drains from now on.
    pub(super) fn move_publish(
        &mut self,
        from: &PublishEntry,
        to: &PublishEntry,
        resumed: Option<u32>,
    ) -> anyhow::Result<()> {
        let at = self.publishes.iter().position(|(put, _)| put == from).context("it is not in the datapath")?;
        let before = self.publishes[at].1;
        let slot = match resumed {
            Some(slot) => slot,
            None => self.take_slot()?,
        };
        if let Err(error) = self.v4.write_publish(to, slot, publish_value(to)?) {
            self.v4.write_publish(from, before, publish_value(from)?)?;
            if resumed.is_none() {
                self.v4.forget_sources(slot)?;
                self.free_slot(slot)?;
            }
            return Err(error);
        }
        self.publishes[at] = (to.clone(), slot);
        self.draining.remove(&slot);
        self.draining.insert(before);
        Ok(())
    }

    /// Notes a slot that drains since an earlier agent.
    pub(super) fn keep_draining(&mut self, slot: u32) {
        self.slots.keep(slot);
        self.draining.insert(slot);
    }

    /// Ends the flows of a slot that drains. Again is done.
    pub(super) fn end_draining(&mut self, slot: u32) -> anyhow::Result<()> {
        if self.draining.contains(&slot) {
            self.v4.forget_sources(slot)?;
            self.free_slot(slot)?;
            self.draining.remove(&slot);
        }
        Ok(())
    }

    /// Drops what is in the maps and was not put by this agent.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        let mut put = self.draining.clone();
        put.extend(self.endpoints.values().map(|put| put.slot));
        put.extend(self.publishes.iter().map(|(_, slot)| *slot));
        // All that were found, those too whose ports have another slot by now: an agent that died between noting a move and making it.
        for slot in self.slots.used() {
            if !put.contains(&slot) {
                self.free_slot(slot)?;
            }
        }
        for number in 1..abi::NETWORKS {
            let bridge = self.network(number)?.bridge;
            if bridge != 0 && !self.numbers.contains_key(&bridge) {
                self.write_network(number, Network::DEFAULT)?;
            }
        }
        self.write_defaults()?;
        for index in self.v4.uplinks.keys().filter_map(Result::ok).collect::<Vec<_>>() {
            if !self.uplinks.contains_key(&index) {
                gone_is_done(self.v4.uplinks.remove(&index)).context("forgetting an uplink")?;
            }
        }
        self.v4.retain_slots(&put, &self.inside)
    }

    pub(super) fn reasons(&self) -> anyhow::Result<BTreeMap<&'static str, u64>> {
        Reason::ALL
            .iter()
            .map(|reason| {
                let counts = self.reasons.get(&(*reason as u32), 0);
                let counts = counts.with_context(|| format!("reading the count of '{}'", reason.name()))?;
                Ok((reason.name(), counts.iter().sum()))
            })
            .collect()
    }

    fn take_slot(&mut self) -> anyhow::Result<u32> {
        let slot = self.slots.take()?;
        // Whatever began through the slot's last owner is stale, even what a packet in flight began after it was freed.
        self.bump(slot)?;
        for index in [slot, slot | abi::OF_MAPPINGS, slot | abi::FROM_OUTSIDE] {
            self.counts.set(index, 0, 0).with_context(|| format!("counting the flows of slot {slot} from zero"))?;
        }
        Ok(slot)
    }

    fn free_slot(&mut self, slot: u32) -> anyhow::Result<()> {
        self.bump(slot)?;
        self.slots.free(slot);
        Ok(())
    }

    fn bump(&mut self, slot: u32) -> anyhow::Result<()> {
        let epoch = self.epoch(slot)?.wrapping_add(1);
        self.epochs.set(slot, epoch, 0).with_context(|| format!("ending the flows of slot {slot}"))
    }
}

impl Family<V4> {
    /// Writes what the publish is before where it is found: no packet finds it half made.
    fn write_publish(&mut self, entry: &PublishEntry, slot: u32, value: Publish<V4>) -> anyhow::Result<()> {
        self.publishes.set(slot, Raw(value), 0).context("writing the publish")?;
        for source in &entry.from {
            self.admitted
                .insert(&admitted_key(source, slot)?, 0, 0)
                .with_context(|| format!("admitting the sources {source}"))?;
        }
        for port in entry.host_ports.start()..=entry.host_ports.end() {
            let index = port_index(entry, port)?;
            match entry.host_address {
                None => self.ports.set(index, slot, 0),
                Some(address) => {
                    let key = Raw(address_port(entry, address, port)?);
                    self.address_ports.insert(key, slot, 0).and_then(|()| self.ports.set(index, abi::BY_ADDRESS, 0))
                }
            }
            .with_context(|| format!("publishing port {port}"))?;
        }
        Ok(())
    }

    /// The reverse of `write_publish`, in reverse order.
    fn clear_publish(&mut self, entry: &PublishEntry, slot: u32) -> anyhow::Result<()> {
        let by_address: BTreeSet<(Port, u8)> = match entry.host_address {
            None => BTreeSet::new(),
            Some(address) => {
                for port in entry.host_ports.start()..=entry.host_ports.end() {
                    gone_is_done(self.address_ports.remove(&Raw(address_port(entry, address, port)?)))
                        .with_context(|| format!("ending the publish of port {port}"))?;
                }
                let keys = self.address_ports.keys().filter_map(Result::ok);
                keys.map(|Raw(key)| (key.port, key.protocol)).collect()
            }
        };
        for port in entry.host_ports.start()..=entry.host_ports.end() {
            // Other addresses may publish the same port.
            if !by_address.contains(&(Port::new(port), entry.protocol.number())) {
                self.ports
                    .set(port_index(entry, port)?, 0, 0)
                    .with_context(|| format!("ending the publish of port {port}"))?;
            }
        }
        for source in &entry.from {
            gone_is_done(self.admitted.remove(&admitted_key(source, slot)?))
                .with_context(|| format!("forgetting the sources {source}"))?;
        }
        Ok(())
    }

    /// Forgets the sources that the publish with that slot listed.
    fn forget_sources(&mut self, slot: u32) -> anyhow::Result<()> {
        let keys: Vec<_> = self.admitted.keys().filter_map(Result::ok).collect();
        for key in keys.iter().filter(|key| u32::from_be_bytes(key.data().0.slot) == slot) {
            gone_is_done(self.admitted.remove(key)).context("forgetting sources")?;
        }
        Ok(())
    }

    /// The slot of a publish that an earlier agent wrote just so.
    fn kept_slot(&self, entry: &PublishEntry, value: &Publish<V4>) -> anyhow::Result<Option<u32>> {
        let slot_of = |port| -> anyhow::Result<Option<u32>> {
            let found = match entry.host_address {
                None => self.ports.get(&port_index(entry, port)?, 0).ok(),
                Some(address) => self.address_ports.get(&Raw(address_port(entry, address, port)?), 0).ok(),
            };
            Ok(found.filter(|slot| *slot != 0 && *slot != abi::BY_ADDRESS))
        };
        let Some(slot) = slot_of(entry.host_ports.start())? else { return Ok(None) };
        for port in entry.host_ports.start()..=entry.host_ports.end() {
            if slot_of(port)? != Some(slot) {
                return Ok(None);
            }
        }
        let kept = self.publishes.get(&slot, 0).with_context(|| format!("reading the publish in slot {slot}"))?;
        Ok((kept.0 == *value).then_some(slot))
    }

    /// Every slot that an endpoint or a published port names.
    fn slots_in_use(&self) -> anyhow::Result<BTreeSet<u32>> {
        let mut slots = BTreeSet::new();
        for entry in &self.endpoints {
            slots.insert(entry.context("reading the endpoints")?.1.0.slot);
        }
        for entry in &self.address_ports {
            slots.insert(entry.context("reading the publishes with an address")?.1);
        }
        for slot in self.ports.iter() {
            slots.insert(slot.context("reading the published ports")?);
        }
        slots.remove(&0);
        slots.remove(&abi::BY_ADDRESS);
        Ok(slots)
    }

    /// Removes the endpoints and publishes whose slots are not among those.
    fn retain_slots(&mut self, slots: &BTreeSet<u32>, inside: &BTreeSet<IpNet>) -> anyhow::Result<()> {
        let endpoints: Vec<_> = self.endpoints.iter().filter_map(Result::ok).collect();
        for (address, endpoint) in endpoints {
            if !slots.contains(&endpoint.slot()) {
                gone_is_done(self.endpoints.remove(&address)).context("forgetting an endpoint")?;
            }
        }
        let mut by_address = BTreeSet::new();
        let address_ports: Vec<_> = self.address_ports.iter().filter_map(Result::ok).collect();
        for (key, slot) in address_ports {
            if slots.contains(&slot) {
                by_address.insert(abi::port_index(key.0.protocol, key.0.port));
            } else {
                gone_is_done(self.address_ports.remove(&key)).context("ending a publish")?;
            }
        }
        for index in 0..self.ports.len() {
            let slot = self.ports.get(&index, 0).context("reading the published ports")?;
            let keep = match slot {
                0 => true,
                abi::BY_ADDRESS => by_address.contains(&Some(index)),
                slot => slots.contains(&slot),
            };
            if !keep {
                self.ports.set(index, 0, 0).context("ending a publish")?;
            }
        }
        let admitted: Vec<_> = self.admitted.keys().filter_map(Result::ok).collect();
        for key in admitted {
            let slot = u32::from_be_bytes(key.data().0.slot);
            let is_of_network = || inside.iter().any(|subnet| is_key_of(&key, subnet));
            if !(slots.contains(&slot) || slot == abi::INSIDE && is_of_network()) {
                gone_is_done(self.admitted.remove(&key)).context("forgetting sources")?;
            }
        }
        Ok(())
    }
}

impl Raw<Endpoint<V4>> {
    const fn slot(&self) -> u32 {
        self.0.slot
    }
}

fn take<T>(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<T>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).with_context(|| format!("the object lacks the map '{name}'"))?;
    T::try_from(map).with_context(|| format!("opening the map '{name}'"))
}

pub(super) fn gone_is_done(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn endpoint_value(entry: &EndpointEntry, slot: u32, network_number: u32) -> anyhow::Result<Endpoint<V4>> {
    let IpNet::V4(subnet) = entry.subnet else {
        bail!("the subnet {} is IPv6, which is not supported yet", entry.subnet)
    };
    let flag = |set, bit| if set { bit } else { 0 };
    Ok(Endpoint {
        subnet: V4::new(subnet.network().octets()),
        mask: V4::new(subnet.netmask().octets()),
        gateway: v4(entry.gateway)?,
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

fn publish_value(entry: &PublishEntry) -> anyhow::Result<Publish<V4>> {
    Ok(Publish {
        container: v4(entry.container_address)?,
        host_port: Port::new(entry.host_ports.start()),
        container_port: Port::new(entry.container_ports.start()),
        flags: if entry.from.is_empty() { 0 } else { publish::SOURCES_LISTED },
    })
}

fn port_index(entry: &PublishEntry, port: u16) -> anyhow::Result<u32> {
    abi::port_index(entry.protocol.number(), Port::new(port))
        .with_context(|| format!("{} ports are not published", entry.protocol))
}

fn address_port(entry: &PublishEntry, address: IpAddr, port: u16) -> anyhow::Result<AddressPort<V4>> {
    Ok(AddressPort { address: v4(address)?, port: Port::new(port), protocol: entry.protocol.number(), _pad: 0 })
}

fn admitted_key(source: &IpNet, slot: u32) -> anyhow::Result<Key<Raw<Admitted<V4>>>> {
    let data = Admitted { slot: slot.to_be_bytes(), source: v4(source.network())? };
    Ok(Key::new(32 + u32::from(source.prefix_len()), Raw(data)))
}

fn is_key_of(key: &Key<Raw<Admitted<V4>>>, subnet: &IpNet) -> bool {
    let of_subnet = admitted_key(subnet, abi::INSIDE);
    of_subnet.is_ok_and(|wanted| wanted.prefix_len() == key.prefix_len() && wanted.data().0 == key.data().0)
}

pub(super) fn v4(address: IpAddr) -> anyhow::Result<V4> {
    match address {
        IpAddr::V4(address) => Ok(V4::new(address.octets())),
        IpAddr::V6(address) => bail!("the address {address} is IPv6, which is not supported yet"),
    }
}

/// The address as people write it.
pub(super) fn ip(address: V4) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(address.octets()))
}
