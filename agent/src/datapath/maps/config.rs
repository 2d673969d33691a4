//! The configuration in the maps: networks, endpoints, publishes, uplinks.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context as _, ensure};
use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use causeway_api::{
    Error,
    types::{
        flow_options::{FlowPolicy, Mapping},
        publish::{PublishPorts, PublishSpec},
    },
};
use causeway_common::{
    abi::{self, Network, maps, nat_behaviour, owner::Owner, time::ticks},
    wire::address::{V4, V6},
};
use ipnet::IpNet;

use super::{
    address::Ip,
    family::{Existing, Family, publish_value},
    raw::Raw,
    slots::Slots,
    take,
};
use crate::datapath::types::{EndpointEntry, PublishTarget};

/// The configuration maps, and what this agent has put into them.
pub(in crate::datapath) struct Tables {
    v4: Family<V4>,
    v6: Family<V6>,
    epochs: Array<MapData, u32>,
    counts: Array<MapData, u64>,
    networks: Array<MapData, Raw<Network>>,
    /// Numbers of networks, by interface index of the bridge.
    numbers: BTreeMap<u32, u32>,
    /// Numbers of networks with endpoint-independent mappings.
    full_cone: BTreeSet<u32>,
    slots: Slots,
    uplinks: BTreeSet<u32>,
    inside: BTreeSet<IpNet>,
    /// Host sides, by the addresses that were put.
    endpoints: BTreeMap<IpAddr, u32>,
    /// Slots, by host side. Includes those that an earlier agent has put.
    host_sides: BTreeMap<u32, u32>,
    publishes: BTreeMap<PublishPorts, Put>,
    /// Draining slots, of publishes that were moved.
    draining: BTreeSet<u32>,
}

/// A publish that this agent has put.
struct Put {
    spec: PublishSpec,
    target: PublishTarget,
    slot: u32,
}

impl Tables {
    /// Takes the maps from the loaded object.
    pub(in crate::datapath) fn open(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let (v4, v6) = (Family::<V4>::open(ebpf)?, Family::<V6>::open(ebpf)?);
        let mut slots = Slots::default();
        for slot in v4.slots_in_use()?.union(&v6.slots_in_use()?) {
            slots.keep(*slot);
        }
        let mut host_sides = v4.host_sides()?;
        host_sides.extend(v6.host_sides()?);
        let mut tables = Self {
            v4,
            v6,
            epochs: take(ebpf, maps::EPOCHS)?,
            counts: take(ebpf, maps::COUNTS)?,
            networks: take(ebpf, maps::NETWORKS)?,
            numbers: BTreeMap::new(),
            full_cone: BTreeSet::new(),
            slots,
            uplinks: BTreeSet::new(),
            inside: BTreeSet::new(),
            endpoints: BTreeMap::new(),
            host_sides,
            publishes: BTreeMap::new(),
            draining: BTreeSet::new(),
        };
        // Flows without a network have the defaults. The flag that says that there are mappings
        // stays until all networks are put again.
        let nat_behaviour = tables.network(0)?.nat_behaviour;
        tables.write_network(0, Network { nat_behaviour, ..Network::DEFAULT })?;
        Ok(tables)
    }

    /// Writes a network, under the number that it has already or a free one. A policy without a
    /// limit of flows per container gets `max_flows`.
    pub(in crate::datapath) fn put_network(
        &mut self,
        bridge: u32,
        policy: &FlowPolicy,
        max_flows: u32,
    ) -> anyhow::Result<()> {
        let full_cone = policy.mapping == Mapping::FullCone;
        let mut network = Network {
            first_port: policy.ports.start().into(),
            ports: policy.ports.count().into(),
            max_flows: policy.max_flows.unwrap_or(max_flows),
            bridge,
            nat_behaviour: if full_cone { nat_behaviour::ENDPOINT_INDEPENDENT } else { 0 },
            ..Network::DEFAULT
        };
        for (timeout, seconds) in &policy.timeouts {
            network.timeouts[timeout.timer() as usize] = ticks(*seconds);
        }
        let number = match self.numbers.get(&bridge) {
            Some(number) => *number,
            None => self.number_for(bridge)?,
        };
        self.write_network(number, network)?;
        self.numbers.insert(bridge, number);
        if full_cone {
            self.full_cone.insert(number);
            self.write_defaults()
        } else {
            self.full_cone.remove(&number);
            Ok(())
        }
    }

