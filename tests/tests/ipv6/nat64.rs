//! NAT64: IPv6 clients of a published port whose container has IPv4 only.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind, Read as _},
    net::{IpAddr, SocketAddr, UdpSocket},
};

use causeway_tests::{
    family::{V4, V6},
    lab::{Container, HOST, Lab, UPLINK, WORLD_SIDE},
    offload,
    raw::{Packet, Raw, Told, flag, header},
    route::{self, Answer, Probe, exceeded},
    tcp, transfer, udp,
    wait::{DEADLINE, SILENCE},
    wide::{NARROW, path_mtu},
};
use serde_json::json;

/// A container with IPv4 only, in a lab for IPv6.
fn four(lab: &Lab, arguments: &[&str]) -> Container {
    let c1 = lab.container("four", &[&["--network", V4.network()], arguments].concat());
    assert_eq!(c1.made["endpoints"][0]["addresses"].as_array().unwrap().len(), 1, "{}", c1.made);
    c1.of(V4)
}

/// Asserts that all peers have the gateway's address, and ports outside the host's ephemeral range.
#[track_caller]
fn are_the_gateways(peers: &BTreeSet<SocketAddr>) {
    assert!(!peers.is_empty());
    for peer in peers {
        assert!(peer.ip() == V4.gateway() && (1024..32768).contains(&peer.port()), "{peer}");
    }
}

#[test]
fn container_sees_gateway_as_client() {
    let lab = Lab::shared(V6);
    let c1 = four(&lab, &["-p", "8080:80", "-p", "8080:80/udp"]);
    let (stream, datagram) =
        (tcp::Echo::start(&c1.netns, c1.at(80)), udp::Echo::start(&c1.netns, c1.at(80), "four"));
    for _ in 0..3 {
        tcp::exchange(&lab.world, (V6.host(), 8080));
        assert_eq!(udp::answer(&udp::client(&lab.world, V6), (V6.host(), 8080)), "four");
    }
    are_the_gateways(&stream.peers());
    are_the_gateways(&datagram.peers());
    // An IPv4 client is shown unchanged.
    tcp::exchange(&lab.world, (HOST, 8080));
    assert!(stream.peers().iter().any(|peer| peer.ip() == V4.router()));
}

#[test]
fn bulk_arrives_with_and_without_offloads() {
    let lab = Lab::of(V6);
    let c1 = four(&lab, &["-p", "9000:9"]);
    let c2 = lab.container("c2", &[]);
    for inside in [true, false] {
        for outside in [true, false] {
            offload::set(&lab.host, UPLINK, outside);
            offload::set(&lab.world, WORLD_SIDE, outside);
            for container in [&c1, &c2] {
                offload::set(&lab.host, container.host_side(), inside);
                offload::set(&container.netns, container.interface(), inside);
            }
            transfer::both_ways(
                &c1.netns,
                c1.at(9),
                &lab.world,
                (V6.host(), 9000),
                transfer::SIZE / 10,
            );
        }
        for to in [V6.host(), V6.gateway()] {
            transfer::both_ways(&c1.netns, c1.at(9), &c2.netns, (to, 9000), transfer::SIZE / 10);
        }
        transfer::both_ways(
            &c1.netns,
            c1.at(9),
            &lab.host,
            (V6.loopback(), 9000),
            transfer::SIZE / 10,
        );
    }
}

#[test]
fn ipv6_containers_reach_the_publish() {
    let lab = Lab::shared(V6);
    let c1 = four(&lab, &["-p", "8080:80", "-p", "8080:80/udp"]);
    let c2 = lab.container("c2", &[]);
    let (stream, datagram) =
        (tcp::Echo::start(&c1.netns, c1.at(80)), udp::Echo::start(&c1.netns, c1.at(80), "four"));
    for address in [V6.host(), V6.gateway()] {
        tcp::exchange(&c2.netns, (address, 8080));
        assert_eq!(udp::answer(&udp::client(&c2.netns, V6), (address, 8080)), "four");
    }
    are_the_gateways(&stream.peers());
    are_the_gateways(&datagram.peers());
}

