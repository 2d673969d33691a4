//! What the steps of one packet hand on to each other: in the kernel it lies in a map, because it is
//! more than the 512 bytes of a BPF stack.

use bytemuck::Zeroable as _;

use crate::{
    abi::{flow_entry::FlowEntry, uplink::Uplink},
    flow::{
        egress::Egress,
        error::ErrorTranslation,
        new_flow::NewFlow,
        port_walk::{PortWalk, reservation},
    },
    wire::{
        address::Address, headers::Head, icmp::IcmpError, ipv4::Ipv4, ipv6::Ipv6, packet::Packet,
        tcp_options::MssSearch, tuple::Tuple,
    },
};

/// A packet of no flow, and the flow that it may begin.
#[derive(Clone, Copy)]
pub struct Scratch<A> {
    /// As it arrived.
    pub packet: Packet<A>,
    /// The frame's source MAC.
    pub source_mac: [u8; 6],
    /// The flow table has been asked about it, and has none ([`crate::flow::lookup::Lookup::Miss`]).
    pub lookup_missed: bool,
    /// What [`plan`] answers.
    pub new_flow: NewFlow<A>,
    /// The packet's tuple, while a mapping is begun in its place.
    pub original_tuple: Tuple<A>,
    /// The key that [`crate::create`] reserves.
    pub reply_key: Tuple<A>,
    /// What [`crate::nat::create::create`] answers: its `translation` is the packet's.
    pub entry: FlowEntry<A>,
    /// The ports that it tries.
    pub walk: PortWalk,
    /// How that went: one of [`crate::flow::port_walk::reservation`].
    pub reservation: u8,
    /// How it is translated if it is an ICMP error.
    pub error_translation: ErrorTranslation<A>,
    /// A [`crate::wire::icmp::IcmpErrorKind`]: why its sender gets an error instead. If it is too long, for what
    /// `entry.translation` says.
    pub icmp_error_kind: u8,
    /// Where a SYN says how long segments may be.
    pub mss_search: MssSearch,
    /// That error.
    pub icmp_error: IcmpError,
    /// What it gets where it becomes an IPv4 packet.
    pub head4: Head<Ipv4>,
    /// What it gets where it becomes an IPv6 packet.
    pub head6: Head<Ipv6>,
}

impl<A: Address> Scratch<A> {
    /// Nothing is planned yet.
    pub fn new(packet: Packet<A>, source_mac: [u8; 6]) -> Self {
        let entry = FlowEntry::zeroed();
        let egress = Egress::uplink(0, &Uplink { address: packet.tuple.source, mtu: 0 });
        let new_flow = NewFlow {
            translated: packet.tuple,
            forward: egress,
            reply: egress,
            forward_input: 0,
            reply_input: 0,
            slot: 0,
            epoch: 0,
            owner: 0,
            network: 0,
            uses_host_address: false,
        };
        Self {
            packet,
            source_mac,
            lookup_missed: false,
            new_flow,
            original_tuple: packet.tuple,
            reply_key: packet.tuple,
            entry,
            walk: PortWalk::NOT_BEGUN,
            reservation: reservation::TAKEN,
            error_translation: ErrorTranslation::none(),
            icmp_error_kind: 0,
            mss_search: MssSearch::new(0),
            icmp_error: IcmpError::NONE,
            head4: Head::none(),
            head6: Head::none(),
        }
    }
}
