//! The fixture of tests in both families: two containers behind a host, and the world outside.

use bytemuck::AnyBitPattern;
use core::cell::Cell;
use std::vec::Vec;

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    abi::{
        drop_reason::DropReason,
        endpoint::Endpoint,
        macs::Macs,
        network,
        publish::{self, Publish},
        translation::Translation,
        uplink::Uplink,
    },
    pipeline::Family,
    testing::{
        model::Model,
        steps::{Decision, decide},
    },
    wire::{
        address::{Address, Port, V4, V6},
        checksum,
        ethernet::ETHERNET,
        frame::Frame,
        ipv4::Ipv4,
        ipv6::Ipv6,
        packet::{Arrival, Packet, Payload},
        protocol,
        tuple::{Echo, Side, Tuple},
    },
};

/// Makes tests `v4::NAME` and `v6::NAME` of each generic function.
macro_rules! families {
    ($($name:ident),+ $(,)?) => {
        mod v4 {
            $(#[test] fn $name() { super::$name::<crate::wire::address::V4>(); })+
        }
        mod v6 {
            $(#[test] fn $name() { super::$name::<crate::wire::address::V6>(); })+
        }
    };
}

pub(crate) use families;

pub(crate) const UPLINK: u32 = 2;

pub(crate) const BRIDGE: u32 = 5;

pub(crate) const C1_SIDE: u32 = 11;

pub(crate) const C2_SIDE: u32 = 12;

pub(crate) const C1_SLOT: u32 = 1;

pub(crate) const C2_SLOT: u32 = 2;

pub(crate) const PUBLISH_SLOT: u32 = 3;

/// MACs of the containers, and of their bridge.
pub(crate) const C1_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc1];

pub(crate) const C2_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc2];

pub(crate) const BRIDGE_MAC: [u8; 6] = [4; 6];

/// Header fields that both families have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// TTL or hop limit.
    pub(crate) hops: u8,
    /// IPv4 options in units of four bytes, or IPv6 destination options in units of eight.
    pub(crate) options: usize,
}

impl Head {
    pub(crate) const USUAL: Self = Self { hops: 64, options: 0 };
    /// Most units of options that the parser accepts in both families.
    pub(crate) const OPTIONS: usize = 10;
}

/// An address family, with the addresses of the fixture.
pub(crate) trait Fixture: Family {
    const SUBNET: Self;
    const MASK: Self;
    const GATEWAY: Self;
    const C1: Self;
    const C2: Self;
    /// An unused address of the containers' subnet.
    const UNUSED: Self;
    /// A link-local multicast group.
    const GROUP: Self;
    const LOOPBACK: Self;
    /// The host's address on its uplink.
    const HOST: Self;
    /// The next hop on the way to the world.
    const ROUTER: Self;
    const WORLD: Self;
    /// Another host outside.
    const OTHER: Self;

    /// The address made of the first bytes, as many as it has.
    fn of(bytes: [u8; 16]) -> Self;
    /// A complete IP packet with correct checksums.
    fn ip_of(head: Head, number: u8, source: Self, destination: Self, payload: &[u8]) -> Vec<u8>;

    /// A complete IP packet with the usual header.
    fn ip(number: u8, source: Self, destination: Self, payload: &[u8]) -> Vec<u8> {
        Self::ip_of(Head::USUAL, number, source, destination, payload)
    }

    /// Length in bytes of the header of such a packet.
    fn length_of(head: Head) -> usize;

    /// Types and codes of ICMP errors.
    const ERRORS: [(u8, u8); 4];
}

/// Length in bytes of a family's header without options.
pub(crate) const fn header<A: Fixture>() -> usize {
    size_of::<A::Header>()
}

/// Ether type, in the byte order of the frame.
fn ether_type<A: Address>() -> [u8; 2] {
    if A::FAMILY == V4::FAMILY { [0x08, 0x00] } else { [0x86, 0xdd] }
}

