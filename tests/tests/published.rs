//! Published ports, from everywhere they are reached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use causeway::net::{netlink::Netlink, netns::Netns};
use causeway_tests::{
    lab::{Container, FAR, GATEWAY, HOST, Lab, ROUTER, UPLINK},
    place, tcp, udp, wait,
};

/// TCP and UDP at one port of a container, with its name as the tag.
struct Server {
    tcp: tcp::Echo,
    udp: udp::Echo,
}

impl Server {
    fn start(container: &Container, port: u16) -> Self {
        Self {
            tcp: tcp::Echo::start(&container.netns, container.at(port)),
            udp: udp::Echo::start(&container.netns, container.at(port), &container.name),
        }
    }
}

#[track_caller]
fn reaches(from: &Netns, address: Ipv4Addr, port: u16, container: &Container) {
    tcp::exchange(from, (address, port));
    assert_eq!(udp::answer(&udp::client(from), (address, port)), container.name);
}

#[test]
fn the_world_reaches_a_published_port_and_the_container_sees_the_client() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
    let server = Server::start(&c1, 80);
    reaches(&lab.world, HOST, 8080, &c1);
    let client = udp::bind(&lab.world, (FAR, 40000));
    assert_eq!(udp::answer(&client, (HOST, 8080)), c1.name);
    assert!(server.udp.peers().contains(&SocketAddr::from((FAR, 40000))), "{:?}", server.udp.peers());
    assert!(server.tcp.peers().iter().all(|peer| peer.ip() == ROUTER), "{:?}", server.tcp.peers());
}

#[test]
fn another_container_reaches_a_published_port_through_every_address_of_the_host() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
    let c2 = lab.container("c2", &[]);
    let server = Server::start(&c1, 80);
    reaches(&c2.netns, HOST, 8080, &c1);
    reaches(&c2.netns, GATEWAY, 8080, &c1);
    for peers in [server.tcp.peers(), server.udp.peers()] {
        assert!(
            peers.iter().all(|peer| peer.ip() == IpAddr::V4(c2.address)),
            "the client's address is kept: {peers:?}"
        );
    }
}

#[test]
fn one_socket_reaches_a_container_directly_and_through_its_published_port() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80/udp"]);
    let c2 = lab.container("c2", &[]);
    let _server = Server::start(&c1, 80);
    let client = udp::client(&c2.netns);
    for to in [c1.at(80), (HOST, 8080).into(), c1.at(80), (HOST, 8080).into()] {
        assert_eq!(udp::answer(&client, to), c1.name);
    }
}

#[test]
fn a_container_reaches_its_own_published_port() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
    let _server = Server::start(&c1, 80);
    reaches(&c1.netns, HOST, 8080, &c1);
    reaches(&c1.netns, GATEWAY, 8080, &c1);
}

#[test]
fn the_host_reaches_a_published_port_through_every_address_of_its_own() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
    let _server = Server::start(&c1, 80);
    for address in [HOST, Ipv4Addr::LOCALHOST, GATEWAY] {
        reaches(&lab.host, address, 8080, &c1);
    }
}

#[test]
fn a_connection_of_the_host_shows_the_address_it_was_made_to() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let _server = Server::start(&c1, 80);
    let stream = tcp::exchange(&lab.host, (Ipv4Addr::LOCALHOST, 8080));
    assert_eq!(stream.peer_addr().unwrap(), SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
}

#[test]
fn a_dual_stack_program_of_the_host_reaches_a_published_port_too() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let _server = Server::start(&c1, 80);
    for address in [HOST, Ipv4Addr::LOCALHOST, GATEWAY] {
        let mapped = address.to_ipv6_mapped();
        let stream = tcp::exchange(&lab.host, (mapped, 8080));
        assert_eq!(stream.peer_addr().unwrap().ip(), mapped);
    }
}

