//! Endpoint-independent mapping and filtering over the model.

use super::{
    tests::{C1, C1_SIDE, C1_SLOT, C2, C2_SIDE, HOST, UPLINK, WORLD, answer, left, model as symmetric, packet},
    *,
};
use crate::{
    abi::{self, Endpoint, Network, mapping::FULL_CONE},
    address::{Port, V4},
    flow::{Timer, ticks},
    model::Model,
    tuple::{protocol, side},
};

const OTHER: V4 = V4::new([203, 0, 113, 66]);

/// C1 is on a network with mappings, C2 is not.
fn model() -> Model<V4> {
    let mut model = symmetric();
    let full_cone = Network { mapping: FULL_CONE, ..Network::DEFAULT };
    model.networks.extend([(0, full_cone), (1, full_cone), (2, Network::DEFAULT)]);
    for (address, number) in [(C1, 1), (C2, 2)] {
        let endpoint = model.endpoints[&address];
        model.endpoints.insert(address, Endpoint { network_number: number, ..endpoint });
    }
    model
}

fn udp(input: u32, from: (V4, u16), to: (V4, u16)) -> Packet<V4> {
    packet(input, from, to, protocol::UDP, 0)
}

/// The external port that a packet of C1's leaves with.
fn port_to(model: &Model<V4>, protocol: u8, from: u16, to: (V4, u16)) -> Result<u16, Reason> {
    let sent = packet(C1_SIDE, (C1, from), to, protocol, tcp::SYN);
    left(model, &sent).map(|there| there.tuple.source_port.get())
}

fn mappings(model: &Model<V4>) -> usize {
    model.flows.borrow().iter().filter(|(key, half)| key.side == side::MAPPING && half.is_reply == 0).count()
}

#[test]
fn a_port_has_one_external_port_whatever_the_destination() {
    for protocol in [protocol::TCP, protocol::UDP] {
        let model = model();
        // Somebody else has the port, toward one of the destinations only.
        left(&model, &packet(UPLINK, (WORLD, 9), (HOST, 5000), protocol, tcp::SYN)).unwrap();
        let port = port_to(&model, protocol, 5000, (WORLD, 53)).unwrap();
        assert_ne!(port, 5000, "a published port is none for a mapping");
        for to in [(WORLD, 54), (OTHER, 53), (V4::new([10, 0, 2, 2]), 53)] {
            assert_eq!(port_to(&model, protocol, 5000, to), Ok(port));
        }
        assert_eq!(port_to(&model, protocol, 4000, (WORLD, 53)), Ok(4000), "its own where that is free");
        assert_eq!(mappings(&model), 2);
    }
}

#[test]
fn anybody_outside_reaches_the_container_by_it() {
    for protocol in [protocol::TCP, protocol::UDP] {
        let model = model();
        let arriving = packet(UPLINK, (OTHER, 7777), (HOST, 4000), protocol, tcp::SYN);
        assert_eq!(left(&model, &arriving), Err(Reason::NotOurs), "not before there is one");
        port_to(&model, protocol, 4000, (WORLD, 53)).unwrap();
        let there = left(&model, &arriving).unwrap();
        assert_eq!((there.tuple.destination, there.tuple.destination_port.get()), (C1, 4000));
        assert_eq!(there.tuple.source, OTHER, "who sends it is seen");
        assert_eq!(left(&model, &answer(&there, tcp::SYN | tcp::ACK)).unwrap().tuple, arriving.tuple.reversed());
        let elsewhere = packet(UPLINK, (OTHER, 7777), (HOST, 4001), protocol, tcp::SYN);
        assert_eq!(left(&model, &elsewhere), Err(Reason::NotOurs));
        for source in [HOST, V4::new([172, 18, 0, 1]), V4::new([127, 0, 0, 1])] {
            let spoofed = packet(UPLINK, (source, 7777), (HOST, 4000), protocol, tcp::SYN);
            assert_eq!(left(&model, &spoofed), Err(Reason::SourceNotOutside));
        }
    }
}

