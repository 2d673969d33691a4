//! Endpoint-independent mapping and filtering over the model.

use crate::{
    abi::{
        drop_reason::DropReason,
        endpoint::Endpoint,
        network::{Network, nat_behaviour::ENDPOINT_INDEPENDENT},
        owner::Owner,
        state::Timer,
        time::ticks,
    },
    nat::endpoint_independent,
    testing::{
        fixture::{
            C1_SIDE, C1_SLOT, C2_SIDE, Fixture, UPLINK, answer, families, left, model as symmetric,
            packet, udp,
        },
        model::Model,
    },
    wire::{address::Port, protocol, tcp, tuple::Side},
};

families!(
    external_port_is_same_for_all_destinations,
    any_outside_source_reaches_mapping,
    without_mapping_only_peer_replies,
    mapped_port_is_given_to_no_other,
    listening_port_of_host_is_avoided,
    packet_for_host_socket_bypasses_mapping,
    taken_tuple_refuses_flow_of_mapping,
    mapping_expires_after_last_outbound_packet,
    reply_of_container_refreshes_mapping,
    mapping_ends_with_endpoint,
    flows_and_mappings_have_own_quotas,
    mappings_leave_ports_to_other_networks,
    publish_precedes_mapping,
    reply_by_publish_refreshes_no_mapping,
);

/// The first container is on a network with mappings, the second is not.
fn model<A: Fixture>() -> Model<A> {
    let mut model = symmetric();
    let full_cone = Network { nat_behaviour: ENDPOINT_INDEPENDENT, ..Network::DEFAULT };
    model.networks.extend([(0, full_cone), (1, full_cone), (2, Network::DEFAULT)]);
    for (address, number) in [(A::C1, 1), (A::C2, 2)] {
        let endpoint = model.endpoints[&address];
        model.endpoints.insert(address, Endpoint { network_number: number, ..endpoint });
    }
    model
}

/// External port of a packet of the first container.
fn port_to<A: Fixture>(
    model: &Model<A>,
    protocol: u8,
    from: u16,
    to: (A, u16),
) -> Result<u16, DropReason> {
    let sent = packet(C1_SIDE, (A::C1, from), to, protocol, tcp::SYN);
    left(model, &sent).map(|there| there.tuple.source_port.get())
}

fn mappings<A: Fixture>(model: &Model<A>) -> usize {
    model
        .flows
        .borrow()
        .iter()
        .filter(|(key, entry)| key.side == Side::MAPPING && entry.is_reply == 0)
        .count()
}

fn external_port_is_same_for_all_destinations<A: Fixture>() {
    for protocol in [protocol::TCP, protocol::UDP] {
        let model = model::<A>();
        // Another container has the port, toward one of the destinations.
        left(&model, &packet(UPLINK, (A::WORLD, 9), (A::HOST, 5000), protocol, tcp::SYN)).unwrap();
        let port = port_to(&model, protocol, 5000, (A::WORLD, 53)).unwrap();
        assert_ne!(port, 5000, "a published port is none for a mapping");
        for to in [(A::WORLD, 54), (A::OTHER, 53), (A::ROUTER, 53)] {
            assert_eq!(port_to(&model, protocol, 5000, to), Ok(port));
        }
        assert_eq!(
            port_to(&model, protocol, 4000, (A::WORLD, 53)),
            Ok(4000),
            "its own where that is free"
        );
        assert_eq!(mappings(&model), 2);
    }
}

fn any_outside_source_reaches_mapping<A: Fixture>() {
    for protocol in [protocol::TCP, protocol::UDP] {
        let model = model::<A>();
        let arriving = packet(UPLINK, (A::OTHER, 7777), (A::HOST, 4000), protocol, tcp::SYN);
        assert_eq!(left(&model, &arriving), Err(DropReason::NotOurs), "not before there is one");
        port_to(&model, protocol, 4000, (A::WORLD, 53)).unwrap();
        let there = left(&model, &arriving).unwrap();
        assert_eq!((there.tuple.destination, there.tuple.destination_port.get()), (A::C1, 4000));
        assert_eq!(there.tuple.source, A::OTHER, "who sends it is seen");
        assert_eq!(
            left(&model, &answer(&there, tcp::SYN | tcp::ACK)).unwrap().tuple,
            arriving.tuple.reversed()
        );
        let elsewhere = packet(UPLINK, (A::OTHER, 7777), (A::HOST, 4001), protocol, tcp::SYN);
        assert_eq!(left(&model, &elsewhere), Err(DropReason::NotOurs));
        for (source, reason) in [
            (A::HOST, DropReason::SourceNotOutside),
            (A::GATEWAY, DropReason::SourceNotOutside),
            (A::LOOPBACK, DropReason::Martian),
        ] {
            let spoofed = packet(UPLINK, (source, 7777), (A::HOST, 4000), protocol, tcp::SYN);
            assert_eq!(left(&model, &spoofed), Err(reason));
        }
    }
}

