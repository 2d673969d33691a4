//! IPv6 clients of a published port whose container has IPv4 alone.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use causeway_tests::{
    family::{V4, V6},
    lab::{Container, HOST, Lab, UPLINK, WORLD_SIDE},
    offload, tcp, transfer, udp,
    wait::DEADLINE,
};

/// A lab whose world speaks IPv6, and a container without.
fn four(lab: &Lab, arguments: &[&str]) -> Container {
    let c1 = lab.container("four", &[&["--network", V4.network()], arguments].concat());
    assert_eq!(c1.made["endpoints"][0]["addresses"].as_array().unwrap().len(), 1, "{}", c1.made);
    c1.of(V4)
}

/// Asserts that they all are the gateway's, with ports that the host's own sockets do not pick.
#[track_caller]
fn are_the_gateways(peers: &BTreeSet<SocketAddr>) {
    assert!(!peers.is_empty());
    for peer in peers {
        assert!(peer.ip() == V4.gateway() && (1024..32768).contains(&peer.port()), "{peer}");
    }
}

#[test]
fn clients_reach_it_and_it_sees_the_gateway() {
    let lab = Lab::shared(V6);
    let c1 = four(&lab, &["-p", "8080:80", "-p", "8080:80/udp"]);
    let (stream, datagram) = (tcp::Echo::start(&c1.netns, c1.at(80)), udp::Echo::start(&c1.netns, c1.at(80), "four"));
    for _ in 0..3 {
        tcp::exchange(&lab.world, (V6.host(), 8080));
        assert_eq!(udp::answer(&udp::client(&lab.world, V6), (V6.host(), 8080)), "four");
    }
    are_the_gateways(&stream.peers());
    are_the_gateways(&datagram.peers());
    // One of the other family is seen as ever.
    tcp::exchange(&lab.world, (HOST, 8080));
    assert!(stream.peers().iter().any(|peer| peer.ip() == V4.router()));
}

#[test]
fn bytes_arrive_both_ways_with_and_without_offloads() {
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
            transfer::both_ways(&c1.netns, c1.at(9), &lab.world, (V6.host(), 9000), transfer::SIZE / 10);
        }
        for to in [V6.host(), V6.gateway()] {
            transfer::both_ways(&c1.netns, c1.at(9), &c2.netns, (to, 9000), transfer::SIZE / 10);
        }
        transfer::both_ways(&c1.netns, c1.at(9), &lab.host, (V6.loopback(), 9000), transfer::SIZE / 10);
    }
}

#[test]
fn containers_with_ipv6_reach_it_too() {
    let lab = Lab::shared(V6);
    let c1 = four(&lab, &["-p", "8080:80", "-p", "8080:80/udp"]);
    let c2 = lab.container("c2", &[]);
    let (stream, datagram) = (tcp::Echo::start(&c1.netns, c1.at(80)), udp::Echo::start(&c1.netns, c1.at(80), "four"));
    for address in [V6.host(), V6.gateway()] {
        tcp::exchange(&c2.netns, (address, 8080));
        assert_eq!(udp::answer(&udp::client(&c2.netns, V6), (address, 8080)), "four");
    }
    are_the_gateways(&stream.peers());
    are_the_gateways(&datagram.peers());
}

#[test]
fn processes_of_the_host_reach_it_by_ipv6() {
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

/// The answer to a socket that is connected, which must come from where it is connected to.
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
