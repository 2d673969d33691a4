//! The programs and maps in the kernel: load, pin, attach, write. The only module that uses aya.
//!
//! Everything is pinned under `/sys/fs/bpf/causeway/INSTANCE/vLAYOUT`, so that the datapath keeps
//! working while no agent runs. A new agent of the same instance loads its programs over the pinned
//! maps, puts again what its state file names, and calls [`Datapath::settle`] to remove the rest.

mod attach;
mod collect;
mod maps;
mod object;
mod pins;
#[cfg(test)]
mod stack;
mod test_run;
#[cfg(feature = "trace")]
mod trace;
mod types;

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::Context as _;
use aya::programs::SchedClassifier;
use causeway_api::types::{
    device::Device,
    flow_options::FlowPolicy,
    mac::Mac,
    publish::{PublishPorts, PublishSpec},
};
use causeway_common::abi::programs;
use ipnet::IpNet;

use self::{
    attach::{Attached, Hook},
    collect::Collector,
    maps::{config::Tables, flow_table::FlowTable, host_sockets::HostSockets, xdp::XdpMaps},
    pins::Pins,
};
pub use self::{
    maps::counters::Counters,
    test_run::{Action, Entry, Trial},
    types::*,
};

/// The loaded datapath of one instance.
pub struct Datapath {
    attached: Attached,
    tables: Tables,
    flows: FlowTable,
    collector: Collector,
    counters: Counters,
    xdp: XdpMaps,
    sockets: HostSockets,
}

impl fmt::Debug for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // aya's maps are not `Debug`.
        f.debug_struct("Datapath").field("attached", &self.attached).finish_non_exhaustive()
    }
}

impl Datapath {
    /// Loads the programs, reusing the pinned maps of an earlier agent of the instance. Mounts
    /// bpffs on `/sys/fs/bpf` if it is not mounted.
    pub fn load(options: &LoadOptions) -> anyhow::Result<Self> {
        let pins = Pins::prepare(&options.instance)?;
        let mut ebpf = object::load(options, &pins)?;
        #[cfg(feature = "trace")]
        trace::forward(&mut ebpf)?;
        let tables = Tables::open(&mut ebpf)?;
        let counters = Counters::open(&mut ebpf)?;
        let xdp = XdpMaps::open(&mut ebpf)?;
        let flow_gc: &mut SchedClassifier = ebpf
            .program_mut(programs::FLOW_GC)
            .with_context(|| format!("the object lacks the program '{}'", programs::FLOW_GC))?
            .try_into()?;
        let flows = FlowTable::open(flow_gc, &pins)?;
        let collector = Collector::start(FlowTable::open(flow_gc, &pins)?)?;
        let sockets = HostSockets::open(&pins)?;
        let attached = Attached::new(ebpf, pins, options)?;
        Ok(Self { attached, tables, flows, collector, counters, xdp, sockets })
    }

    /// The capacity of the flow table in flows, per family: that of an earlier agent if its table
    /// was kept.
    pub fn room(&self) -> u32 {
        self.flows.room()
    }

    /// Removes all links, programs, maps and pins of the instance. Succeeds if there are none.
    /// Needs no loaded datapath.
    ///
    /// Returns the interfaces that still have a clsact qdisc that was added for our programs. The
    /// calling thread must be in their namespace.
    pub fn remove(instance: &str) -> anyhow::Result<Vec<u32>> {
        let left = attach::clsact::remove_filters(instance)?;
        pins::remove(instance)?;
        Ok(left)
    }

    /// Attaches to an uplink of `mtu` bytes. Masqueraded flows get its address of their family;
    /// without one, no flow of that family is masqueraded. A second call is an update for new
    /// flows.
    pub fn put_uplink(
        &mut self,
        uplink: &Interface,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
        mtu: u32,
    ) -> anyhow::Result<()> {
        self.tables.put_uplink(uplink.index, v4, v6, mtu)?;
        self.attached.put(Hook::UplinkOut, uplink)?;
        self.attached.put(Hook::Uplink, uplink)
    }

    /// Detaches from an uplink, and ends its flows. Succeeds if the uplink is absent.
    pub fn remove_uplink(&mut self, index: u32) -> anyhow::Result<()> {
        self.tables.remove_uplink(index)?;
        self.flows.end_of_interface(index)?;
        self.remove_xdp(index)?;
        self.attached.remove(Hook::Uplink, index)?;
        self.attached.remove(Hook::UplinkOut, index)
    }

    /// Attaches the XDP program to the driver of an uplink, for frames to that MAC. A second call
    /// is an update. The error says why the driver refuses it.
    pub fn put_xdp(&mut self, uplink: &Interface, mac: Mac) -> anyhow::Result<()> {
        self.xdp.put_mac(uplink.index, mac)?;
        self.attached.put_xdp(uplink)
    }

    /// Detaches the XDP program from an uplink. Succeeds if absent.
    pub fn remove_xdp(&mut self, index: u32) -> anyhow::Result<()> {
        self.attached.remove_xdp(index)?;
        self.xdp.remove_mac(index)
    }

    /// Lets XDP redirect frames to that host side. Its container side must accept them
    /// ([`causeway_netlink::ethtool::receive_by_napi`]). The entry goes with the interface.
    pub fn put_receiver(&mut self, host_side: u32) -> anyhow::Result<()> {
        self.xdp.put_receiver(host_side)
    }

    /// Attaches the guard to a bridge, and makes its network's subnets and terms known. Again is an
    /// update: flows go by new timeouts from their next state on.
    pub fn put_bridge(
        &mut self,
        bridge: &Interface,
        subnets: &[IpNet],
        policy: &FlowPolicy,
    ) -> anyhow::Result<()> {
        self.tables.put_network(bridge.index, policy, self.flows.room() / 2)?;
        self.tables.put_subnets(subnets)?;
        self.attached.put(Hook::Bridge, bridge)
    }