fn without_mapping_only_peer_replies<A: Fixture>() {
    let model = model::<A>();
    let there = left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::WORLD, 53))).unwrap();
    assert!(left(&model, &answer(&there, 0)).is_ok());
    assert_eq!(
        left(&model, &udp(UPLINK, (A::OTHER, 53), (A::HOST, 4000))),
        Err(DropReason::NotOurs)
    );
    assert_eq!(mappings(&model), 0);
}

fn mapped_port_is_given_to_no_other<A: Fixture>() {
    let mut model = model::<A>();
    assert_eq!(port_to(&model, protocol::UDP, 4000, (A::WORLD, 53)), Ok(4000));
    let other = left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::OTHER, 99))).unwrap();
    assert_ne!(other.tuple.source_port.get(), 4000, "toward whomever");
    let endpoint = model.endpoints[&A::C2];
    model.endpoints.insert(A::C2, Endpoint { network_number: 1, ..endpoint });
    let other = left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::ROUTER, 99))).unwrap();
    assert_ne!(other.tuple.source_port.get(), 4000);
    // The ports of the other protocol are independent.
    assert_eq!(port_to(&model, protocol::TCP, 4000, (A::WORLD, 53)), Ok(4000));
}

fn listening_port_of_host_is_avoided<A: Fixture>() {
    let mut model = model::<A>();
    let mut listens = udp(UPLINK, (A::HOST, 0), (A::HOST, 4000)).tuple;
    listens.side = Side::MAPPING;
    model.sockets.insert(listens);
    assert_ne!(port_to(&model, protocol::UDP, 4000, (A::WORLD, 53)), Ok(4000));
}

fn packet_for_host_socket_bypasses_mapping<A: Fixture>() {
    let mut model = model::<A>();
    port_to(&model, protocol::UDP, 4000, (A::WORLD, 53)).unwrap();
    let arriving = udp(UPLINK, (A::OTHER, 7777), (A::HOST, 4000));
    model.sockets.insert(arriving.tuple);
    assert_eq!(left(&model, &arriving), Err(DropReason::HostSocket));
}

fn taken_tuple_refuses_flow_of_mapping<A: Fixture>() {
    let model = model::<A>();
    left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::OTHER, 53))).unwrap();
    assert_eq!(port_to(&model, protocol::UDP, 4000, (A::WORLD, 53)), Ok(4000));
    assert_eq!(
        port_to(&model, protocol::UDP, 4000, (A::OTHER, 53)),
        Err(DropReason::PortsExhausted)
    );
}

fn mapping_expires_after_last_outbound_packet<A: Fixture>() {
    let model = model::<A>();
    let timeout = Network::DEFAULT.timeouts[Timer::UdpStream as usize];
    assert!(timeout >= Network::DEFAULT.timeouts[Timer::Udp as usize]);
    let arriving = |port| udp(UPLINK, (A::OTHER, port), (A::HOST, 4000));
    port_to(&model, protocol::UDP, 4000, (A::WORLD, 53)).unwrap();
    for _ in 0..10 {
        model.now.set(model.now.get() + ticks(100));
        port_to(&model, protocol::UDP, 4000, (A::WORLD, 53)).unwrap();
    }
    model.now.set(model.now.get() + timeout);
    assert!(left(&model, &arriving(1)).is_ok(), "it is there still");
    // Inbound packets do not refresh the mapping (RFC 4787 REQ-6).
    model.now.set(model.now.get() + 1);
    assert_eq!(left(&model, &arriving(2)), Err(DropReason::NotOurs));
    assert_eq!(mappings(&model), 0);
    assert!(left(&model, &arriving(1)).is_ok(), "the flow that came by it goes on");
}

fn reply_of_container_refreshes_mapping<A: Fixture>() {
    let model = model::<A>();
    let timeout = Network::DEFAULT.timeouts[Timer::UdpStream as usize];
    port_to(&model, protocol::UDP, 4000, (A::WORLD, 53)).unwrap();
    let there = left(&model, &udp(UPLINK, (A::OTHER, 1), (A::HOST, 4000))).unwrap();
    for _ in 0..10 {
        model.now.set(model.now.get() + timeout);
        left(&model, &answer(&there, 0)).unwrap();
    }
    assert!(left(&model, &udp(UPLINK, (A::WORLD, 1), (A::HOST, 4000))).is_ok());
}

