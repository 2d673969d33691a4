//! ICMP errors reach the sender of the packet they quote: through masquerade and publishes, from
//! routers and from peers.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    thread,
    time::Duration,
};

use causeway_netlink::Netns;
use causeway_tests::{
    families,
    family::{Family, V4},
    lab::{Container, Lab},
    place,
    raw::{Packet, Raw, Told},
    route::{self, Answer, Probe, exceeded},
    tcp, udp, wait,
    wide::{NARROW, path_mtu},
};

families! {
    closed_outside_port_is_reported_to_container,
    closed_published_port_is_reported_to_client,
    closed_port_of_busy_flow_is_reported,
    error_ends_no_flow,
    traceroute_to_world_shows_every_hop,
    traceroute_of_open_flow_shows_every_hop,
    traceroute_to_publish_shows_every_hop,
    traceroute_of_neighbour_ends_at_gateway,
    expired_reply_is_reported_to_its_sender,
    narrow_link_is_reported_to_container,
    masqueraded_tcp_crosses_narrow_link,
    published_tcp_crosses_narrow_link,
    narrow_link_is_reported_to_publish_target,
    container_learns_smaller_uplink_mtu,
    fragmentable_packet_learns_uplink_mtu,
    client_learns_smaller_container_mtu,
    error_without_flow_is_dropped;
    V4:
    fragmentable_packet_reaches_narrow_container,
}

/// A flow that was used in several successive ticks takes the fast path with a known MAC.
fn closed_port_of_busy_flow_is_reported(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let inside = udp::bind(&c1.netns, c1.at(7));
    let client = udp::client(&lab.world, family);
    let from = client.local_addr().expect("it has one").port();
    inside.set_read_timeout(Some(wait::DEADLINE)).expect("a timeout can be set");
    let mut buffer = [0; 64];
    // Longer than three ticks of the datapath's clock, so that the flow counts as busy.
    for _ in 0..12 {
        client.send_to(b"x", (family.host(), 5000)).expect("it is sent");
        let (length, peer) = inside.recv_from(&mut buffer).expect("it arrives");
        inside.send_to(&buffer[..length], peer).expect("it is answered");
        thread::sleep(Duration::from_millis(300));
    }
    drop(inside);
    let listener = Raw::icmp(&lab.world, family);
    client.send_to(b"question", (family.host(), 5000)).expect("it is sent");
    let told = listener.find(wait::DEADLINE, |packet| {
        let (told, quote) = packet.error()?;
        (quote.ports() == (from, 5000)).then_some(told)
    });
    assert_eq!(told, Some(Told::PortClosed));
}

/// Enough segments to make path MTU discovery necessary.
const MANY: usize = 200_000;

fn closed_outside_port_is_reported_to_container(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    udp::expect_refused(&udp::client(&c1.netns, family), (family.far(), 9));
}

fn closed_published_port_is_reported_to_client(family: Family) {
    let lab = Lab::shared(family);
    let _c1 = lab.container("c1", &["-p", "5000:9/udp"]);
    let c2 = lab.container("c2", &[]);
    udp::expect_refused(&udp::client(&lab.world, family), (family.host(), 5000));
    for address in [family.host(), family.gateway()] {
        udp::expect_refused(&udp::client(&c2.netns, family), (address, 5000));
    }
}

/// A port-unreachable error does not end the flow: a later datagram is answered (RFC 4787 REQ-12,
/// RFC 5508 REQ-6).
fn error_ends_no_flow(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let client = udp::bind(&c1.netns, (family.any(), 4000));
    let listener = Raw::open(&lab.world, family, 17);
    udp::expect_refused(&client, (family.far(), 9));
    let mapped = listener
        .wait("the datagram arrives", |packet| (packet.ports().1 == 9).then_some(packet.ports().0));
    let echo = udp::Echo::start(&lab.world, (family.far(), 9), "open");
    wait::until("the port answers", || {
        udp::ask(&client, (family.far(), 9), b"again", wait::SILENCE).ok()
    });
    assert_eq!(echo.peers(), [(family.host(), mapped).into()].into(), "the flow is the same");
}