#[test]
fn host_processes_reach_the_publish() {
    let lab = Lab::shared(V6);
    let c1 = four(&lab, &["-p", "8080:80", "-p", "8080:80/udp"]);
    let stream = tcp::Echo::start(&c1.netns, c1.at(80));
    let _datagram = udp::Echo::start(&c1.netns, c1.at(80), "four");
    for address in [V6.loopback(), V6.host(), V6.gateway()] {
        let connected = tcp::exchange(&lab.host, (address, 8080));
        assert_eq!(connected.peer_addr().unwrap(), (address, 8080).into());
        assert_eq!(by_connected(&udp::client(&lab.host, V6), address).unwrap(), "four");
    }
    let peers: BTreeSet<IpAddr> = stream.peers().iter().map(SocketAddr::ip).collect();
    assert_eq!(peers, [V4.gateway()].into());
}

/// The answer to a connected socket, which must come from its peer.
fn by_connected(socket: &UdpSocket, address: IpAddr) -> io::Result<String> {
    socket.connect((address, 8080))?;
    assert_eq!(socket.peer_addr()?, (address, 8080).into());
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.send(b"?")?;
    let mut buffer = [0; 16];
    let (length, from) = socket.recv_from(&mut buffer)?;
    assert_eq!(from, (address, 8080).into());
    Ok(String::from_utf8_lossy(&buffer[..length]).trim_end_matches('?').to_owned())
}

#[test]
fn flow_shows_addresses_of_each_side() {
    let lab = Lab::shared(V6);
    let c1 = four(&lab, &["-p", "8080:80/udp"]);
    let datagram = udp::Echo::start(&c1.netns, c1.at(80), "");
    let client = udp::bind(&lab.world, (V6.router(), 40_000));
    udp::answer(&client, (V6.host(), 8080));
    let flows = lab.json(&["flows"]);
    let [flow] = &flows.as_array().unwrap()[..] else { panic!("{flows}") };
    let peer = datagram.peers().into_iter().next().unwrap();
    assert_eq!(flow["container"], c1.name.as_str());
    assert_eq!(flow["protocol"], "udp");
    assert_eq!(
        flow["forward"],
        json!({"source": format!("[{}]:40000", V6.router()), "destination": format!("[{}]:8080", V6.host())})
    );
    assert_eq!(
        flow["reply"],
        json!({"source": c1.at(80).to_string(), "destination": peer.to_string()})
    );
    // Both addresses select the flow, for listing and flushing.
    lab.json(&["flows", "flush", "--container", &c1.name]);
    assert_eq!(lab.json(&["flows"]), json!([]));
}

#[test]
fn flows_end_with_publish_or_admission() {
    let lab = Lab::shared(V6);
    let c1 = four(&lab, &["-p", "8080:80/udp"]);
    let _datagram = udp::Echo::start(&c1.netns, c1.at(80), "four");
    let client = udp::client(&lab.world, V6);
    udp::answer(&client, (V6.host(), 8080));
    lab.json(&["publish", "rm", &c1.name, "8080:80/udp"]);
    assert!(udp::is_silent(&client, (V6.host(), 8080)));
    for (from, admitted) in
        [(V6.outside(), false), ("2001:db8:2::/64", true), (V4.outside(), false)]
    {
        lab.json(&["publish", "add", &c1.name, "8080:80/udp", "--from", from]);
        let patience = if admitted { DEADLINE } else { SILENCE };
        let answer = udp::ask(&client, (V6.host(), 8080), b"let me in", patience);
        assert_eq!(answer.is_ok(), admitted, "{from}");
        lab.json(&["publish", "rm", &c1.name, "8080:80/udp"]);
    }
}

