//! The fixture: a host with three networks, five containers and six publishes, and the world
//! outside.
//!
//! All addresses are written in IPv4; [`Scenery`] derives the IPv6 addresses from them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use causeway_common::{
    abi::{
        self, Endpoint, Macs, Network, Publish, Translation, Uplink, drop_reason::DropReason,
        network, publish,
    },
    flow::error::ErrorTranslation,
    guard::arp,
    pipeline::Family,
    testing::model::Model,
    wire::{
        address::{Port, V4, V6},
        packet::{Arrival, Packet},
        protocol,
    },
};

use crate::{nat64, programs::Outcome};

/// A family that the fixture is made in.
pub trait Scenery: Family {
    /// Prefix length of a network's subnet.
    const PREFIX: usize;

    /// The family's address for an IPv4 address: `2001:db8:18::2` for 172.18.0.2,
    /// `2001:db8:113::10` for 203.0.113.10.
    fn named(v4: [u8; 4]) -> Self;
    /// The address as one of this family; none if it is of the other one.
    fn of(address: IpAddr) -> Option<Self>;
    /// The address as the standard library has it.
    fn ip(self) -> IpAddr;
    /// The link-local address of the owner of a MAC; none in IPv4.
    fn link_local(mac: [u8; 6]) -> Option<Self>;
    /// What becomes of a container's frame that is no packet of the family.
    fn other_frame(frame: &[u8], arrival: Arrival, env: &Model<Self>) -> Outcome;
    /// Gives some publishes a container that has IPv4 alone, in IPv6.
    fn put_nat64(model: &mut Model<Self>);
    /// The frame of a packet that leaves as one of IPv4, and of an error that does.
    fn to_ipv4(
        frame: &[u8],
        packet: &Packet<Self>,
        translation: &Translation<Self>,
        env: &Model<Self>,
    ) -> Option<Vec<u8>>;
    /// What becomes of an ICMP error that leaves as one of IPv4.
    fn error_to_ipv4(
        frame: &[u8],
        packet: &Packet<Self>,
        error: &ErrorTranslation<Self>,
    ) -> Outcome;
}

impl Scenery for V4 {
    const PREFIX: usize = 16;

    fn named(v4: [u8; 4]) -> Self {
        Self::new(v4)
    }

    fn of(address: IpAddr) -> Option<Self> {
        if let IpAddr::V4(address) = address { Some(Self::new(address.octets())) } else { None }
    }

    fn ip(self) -> IpAddr {
        Ipv4Addr::from(self.octets()).into()
    }

    fn link_local(_mac: [u8; 6]) -> Option<Self> {
        None
    }

    fn other_frame(frame: &[u8], arrival: Arrival, env: &Model<Self>) -> Outcome {
        Outcome::Stop(if frame.get(12..14) == Some(&[8, 6]) {
            arp::from_container(frame, arrival, env)
        } else {
            DropReason::NotIp
        })
    }

    fn put_nat64(_model: &mut Model<Self>) {}

    fn to_ipv4(
        _frame: &[u8],
        packet: &Packet<Self>,
        _translation: &Translation<Self>,
        _env: &Model<Self>,
    ) -> Option<Vec<u8>> {
        panic!("{packet:?} is IPv4")
    }

    fn error_to_ipv4(
        _frame: &[u8],
        packet: &Packet<Self>,
        _error: &ErrorTranslation<Self>,
    ) -> Outcome {
        panic!("{packet:?} is IPv4")
    }
}

impl Scenery for V6 {
    const PREFIX: usize = 64;