#[test]
fn without_a_mapping_only_the_peer_answers() {
    let model = model();
    let there = left(&model, &udp(C2_SIDE, (C2, 4000), (WORLD, 53))).unwrap();
    assert!(left(&model, &answer(&there, 0)).is_ok());
    assert_eq!(left(&model, &udp(UPLINK, (OTHER, 53), (HOST, 4000))), Err(Reason::NotOurs));
    assert_eq!(mappings(&model), 0);
}

#[test]
fn no_other_flow_and_no_other_mapping_gets_its_port() {
    let mut model = model();
    assert_eq!(port_to(&model, protocol::UDP, 4000, (WORLD, 53)), Ok(4000));
    let other = left(&model, &udp(C2_SIDE, (C2, 4000), (OTHER, 99))).unwrap();
    assert_ne!(other.tuple.source_port.get(), 4000, "toward whomever");
    let endpoint = model.endpoints[&C2];
    model.endpoints.insert(C2, Endpoint { network_number: 1, ..endpoint });
    let other = left(&model, &udp(C2_SIDE, (C2, 4000), (V4::new([10, 0, 2, 2]), 99))).unwrap();
    assert_ne!(other.tuple.source_port.get(), 4000);
    // The other protocol's ports are others.
    assert_eq!(port_to(&model, protocol::TCP, 4000, (WORLD, 53)), Ok(4000));
}

#[test]
fn a_port_where_the_host_listens_is_not_taken() {
    let mut model = model();
    let mut listens = udp(UPLINK, (HOST, 0), (HOST, 4000)).tuple;
    listens.side = side::MAPPING;
    model.sockets.insert(listens);
    assert_ne!(port_to(&model, protocol::UDP, 4000, (WORLD, 53)), Ok(4000));
}

#[test]
fn what_is_for_a_socket_of_the_host_is_not_the_mappings() {
    let mut model = model();
    port_to(&model, protocol::UDP, 4000, (WORLD, 53)).unwrap();
    let arriving = udp(UPLINK, (OTHER, 7777), (HOST, 4000));
    model.sockets.insert(arriving.tuple);
    assert_eq!(left(&model, &arriving), Err(Reason::HostSocket));
}

#[test]
fn where_another_exchange_has_the_tuple_the_flow_is_refused_and_not_moved() {
    let model = model();
    left(&model, &udp(C2_SIDE, (C2, 4000), (OTHER, 53))).unwrap();
    assert_eq!(port_to(&model, protocol::UDP, 4000, (WORLD, 53)), Ok(4000));
    assert_eq!(port_to(&model, protocol::UDP, 4000, (OTHER, 53)), Err(Reason::PortsExhausted));
}

#[test]
fn it_lasts_as_long_as_the_container_sends_and_its_timeout_after() {
    let model = model();
    let timeout = Network::DEFAULT.timeouts[Timer::UdpStream as usize];
    assert!(timeout >= Network::DEFAULT.timeouts[Timer::Udp as usize]);
    let arriving = |port| udp(UPLINK, (OTHER, port), (HOST, 4000));
    port_to(&model, protocol::UDP, 4000, (WORLD, 53)).unwrap();
    for _ in 0..10 {
        model.now.set(model.now.get() + ticks(100));
        port_to(&model, protocol::UDP, 4000, (WORLD, 53)).unwrap();
    }
    model.now.set(model.now.get() + timeout);
    assert!(left(&model, &arriving(1)).is_ok(), "it is there still");
    // What comes in keeps it not (RFC 4787 REQ-6).
    model.now.set(model.now.get() + 1);
    assert_eq!(left(&model, &arriving(2)), Err(Reason::NotOurs));
    assert_eq!(mappings(&model), 0);
    assert!(left(&model, &arriving(1)).is_ok(), "the flow that came by it goes on");
}

