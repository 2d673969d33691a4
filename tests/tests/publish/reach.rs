//! Published ports, reached from outside, from containers and from the host.

use std::net::{IpAddr, SocketAddr};

use causeway_netlink::Netns;
use causeway_tests::{
    families,
    family::{Family, V4, V6, bracketed, by_ipv6},
    lab::{Container, Lab, UPLINK},
    place, tcp, udp, wait,
};

use crate::server::Server;

families! {
    container_sees_the_outside_client,
    hairpin_works_by_every_host_address,
    one_socket_uses_direct_and_published_paths,
    container_reaches_its_own_publish,
    host_reaches_it_by_every_own_address,
    host_getpeername_shows_published_address,
    host_direct_socket_shows_container_address,
    outside_cannot_hijack_host_exchange,
    range_maps_port_by_port,
    host_address_limits_where_it_is_reached,
    from_list_admits_only_named_clients,
    two_thousand_connections_stay_open,
    changes_disturb_no_other_publish,
    early_client_is_served_once_published;
    V4:
    host_dual_stack_socket_reaches_it,
    host_dual_stack_socket_shows_published_port,
}

#[track_caller]
fn reaches(from: &Netns, address: IpAddr, port: u16, container: &Container) {
    tcp::exchange(from, (address, port));
    assert_eq!(
        udp::answer(&udp::client(from, Family::of(address)), (address, port)),
        container.name
    );
}

fn container_sees_the_outside_client(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
    let server = Server::start(&c1, 80);
    reaches(&lab.world, family.host(), 8080, &c1);
    let client = udp::bind(&lab.world, (family.far(), 40000));
    assert_eq!(udp::answer(&client, (family.host(), 8080)), c1.name);
    assert!(
        server.udp.peers().contains(&SocketAddr::from((family.far(), 40000))),
        "{:?}",
        server.udp.peers()
    );
    assert!(
        server.tcp.peers().iter().all(|peer| peer.ip() == family.router()),
        "{:?}",
        server.tcp.peers()
    );
}

fn hairpin_works_by_every_host_address(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
    let c2 = lab.container("c2", &[]);
    let server = Server::start(&c1, 80);
    reaches(&c2.netns, family.host(), 8080, &c1);
    reaches(&c2.netns, family.gateway(), 8080, &c1);
    for peers in [server.tcp.peers(), server.udp.peers()] {
        assert!(
            peers.iter().all(|peer| peer.ip() == c2.address),
            "the client's address is kept: {peers:?}"
        );
    }
}

fn one_socket_uses_direct_and_published_paths(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80/udp"]);
    let c2 = lab.container("c2", &[]);
    let _server = Server::start(&c1, 80);
    let client = udp::client(&c2.netns, family);
    for to in [c1.at(80), (family.host(), 8080).into(), c1.at(80), (family.host(), 8080).into()] {
        assert_eq!(udp::answer(&client, to), c1.name);
    }
}

fn container_reaches_its_own_publish(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
    let _server = Server::start(&c1, 80);
    reaches(&c1.netns, family.host(), 8080, &c1);
    reaches(&c1.netns, family.gateway(), 8080, &c1);
}

fn host_reaches_it_by_every_own_address(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
    let _server = Server::start(&c1, 80);
    for address in [family.host(), family.loopback(), family.gateway()] {
        reaches(&lab.host, address, 8080, &c1);
    }
}

fn host_getpeername_shows_published_address(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let _server = Server::start(&c1, 80);
    let stream = tcp::exchange(&lab.host, (family.loopback(), 8080));
    assert_eq!(stream.peer_addr().unwrap(), SocketAddr::from((family.loopback(), 8080)));
}

fn host_dual_stack_socket_reaches_it(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let _server = Server::start(&c1, 80);
    for address in [family.host(), family.loopback(), family.gateway()] {
        let stream = tcp::exchange(&lab.host, (by_ipv6(address), 8080));
        assert_eq!(stream.peer_addr().unwrap().ip(), by_ipv6(address));
    }
}