const fn v6(network: u16, host: u8) -> V6 {
    let [a, b] = network.to_be_bytes();
    V6::new([0x20, 0x01, 0x0d, 0xb8, a, b, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
}

impl Fixture for V4 {
    const SUBNET: Self = Self::new([172, 18, 0, 0]);
    const MASK: Self = Self::new([255, 255, 0, 0]);
    const GATEWAY: Self = Self::new([172, 18, 0, 1]);
    const C1: Self = Self::new([172, 18, 0, 2]);
    const C2: Self = Self::new([172, 18, 0, 3]);
    const UNUSED: Self = Self::new([172, 18, 7, 7]);
    const GROUP: Self = Self::new([224, 0, 0, 251]);
    const LOOPBACK: Self = Self::new([127, 0, 0, 1]);
    const HOST: Self = Self::new([10, 0, 2, 15]);
    const ROUTER: Self = Self::new([10, 0, 2, 2]);
    const WORLD: Self = Self::new([203, 0, 113, 10]);
    const OTHER: Self = Self::new([203, 0, 113, 66]);

    const ERRORS: [(u8, u8); 4] = [(3, 4), (3, 1), (11, 0), (12, 0)];

    fn of([a, b, c, d, ..]: [u8; 16]) -> Self {
        Self::new([a, b, c, d])
    }

    fn ip_of(head: Head, number: u8, source: Self, destination: Self, payload: &[u8]) -> Vec<u8> {
        let options = std::vec![1; head.options * 4];
        let mut header = Ipv4(Ipv4Hdr {
            vihl: 0x45 + u8::try_from(head.options).expect("at most ten"),
            tos: 0,
            tot_len: length(20 + options.len() + payload.len()),
            id: 7_u16.to_be_bytes(),
            frags: 0x4000_u16.to_be_bytes(),
            ttl: head.hops,
            proto: number,
            check: [0; 2],
            src_addr: source.octets(),
            dst_addr: destination.octets(),
        });
        let sum = checksum::sum(&[bytemuck::bytes_of(&header), &options].concat());
        header.0.check = (!sum).to_ne_bytes();
        [bytemuck::bytes_of(&header), &options, payload].concat()
    }

    fn length_of(head: Head) -> usize {
        20 + head.options * 4
    }
}

impl Fixture for V6 {
    const SUBNET: Self = v6(0x18, 0);
    const MASK: Self = Self::new([255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0]);
    const GATEWAY: Self = v6(0x18, 1);
    const C1: Self = v6(0x18, 2);
    const C2: Self = v6(0x18, 3);
    const UNUSED: Self = v6(0x18, 77);
    const GROUP: Self = Self::new([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfb]);
    const LOOPBACK: Self = Self::new([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    const HOST: Self = v6(2, 0x15);
    const ROUTER: Self = v6(2, 2);
    const WORLD: Self = v6(0x113, 0x10);
    const OTHER: Self = v6(0x113, 0x66);

    const ERRORS: [(u8, u8); 4] = [(2, 0), (1, 4), (3, 0), (4, 1)];

    fn of(bytes: [u8; 16]) -> Self {
        Self::new(bytes)
    }

    fn ip_of(head: Head, number: u8, source: Self, destination: Self, payload: &[u8]) -> Vec<u8> {
        let mut options = std::vec![0; head.options * 8];
        let mut next = number;
        if let Some(words) = head.options.checked_sub(1) {
            // Repeated padding options of zero length (RFC 8200 section 4.2).
            options[..2].copy_from_slice(&[number, u8::try_from(words).expect("few")]);
            next = 60;
        }
        let header = Ipv6(Ipv6Hdr {
            vcf: [0x60, 0, 0, 0],
            payload_len: length(options.len() + payload.len()),
            next_hdr: next,
            hop_limit: head.hops,
            src_addr: source.octets(),
            dst_addr: destination.octets(),
        });
        [bytemuck::bytes_of(&header), &options, payload].concat()
    }

    fn length_of(head: Head) -> usize {
        40 + head.options * 8
    }
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("a short packet").to_be_bytes()
}

/// A model with two containers on one network that masquerades, an uplink, and a publish that leads
/// to port 80 of the first container.
pub(crate) fn model<A: Fixture>() -> Model<A> {
    let mut model = Model::default();
    for (address, host_side, slot, mac) in
        [(A::C1, C1_SIDE, C1_SLOT, C1_MAC), (A::C2, C2_SIDE, C2_SLOT, C2_MAC)]
    {
        model.endpoints.insert(
            address,
            Endpoint {
                subnet: A::SUBNET,
                mask: A::MASK,
                gateway: A::GATEWAY,
                host_side,
                bridge: BRIDGE,
                slot,
                network: network::MASQUERADE,
                network_number: 0,
                mtu: 1500,
                macs: Macs::new(mac, BRIDGE_MAC),
            },
        );
    }
    model.uplinks.insert(UPLINK, Uplink { address: A::HOST, mtu: 1500 });
    model.admitted.push((publish::SLOT_LOCAL_SUBNETS, A::SUBNET, A::MASK));
    model.routes.push((A::UNSPECIFIED, A::UNSPECIFIED, UPLINK));
    model.local.extend([A::HOST, A::GATEWAY]);
    for protocol in [protocol::TCP, protocol::UDP, protocol::SCTP] {
        model.ports.insert((protocol, Port::new(5000), None), PUBLISH_SLOT);
    }
    let publish = Publish {
        container: A::C1,
        host_port: Port::new(5000),
        container_port: Port::new(80),
        flags: 0,
    };
    model.publishes.insert(PUBLISH_SLOT, publish);
    model
}

/// A packet. In TCP and SCTP it begins a flow if `flags` say so.
pub(crate) fn packet<A: Fixture>(
    input: u32,
    from: (A, u16),
    to: (A, u16),
    protocol: u8,
    flags: u8,
) -> Packet<A> {
    Packet {
        tuple: Tuple {
            source: from.0,
            destination: to.0,
            source_port: Port::new(from.1),
            destination_port: Port::new(to.1),
            protocol,
            side: side_of(input),
            echo: if protocol == A::ICMP { Echo::REQUEST } else { Echo::NONE },
            _pad: 0,
        },
        payload: match protocol {
            protocol::TCP => Payload::Tcp,
            protocol::UDP => Payload::Udp,
            protocol::SCTP => Payload::Sctp,
            _ => Payload::Echo,
        },
        flags: if matches!(protocol, protocol::TCP | protocol::SCTP) { flags } else { 0 },
        sequence: 0,
        acknowledgment: 0,
        payload_at: ETHERNET + header::<A>(),
        ttl: 64,
        input,
        length: 60,
        segment: 60,
        dont_fragment: true,
        first_fragment: false,
        id: 0,
    }
}

pub(crate) const fn side_of(input: u32) -> Side {
    if input == UPLINK { Side::UPLINK } else { Side::CONTAINER }
}

/// The frame of an IP packet that arrives at `input`, with the MACs of that link.
pub(crate) fn frame<A: Fixture>(input: u32, packet: &[u8]) -> Vec<u8> {
    let macs = match input {
        C1_SIDE => [BRIDGE_MAC, C1_MAC],
        C2_SIDE => [BRIDGE_MAC, C2_MAC],
        _ => [[8; 6], [9; 6]],
    };
    [&macs.concat()[..], &ether_type::<A>(), packet].concat()
}

/// Arrival of a complete frame at an interface.
pub(crate) fn arrival(input: u32, frame: &[u8]) -> Arrival {
    Arrival {
        side: side_of(input),
        input,
        length: u32::try_from(frame.len()).expect("a short frame"),
        gso_size: 0,
    }
}

/// Offset of the checksum in a protocol's header. None if no checksum covers addresses or ports.
pub(crate) fn sum_at<A: Fixture>(number: u8) -> Option<usize> {
    match number {
        protocol::TCP => Some(16),
        protocol::UDP => Some(6),
        number if number == A::ICMP => Some(2),
        _ => None,
    }
}

/// The correct checksum of a protocol's header, computed with its field as zero.
pub(crate) fn sum_of<A: Fixture>(number: u8, source: A, destination: A, segment: &[u8]) -> u16 {
    let at = sum_at::<A>(number).expect("it has a checksum");
    let mut covered = Vec::new();
    if A::has_pseudo_header(number) {
        let length = u32::try_from(segment.len()).expect("a short packet").to_be_bytes();
        covered = [
            bytemuck::bytes_of(&source),
            bytemuck::bytes_of(&destination),
            &length,
            &[0, 0, 0, number],
        ]
        .concat();
    }
    let field = covered.len() + at;
    covered.extend(segment);
    covered[field..field + 2].fill(0);
    match !checksum::sum(&covered) {
        // RFC 768: zero means that there is no checksum.
        0 if number == protocol::UDP => u16::MAX,
        sum => sum,
    }
}

/// Whether the checksum of a protocol's payload is right.
pub(crate) fn sums_up<A: Fixture>(number: u8, source: A, destination: A, segment: &[u8]) -> bool {
    let at = sum_at::<A>(number).expect("it has a checksum");
    let field = u16::from_ne_bytes([segment[at], segment[at + 1]]);
    // One's complement has two zeroes.
    let one = |sum| if sum == u16::MAX { 0 } else { sum };
    one(field) == one(sum_of(number, source, destination, segment))
}

/// An ICMP message, whose checksum differs from the right one by `wrong`.
pub(crate) fn icmp<A: Fixture>(
    source: A,
    destination: A,
    head: [u8; 8],
    rest: &[u8],
    wrong: u16,
) -> Vec<u8> {
    let mut message = [&head, rest].concat();
    let sum = sum_of(A::ICMP, source, destination, &message) ^ wrong;
    message[2..4].copy_from_slice(&sum.to_ne_bytes());
    message
}

/// A packet with that tuple and correct checksums. The header fields in `data` that say otherwise
/// are overwritten.
pub(crate) fn whole_packet<A: Fixture>(head: Head, tuple: &Tuple<A>, data: &[u8]) -> Vec<u8> {
    let (from, to) =
        (tuple.source_port.get().to_be_bytes(), tuple.destination_port.get().to_be_bytes());
    let mut segment = data.to_vec();
    if tuple.protocol == A::ICMP {
        let (kind, identifier) =
            if tuple.echo == Echo::REQUEST { (A::ECHO_REQUEST, from) } else { (A::ECHO_REPLY, to) };
        segment[..2].copy_from_slice(&[kind, 0]);
        segment[4..6].copy_from_slice(&identifier);
    } else {
        segment[..4].copy_from_slice(&[from, to].concat());
    }
    if let Some(at) = sum_at::<A>(tuple.protocol) {
        let sum = sum_of(tuple.protocol, tuple.source, tuple.destination, &segment);
        segment[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
    }
    A::ip_of(head, tuple.protocol, tuple.source, tuple.destination, &segment)
}

/// A UDP packet that begins a flow.
pub(crate) fn udp<A: Fixture>(input: u32, from: (A, u16), to: (A, u16)) -> Packet<A> {
    packet(input, from, to, protocol::UDP, 0)
}

/// Translation that the packet leaves with, or the reason why it does not. The frame has the MAC of
/// the packet's source.
pub(crate) fn left<A: Fixture>(
    model: &Model<A>,
    packet: &Packet<A>,
) -> Result<Translation<A>, DropReason> {
    // None of these packets is an error: only the MACs of the frame are read.
    let macs =
        model.endpoints.get(&packet.tuple.source).map_or(BRIDGE_MAC, |own| own.macs.destination());
    match decide(&[&[0; 6], &macs[..], &[0; 2]].concat()[..], packet, model) {
        Decision::Forward(translation) => Ok(translation),
        other
        @ (Decision::ForwardError(_) | Decision::ForwardFragment(..) | Decision::Reinject) => {
            panic!("{other:?}")
        }
        Decision::Stop(reason) => Err(reason),
        Decision::TooLong(mtu) => {
            assert_eq!(mtu, 1500);
            Err(DropReason::TooLong)
        }
    }
}

/// The reply to a packet that left, as it arrives where that packet went.
pub(crate) fn answer<A: Fixture>(translation: &Translation<A>, flags: u8) -> Packet<A> {
    let tuple = translation.tuple.reversed();
    let packet = packet(0, (tuple.source, 0), (tuple.destination, 0), tuple.protocol, flags);
    Packet { tuple, input: translation.output, ..packet }
}

/// A frame that records how far it was read.
pub(crate) struct Watched<'f> {
    frame: &'f [u8],
    furthest: Cell<usize>,
}

impl<'f> Watched<'f> {
    pub(crate) const fn new(frame: &'f [u8]) -> Self {
        Self { frame, furthest: Cell::new(0) }
    }

    /// Bytes that have to be readable, if the frame has as many.
    pub(crate) fn reach(&self) -> u32 {
        u32::try_from(self.furthest.get()).expect("a short frame")
    }
}

impl Frame for Watched<'_> {
    fn read<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        self.furthest.set(self.furthest.get().max(offset + size_of::<T>()));
        self.frame.read(offset)
    }
}