    /// Detaches from a bridge, and removes its network. Succeeds if the bridge is absent.
    pub fn remove_bridge(&mut self, index: u32, subnets: &[IpNet]) -> anyhow::Result<()> {
        self.tables.remove_network(index)?;
        self.tables.remove_subnets(subnets)?;
        self.attached.remove(Hook::Bridge, index)
    }

    /// Sets the addresses of the host, on any interface but loopback. Returns those that were set
    /// before, by an earlier agent too, and are not any more.
    pub fn set_local_addresses(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
    ) -> anyhow::Result<BTreeSet<IpAddr>> {
        self.tables.set_local_addresses(addresses)
    }

    /// Ends the flows from and to these addresses of the host. Returns their number.
    pub fn end_flows_of_addresses(&mut self, addresses: &BTreeSet<IpAddr>) -> anyhow::Result<u64> {
        self.flows.end_of_addresses(addresses)
    }

    /// Attaches to an endpoint's host side, and writes one of its addresses. Idempotent.
    pub fn put_endpoint(
        &mut self,
        endpoint: &EndpointEntry,
        host_side: &Interface,
    ) -> anyhow::Result<()> {
        // First, because the program drops packets of unknown addresses as spoofed.
        self.tables.put_endpoint(endpoint)?;
        self.attached.put(Hook::HostSide, host_side)?;
        match endpoint.device {
            Device::Veth => Ok(()),
            Device::Netkit => self.attached.put(Hook::ContainerSide, host_side),
        }
    }

    /// Removes an endpoint's address, and with its last address the endpoint, whose flows end at
    /// once. Its publishes must have been removed.
    pub fn remove_endpoint(&mut self, address: IpAddr) -> anyhow::Result<()> {
        if let Some(host_side) = self.tables.remove_endpoint(address)? {
            self.attached.remove(Hook::HostSide, host_side)?;
            self.attached.remove(Hook::ContainerSide, host_side)?;
            // Flows through its slot, which are stale already, and those toward other endpoints.
            self.flows.end_of_interface(host_side)?;
        }
        Ok(())
    }

    /// Publishes ports of the host at a container. Idempotent.
    pub fn put_publish(
        &mut self,
        publish: &PublishSpec,
        target: PublishTarget,
    ) -> anyhow::Result<()> {
        self.tables.put_publish(publish, target)
    }

    /// Ends a publish and its flows at once. Succeeds if absent.
    pub fn remove_publish(&mut self, ports: &PublishPorts) -> anyhow::Result<()> {
        self.tables.remove_publish(ports)
    }

    /// The slot of a publish that was put: flows carry its number.
    pub fn publish_slot(&self, ports: &PublishPorts) -> Option<u32> {
        self.tables.publish_slot(ports)
    }

    /// Moves a publish that was put to another container, and gives it the draining slot `resumed`
    /// if there is one. Its old slot drains: the flows go on until [`Self::end_draining`].
    pub fn move_publish(
        &mut self,
        ports: &PublishPorts,
        target: PublishTarget,
        resumed: Option<u32>,
    ) -> anyhow::Result<()> {
        self.tables.move_publish(ports, target, resumed)
    }

    /// Keeps a slot that was draining under an earlier agent. Must be called before the first put.
    pub fn keep_draining(&mut self, slot: u32) {
        self.tables.keep_draining(slot);
    }

    /// Ends the flows of a draining slot at once. Idempotent.
    pub fn end_draining(&mut self, slot: u32) -> anyhow::Result<()> {
        self.tables.end_draining(slot)
    }

    /// Sockets of the host that are connected with a container through a published port. Some may
    /// be closed already.
    pub fn host_sockets(&self) -> anyhow::Result<Vec<HostSocket>> {
        self.sockets.list()
    }

    /// Removes the entry of a socket. Succeeds if absent.
    pub fn forget_host_socket(&mut self, socket: &HostSocket) -> anyhow::Result<()> {
        self.sockets.forget(socket)
    }

    /// Removes what an earlier agent has put and this one has not.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        self.tables.settle().context("removing what an earlier agent left in the maps")?;
        self.attached.settle()?;
        self.attached.settle_xdp()?;
        self.attached.remove_other_layouts()
    }

    /// The live flows.
    pub fn flows(&self) -> anyhow::Result<Vec<FlowRecord>> {
        self.flows.list()
    }

    /// Ends all flows, also host flows, which [`Self::flows`] does not list. Returns their number.
    pub fn flush_flows(&mut self) -> anyhow::Result<u64> {
        self.flows.flush()
    }

    /// Ends the live flows for which `wanted` is true. Returns their number.
    pub fn end_flows(&self, wanted: impl Fn(&FlowRecord) -> bool) -> anyhow::Result<u64> {
        self.flows.end_live(wanted)
    }

    /// Wakes the thread that removes expired and stale entries. Called every few seconds.
    pub fn collect(&mut self) -> anyhow::Result<()> {
        self.collector.collect();
        Ok(())
    }

    /// Runs a frame through the program at `entry`, as if it arrived at the interface `index` and
    /// came to the host by `came_by` (zero: the host itself made it). Flows start, move on and are
    /// counted as with real packets, but no packet is sent.
    ///
    /// The kernel looks for the interface in the calling thread's namespace, and takes no frame
    /// shorter than an Ethernet header.
    pub fn try_frame(
        &self,
        entry: Entry,
        index: u32,
        came_by: u32,
        frame: &[u8],
    ) -> anyhow::Result<Trial> {
        self.attached.try_frame(entry, index, came_by, frame)
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