fn host_dual_stack_socket_shows_published_port(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80/udp"]);
    let _server = Server::start(&c1, 80);
    let socket = udp::bind(&lab.host, (V6.any(), 0));
    socket.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    for address in [family.host(), family.loopback()] {
        let to = SocketAddr::from((by_ipv6(address), 8080));
        socket.connect(to).unwrap();
        for _ in 0..3 {
            socket.send(b"question").unwrap();
            assert_eq!(socket.recv_from(&mut [0; 100]).unwrap().1, to);
            assert_eq!(socket.peer_addr().unwrap(), to);
        }
    }
    // Connected to the container itself, it shows the container's address.
    let to = SocketAddr::from((by_ipv6(c1.address), 80));
    socket.connect(to).unwrap();
    socket.send(b"question").unwrap();
    assert_eq!((socket.recv_from(&mut [0; 100]).unwrap().1, socket.peer_addr().unwrap()), (to, to));
}

fn host_direct_socket_shows_container_address(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let _echo = udp::Echo::start(&c1.netns, (family.any(), 7), "c1");
    let socket = udp::client(&lab.host, family);
    for to in [
        SocketAddr::from((family.loopback(), 5000)),
        c1.at(7),
        SocketAddr::from((family.loopback(), 5000)),
    ] {
        assert_eq!(udp::answer(&socket, to), "c1", "the answer comes from {to}");
    }
}

fn outside_cannot_hijack_host_exchange(family: Family) {
    let lab = Lab::of(family);
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let _echo = udp::Echo::start(&c1.netns, (family.any(), 7), "c1");
    let socket = udp::bind(&lab.host, (family.gateway(), 40000));
    assert_eq!(udp::answer(&socket, (family.host(), 5000)), "c1");
    // The ARP request of a forged address is not answered, so that the world must know the host's
    // MAC before.
    assert_eq!(udp::answer(&udp::client(&lab.world, family), (family.host(), 5000)), "c1");
    // The world sends from the host's own address and port to the published port.
    place::add_address(&lab.world, "lo", family.gateway(), family.whole());
    let forger = udp::bind(&lab.world, (family.gateway(), 40000));
    wait::until("the forged datagram is dropped", || {
        forger.send_to(b"forged", (family.host(), 5000)).expect("it is sent");
        (lab.counted("source-not-outside") > 0).then_some(())
    });
    assert_eq!(udp::answer(&socket, (family.host(), 5000)), "c1", "the host's exchange goes on");
}

fn range_maps_port_by_port(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "6000-6010:7000-7010", "-p", "6000-6010:7000-7010/udp"]);
    let _servers = [7000, 7005, 7010].map(|port| Server::start(&c1, port));
    let _outside = Server::start(&c1, 7011);
    for (host, port) in [(6000, 7000), (6005, 7005), (6010, 7010)] {
        reaches(&lab.world, family.host(), host, &c1);
        let client = udp::client(&lab.world, family);
        udp::answer(&client, (family.host(), host));
        assert!(
            tcp::is_unreachable(&lab.world, (family.host(), port)),
            "{port} is the container's, not the host's"
        );
    }
    assert!(tcp::is_unreachable(&lab.world, (family.host(), 6011)));
    assert!(tcp::is_unreachable(&lab.world, (family.host(), 5999)));
}

fn host_address_limits_where_it_is_reached(family: Family) {
    let second = match family {
        V4 => IpAddr::from([10, 0, 2, 16]),
        V6 => IpAddr::from([0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x16]),
    };
    let lab = Lab::without_agent().of_family(family);
    place::add_address(&lab.host, UPLINK, second, if family == V4 { 24 } else { 64 });
    lab.start_agent(&[]);
    let at = |address, ports: &str| format!("{}:{ports}", bracketed(address));
    let (tcp_second, udp_second) = (at(second, "8080:80"), at(second, "8080:80/udp"));
    let c1 = lab.container(
        "c1",
        &["-p", &tcp_second, "-p", &udp_second, "-p", "8081:80", "-p", "8081:80/udp"],
    );
    let (tcp_first, udp_first) = (at(family.host(), "8080:80"), at(family.host(), "8080:80/udp"));
    let own = at(family.loopback(), "8082:80");
    let c2 = lab.container("c2", &["-p", &tcp_first, "-p", &udp_first, "-p", &own]);
    let _servers = [Server::start(&c1, 80), Server::start(&c2, 80)];
    for from in [&lab.world, &lab.host, &c1.netns, &c2.netns] {
        reaches(from, second, 8080, &c1);
        reaches(from, family.host(), 8080, &c2);
        reaches(from, second, 8081, &c1);
        reaches(from, family.host(), 8081, &c1);
    }
    assert!(tcp::is_unreachable(&lab.host, (family.loopback(), 8080)));
    assert!(
        tcp::is_unreachable(&lab.world, (family.host(), 8082)),
        "published for the host itself"
    );
    tcp::exchange(&lab.host, (family.loopback(), 8082));
}