    fn named(v4: [u8; 4]) -> Self {
        // The decimal digits are read as hexadecimal ones, so that the addresses look alike.
        let digits = |byte: u8| u16::from_str_radix(&byte.to_string(), 16).expect("decimal digits");
        let address = match v4 {
            [0, 0, 0, 0] => Ipv6Addr::UNSPECIFIED,
            [127, 0, 0, 1] => Ipv6Addr::LOCALHOST,
            [224, 0, 0, last] => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, digits(last)),
            [172, network, more, host] => {
                Ipv6Addr::new(0x2001, 0xdb8, digits(network), 0, 0, 0, digits(more), digits(host))
            }
            [_, _, network, host] => {
                Ipv6Addr::new(0x2001, 0xdb8, digits(network), 0, 0, 0, 0, digits(host))
            }
        };
        Self::new(address.octets())
    }

    fn of(address: IpAddr) -> Option<Self> {
        if let IpAddr::V6(address) = address { Some(Self::new(address.octets())) } else { None }
    }

    fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.octets()).into()
    }

    fn link_local(mac: [u8; 6]) -> Option<Self> {
        let mut address = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0];
        address[8..11].copy_from_slice(&mac[..3]);
        address[13..].copy_from_slice(&mac[3..]);
        address[8] ^= 2;
        Some(Self::new(address))
    }

    fn other_frame(frame: &[u8], arrival: Arrival, env: &Model<Self>) -> Outcome {
        let nat64 = (frame.get(12..14) == Some(&[8, 0]))
            .then(|| nat64::from_container(frame, arrival, env))
            .flatten();
        nat64.unwrap_or(Outcome::Stop(DropReason::NotIp))
    }

    fn put_nat64(model: &mut Model<Self>) {
        nat64::put(model);
    }

    fn to_ipv4(
        frame: &[u8],
        packet: &Packet<Self>,
        translation: &Translation<Self>,
        env: &Model<Self>,
    ) -> Option<Vec<u8>> {
        nat64::to_ipv4_frame(frame, packet, translation, env)
    }

    fn error_to_ipv4(
        frame: &[u8],
        packet: &Packet<Self>,
        error: &ErrorTranslation<Self>,
    ) -> Outcome {
        nat64::left_error(error, nat64::error_to_ipv4_frame(frame, packet, error))
    }
}

/// The subnet of an address with a prefix of `bits` bits, and its mask.
pub fn subnet<A: Scenery>(v4: [u8; 4], bits: usize) -> (A, A) {
    let bytes = bytemuck::bytes_of(&A::named(v4)).to_vec();
    let set = |i: usize| match bits.saturating_sub(i * 8).min(8) {
        0 => 0,
        set => 0xff << (8 - set),
    };
    let mask: Vec<u8> = (0..bytes.len()).map(set).collect();
    let subnet: Vec<u8> = bytes.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
    (bytemuck::pod_read_unaligned(&subnet), bytemuck::pod_read_unaligned(&mask))
}

/// The uplink's address.
pub const HOST: [u8; 4] = [10, 0, 2, 15];
/// A router on the uplink's link.
pub const NEAR: [u8; 4] = [10, 0, 2, 2];
/// A host outside.
pub const WORLD: [u8; 4] = [203, 0, 113, 10];
/// Another host outside.
pub const OTHER: [u8; 4] = [203, 0, 113, 66];
/// The gateways of the networks.
pub const GATEWAYS: [[u8; 4]; 3] = [[172, 18, 0, 1], [172, 19, 0, 1], [172, 20, 0, 1]];
/// The containers: two on the first network, one on the second, which is not masqueraded, two on
/// the third, which is internal and keeps them apart.
pub const CONTAINERS: [[u8; 4]; 5] =
    [[172, 18, 0, 2], [172, 18, 0, 3], [172, 19, 0, 2], [172, 20, 0, 2], [172, 20, 0, 3]];
/// MAC of the bridges.
pub const BRIDGE_MAC: [u8; 6] = [0x02, 0x63, 0, 0, 0, 1];
/// MAC of the router on the uplink's link.
pub const NEAR_MAC: [u8; 6] = [0x02, 9, 9, 9, 9, 9];

/// The publishes, as on the command line: the container's number, the ports, the sources that are
/// admitted. One has the host's IPv4 address, which stands for that of the family.
pub const PUBLISHES: [(usize, &str, &[&str]); 6] = [
    (0, "5000:80", &[]),
    (0, "5001:53/udp", &[]),
    (1, "7000-7009:8000-8009", &[]),
    (1, "10.0.2.15:9000:9000", &[]),
    (0, "5002-5003:5002-5003/sctp", &[]),
    (0, "6000:80", &["203.0.113.0/28", "2001:db8:113::/122"]),
];

/// Interface indices and MACs of the fixture.
#[derive(Clone, Copy, Debug)]
pub struct Fixture {
    /// Host sides of the containers.
    pub sides: [u32; 5],
    /// The uplink.
    pub uplink: u32,
    /// MAC of the uplink.
    pub uplink_mac: [u8; 6],
}

impl Fixture {
    /// The fixture in the model.
    pub const MODEL: Self =
        Self { sides: [11, 12, 13, 14, 15], uplink: 2, uplink_mac: [0x02, 1, 1, 1, 1, 1] };