fn traceroute_to_world_shows_every_hop(family: Family) {
    let lab = Lab::shared_wide(family);
    let c1 = lab.container("c1", &[]);
    for (port, probe) in (4000..).zip(Probe::ALL) {
        for (hops, by) in [(1, family.gateway()), (2, family.router()), (3, family.hop())] {
            let answer =
                route::probe(&c1.netns, probe, (c1.address, port), (family.beyond(), 33434), hops);
            assert_eq!(answer, exceeded(by), "{probe:?}, hop {hops}");
        }
    }
    let there =
        route::probe(&c1.netns, Probe::Udp, (c1.address, 4000), (family.beyond(), 33434), 4);
    assert_eq!(there, Answer::Error(family.beyond(), Told::PortClosed), "the port is closed");
    for (port, probe) in [(4001, Probe::Tcp), (4002, Probe::Echo)] {
        assert_eq!(
            route::reach(&c1.netns, probe, (c1.address, port), (family.beyond(), 33434)),
            Answer::There(family.beyond())
        );
    }
}

/// Packets of an open connection take the fast path, which must also report an expired TTL at the
/// host, the first hop.
fn traceroute_of_open_flow_shows_every_hop(family: Family) {
    let lab = Lab::shared_wide(family);
    let c1 = lab.container("c1", &[]);
    for (port, probe) in (4000..).zip(Probe::ALL) {
        let from = (c1.address, port);
        let there = match probe {
            Probe::Udp => route::probe(&c1.netns, probe, from, (family.beyond(), 33434), 64),
            Probe::Tcp | Probe::Echo => {
                route::reach(&c1.netns, probe, from, (family.beyond(), 33434))
            }
        };
        let answers =
            [Answer::There(family.beyond()), Answer::Error(family.beyond(), Told::PortClosed)];
        assert!(answers.contains(&there), "{there:?}");
        for (hops, by) in [(1, family.gateway()), (2, family.router()), (3, family.hop())] {
            let answer = route::probe(&c1.netns, probe, from, (family.beyond(), 33434), hops);
            assert_eq!(answer, exceeded(by), "{probe:?}, hop {hops}");
        }
    }
}

fn traceroute_to_publish_shows_every_hop(family: Family) {
    let lab = Lab::shared_wide(family);
    let wide = lab.wide();
    let c1 = lab.container("c1", &["-p", "5000:80", "-p", "5000:80/udp"]);
    let _servers =
        (tcp::Echo::start(&c1.netns, c1.at(80)), udp::Echo::start(&c1.netns, c1.at(80), ""));
    for (port, probe) in [(4000, Probe::Udp), (4001, Probe::Tcp)] {
        // First without a flow, then with an open one.
        for _ in 0..2 {
            for (hops, by) in [(1, family.far_hop()), (2, family.near_hop()), (3, family.host())] {
                let answer = route::probe(
                    &wide.beyond,
                    probe,
                    (family.beyond(), port),
                    (family.host(), 5000),
                    hops,
                );
                assert_eq!(answer, exceeded(by), "{probe:?}, hop {hops}");
            }
            assert_eq!(
                route::reach(&wide.beyond, probe, (family.beyond(), port), (family.host(), 5000)),
                Answer::There(family.host())
            );
        }
    }
}

fn traceroute_of_neighbour_ends_at_gateway(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:80/udp"]);
    let c2 = lab.container("c2", &[]);
    let _server = udp::Echo::start(&c1.netns, c1.at(80), "");
    for _ in 0..2 {
        let answer =
            route::probe(&c2.netns, Probe::Udp, (c2.address, 4000), (family.host(), 5000), 1);
        assert_eq!(answer, exceeded(family.gateway()));
        assert_eq!(
            route::reach(&c2.netns, Probe::Udp, (c2.address, 4000), (family.host(), 5000)),
            Answer::There(family.host())
        );
    }
}

/// A reply whose TTL expires at the host is reported to its sender.
fn expired_reply_is_reported_to_its_sender(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "5000:80/udp"]);
    let far = udp::bind(&lab.world, (family.far(), 7));
    let client = udp::bind(&c1.netns, (family.any(), 4000));
    client.send_to(b"question", (family.far(), 7)).unwrap();
    let (_, mapped) = far.recv_from(&mut [0; 64]).unwrap();
    let answer =
        route::probe(&lab.world, Probe::Udp, (family.far(), 7), (family.host(), mapped.port()), 1);
    assert_eq!(answer, exceeded(family.host()), "to the world, of a masqueraded flow");
    let inside = udp::bind(&c1.netns, c1.at(80));
    udp::bind(&lab.world, (family.far(), 4000))
        .send_to(b"question", (family.host(), 5000))
        .unwrap();
    inside.recv_from(&mut [0; 64]).unwrap();
    let answer = route::probe(&c1.netns, Probe::Udp, (c1.address, 80), (family.far(), 4000), 1);
    assert_eq!(answer, exceeded(family.gateway()), "to the container, of a published flow");
}