#[test]
fn closed_port_is_reported_to_client() {
    let lab = Lab::shared(V6);
    let _c1 = four(&lab, &["-p", "8080:9/udp", "-p", "8080:9"]);
    let c2 = lab.container("c2", &[]);
    for (netns, address) in
        [(&lab.world, V6.host()), (&c2.netns, V6.host()), (&c2.netns, V6.gateway())]
    {
        udp::expect_refused(&udp::client(netns, V6), (address, 8080));
        let refused = tcp::try_connect(netns, (address, 8080), DEADLINE).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
    udp::expect_refused(&udp::client(&lab.host, V6), (V6.loopback(), 8080));
}

#[test]
fn traceroute_shows_every_hop() {
    let lab = Lab::of(V6);
    let wide = lab.widen();
    let c1 = four(&lab, &["-p", "5000:80", "-p", "5000:80/udp"]);
    let c2 = lab.container("c2", &[]);
    let servers =
        (tcp::Echo::start(&c1.netns, c1.at(80)), udp::Echo::start(&c1.netns, c1.at(80), ""));
    for (port, probe) in [(4000, Probe::Udp), (4001, Probe::Tcp)] {
        // First without a flow, then with an open one.
        for _ in 0..2 {
            for (hops, by) in [(1, V6.far_hop()), (2, V6.near_hop()), (3, V6.host())] {
                let answer =
                    route::probe(&wide.beyond, probe, (V6.beyond(), port), (V6.host(), 5000), hops);
                assert_eq!(answer, exceeded(by), "{probe:?}, hop {hops}");
            }
            let there = route::reach(&wide.beyond, probe, (V6.beyond(), port), (V6.host(), 5000));
            assert_eq!(there, Answer::There(V6.host()));
            let answer = route::probe(&c2.netns, probe, (c2.address, port), (V6.host(), 5000), 1);
            assert_eq!(answer, exceeded(V6.gateway()), "a neighbour's");
            assert_eq!(
                route::reach(&c2.netns, probe, (c2.address, port), (V6.host(), 5000)),
                Answer::There(V6.host())
            );
        }
    }
    // Packets of the container expire too. It sees the gateway as the source of errors, as of all
    // NAT64 traffic.
    drop(servers);
    let inside = udp::bind(&c1.netns, c1.at(80));
    let outside = udp::bind(&wide.beyond, (V6.beyond(), 4002));
    outside.send_to(b"question", (V6.host(), 5000)).unwrap();
    let (_, peer) = inside.recv_from(&mut [0; 16]).unwrap();
    drop(inside);
    for hops in [1, 2, 3] {
        let answer =
            route::probe(&c1.netns, Probe::Udp, (c1.address, 80), (peer.ip(), peer.port()), hops);
        assert_eq!(answer, exceeded(V4.gateway()), "hop {hops}");
    }
    drop(outside);
    let there = route::probe(&c1.netns, Probe::Udp, (c1.address, 80), (peer.ip(), peer.port()), 4);
    assert_eq!(there, Answer::Error(V4.gateway(), Told::PortClosed));
}

#[test]
fn narrow_link_is_reported_to_both_sides() {
    let lab = Lab::of(V6);
    let wide = lab.widen();
    let c1 = four(&lab, &["-p", "9000:9", "-p", "9000:9/udp"]);
    transfer::both_ways(&c1.netns, c1.at(9), &wide.beyond, (V6.host(), 9000), transfer::SIZE / 100);
    assert_eq!(path_mtu(&c1.netns, V4.gateway()), Some(NARROW - 20), "the container was told");
    assert_eq!(path_mtu(&wide.beyond, V6.host()), Some(NARROW), "the client was told");
    // A datagram of the client, then of the container, that is too long.
    let server = udp::bind(&c1.netns, (V4.any(), 9));
    let client = udp::client(&wide.beyond, V6);
    client.send_to(b"hello", (V6.host(), 9000)).unwrap();
    let (_, peer) = server.recv_from(&mut [0; 16]).unwrap();
    let fits = V6.data_of(NARROW as usize);
    assert_eq!(server.send_to(&vec![1; fits], peer).unwrap(), fits);
    assert_eq!(client.recv_from(&mut [0; 2000]).unwrap().0, fits);
}

#[test]
fn reported_mtu_counts_header_growth() {
    let lab = Lab::of(V6);
    lab.json(&["network", "create", "short", "--subnet", "172.28.0.0/16", "--mtu", "1300"]);
    lab.json(&["network", "create", "long", "--subnet", "172.29.0.0/16", "--mtu", "9000"]);
    // In this order, since the client remembers the reported MTU.
    for (network, container_is_told, client_is_told) in
        [("long", Some(1480), None), ("short", None, Some(1320))]
    {
        let c1 = lab
            .container(network, &["--network", network, "-p", "9000:9/udp", "-p", "9000:9"])
            .of(V4);
        let server = udp::bind(&c1.netns, c1.at(9));
        let client = udp::bind(&lab.world, (V6.router(), 4000));
        client.send_to(b"hello", (V6.host(), 9000)).unwrap();
        let (_, peer) = server.recv_from(&mut [0; 16]).unwrap();
        let told = |netns, family, source, quoted, expected: Option<u32>| {
            let listener = Raw::icmp(netns, family);
            let patience = if expected.is_some() { DEADLINE } else { SILENCE };
            move || {
                listener.find(patience, |answer: &Packet| {
                    let (Told::TooLong(mtu), quote) = answer.error()? else { return None };
                    (answer.source == source && quote.ports() == quoted).then_some(mtu)
                })
            }
        };
        let heard = told(&lab.world, V6, V6.host(), (4000, 9000), client_is_told);
        let long = Packet::udp((V6.router(), 4000), (V6.host(), 9000), &[7; 1400]);
        Raw::sender(&lab.world, V6).send(&long);
        assert_eq!(heard(), client_is_told, "{network}");
        let gateway = lab.json(&["network", "inspect", network])["gateways"][0]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let heard = told(&c1.netns, V4, gateway, (9, peer.port()), container_is_told);
        let long = Packet::udp((c1.address, 9), (peer.ip(), peer.port()), &[7; 1473 - 20]);
        if container_is_told.is_some() {
            Raw::sender(&c1.netns, V4).send(&long);
        }
        assert_eq!(heard(), container_is_told, "{network}");
        drop(server);
        transfer::both_ways(
            &c1.netns,
            c1.at(9),
            &lab.world,
            (V6.host(), 9000),
            transfer::SIZE / 100,
        );
        lab.json(&["container", "rm", &c1.name]);
    }
}

#[test]
fn clamps_mss_of_both_sides() {
    let lab = Lab::shared(V6);
    let c1 = four(&lab, &["-p", "9000:9"]);
    let _server = tcp::Echo::start(&c1.netns, c1.at(9));
    let (inside, outside) = (Raw::open(&c1.netns, V4, 6), Raw::open(&lab.world, V6, 6));
    tcp::exchange(&lab.world, (V6.host(), 9000));
    let announced = |packet: &Packet| (packet.flags() & flag::SYN != 0).then(|| packet.mss());
    assert_eq!(inside.wait("a SYN", announced), Some(1440));
    assert_eq!(outside.wait("a SYN and ACK", announced), Some(1440));
}

#[test]
fn untranslatable_packets_are_dropped() {
    let lab = Lab::shared(V6);
    let c1 = four(&lab, &["-p", "8080:80/udp"]);
    let (inside, outside) = (Raw::open(&c1.netns, V4, 17), Raw::open(&lab.world, V6, 17));
    let send = |packet: &Packet| Raw::sender(&lab.world, V6).send(packet);
    let datagram = |data: &[u8]| Packet::udp((V6.far(), 4000), (V6.host(), 8080), data);
    let arrives = |data: &[u8]| {
        let data = data.to_vec();
        inside.wait("the datagram arrives", move |packet| {
            (packet.payload[8..] == data[..]).then(|| packet.clone())
        })
    };
    // Extension headers.
    let padding = [&[0][..], &[1, 4, 0, 0, 0, 0]].concat();
    let extensions = vec![
        (header::HOP_BY_HOP, padding.clone()),
        (header::DESTINATION, padding),
        (header::FRAGMENT, vec![0, 0, 0, 0, 0, 0, 7]),
    ];
    send(&Packet { extensions, ..datagram(b"with three of them") });
    let plain = arrives(b"with three of them");
    assert!(plain.sums_up() && plain.ttl == 63, "{plain:?}");
    let port = plain.ports().0;
    // Fragments.
    let parts = lab.counted("fragment");
    for part in datagram(&[7; 64]).with_id(9).cut(&[32]) {
        send(&part);
    }
    lab.expect_counted("fragment", parts + 2);
    // UDP with checksum zero.
    let back = |data: &[u8]| Packet::udp((c1.address, 80), (V4.gateway(), port), data);
    let mut without = back(b"without");
    without.payload[6..8].fill(0);
    Raw::sender(&c1.netns, V4).send(&without);
    lab.expect_counted("no-checksum", 1);
    Raw::sender(&c1.netns, V4).send(&back(b"with"));
    let answer = outside
        .wait("the answer", |packet| (packet.ports() == (8080, 4000)).then(|| packet.clone()));
    assert_eq!(
        (&answer.payload[8..], answer.source, answer.sums_up()),
        (&b"with"[..], V6.host(), true)
    );
    let first = back(&[7; 64]).with_id(9).cut(&[32]).remove(0);
    Raw::sender(&c1.netns, V4).send(&first);
    lab.expect_counted("fragment", parts + 3);
}

/// New flows go to the new container, draining ones stay.
#[test]
fn publish_moves_between_ipv4_containers() {
    let lab = Lab::shared(V6);
    let c1 = four(&lab, &["-p", "8080:80", "-p", "8080:80/udp"]);
    let c2 = lab.container("c2", &["--network", V4.network()]).of(V4);
    let _streams = [&c1, &c2].map(|container| tcp::Echo::start(&container.netns, container.at(80)));
    let _datagrams =
        [(&c1, "c1"), (&c2, "c2")].map(|(c, tag)| udp::Echo::start(&c.netns, c.at(80), tag));
    for (to, tag) in [(&c2, "c2"), (&c1, "c1")] {
        let mut going_on = tcp::exchange(&lab.world, (V6.host(), 8080));
        lab.json(&["publish", "move", "8080", &to.name, "--drain", "600"]);
        lab.json(&["publish", "move", "8080/udp", &to.name]);
        tcp::echoes(&mut going_on).unwrap();
        let client = udp::client(&lab.world, V6);
        assert_eq!(udp::answer(&client, (V6.host(), 8080)), tag);
        tcp::exchange(&lab.world, (V6.host(), 8080));
        assert_eq!(by_connected(&udp::client(&lab.host, V6), V6.loopback()).unwrap(), tag);
    }
}

#[test]
fn host_connections_end_with_the_publish() {
    let lab = Lab::of(V6);
    let c1 = four(&lab, &["-p", "8080:80", "-p", "8081:80"]);
    let _server = tcp::Echo::start(&c1.netns, c1.at(80));
    let mut ending =
        [V6.loopback(), V6.host()].map(|address| tcp::exchange(&lab.host, (address, 8080)));
    let mut staying = tcp::exchange(&lab.host, (V6.loopback(), 8081));
    lab.json(&["publish", "rm", &c1.name, "8080:80"]);
    for stream in &mut ending {
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }
    tcp::echoes(&mut staying).unwrap();
}

#[test]
fn ipv6_host_address_serves_ipv6_only() {
    let lab = Lab::shared(V6);
    let c1 = four(&lab, &["-p", "[2001:db8:2::15]:8080:80"]);
    let _server = tcp::Echo::start(&c1.netns, c1.at(80));
    tcp::exchange(&lab.world, (V6.host(), 8080));
    tcp::exchange(&lab.host, (V6.host(), 8080));
    assert!(tcp::try_connect(&lab.world, (V4.host(), 8080), DEADLINE).is_err());
    assert!(tcp::try_connect(&lab.host, (V6.loopback(), 8080), DEADLINE).is_err());
}