    /// The container behind a host side.
    pub fn container_at(&self, side: u32) -> Option<usize> {
        self.sides.iter().position(|known| *known == side)
    }
}

/// MAC of a container, made of its address.
pub fn mac_of(container: usize) -> [u8; 6] {
    let [a, b, c, d] = CONTAINERS[container];
    [0x02, 0x63, a, b, c, d]
}

/// Slot of a container.
pub fn slot_of(container: usize) -> u32 {
    1 + container as u32
}

/// Slot of the first publish; the others follow.
pub const FIRST_PUBLISH: u32 = 6;

/// MTUs of the networks in the model; the uplink's is between them.
const MTUS: [u32; 3] = [9000, 1500, 1280];

/// Inserts a container's endpoint, also under its link-local address where the family has one.
pub fn put_container<A: Scenery>(model: &mut Model<A>, container: usize) {
    let [a, b, ..] = CONTAINERS[container];
    let number = u32::from(b - 18);
    let flags = [network::MASQUERADE, 0, network::MASQUERADE | network::INTERNAL | network::NO_ICC];
    let (subnet, mask) = subnet(CONTAINERS[container], A::PREFIX);
    let endpoint = Endpoint {
        subnet,
        mask,
        gateway: A::named([a, b, 0, 1]),
        host_side: Fixture::MODEL.sides[container],
        bridge: 21 + number,
        slot: slot_of(container),
        network: flags[number as usize],
        network_number: 1 + number,
        mtu: MTUS[number as usize],
        macs: Macs::new(mac_of(container), BRIDGE_MAC),
    };
    for address in addresses_of(container) {
        model.endpoints.insert(address, endpoint);
    }
}

/// The addresses of a container in a family.
pub fn addresses_of<A: Scenery>(container: usize) -> impl Iterator<Item = A> {
    [A::named(CONTAINERS[container])].into_iter().chain(A::link_local(mac_of(container)))
}

/// A model of the whole fixture.
pub fn model<A: Scenery>() -> Model<A> {
    let mut model = Model::default();
    // The first network has few ports, so that they run out; the third allows few flows.
    model.networks.insert(1, Network { first_port: 4000, ports: 3, ..Network::DEFAULT });
    model.networks.insert(2, Network::DEFAULT);
    model.networks.insert(3, Network { max_flows: 3, ..Network::DEFAULT });
    (0..CONTAINERS.len()).for_each(|container| put_container(&mut model, container));
    model.uplinks.insert(Fixture::MODEL.uplink, Uplink { address: A::named(HOST), mtu: 1500 });
    model.local.insert(A::named(HOST));
    for (gateway, bridge) in GATEWAYS.into_iter().zip(21..) {
        let (subnet, mask) = subnet(gateway, A::PREFIX);
        model.local.insert(A::named(gateway));
        model.admitted.push((abi::SLOT_LOCAL_SUBNETS, subnet, mask));
        model.routes.push((subnet, mask, bridge));
    }
    model.routes.push((A::UNSPECIFIED, A::UNSPECIFIED, Fixture::MODEL.uplink));
    let host = Some(A::named(HOST));
    for (slot, (container, protocol, address, ports, to, flags)) in (FIRST_PUBLISH..).zip([
        (0, protocol::TCP, None, 5000..=5000, 80, 0),
        (0, protocol::UDP, None, 5001..=5001, 53, 0),
        (1, protocol::TCP, None, 7000..=7009, 8000, 0),
        (1, protocol::TCP, host, 9000..=9000, 9000, 0),
        (0, protocol::SCTP, None, 5002..=5003, 5002, 0),
        (0, protocol::TCP, None, 6000..=6000, 80, publish::SOURCES_LISTED),
    ]) {
        let publish = Publish {
            container: A::named(CONTAINERS[container]),
            host_port: Port::new(*ports.start()),
            container_port: Port::new(to),
            flags,
        };
        model.publishes.insert(slot, publish);
        for port in ports {
            model.ports.insert((protocol, Port::new(port), address), slot);
        }
    }
    let (subnet, mask) = subnet([203, 0, 113, 0], if A::PREFIX == V4::PREFIX { 28 } else { 122 });
    model.admitted.push((FIRST_PUBLISH + 5, subnet, mask));
    model
}