#[test]
fn a_dual_stack_program_of_the_host_sees_the_published_port_on_a_connected_socket() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80/udp"]);
    let _server = Server::start(&c1, 80);
    let socket = udp::bind(&lab.host, (std::net::Ipv6Addr::UNSPECIFIED, 0));
    socket.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    for address in [HOST, Ipv4Addr::LOCALHOST] {
        let to = SocketAddr::from((address.to_ipv6_mapped(), 8080));
        socket.connect(to).unwrap();
        for _ in 0..3 {
            socket.send(b"question").unwrap();
            assert_eq!(socket.recv_from(&mut [0; 100]).unwrap().1, to);
            assert_eq!(socket.peer_addr().unwrap(), to);
        }
    }
    // Connected to the container itself it says so.
    let to = SocketAddr::from((c1.address.to_ipv6_mapped(), 80));
    socket.connect(to).unwrap();
    socket.send(b"question").unwrap();
    assert_eq!((socket.recv_from(&mut [0; 100]).unwrap().1, socket.peer_addr().unwrap()), (to, to));
}

#[test]
fn a_socket_of_the_host_that_goes_straight_to_the_container_is_told_so() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let _echo = udp::Echo::start(&c1.netns, (Ipv4Addr::UNSPECIFIED, 7), "c1");
    let socket = udp::client(&lab.host);
    for to in [SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)), c1.at(7), SocketAddr::from((Ipv4Addr::LOCALHOST, 5000))] {
        assert_eq!(udp::answer(&socket, to), "c1", "the answer comes from {to}");
    }
}

#[test]
fn nobody_outside_takes_over_an_exchange_of_the_host_with_a_container() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let _echo = udp::Echo::start(&c1.netns, (Ipv4Addr::UNSPECIFIED, 7), "c1");
    let socket = udp::bind(&lab.host, (GATEWAY, 40000));
    assert_eq!(udp::answer(&socket, (HOST, 5000)), "c1");
    // Nobody answers a forged address's ARP request: the world must know the host before.
    assert_eq!(udp::answer(&udp::client(&lab.world), (HOST, 5000)), "c1");
    // The world sends from the host's own address and port to the published port.
    let forger = place::run(&lab.world, || {
        place::block_on(async {
            let netlink = Netlink::open(&lab.world).await?;
            let loopback = netlink.link("lo").await?.expect("lo").index;
            netlink.add_address(loopback, ipnet::IpNet::new(GATEWAY.into(), 32)?).await
        })
        .expect("a forged address");
        std::net::UdpSocket::bind((GATEWAY, 40000)).expect("a forged source")
    });
    let dropped = || lab.json(&["stats"])["reasons"]["source-not-outside"].as_u64().unwrap_or(0);
    wait::until("the forged datagram is dropped", || {
        forger.send_to(b"forged", (HOST, 5000)).expect("it is sent");
        (dropped() > 0).then_some(())
    });
    assert_eq!(udp::answer(&socket, (HOST, 5000)), "c1", "the host's exchange goes on");
}

#[test]
fn a_range_leads_port_by_port() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "6000-6010:7000-7010", "-p", "6000-6010:7000-7010/udp"]);
    let _servers = [7000, 7005, 7010].map(|port| Server::start(&c1, port));
    let _outside = Server::start(&c1, 7011);
    for (host, port) in [(6000, 7000), (6005, 7005), (6010, 7010)] {
        reaches(&lab.world, HOST, host, &c1);
        let client = udp::client(&lab.world);
        udp::answer(&client, (HOST, host));
        assert!(tcp::is_unreachable(&lab.world, (HOST, port)), "{port} is the container's, not the host's");
    }
    assert!(tcp::is_unreachable(&lab.world, (HOST, 6011)));
    assert!(tcp::is_unreachable(&lab.world, (HOST, 5999)));
}

