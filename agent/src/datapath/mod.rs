//! The programs and maps in the kernel: load, pin, attach, write. The only module that names aya.
//!
//! Everything is pinned under `/sys/fs/bpf/causeway/INSTANCE/vN`, so that the datapath works on
//! while no agent runs. A new agent of the same instance loads its programs over the pinned maps,
//! puts again what its state file names, and calls [`Datapath::settle`] to drop the rest.

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
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::Context as _;
use aya::programs::SchedClassifier;
use causeway_api::types::{
    device::Device,
    mac::Mac,
    publish::{PublishPorts, PublishSpec},
};
use causeway_common::abi::programs;
use ipnet::IpNet;

use self::{
    attach::{Attached, Hook},
    collect::Sweeper,
    maps::{
        config::Tables, flow_table::FlowTable, host_sockets::HostSockets, stats::Stats,
        xdp::XdpMaps,
    },
    pins::Pins,
};
pub use self::{
    test_run::{Action, Entry, Trial},
    types::*,
};

/// The loaded datapath of one instance.
pub struct Datapath {
    attached: Attached,
    tables: Tables,
    flows: FlowTable,
    sweeper: Sweeper,
    stats: Stats,
    xdp: XdpMaps,
    sockets: HostSockets,
}

impl fmt::Debug for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // aya's maps have nothing to show.
        f.debug_struct("Datapath").field("attached", &self.attached).finish_non_exhaustive()
    }
}

impl Datapath {
    /// Loads the programs (mounting bpffs on `/sys/fs/bpf` if nothing is), reusing what an earlier
    /// agent of the instance left.
    pub fn load(options: &LoadOptions) -> anyhow::Result<Self> {
        let pins = Pins::prepare(&options.instance)?;
        let mut ebpf = object::load(options, &pins)?;
        #[cfg(feature = "trace")]
        trace::forward(&mut ebpf)?;
        let tables = Tables::open(&mut ebpf)?;
        let stats = Stats::open(&mut ebpf)?;
        let xdp = XdpMaps::open(&mut ebpf)?;
        let sweep: &mut SchedClassifier = ebpf
            .program_mut(programs::FLOW_GC)
            .context("the object lacks the program 'sweep'")?
            .try_into()?;
        let flows = FlowTable::open(sweep, &pins)?;
        let sweeper = Sweeper::start(FlowTable::open(sweep, &pins)?)?;
        let sockets = HostSockets::open(&pins)?;
        let attached = Attached::new(ebpf, pins, options)?;
        Ok(Self { attached, tables, flows, sweeper, stats, xdp, sockets })
    }

    /// How many flows there is room for, in each family: that of an earlier agent, if its table was
    /// kept.
    pub fn room(&self) -> u32 {
        self.flows.room()
    }

    /// Removes all that the instance has in the kernel: links, programs, maps, pins. Nothing there
    /// is done. Needs no loaded datapath.
    ///
    /// Answers the interfaces that are left with a clsact qdisc that was made for a program of
    /// ours. The calling thread must be in their namespace.
    pub fn remove(instance: &str) -> anyhow::Result<Vec<u32>> {
        let left = attach::clsact::remove_filters(instance)?;
        pins::remove(instance)?;
        Ok(left)
    }

    /// Attaches to an uplink of `mtu` bytes; masqueraded flows get its address of their family, and
    /// without one there are none. Again is an update for flows that begin from then on.
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

    /// Detaches from an uplink. One that is gone is done.
    pub fn remove_uplink(&mut self, index: u32) -> anyhow::Result<()> {
        self.tables.remove_uplink(index)?;
        self.flows.end_of_interface(index)?;
        self.remove_xdp(index)?;
        self.attached.remove(Hook::Uplink, index)?;
        self.attached.remove(Hook::UplinkOut, index)
    }

    /// Lets an uplink's driver run the XDP program, on frames for that MAC. Again is an update. An
    /// error says what keeps the driver from it.
    pub fn put_xdp(&mut self, uplink: &Interface, mac: Mac) -> anyhow::Result<()> {
        self.xdp.put_mac(uplink.index, mac)?;
        self.attached.put_xdp(uplink)
    }

    /// Lets it run none. Absent is done.
    pub fn remove_xdp(&mut self, index: u32) -> anyhow::Result<()> {
        self.attached.remove_xdp(index)?;
        self.xdp.remove_mac(index)
    }

    /// From now on XDP may send frames out of that host side, whose container side must take them
    /// ([`causeway_netlink::ethtool::receive_by_napi`]). It is forgotten with the interface.
    pub fn put_receiver(&mut self, host_side: u32) -> anyhow::Result<()> {
        self.xdp.put_receiver(host_side)
    }