fn mapping_ends_with_endpoint<A: Fixture>() {
    let mut model = model::<A>();
    port_to(&model, protocol::UDP, 4000, (A::WORLD, 53)).unwrap();
    model.epochs.insert(C1_SLOT, 1);
    assert_eq!(
        left(&model, &udp(UPLINK, (A::OTHER, 1), (A::HOST, 4000))),
        Err(DropReason::NotOurs)
    );
    assert_eq!(
        left(&model, &udp(C2_SIDE, (A::C2, 4000), (A::WORLD, 53))).unwrap().tuple.source_port,
        Port::new(4000)
    );
}

fn flows_and_mappings_have_own_quotas<A: Fixture>() {
    let counts = |model: &Model<A>| {
        let counts = model.counts.borrow();
        [Owner::of(C1_SLOT), Owner::of(C1_SLOT).of_mapping()]
            .map(|slot| counts.get(&slot).copied().unwrap_or(0))
    };
    for (flows, mappings, begins, left_over) in [
        (0, 0, false, [0, 1]),
        (1, 0, true, [1, 1]),
        (
            1,
            endpoint_independent::MAX_MAPPINGS_PER_CONTAINER,
            false,
            [0, endpoint_independent::MAX_MAPPINGS_PER_CONTAINER],
        ),
    ] {
        let mut model = model::<A>();
        model.networks.insert(
            1,
            Network { nat_behaviour: ENDPOINT_INDEPENDENT, max_flows: flows, ..Network::DEFAULT },
        );
        model.counts.borrow_mut().insert(Owner::of(C1_SLOT).of_mapping(), mappings);
        assert_eq!(
            port_to(&model, protocol::UDP, 4000, (A::WORLD, 53)).is_ok(),
            begins,
            "{flows} and {mappings}"
        );
        assert_eq!(counts(&model), left_over, "{flows} and {mappings}");
    }
}

fn mappings_leave_ports_to_other_networks<A: Fixture>() {
    let mut model = model::<A>();
    model.networks.insert(
        1,
        Network {
            nat_behaviour: ENDPOINT_INDEPENDENT,
            first_port: 20_000,
            ports: 10,
            ..Network::DEFAULT
        },
    );
    let symmetric = Network { first_port: 20_000, ports: 10, ..Network::DEFAULT };
    model.networks.insert(0, Network { nat_behaviour: ENDPOINT_INDEPENDENT, ..symmetric });
    for port in 20_000..20_010 {
        port_to(&model, protocol::UDP, port, (A::WORLD, 53)).unwrap();
    }
    model.endpoints.get_mut(&A::C2).unwrap().network_number = 2;
    model.networks.insert(2, symmetric);
    let other = left(&model, &udp(C2_SIDE, (A::C2, 20_000), (A::OTHER, 53))).unwrap();
    assert!((20_000..20_010).contains(&other.tuple.source_port.get()));
    // Its reply reaches its own container.
    assert_eq!(left(&model, &answer(&other, 0)).unwrap().tuple.destination, A::C2);
}

fn publish_precedes_mapping<A: Fixture>() {
    let mut model = model::<A>();
    port_to(&model, protocol::UDP, 4000, (A::WORLD, 53)).unwrap();
    let slot = model.ports[&(protocol::UDP, Port::new(5000), None)];
    model.ports.insert((protocol::UDP, Port::new(4000), None), slot);
    model.publishes.insert(
        slot,
        crate::abi::Publish {
            container: A::C2,
            host_port: Port::new(4000),
            container_port: Port::new(80),
            flags: 0,
        },
    );
    let there = left(&model, &udp(UPLINK, (A::OTHER, 1), (A::HOST, 4000))).unwrap();
    assert_eq!((there.tuple.destination, there.tuple.destination_port.get()), (A::C2, 80));
}

fn reply_by_publish_refreshes_no_mapping<A: Fixture>() {
    let model = model::<A>();
    port_to(&model, protocol::UDP, 4000, (A::WORLD, 53)).unwrap();
    for (what, port, mapped) in [("a mapping", 4000, 1), ("a publish", 5000, 0)] {
        let there = left(&model, &udp(UPLINK, (A::OTHER, 7777), (A::HOST, port))).expect(what);
        let back = left(&model, &answer(&there, 0)).expect(what);
        assert_eq!(back.refreshes_mapping, mapped, "{what}");
    }
}