#[test]
fn a_publish_with_a_host_address_is_reached_through_that_address_alone() {
    const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 16);
    let lab = Lab::without_agent();
    place::block_on(async {
        let netlink = Netlink::open(&lab.host).await?;
        let uplink = netlink.link(UPLINK).await?.unwrap().index;
        netlink.add_address(uplink, ipnet::IpNet::new(SECOND.into(), 24)?).await
    })
    .unwrap();
    lab.start_agent(&[]);
    let c1 = lab.container(
        "c1",
        &["-p", "10.0.2.16:8080:80", "-p", "10.0.2.16:8080:80/udp", "-p", "8081:80", "-p", "8081:80/udp"],
    );
    let c2 =
        lab.container("c2", &["-p", "10.0.2.15:8080:80", "-p", "10.0.2.15:8080:80/udp", "-p", "127.0.0.1:8082:80"]);
    let _servers = [Server::start(&c1, 80), Server::start(&c2, 80)];
    for from in [&lab.world, &lab.host, &c1.netns, &c2.netns] {
        reaches(from, SECOND, 8080, &c1);
        reaches(from, HOST, 8080, &c2);
        reaches(from, SECOND, 8081, &c1);
        reaches(from, HOST, 8081, &c1);
    }
    assert!(tcp::is_unreachable(&lab.host, (Ipv4Addr::LOCALHOST, 8080)));
    assert!(tcp::is_unreachable(&lab.world, (HOST, 8082)), "published for the host itself");
    tcp::exchange(&lab.host, (Ipv4Addr::LOCALHOST, 8082));
}

#[test]
fn a_publish_admits_only_the_clients_it_names() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    lab.json(&["publish", "add", &c1.name, "8080:80/udp", "--from", "203.0.113.0/24"]);
    let _server = Server::start(&c1, 80);
    assert_eq!(udp::answer(&udp::bind(&lab.world, (FAR, 0)), (HOST, 8080)), c1.name);
    assert!(udp::is_silent(&udp::bind(&lab.world, (ROUTER, 0)), (HOST, 8080)));
}

#[test]
fn two_thousand_connections_to_a_published_port_are_open_at_once() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let server = Server::start(&c1, 80);
    let mut streams: Vec<_> = (0..2000).map(|_| tcp::exchange(&lab.world, (HOST, 8080))).collect();
    for stream in &mut streams {
        tcp::echoes(stream).unwrap();
    }
    assert_eq!(server.tcp.peers().len(), 2000);
}

#[test]
fn publishes_come_and_go_while_others_are_in_use() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp", "-p", "8081:81", "-p", "8081:81/udp"]);
    let _servers = [Server::start(&c1, 80), Server::start(&c1, 81), Server::start(&c1, 82)];
    let _world = udp::Echo::start(&lab.world, (FAR, 7), "far");
    let staying = udp::Chatter::start(udp::client(&lab.world), (HOST, 8080));
    let leaving = udp::Chatter::start(udp::client(&c1.netns), (FAR, 7));
    let mut staying_tcp = tcp::exchange(&lab.world, (HOST, 8080));
    let mut removed_tcp = tcp::exchange(&lab.world, (HOST, 8081));
    let removed_udp = udp::client(&lab.world);
    udp::answer(&removed_udp, (HOST, 8081));
    let (before_staying, before_leaving) = (staying.answered(), leaving.answered());

    for _ in 0..10 {
        for publish in ["8082:82", "8082:82/udp"] {
            lab.json(&["publish", "add", &c1.name, publish]);
        }
        reaches(&lab.world, HOST, 8082, &c1);
        for publish in ["8082:82", "8082:82/udp"] {
            lab.json(&["publish", "rm", &c1.name, publish]);
        }
        tcp::echoes(&mut staying_tcp).unwrap();
    }
    for publish in ["8081:81", "8081:81/udp"] {
        lab.json(&["publish", "rm", &c1.name, publish]);
    }

    removed_tcp.set_read_timeout(Some(causeway_tests::wait::SILENCE)).unwrap();
    assert!(tcp::echoes(&mut removed_tcp).is_err(), "a connection of the removed publish goes on");
    assert!(udp::is_silent(&removed_udp, (HOST, 8081)), "an exchange of the removed publish goes on");
    assert!(tcp::is_unreachable(&lab.world, (HOST, 8082)));
    tcp::echoes(&mut staying_tcp).unwrap();
    assert!(staying.answered() > before_staying && leaving.answered() > before_leaving);
    staying.finish();
    leaving.finish();
}

#[test]
fn a_client_that_asked_too_early_is_served_once_the_port_is_published() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    let _server = Server::start(&c1, 80);
    let client = udp::bind(&lab.world, (FAR, 40005));
    assert!(udp::is_silent(&client, (HOST, 8080)));
    lab.json(&["publish", "add", &c1.name, "8080:80/udp"]);
    assert_eq!(udp::answer(&client, (HOST, 8080)), c1.name);
}
