//! The model: the tables of the bench in ordinary collections, and the pure decisions for a frame.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use causeway::datapath::{EndpointEntry, Entry};
use causeway_api::types::publish::PublishSpec;
use causeway_common::{
    abi::Deliver,
    abi::{
        self, Endpoint, Macs, Network, Publish, Translation, Uplink, drop_reason::DropReason,
        network,
    },
    pipeline::Family,
    testing::{
        model::Model,
        steps::{self, Decision},
    },
    wire::{
        address::{Address, Port, V4, V6},
        packet::Arrival,
        tuple::{Side, Tuple},
    },
    xdp::{self, XdpVerdict},
};
use ipnet::IpNet;

use super::PublishEntry;
use crate::family;

/// The models of both families.
#[derive(Debug, Default)]
pub struct Models {
    /// IPv4.
    pub v4: Model<V4>,
    /// IPv6.
    pub v6: Model<V6>,
}

/// The pure decision for a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pure {
    /// The frame leaves.
    Leave(Leaving),
    /// The frame is a fragment and leaves.
    LeaveFragment(Leaving),
    /// The frame is an ICMP error and leaves: source and destination of the translated quote.
    LeaveError(Leaving, [(IpAddr, u16); 2]),
    /// The fragment and those queued for it are reinjected.
    Reinject,
    /// The frame is dropped or punted.
    Stop(DropReason),
    /// The packet exceeds this MTU, in bytes.
    TooLong(u16),
}

/// How and where a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Index of the egress interface.
    pub output: u32,
    /// Translated source.
    pub source: (IpAddr, u16),
    /// Translated destination.
    pub destination: (IpAddr, u16),
    /// A number of [`abi::Deliver`].
    pub deliver: Deliver,
    /// MAC of the destination, if known.
    pub mac: [u8; 6],
}

/// A family with a model.
trait Modelled: Family {
    /// `None` for the other family.
    fn of(address: IpAddr) -> Option<Self>;
    fn ip(self) -> IpAddr;
}

impl Modelled for V4 {
    fn of(address: IpAddr) -> Option<Self> {
        if let IpAddr::V4(address) = address { Some(Self::new(address.octets())) } else { None }
    }

    fn ip(self) -> IpAddr {
        Ipv4Addr::from(self.octets()).into()
    }
}

impl Modelled for V6 {
    fn of(address: IpAddr) -> Option<Self> {
        if let IpAddr::V6(address) = address { Some(Self::new(address.octets())) } else { None }
    }

    fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.octets()).into()
    }
}

impl Models {
    pub(super) fn put_subnets(&mut self, subnets: &[IpNet]) {
        for subnet in subnets {
            admit(&mut self.v4, abi::SLOT_LOCAL_SUBNETS, subnet);
            admit(&mut self.v6, abi::SLOT_LOCAL_SUBNETS, subnet);
        }
    }

    pub(super) fn put_local(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.v4.local.extend(addresses.iter().filter_map(|address| V4::of(*address)));
        self.v6.local.extend(addresses.iter().filter_map(|address| V6::of(*address)));
    }

    pub(super) fn put_route(&mut self, to: &IpNet, output: u32) {
        self.v4.routes.extend(bounds(to).map(|(subnet, mask)| (subnet, mask, output)));
        self.v6.routes.extend(bounds(to).map(|(subnet, mask)| (subnet, mask, output)));
    }

    pub(super) fn put_uplink(&mut self, index: u32, addresses: &[IpAddr], mtu: u32) {
        self.v4.uplinks.extend(
            addresses
                .iter()
                .filter_map(|own| Some((index, Uplink { address: V4::of(*own)?, mtu }))),
        );
        self.v6.uplinks.extend(
            addresses
                .iter()
                .filter_map(|own| Some((index, Uplink { address: V6::of(*own)?, mtu }))),
        );
    }

    pub(super) fn put_receiver(&mut self, host_side: u32) {
        self.v4.receivers.insert(host_side);
        self.v6.receivers.insert(host_side);
    }

    pub(super) fn put_full_cone(&mut self) {
        let full_cone =
            Network { nat_behaviour: abi::nat_behaviour::ENDPOINT_INDEPENDENT, ..Network::DEFAULT };
        self.v4.networks.insert(0, full_cone);
        self.v6.networks.insert(0, full_cone);
    }

    pub(super) fn put_endpoint(&mut self, entry: &EndpointEntry, slot: u32) {
        put_endpoint(&mut self.v4, entry, slot);
        put_endpoint(&mut self.v6, entry, slot);
    }

    pub(super) fn put_publish(&mut self, entry: &PublishEntry, slot: u32) {
        put_publish(&mut self.v4, entry, entry.target.v4.map(|own| V4::new(own.octets())), slot);
        put_publish(&mut self.v6, entry, entry.target.v6.map(|own| V6::new(own.octets())), slot);
    }

    pub(super) fn flush(&self) {
        flush(&self.v4);
        flush(&self.v6);
    }

    pub(super) fn decide_early(&self, input: u32, frame: &[u8]) -> XdpVerdict<Vec<u8>> {
        match family::of_frame(frame) {
            Some(family::V4) => decide_early(&self.v4, input, frame),
            Some(family::V6) => decide_early(&self.v6, input, frame),
            None => XdpVerdict::Pass,
        }
    }

