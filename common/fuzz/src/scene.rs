//! Who there is: a host with three networks, five containers and a few publishes, and the world outside.

use causeway_common::{
    abi::{self, Endpoint, Macs, Network, Publish, Uplink, network, publish},
    address::{Address as _, Port, V4},
    model::Model,
    tuple::protocol,
};

/// The uplink's address.
pub const HOST: [u8; 4] = [10, 0, 2, 15];
/// A router on the uplink's link.
pub const NEAR: [u8; 4] = [10, 0, 2, 2];
/// Someone outside.
pub const WORLD: [u8; 4] = [203, 0, 113, 10];
/// Someone else outside.
pub const OTHER: [u8; 4] = [203, 0, 113, 66];
/// The gateways of the networks.
pub const GATEWAYS: [[u8; 4]; 3] = [[172, 18, 0, 1], [172, 19, 0, 1], [172, 20, 0, 1]];
/// The containers: two on the first network, one on the second, which is not masqueraded, two on the third, which is internal and keeps
/// them apart.
pub const CONTAINERS: [[u8; 4]; 5] =
    [[172, 18, 0, 2], [172, 18, 0, 3], [172, 19, 0, 2], [172, 20, 0, 2], [172, 20, 0, 3]];
/// The bridges' MAC.
pub const BRIDGE_MAC: [u8; 6] = [0x02, 0x63, 0, 0, 0, 1];
/// The router's MAC.
pub const NEAR_MAC: [u8; 6] = [0x02, 9, 9, 9, 9, 9];

/// What is published, in the words of the command line: the container's number, the ports, who may use them.
pub const PUBLISHES: [(usize, &str, &[&str]); 6] = [
    (0, "5000:80", &[]),
    (0, "5001:53/udp", &[]),
    (1, "7000-7009:8000-8009", &[]),
    (1, "10.0.2.15:9000:9000", &[]),
    (0, "5002-5003:5002-5003/sctp", &[]),
    (0, "6000:80", &["203.0.113.0/28"]),
];

/// Where everything is plugged in.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// The containers' host sides.
    pub sides: [u32; 5],
    /// The uplink.
    pub uplink: u32,
    /// Its MAC.
    pub uplink_mac: [u8; 6],
}

impl Scene {
    /// As the model has it.
    pub const MODEL: Self = Self { sides: [11, 12, 13, 14, 15], uplink: 2, uplink_mac: [0x02, 1, 1, 1, 1, 1] };

    /// The container behind a host side.
    pub fn container_at(&self, side: u32) -> Option<usize> {
        self.sides.iter().position(|known| *known == side)
    }
}

/// The MAC of a container: made of its address.
pub fn mac_of(container: usize) -> [u8; 6] {
    let [a, b, c, d] = CONTAINERS[container];
    [0x02, 0x63, a, b, c, d]
}

/// The slot of a container.
pub fn slot_of(container: usize) -> u32 {
    1 + container as u32
}

/// The slot of the first publish; the others follow.
pub const FIRST_PUBLISH: u32 = 6;

/// The MTUs of the networks in the model; the uplink's is between them.
const MTUS: [u32; 3] = [9000, 1500, 1280];

/// Makes a container known.
pub fn put_container(model: &mut Model<V4>, container: usize) {
    let [a, b, ..] = CONTAINERS[container];
    let number = u32::from(b - 18);
    let flags = [network::MASQUERADE, 0, network::MASQUERADE | network::INTERNAL | network::NO_ICC];
    let endpoint = Endpoint {
        subnet: V4::new([a, b, 0, 0]),
        mask: V4::new([255, 255, 0, 0]),
        gateway: V4::new([a, b, 0, 1]),
        host_side: Scene::MODEL.sides[container],
        bridge: 21 + number,
        slot: slot_of(container),
        network: flags[number as usize],
        network_number: 1 + number,
        mtu: MTUS[number as usize],
        macs: Macs::new(mac_of(container), BRIDGE_MAC),
    };
    model.endpoints.insert(V4::new(CONTAINERS[container]), endpoint);
}

/// The tables of all that.
pub fn model() -> Model<V4> {
    let mut model = Model::default();
    // Few ports to pick from, so that they run out, and few flows for those of the third network.
    model.networks.insert(1, Network { first_port: 4000, ports: 3, ..Network::DEFAULT });
    model.networks.insert(2, Network::DEFAULT);
    model.networks.insert(3, Network { max_flows: 3, ..Network::DEFAULT });
    (0..CONTAINERS.len()).for_each(|container| put_container(&mut model, container));
    model.uplinks.insert(Scene::MODEL.uplink, Uplink { address: V4::new(HOST), mtu: 1500 });
    model.local.insert(V4::new(HOST));
    let mask = V4::new([255, 255, 0, 0]);
    for (gateway, bridge) in GATEWAYS.into_iter().zip(21..) {
        let subnet = V4::new([gateway[0], gateway[1], 0, 0]);
        model.local.insert(V4::new(gateway));
        model.admitted.push((abi::INSIDE, subnet, mask));
        model.routes.push((subnet, mask, bridge));
    }
    model.routes.push((V4::UNSPECIFIED, V4::UNSPECIFIED, Scene::MODEL.uplink));
    let host = Some(V4::new(HOST));
    for (slot, (container, protocol, address, ports, to, flags)) in (FIRST_PUBLISH..).zip([
        (0, protocol::TCP, None, 5000..=5000, 80, 0),
        (0, protocol::UDP, None, 5001..=5001, 53, 0),
        (1, protocol::TCP, None, 7000..=7009, 8000, 0),
        (1, protocol::TCP, host, 9000..=9000, 9000, 0),
        (0, protocol::SCTP, None, 5002..=5003, 5002, 0),
        (0, protocol::TCP, None, 6000..=6000, 80, publish::SOURCES_LISTED),
    ]) {
        let publish = Publish {
            container: V4::new(CONTAINERS[container]),
            host_port: Port::new(*ports.start()),
            container_port: Port::new(to),
            flags,
        };
        model.publishes.insert(slot, publish);
        for port in ports {
            model.ports.insert((protocol, Port::new(port), address), slot);
        }
    }
    model.admitted.push((FIRST_PUBLISH + 5, V4::new([203, 0, 113, 0]), V4::new([255, 255, 255, 240])));
    model
}