fn from_list_admits_only_named_clients(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    lab.json(&["publish", "add", &c1.name, "8080:80/udp", "--from", family.outside()]);
    let _server = Server::start(&c1, 80);
    assert_eq!(
        udp::answer(&udp::bind(&lab.world, (family.far(), 0)), (family.host(), 8080)),
        c1.name
    );
    assert!(udp::is_silent(&udp::bind(&lab.world, (family.router(), 0)), (family.host(), 8080)));
}

fn two_thousand_connections_stay_open(family: Family) {
    let lab = Lab::of(family);
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let server = Server::start(&c1, 80);
    let mut streams: Vec<_> =
        (0..2000).map(|_| tcp::exchange(&lab.world, (family.host(), 8080))).collect();
    for stream in &mut streams {
        tcp::echoes(stream).unwrap();
    }
    assert_eq!(server.tcp.peers().len(), 2000);
}

fn changes_disturb_no_other_publish(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container(
        "c1",
        &["-p", "8080:80", "-p", "8080:80/udp", "-p", "8081:81", "-p", "8081:81/udp"],
    );
    let _servers = [Server::start(&c1, 80), Server::start(&c1, 81), Server::start(&c1, 82)];
    let _world = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let staying = udp::Chatter::start(udp::client(&lab.world, family), (family.host(), 8080));
    let leaving = udp::Chatter::start(udp::client(&c1.netns, family), (family.far(), 7));
    let mut staying_tcp = tcp::exchange(&lab.world, (family.host(), 8080));
    let mut removed_tcp = tcp::exchange(&lab.world, (family.host(), 8081));
    let removed_udp = udp::client(&lab.world, family);
    udp::answer(&removed_udp, (family.host(), 8081));
    let (before_staying, before_leaving) = (staying.answered(), leaving.answered());

    for _ in 0..10 {
        for publish in ["8082:82", "8082:82/udp"] {
            lab.json(&["publish", "add", &c1.name, publish]);
        }
        reaches(&lab.world, family.host(), 8082, &c1);
        for publish in ["8082:82", "8082:82/udp"] {
            lab.json(&["publish", "rm", &c1.name, publish]);
        }
        tcp::echoes(&mut staying_tcp).unwrap();
    }
    for publish in ["8081:81", "8081:81/udp"] {
        lab.json(&["publish", "rm", &c1.name, publish]);
    }

    removed_tcp.set_read_timeout(Some(wait::SILENCE)).unwrap();
    assert!(tcp::echoes(&mut removed_tcp).is_err(), "a connection of the removed publish goes on");
    assert!(
        udp::is_silent(&removed_udp, (family.host(), 8081)),
        "an exchange of the removed publish goes on"
    );
    assert!(tcp::is_unreachable(&lab.world, (family.host(), 8082)));
    tcp::echoes(&mut staying_tcp).unwrap();
    wait::until("both exchanges go on", || {
        (staying.answered() > before_staying && leaving.answered() > before_leaving).then_some(())
    });
    staying.finish();
    leaving.finish();
}

fn early_client_is_served_once_published(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let _server = Server::start(&c1, 80);
    let client = udp::bind(&lab.world, (family.far(), 40005));
    assert!(udp::is_silent(&client, (family.host(), 8080)));
    lab.json(&["publish", "add", &c1.name, "8080:80/udp"]);
    assert_eq!(udp::answer(&client, (family.host(), 8080)), c1.name);
}