    /// Writes network 0: the defaults, and whether any network has mappings.
    fn write_defaults(&mut self) -> anyhow::Result<()> {
        let nat_behaviour =
            if self.full_cone.is_empty() { 0 } else { nat_behaviour::ENDPOINT_INDEPENDENT };
        self.write_network(0, Network { nat_behaviour, ..Network::DEFAULT })
    }

    /// The number that an earlier agent gave the network, because its flows have it, or a free one.
    fn number_for(&self, bridge: u32) -> anyhow::Result<u32> {
        let mut free = None;
        for number in 1..abi::NETWORKS {
            match self.network(number)?.bridge {
                known if known == bridge => return Ok(number),
                0 if free.is_none() => free = Some(number),
                _ => {}
            }
        }
        free.ok_or_else(|| {
            Error::in_use(format!("there is room for {} networks", abi::NETWORKS - 1))
                .hint("remove one first")
                .into()
        })
    }

    /// Removes a network. Succeeds if absent.
    pub(in crate::datapath) fn remove_network(&mut self, bridge: u32) -> anyhow::Result<()> {
        match self.numbers.remove(&bridge) {
            Some(number) => {
                self.write_network(number, Network::DEFAULT)?;
                if self.full_cone.remove(&number) { self.write_defaults() } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    fn network(&self, number: u32) -> anyhow::Result<Network> {
        Ok(self
            .networks
            .get(&number, 0)
            .with_context(|| format!("reading the network {number}"))?
            .0)
    }

    fn write_network(&mut self, number: u32, network: Network) -> anyhow::Result<()> {
        self.networks
            .set(number, Raw(network), 0)
            .with_context(|| format!("writing the network {number}"))
    }

    /// The epoch of a slot.
    fn epoch(&self, slot: u32) -> anyhow::Result<u32> {
        self.epochs.get(&slot, 0).with_context(|| format!("reading the epoch of slot {slot}"))
    }

    /// Writes an uplink. Without an address of a family no flow of it is masqueraded.
    pub(in crate::datapath) fn put_uplink(
        &mut self,
        index: u32,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
        mtu: u32,
    ) -> anyhow::Result<()> {
        self.v4.put_uplink(index, v4.map(|address| V4::new(address.octets())), mtu)?;
        self.v6.put_uplink(index, v6.map(|address| V6::new(address.octets())), mtu)?;
        self.uplinks.insert(index);
        Ok(())
    }

    pub(in crate::datapath) fn remove_uplink(&mut self, index: u32) -> anyhow::Result<()> {
        self.uplinks.remove(&index);
        self.v4.remove_uplink(index)?;
        self.v6.remove_uplink(index)
    }

    /// Writes the subnets of a network. No packet from outside has an address in them.
    pub(in crate::datapath) fn put_subnets(&mut self, subnets: &[IpNet]) -> anyhow::Result<()> {
        for subnet in subnets {
            self.v4.put_subnet(subnet)?;
            self.v6.put_subnet(subnet)?;
            self.inside.insert(*subnet);
        }
        Ok(())
    }

    /// Removes the subnets of a network. Succeeds if absent.
    pub(in crate::datapath) fn remove_subnets(&mut self, subnets: &[IpNet]) -> anyhow::Result<()> {
        for subnet in subnets {
            self.inside.remove(subnet);
            self.v4.remove_subnet(subnet)?;
            self.v6.remove_subnet(subnet)?;
        }
        Ok(())
    }

    /// Returns the addresses that were set before, by any agent, and are not any more.
    pub(in crate::datapath) fn set_local_addresses(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
    ) -> anyhow::Result<BTreeSet<IpAddr>> {
        let mut gone = self.v4.set_local_addresses(addresses)?;
        gone.extend(self.v6.set_local_addresses(addresses)?);
        Ok(gone.into_iter().collect())
    }

    /// Writes an endpoint's address. All addresses at one host side share a slot.
    pub(in crate::datapath) fn put_endpoint(
        &mut self,
        entry: &EndpointEntry,
    ) -> anyhow::Result<()> {
        let number =
            *self.numbers.get(&entry.bridge).context("the endpoint's network is not known")?;
        let kept = self.host_sides.get(&entry.host_side).copied();
        let slot = match kept {
            Some(kept) => kept,
            None => self.take_slot()?,
        };
        let put = self
            .v4
            .put_endpoint(entry, slot, number)
            .and_then(|()| self.v6.put_endpoint(entry, slot, number));
        if let Err(error) = put {
            if kept.is_none() {
                self.free_slot(slot)?;
            }
            return Err(error);
        }
        self.endpoints.insert(entry.address, entry.host_side);
        self.host_sides.insert(entry.host_side, slot);
        Ok(())
    }

    /// Removes an endpoint's address. Returns its host side if that has no other address.
    pub(in crate::datapath) fn remove_endpoint(
        &mut self,
        address: IpAddr,
    ) -> anyhow::Result<Option<u32>> {
        self.v4.remove_endpoint(address)?;
        self.v6.remove_endpoint(address)?;
        let Some(host_side) = self.endpoints.remove(&address) else { return Ok(None) };
        if self.endpoints.values().any(|other| *other == host_side) {
            return Ok(None);
        }
        if let Some(slot) = self.host_sides.remove(&host_side) {
            self.free_slot(slot)?;
        }
        Ok(Some(host_side))
    }

    pub(in crate::datapath) fn put_publish(
        &mut self,
        publish: &PublishSpec,
        target: PublishTarget,
    ) -> anyhow::Result<()> {
        if let Some(put) = self.publishes.get(&publish.ports) {
            ensure!(
                put.target == target && put.spec == *publish,
                "{} is in the datapath otherwise",
                publish.ports
            );
            return Ok(());
        }
        check_served(publish, target)?;
        let slot = match self.kept_slot(publish, target)? {
            Some(kept) => kept,
            None => self.take_slot()?,
        };
        let written = self
            .v4
            .write_publish(publish, target, slot)
            .and_then(|()| self.v6.write_publish(publish, target, slot));
        if let Err(error) = written {
            self.clear_publish(publish, target, slot)?;
            return Err(error);
        }
        self.publishes.insert(publish.ports, Put { spec: publish.clone(), target, slot });
        Ok(())
    }

    /// The slot under which an earlier agent wrote the same publish: in one family at least, and
    /// with nothing else in the other.
    fn kept_slot(
        &self,
        publish: &PublishSpec,
        target: PublishTarget,
    ) -> anyhow::Result<Option<u32>> {
        Ok(match (self.v4.existing(publish, target)?, self.v6.existing(publish, target)?) {
            (Existing::Slot(slot), Existing::Nothing)
            | (Existing::Nothing, Existing::Slot(slot)) => Some(slot),
            (Existing::Slot(slot), Existing::Slot(other)) if slot == other => Some(slot),
            _ => None,
        })
    }

    fn clear_publish(
        &mut self,
        publish: &PublishSpec,
        target: PublishTarget,
        slot: u32,
    ) -> anyhow::Result<()> {
        self.v4.clear_publish(publish, target, slot)?;
        self.v6.clear_publish(publish, target, slot)?;
        self.free_slot(slot)
    }

    pub(in crate::datapath) fn remove_publish(
        &mut self,
        ports: &PublishPorts,
    ) -> anyhow::Result<()> {
        let Some(Put { spec, target, slot }) = self.publishes.get(ports) else { return Ok(()) };
        let (spec, target, slot) = (spec.clone(), *target, *slot);
        self.clear_publish(&spec, target, slot)?;
        self.publishes.remove(ports);
        Ok(())
    }

    /// The slot of a publish that was put.
    pub(in crate::datapath) fn publish_slot(&self, ports: &PublishPorts) -> Option<u32> {
        self.publishes.get(ports).map(|put| put.slot)
    }

    /// Leads a publish to another container: at every moment a packet finds the one or the other.
    /// `resumed` is a draining slot that becomes the publish's again. The slot that it had drains
    /// from now on.
    pub(in crate::datapath) fn move_publish(
        &mut self,
        ports: &PublishPorts,
        to: PublishTarget,
        resumed: Option<u32>,
    ) -> anyhow::Result<()> {
        let put = self.publishes.get(ports).context("it is not in the datapath")?;
        let (spec, from, before) = (put.spec.clone(), put.target, put.slot);
        check_served(&spec, to)?;
        let slot = match resumed {
            Some(slot) => slot,
            None => self.take_slot()?,
        };
        let moved = self
            .v4
            .move_publish(&spec, from, to, slot)
            .and_then(|()| self.v6.move_publish(&spec, from, to, slot));
        if let Err(error) = moved {
            self.v4.move_publish(&spec, to, from, before)?;
            self.v6.move_publish(&spec, to, from, before)?;
            if resumed.is_none() {
                self.free_moved(slot)?;
            }
            return Err(error);
        }
        self.publishes.insert(*ports, Put { spec, target: to, slot });
        self.draining.remove(&slot);
        self.draining.insert(before);
        Ok(())
    }

    /// Keeps a slot that was draining under an earlier agent.
    pub(in crate::datapath) fn keep_draining(&mut self, slot: u32) {
        self.slots.keep(slot);
        self.draining.insert(slot);
    }

    /// Ends the flows of a draining slot. Idempotent.
    pub(in crate::datapath) fn end_draining(&mut self, slot: u32) -> anyhow::Result<()> {
        if self.draining.contains(&slot) {
            self.free_moved(slot)?;
            self.draining.remove(&slot);
        }
        Ok(())
    }

    /// Frees the slot of a publish that no port leads to.
    fn free_moved(&mut self, slot: u32) -> anyhow::Result<()> {
        self.v4.forget_sources(slot)?;
        self.v6.forget_sources(slot)?;
        self.free_slot(slot)
    }

    /// Removes what this agent has not put.
    pub(in crate::datapath) fn settle(&mut self) -> anyhow::Result<()> {
        let host_sides: BTreeSet<u32> = self.endpoints.values().copied().collect();
        self.host_sides.retain(|host_side, _| host_sides.contains(host_side));
        let mut put = self.draining.clone();
        put.extend(self.host_sides.values());
        put.extend(self.publishes.values().map(|put| put.slot));
        // All slots that were found. Ports may have another slot by now, if an agent died between
        // recording a move and making it.
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
        let (of_v4, of_v6) = (self.slots_served::<V4>(), self.slots_served::<V6>());
        self.v4.retain(&self.uplinks, &self.endpoints, &of_v4, &self.inside)?;
        self.v6.retain(&self.uplinks, &self.endpoints, &of_v6, &self.inside)
    }

    /// The slots of the publishes that a family serves, and the draining ones.
    fn slots_served<A: Ip>(&self) -> BTreeSet<u32> {
        let is_served = |put: &&Put| publish_value::<A>(&put.spec, put.target).is_some();
        let served = self.publishes.values().filter(is_served);
        served.map(|put| put.slot).chain(self.draining.iter().copied()).collect()
    }

    fn take_slot(&mut self) -> anyhow::Result<u32> {
        let slot = self.slots.take()?;
        // All flows of the slot's last user are stale, also those that a packet in flight has begun
        // since the slot was freed (R10).
        self.bump(slot)?;
        for index in Owner::count_indexes(slot) {
            self.counts
                .set(index, 0, 0)
                .with_context(|| format!("counting the flows of slot {slot} from zero"))?;
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

fn check_served(publish: &PublishSpec, target: PublishTarget) -> anyhow::Result<()> {
    let is_served = publish_value::<V4>(publish, target).is_some()
        || publish_value::<V6>(publish, target).is_some();
    ensure!(
        is_served,
        Error::invalid("the container has no address of the family of the publish's host address")
    );
    Ok(())
}