#[test]
fn an_answer_to_who_came_by_it_keeps_it() {
    let model = model();
    let timeout = Network::DEFAULT.timeouts[Timer::UdpStream as usize];
    port_to(&model, protocol::UDP, 4000, (WORLD, 53)).unwrap();
    let there = left(&model, &udp(UPLINK, (OTHER, 1), (HOST, 4000))).unwrap();
    for _ in 0..10 {
        model.now.set(model.now.get() + timeout);
        left(&model, &answer(&there, 0)).unwrap();
    }
    assert!(left(&model, &udp(UPLINK, (WORLD, 1), (HOST, 4000))).is_ok());
}

#[test]
fn it_ends_with_its_endpoint() {
    let mut model = model();
    port_to(&model, protocol::UDP, 4000, (WORLD, 53)).unwrap();
    model.epochs.insert(C1_SLOT, 1);
    assert_eq!(left(&model, &udp(UPLINK, (OTHER, 1), (HOST, 4000))), Err(Reason::NotOurs));
    assert_eq!(left(&model, &udp(C2_SIDE, (C2, 4000), (WORLD, 53))).unwrap().tuple.source_port, Port::new(4000));
}

#[test]
fn flows_and_mappings_are_counted_apart_for_their_endpoint() {
    let counts = |model: &Model<V4>| {
        let counts = model.counts.borrow();
        [C1_SLOT, C1_SLOT | abi::OF_MAPPINGS].map(|slot| counts.get(&slot).copied().unwrap_or(0))
    };
    for (flows, mappings, begins, left_over) in
        [(0, 0, false, [0, 1]), (1, 0, true, [1, 1]), (1, mapping::MOST, false, [0, mapping::MOST])]
    {
        let mut model = model();
        model.networks.insert(1, Network { mapping: FULL_CONE, max_flows: flows, ..Network::DEFAULT });
        model.counts.borrow_mut().insert(C1_SLOT | abi::OF_MAPPINGS, mappings);
        assert_eq!(port_to(&model, protocol::UDP, 4000, (WORLD, 53)).is_ok(), begins, "{flows} and {mappings}");
        assert_eq!(counts(&model), left_over, "{flows} and {mappings}");
    }
}

#[test]
fn a_container_that_maps_every_port_takes_none_from_other_networks() {
    let mut model = model();
    model.networks.insert(1, Network { mapping: FULL_CONE, first_port: 20_000, ports: 10, ..Network::DEFAULT });
    let symmetric = Network { first_port: 20_000, ports: 10, ..Network::DEFAULT };
    model.networks.insert(0, Network { mapping: FULL_CONE, ..symmetric });
    for port in 20_000..20_010 {
        port_to(&model, protocol::UDP, port, (WORLD, 53)).unwrap();
    }
    model.endpoints.get_mut(&C2).unwrap().network_number = 2;
    model.networks.insert(2, symmetric);
    let other = left(&model, &udp(C2_SIDE, (C2, 20_000), (OTHER, 53))).unwrap();
    assert!((20_000..20_010).contains(&other.tuple.source_port.get()));
    // Its answer is its own.
    assert_eq!(left(&model, &answer(&other, 0)).unwrap().tuple.destination, C2);
}

#[test]
fn a_published_port_leads_where_it_is_published() {
    let mut model = model();
    port_to(&model, protocol::UDP, 4000, (WORLD, 53)).unwrap();
    let slot = model.ports[&(protocol::UDP, Port::new(5000), None)];
    model.ports.insert((protocol::UDP, Port::new(4000), None), slot);
    model.publishes.insert(
        slot,
        crate::abi::Publish { container: C2, host_port: Port::new(4000), container_port: Port::new(80), flags: 0 },
    );
    let there = left(&model, &udp(UPLINK, (OTHER, 1), (HOST, 4000))).unwrap();
    assert_eq!((there.tuple.destination, there.tuple.destination_port.get()), (C2, 80));
}