    pub(super) fn decide(&self, entry: Entry, input: u32, frame: &[u8]) -> Option<Pure> {
        match family::of_frame(frame)? {
            family::V4 => decide(&self.v4, entry, input, frame),
            family::V6 => decide(&self.v6, entry, input, frame),
        }
    }
}

fn decide_early<A: Modelled>(model: &Model<A>, input: u32, frame: &[u8]) -> XdpVerdict<Vec<u8>> {
    let length = u32::try_from(frame.len()).expect("a short frame");
    let arrival = Arrival { side: Side::UPLINK, input, length, gso_size: 0 };
    let Ok(packet) = A::parse_usual(frame, arrival) else { return XdpVerdict::Pass };
    match xdp::decide(frame, &packet, model) {
        XdpVerdict::Forward(half) => {
            let mut frame = frame.to_vec();
            xdp::rewrite(&mut frame[..], &packet, &half.translation).expect("it is long enough");
            XdpVerdict::Forward(frame)
        }
        XdpVerdict::Drop(reason) => XdpVerdict::Drop(reason),
        XdpVerdict::Pass => XdpVerdict::Pass,
    }
}

/// Subnet and mask, if they belong to the family.
fn bounds<A: Modelled>(subnet: &IpNet) -> Option<(A, A)> {
    Some((A::of(subnet.network())?, A::of(subnet.netmask())?))
}

fn admit<A: Modelled>(model: &mut Model<A>, slot: u32, source: &IpNet) {
    model.admitted.extend(bounds(source).map(|(subnet, mask)| (slot, subnet, mask)));
}

fn put_endpoint<A: Modelled>(model: &mut Model<A>, entry: &EndpointEntry, slot: u32) {
    let (Some(address), Some(gateway)) = (A::of(entry.address), A::of(entry.gateway)) else {
        return;
    };
    let (subnet, mask) = bounds(&entry.subnet).expect("it is of the gateway's family");
    let flag = |set: bool, flag| if set { flag } else { 0 };
    let network = flag(entry.masquerade, network::MASQUERADE)
        | flag(entry.internal, network::INTERNAL)
        | flag(!entry.icc, network::NO_ICC);
    let (host_side, bridge, mtu) = (entry.host_side, entry.bridge, entry.mtu);
    let macs = Macs::new(entry.mac.0, entry.bridge_mac.0);
    let endpoint = Endpoint {
        subnet,
        mask,
        gateway,
        host_side,
        bridge,
        slot,
        network,
        network_number: 0,
        mtu,
        macs,
    };
    model.endpoints.insert(address, endpoint);
}

fn put_publish<A: Modelled>(
    model: &mut Model<A>,
    entry: &PublishEntry,
    container: Option<A>,
    slot: u32,
) {
    let Some(container) = container else { return };
    let PublishSpec { ports, options } = &entry.spec;
    let host_address = match ports.host_address.map(A::of) {
        Some(None) => return,
        Some(address) => address,
        None => None,
    };
    for port in ports.host_ports {
        model.ports.insert((ports.protocol.number(), Port::new(port), host_address), slot);
    }
    let publish = Publish {
        container,
        host_port: Port::new(ports.host_ports.start()),
        container_port: Port::new(ports.container_ports.start()),
        flags: if options.from.is_empty() { 0 } else { abi::publish::SOURCES_LISTED },
    };
    model.publishes.insert(slot, publish);
    for source in &options.from {
        admit(model, slot, source);
    }
}

fn flush<A: Address>(model: &Model<A>) {
    model.flows.borrow_mut().clear();
    model.datagrams.borrow_mut().clear();
    model.fragment_queue.borrow_mut().clear();
    model.reinjected.borrow_mut().clear();
}

fn decide<A: Modelled>(model: &Model<A>, entry: Entry, input: u32, frame: &[u8]) -> Option<Pure> {
    let side = if entry == Entry::HostSide { Side::CONTAINER } else { Side::UPLINK };
    let length = u32::try_from(frame.len()).expect("a short frame");
    let packet = A::parse(frame, Arrival { side, input, length, gso_size: 0 }).ok()?;
    model.frame.replace(frame.to_vec());
    Some(match steps::decide(frame, &packet, model) {
        Decision::Forward(translation) => Pure::Leave(leaving(&translation)),
        Decision::ForwardFragment(translation, _) => Pure::LeaveFragment(leaving(&translation)),
        Decision::ForwardError(error) => {
            let [source, destination] = ends(&error.quoted);
            Pure::LeaveError(leaving(&error.outer), [source, destination])
        }
        Decision::Reinject => Pure::Reinject,
        Decision::Stop(reason) => Pure::Stop(reason),
        Decision::TooLong(mtu) => Pure::TooLong(mtu),
    })
}

fn ends<A: Modelled>(tuple: &Tuple<A>) -> [(IpAddr, u16); 2] {
    [
        (tuple.source.ip(), tuple.source_port.get()),
        (tuple.destination.ip(), tuple.destination_port.get()),
    ]
}

fn leaving<A: Modelled>(translation: &Translation<A>) -> Leaving {
    let [source, destination] = ends(&translation.tuple);
    let Translation { output, deliver, macs, .. } = *translation;
    Leaving { output, source, destination, deliver, mac: macs.destination() }
}