fn narrow_link_is_reported_to_container(family: Family) {
    let lab = Lab::shared_wide(family);
    let c1 = lab.container("c1", &[]);
    let said = ping(&c1.netns, family, &["-M", "do"], 1400);
    assert!(
        said.contains("mtu = 1400") || said.contains("mtu=1400"),
        "the first packet is answered with the MTU: {said}"
    );
    let fits = family.data_of(1400);
    let said = ping(&c1.netns, family, &["-M", "do"], fits);
    assert!(said.contains(&format!("{} bytes from", fits + 8)), "what fits arrives: {said}");
}

fn masqueraded_tcp_crosses_narrow_link(family: Family) {
    let lab = Lab::shared_wide(family);
    let wide = lab.wide();
    let c1 = lab.container("c1", &[]);
    let listener = tcp::listen(&wide.beyond, (family.beyond(), 9));
    let near = tcp::connect(&c1.netns, (family.beyond(), 9));
    carries_many(near, listener.accept().unwrap().0);
    assert_eq!(path_mtu(&c1.netns, family.beyond()), Some(NARROW), "the container was told");
    assert_eq!(path_mtu(&wide.beyond, family.host()), Some(NARROW), "the host beyond was told");
}

fn published_tcp_crosses_narrow_link(family: Family) {
    let lab = Lab::shared_wide(family);
    let wide = lab.wide();
    let c1 = lab.container("c1", &["-p", "5000:9"]);
    let listener = tcp::listen(&c1.netns, c1.at(9));
    let near = tcp::connect(&wide.beyond, (family.host(), 5000));
    carries_many(near, listener.accept().unwrap().0);
    assert_eq!(path_mtu(&c1.netns, family.beyond()), Some(NARROW), "the container was told");
    assert_eq!(path_mtu(&wide.beyond, family.host()), Some(NARROW), "the host beyond was told");
}

fn narrow_link_is_reported_to_publish_target(family: Family) {
    let lab = Lab::shared_wide(family);
    let wide = lab.wide();
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let server = udp::bind(&c1.netns, (family.any(), 7));
    let client = udp::client(&wide.beyond, family);
    client.send_to(b"hello", (family.host(), 5000)).expect("the client sends");
    let (_, peer) = server.recv_from(&mut [0; 16]).expect("the container hears of it");
    assert_eq!(peer.ip(), family.beyond());
    // Linux does path MTU discovery for UDP: once the narrow link has been reported, sending a
    // longer datagram fails.
    assert_eq!(server.send_to(&[0; 1400], peer).expect("the first is sent"), 1400);
    wait::until("the container's path MTU becomes 1400", || {
        // The error means that the datagram exceeds the path MTU, as expected.
        let _ = server.send_to(&[0; 1400], peer);
        path_mtu(&c1.netns, family.beyond()).filter(|mtu| *mtu == NARROW)
    });
}

fn container_learns_smaller_uplink_mtu(family: Family) {
    let lab = Lab::shared_wide(family);
    lab.network("jumbo", 28, &["--mtu", "9000"]);
    let c1 = lab.container("c1", &["--network", "jumbo"]);
    let said = ping(&c1.netns, family, &["-M", "do"], 4000);
    assert!(said.contains("mtu = 1500") || said.contains("mtu=1500"), "{said}");
    let said = ping(&c1.netns, family, &[], 1000);
    assert!(said.contains("1008 bytes from"), "what fits arrives: {said}");
}

/// RFC 4787 REQ-13a.
fn fragmentable_packet_learns_uplink_mtu(family: Family) {
    let lab = Lab::shared(family);
    lab.network("jumbo", 28, &["--mtu", "9000"]);
    let c1 = lab.container("c1", &["--network", "jumbo"]);
    let server = udp::bind(&lab.world, (family.far(), 7));
    server.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    let client = udp::bind(&c1.netns, (c1.address, 4000));
    let (listener, raw) = (Raw::icmp(&c1.netns, family), Raw::sender(&c1.netns, family));
    let data: Vec<u8> = (0..4000_u32).map(|place| (place % 251) as u8).collect();
    raw.send(&Packet::udp((c1.address, 4000), (family.far(), 7), &data));
    let mtu = listener.wait("the container is told", |answer| {
        let (Told::TooLong(mtu), quote) = answer.error()? else { return None };
        (quote.ports() == (4000, 7)).then_some(mtu)
    });
    assert_eq!(mtu, 1500);
    // From now on the stack of the container fragments them.
    client.send_to(&data, (family.far(), 7)).unwrap();
    let mut buffer = [0; 8000];
    let (length, peer) = server.recv_from(&mut buffer).expect("the datagram arrives");
    assert_eq!((peer, &buffer[..length]), ((family.host(), 4000).into(), &data[..]));
}

