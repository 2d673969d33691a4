//! ICMP errors find the one they are for: across masquerade and published ports, from routers and from peers.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, UdpSocket},
    process::Command,
};

use causeway::net::{netlink::Netlink, netns::Netns, sysctl};
use causeway_tests::{
    lab::{FAR, GATEWAY, HOST, Lab, ROUTER},
    place, udp, wait,
};

/// A host behind the world, over a link of 1400 bytes.
const BEYOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 130);

#[test]
fn a_closed_port_of_the_world_is_told_to_the_container() {
    let lab = Lab::new();
    let c1 = lab.container("c1", &[]);
    hears_of_the_closed_port("the container", &udp::client(&c1.netns), (FAR, 9));
}

#[test]
fn a_closed_port_of_a_container_is_told_to_the_client_of_its_publish() {
    let lab = Lab::new();
    let _c1 = lab.container("c1", &["-p", "5000:9/udp"]);
    let c2 = lab.container("c2", &[]);
    hears_of_the_closed_port("the world", &udp::client(&lab.world), (HOST, 5000));
    for address in [HOST, GATEWAY] {
        hears_of_the_closed_port("a neighbour", &udp::client(&c2.netns), (address, 5000));
    }
}

#[test]
fn every_hop_to_the_world_says_when_a_packet_ends_there() {
    let lab = Lab::new();
    let _beyond = beyond(&lab);
    let c1 = lab.container("c1", &[]);
    for (hops, by) in [("1", GATEWAY), ("2", ROUTER)] {
        let said = ping(&c1.netns, &["-t", hops]);
        assert!(said.contains(&format!("From {by} ")) && said.contains("Time to live exceeded"), "hop {hops}: {said}");
    }
    let said = ping(&c1.netns, &["-t", "3"]);
    assert!(said.contains(&format!("bytes from {BEYOND}")), "the last hop answers: {said}");
}

#[test]
fn a_narrow_link_in_the_world_is_told_to_the_container() {
    let lab = Lab::new();
    let _beyond = beyond(&lab);
    let c1 = lab.container("c1", &[]);
    let said = ping(&c1.netns, &["-M", "do", "-s", "1400"]);
    assert!(
        said.contains("mtu = 1400") || said.contains("mtu=1400"),
        "the first packet is answered with the MTU: {said}"
    );
    let said = ping(&c1.netns, &["-M", "do", "-s", "1372"]);
    assert!(said.contains("1380 bytes from"), "what fits arrives: {said}");
}

#[test]
fn a_narrow_link_in_the_world_is_told_to_the_container_behind_a_publish() {
    let lab = Lab::new();
    let beyond = beyond(&lab);
    let c1 = lab.container("c1", &["-p", "5000:7/udp"]);
    let server = udp::bind(&c1.netns, (Ipv4Addr::UNSPECIFIED, 7));
    let client = udp::client(&beyond);
    client.send_to(b"hello", (HOST, 5000)).expect("the client sends");
    let (_, peer) = server.recv_from(&mut [0; 16]).expect("the container hears of it");
    assert_eq!(peer.ip(), IpAddr::from(BEYOND));
    // Linux discovers the path MTU for UDP: too long a datagram is an error, once the narrow link was told.
    assert_eq!(server.send_to(&[0; 1400], peer).expect("the first is sent"), 1400);
    wait::until("the container's path MTU becomes 1400", || {
        // An error says that the datagram is longer than the path MTU, which is what is waited for.
        let _ = server.send_to(&[0; 1400], peer);
        mtu_to(&c1.netns, BEYOND).filter(|mtu| *mtu == 1400)
    });
}

#[test]
fn a_container_with_longer_packets_than_the_uplinks_is_told_of_its_mtu() {
    let lab = Lab::new();
    let _beyond = beyond(&lab);
    lab.json(&["network", "create", "jumbo", "--subnet", "172.28.0.0/16", "--mtu", "9000"]);
    let c1 = lab.container("c1", &["--network", "jumbo"]);
    let said = ping(&c1.netns, &["-M", "do", "-s", "4000"]);
    assert!(said.contains("mtu = 1500") || said.contains("mtu=1500"), "{said}");
    let said = ping(&c1.netns, &["-s", "1000"]);
    assert!(said.contains("1008 bytes from"), "what fits arrives: {said}");
}

fn hears_of_the_closed_port(who: &str, socket: &UdpSocket, to: (Ipv4Addr, u16)) {
    socket.connect(to).expect("a UDP socket connects");
    let refused = |result: io::Result<usize>| result.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    wait::until(&format!("{who} hears that {to:?} is closed"), || {
        // The error of an earlier datagram is told by the next call, whichever that is.
        (refused(socket.send(b"anyone?")) || refused(socket.recv(&mut [0; 16]))).then_some(())
    });
}

/// Makes the host behind the world.
fn beyond(lab: &Lab) -> Netns {
    let name = lab.name_of("beyond");
    let netns = Netns::create(&name).expect("a namespace");
    lab.undo().namespaces.push(name);
    sysctl::set(&lab.world, "ipv4/ip_forward", "1").expect("the world forwards");
    place::block_on(async {
        let (world, far) = (Netlink::open(&lab.world).await?, Netlink::open(&netns).await?);
        let near_side = world.create_veth_between("world1", "beyond0", &netns).await?;
        let far_side = far.link("beyond0").await?.expect("the link has another end").index;
        world.add_address(near_side, "203.0.113.129/25".parse()?).await?;
        far.add_address(far_side, "203.0.113.130/25".parse()?).await?;
        far.add_default_route(IpAddr::from([203, 0, 113, 129]), far_side).await
    })
    .expect("a link to the world");
    for (netns, interface) in [(&lab.world, "world1"), (&netns, "beyond0")] {
        let narrow = place::output(netns, Command::new("ip").args(["link", "set", interface, "mtu", "1400"]));
        assert!(narrow.is_some(), "the link is narrow");
    }
    netns
}

fn ping(netns: &Netns, arguments: &[&str]) -> String {
    let mut command = Command::new("ping");
    command.args(["-n", "-c", "1", "-W", "5"]).args(arguments).arg(BEYOND.to_string());
    // It exits with 1 where it was told of an error, which is what is wanted here.
    let output = place::run(netns, || command.output()).expect("ping runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn mtu_to(netns: &Netns, address: Ipv4Addr) -> Option<u32> {
    let route = place::output(netns, Command::new("ip").args(["route", "get", &address.to_string()]))?;
    route.split_once(" mtu ")?.1.split_whitespace().next()?.parse().ok()
}
