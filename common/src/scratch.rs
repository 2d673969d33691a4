//! Scratch: what the steps of the slow path share about one packet. In the kernel it is a per-CPU
//! map value, because it exceeds the 512 bytes of a BPF stack.

use bytemuck::Zeroable as _;

use crate::{
    abi::{flow_entry::FlowEntry, owner::Owner, uplink::Uplink},
    flow::{
        egress::Egress,
        error::ErrorTranslation,
        new_flow::NewFlow,
        port_walk::{PortWalk, Reservation},
    },
    wire::{
        address::Address, headers::Head, icmp::IcmpError, ipv4::Ipv4, ipv6::Ipv6, packet::Packet,
        tcp_options::MssSearch, tuple::Tuple,
    },
};

/// Scratch for one packet, and for the flow that it may begin.
#[derive(Clone, Copy)]
pub struct Scratch<A> {
    /// The packet as it arrived.
    pub packet: Packet<A>,
    /// Source MAC of the frame.
    pub source_mac: [u8; 6],
    /// The lookup in the flow table was a miss ([`crate::flow::lookup::Lookup::Miss`]).
    pub lookup_missed: bool,
    /// The flow that [`crate::nat::plan::plan`] plans.
    pub new_flow: NewFlow<A>,
    /// The packet's own tuple, while a mapping is created in its place.
    pub original_tuple: Tuple<A>,
    /// Key of the reply entry, whose insert reserves a port ([`crate::nat::create`]).
    pub reply_key: Tuple<A>,
    /// The entry that [`crate::nat::create`] inserts last; its `translation` is the
    /// packet's.
    pub entry: FlowEntry<A>,
    /// Ports that the new flow tries.
    pub walk: PortWalk,
    /// Outcome of the reservation.
    pub reservation: Reservation,
    /// Translation of the packet if it is an ICMP error.
    pub error_translation: ErrorTranslation<A>,
    /// The error that the packet's sender gets, a [`crate::wire::icmp::IcmpErrorKind`]; zero for
    /// none. For a packet that is too long, `entry.translation` has the MTU.
    pub icmp_error_kind: u8,
    /// Search for the MSS option of a SYN.
    pub mss_search: MssSearch,
    /// Frame of the error that the packet's sender gets.
    pub icmp_error: IcmpError,
    /// Headers of the packet after NAT64 to IPv4.
    pub head4: Head<Ipv4>,
    /// Headers of the packet after NAT64 to IPv6.
    pub head6: Head<Ipv6>,
}

impl<A: Address> Scratch<A> {
    /// Scratch for a packet, with nothing planned.
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
            owner: Owner::NONE,
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
            reservation: Reservation::TAKEN,
            error_translation: ErrorTranslation::none(),
            icmp_error_kind: 0,
            mss_search: MssSearch::new(0),
            icmp_error: IcmpError::NONE,
            head4: Head::none(),
            head6: Head::none(),
        }
    }
}