fn client_learns_smaller_container_mtu(family: Family) {
    let (lab, c1) = small_network(family);
    let (listener, raw) = (Raw::icmp(&lab.world, family), Raw::sender(&lab.world, family));
    raw.send(&Packet {
        dont_fragment: true,
        ..Packet::udp((family.far(), 4000), (family.host(), 5000), &[7; 1400])
    });
    let mtu = listener.wait("the client is told", |answer| {
        let (Told::TooLong(mtu), quote) = answer.error()? else { return None };
        (answer.source == family.host() && quote.ports() == (4000, 5000)).then_some(mtu)
    });
    assert_eq!(mtu, 1280);
    let listener = tcp::listen(&c1.netns, c1.at(9));
    let near = tcp::connect(&lab.world, (family.host(), 5000));
    carries_many(near, listener.accept().unwrap().0);
}

fn fragmentable_packet_reaches_narrow_container(family: Family) {
    let (lab, c1) = small_network(family);
    let server = udp::bind(&c1.netns, c1.at(7));
    server.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    Raw::sender(&lab.world, family).send(&Packet::udp(
        (family.far(), 4000),
        (family.host(), 5000),
        &[7; 1400],
    ));
    let (length, peer) = server.recv_from(&mut [0; 2000]).expect("the datagram arrives");
    assert_eq!((length, peer), (1400, (family.far(), 4000).into()));
}

/// RFC 5508 REQ-4 and REQ-5.
fn error_without_flow_is_dropped(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let (inside, outside) = (Raw::icmp(&c1.netns, family), Raw::icmp(&lab.world, family));
    let unreachable = if family == V4 { (3, 1) } else { (1, 3) };
    let error = |from, to, quote: Packet| {
        Packet::icmp(from, to, unreachable, &[&[0; 4][..], &quote.bytes()].concat())
    };
    outside.send(&error(
        family.far(),
        family.host(),
        Packet::udp((family.host(), 4000), (family.far(), 7), b"never sent"),
    ));
    inside.send(&error(
        c1.address,
        family.far(),
        Packet::udp((family.far(), 7), (c1.address, 4000), b"never came"),
    ));
    let is_error = |packet: &Packet| packet.error().map(|_| packet.clone());
    assert_eq!(inside.find(wait::SILENCE, is_error), None, "the container hears of it");
    assert_eq!(outside.find(wait::SILENCE, is_error), None, "the packet reaches the world");
}

/// A container with an MTU smaller than the world's, and a published port.
fn small_network(family: Family) -> (Lab, Container) {
    let lab = Lab::of(family);
    lab.network("small", 28, &["--mtu", "1280"]);
    let c1 = lab.container("c1", &["--network", "small", "-p", "5000:7/udp", "-p", "5000:9"]);
    (lab, c1)
}

/// Sends many bytes one way, then the other.
#[track_caller]
fn carries_many(mut near: TcpStream, mut far: TcpStream) {
    far.set_read_timeout(Some(wait::DEADLINE)).expect("a timeout can be set");
    far.set_write_timeout(Some(wait::DEADLINE)).expect("a timeout can be set");
    one_way("to the server", &mut near, &mut far);
    one_way("to the client", &mut far, &mut near);
}

#[track_caller]
fn one_way(what: &str, from: &mut TcpStream, to: &mut TcpStream) {
    let sent: Vec<u8> = (0..MANY).map(|place| (place % 251) as u8).collect();
    let mut received = vec![0; MANY];
    let arrived = thread::scope(|scope| {
        let sending = scope.spawn(|| from.write_all(&sent));
        let arrived = to.read_exact(&mut received);
        sending.join().expect("it answers its errors").and(arrived)
    });
    arrived.unwrap_or_else(|error| panic!("{MANY} bytes {what}: {error}"));
    assert!(sent == received, "the bytes that arrive are not those that were sent");
}

fn ping(netns: &Netns, family: Family, options: &[&str], size: usize) -> String {
    let mut command = Command::new("ping");
    command
        .args(["-n", "-c", "1", "-W", "5", "-s", &size.to_string()])
        .args(options)
        .arg(family.beyond().to_string());
    // ping exits with 1 after an ICMP error, as expected here.
    let output = place::run(netns, || command.output()).expect("ping runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}