    /// Attaches the guard to a bridge, and makes its network's subnets and terms known. Again is an
    /// update: flows go by new timeouts from their next state on.
    pub fn put_bridge(
        &mut self,
        bridge: &Interface,
        subnets: &[IpNet],
        terms: &Terms,
    ) -> anyhow::Result<()> {
        self.tables.put_network(bridge.index, terms)?;
        self.tables.put_subnets(subnets)?;
        self.attached.put(Hook::Bridge, bridge)
    }

    /// Detaches from a bridge. One that is gone is done.
    pub fn remove_bridge(&mut self, index: u32, subnets: &[IpNet]) -> anyhow::Result<()> {
        self.tables.remove_network(index)?;
        self.tables.remove_subnets(subnets)?;
        self.attached.remove(Hook::Bridge, index)
    }

    /// The addresses that are the host's own, on whatever interface, loopback's left out. Answers
    /// those that are so no longer, also if it was an earlier agent that they were told.
    pub fn set_local_addresses(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
    ) -> anyhow::Result<BTreeSet<IpAddr>> {
        self.tables.set_local_addresses(addresses)
    }

    /// Ends the flows that leave with these addresses of the host or are addressed to them; answers
    /// how many.
    pub fn end_flows_of_addresses(&mut self, addresses: &BTreeSet<IpAddr>) -> anyhow::Result<u64> {
        self.flows.end_of_addresses(addresses)
    }

    /// Attaches to an endpoint's host side and makes one of its addresses known. Again, unchanged,
    /// is done.
    pub fn put_endpoint(
        &mut self,
        endpoint: &EndpointEntry,
        host_side: &Interface,
    ) -> anyhow::Result<()> {
        // Known first: a packet that the program sees before that would be taken for a spoofed one.
        self.tables.put_endpoint(endpoint)?;
        self.attached.put(Hook::HostSide, host_side)?;
        match endpoint.device {
            Device::Veth => Ok(()),
            Device::Netkit => self.attached.put(Hook::ContainerSide, host_side),
        }
    }

    /// Forgets an endpoint's address, and with the last one the endpoint, whose flows end at once.
    /// Its publishes must have been removed.
    pub fn remove_endpoint(&mut self, address: IpAddr) -> anyhow::Result<()> {
        if let Some(host_side) = self.tables.remove_endpoint(address)? {
            self.attached.remove(Hook::HostSide, host_side)?;
            self.attached.remove(Hook::ContainerSide, host_side)?;
            // Those that its slot's epoch has ended, and those that it began toward others.
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

    /// Leads a publish that was put to another container, and gives it the draining slot `resumed`
    /// if there is one. The slot that it had drains from then on: its flows go on until
    /// [`Self::end_draining`].
    pub fn move_publish(
        &mut self,
        ports: &PublishPorts,
        target: PublishTarget,
        resumed: Option<u32>,
    ) -> anyhow::Result<()> {
        self.tables.move_publish(ports, target, resumed)
    }

    /// Keeps a slot that drains since an earlier agent. To be called before anything is put.
    pub fn keep_draining(&mut self, slot: u32) {
        self.tables.keep_draining(slot);
    }

    /// Ends the flows of a slot that drains at once. Again is done.
    pub fn end_draining(&mut self, slot: u32) -> anyhow::Result<()> {
        self.tables.end_draining(slot)
    }

    /// The sockets of the host's that a published port connected with a container, and some that
    /// were.
    pub fn host_sockets(&self) -> anyhow::Result<Vec<HostSocket>> {
        self.sockets.list()
    }

    /// Forgets what a socket meant. Gone is done.
    pub fn forget_host_socket(&mut self, socket: &HostSocket) -> anyhow::Result<()> {
        self.sockets.forget(socket)
    }

    /// Drops what the kernel holds from an earlier agent and was not put again.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        self.tables.settle().context("dropping what an earlier agent left in the tables")?;
        self.attached.settle()?;
        self.attached.settle_xdp()?;
        self.attached.remove_other_layouts()
    }

    /// The live flows.
    pub fn flows(&self) -> anyhow::Result<Vec<FlowRecord>> {
        self.flows.list()
    }

    /// Ends every flow, the host's own and what is hidden from [`Self::flows`] too; answers how
    /// many.
    pub fn flush_flows(&mut self) -> anyhow::Result<u64> {
        self.flows.flush()
    }

    /// Ends the live flows that are wanted; answers how many.
    pub fn end_flows(&self, wanted: impl Fn(&FlowRecord) -> bool) -> anyhow::Result<u64> {
        self.flows.end_live(wanted)
    }

    /// Frees the entries of flows that have ended. Called every few seconds; the work is done by a
    /// thread of its own.
    pub fn sweep(&mut self) -> anyhow::Result<()> {
        self.sweeper.sweep();
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

    /// Every reason's count since the load.
    pub fn reasons(&self) -> anyhow::Result<BTreeMap<&'static str, u64>> {
        self.stats.reasons()
    }
}
