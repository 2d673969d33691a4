//! Peer-to-peer applications on a full-cone network, such as games and calls: one external port per
//! internal port, open to every outside peer.

use std::net::SocketAddr;

use causeway_tests::{
    families,
    family::Family,
    lab::{Container, Lab},
    tcp, udp, wait,
};

families! {
    peers_see_one_port_and_strangers_get_in,
    symmetric_network_keeps_strangers_out,
    containers_meet_by_their_mapped_ports,
    stranger_connects_to_mapped_tcp_port,
    mapping_ends_with_its_container,
}

fn full_cone(lab: &Lab, short: &str) -> Container {
    if lab.causeway(&["network", "inspect", "open"]).status != Some(0) {
        lab.network("open", 28, &["--mapping", "full-cone"]);
    }
    lab.container(short, &["--network", "open"])
}

fn peers_see_one_port_and_strangers_get_in(family: Family) {
    let lab = Lab::shared_wide(family);
    let wide = lab.wide();
    let c1 = full_cone(&lab, "c1");
    let echoes = [
        udp::Echo::start(&lab.world, (family.far(), 7), "far"),
        udp::Echo::start(&wide.other, (family.other(), 7), "other"),
    ];
    let socket = udp::bind(&c1.netns, (family.any(), 40001));
    assert_eq!(udp::answer(&socket, (family.far(), 7)), "far");
    assert_eq!(udp::answer(&socket, (family.other(), 7)), "other");
    for echo in &echoes {
        assert_eq!(echo.peers(), [SocketAddr::from((family.host(), 40001))].into());
    }
    // The stranger's host and port have never received anything from the container.
    let stranger = udp::bind(&wide.other, (family.other(), 7777));
    stranger.send_to(b"hello", (family.host(), 40001)).expect("it is sent");
    let mut buffer = [0; 16];
    socket.set_read_timeout(Some(wait::DEADLINE)).expect("a timeout can be set");
    let (length, from) = socket.recv_from(&mut buffer).expect("it arrives");
    assert_eq!(
        (&buffer[..length], from),
        (&b"hello"[..], SocketAddr::from((family.other(), 7777)))
    );
    socket.send_to(b"you too", from).expect("an answer");
    stranger.set_read_timeout(Some(wait::DEADLINE)).expect("a timeout can be set");
    let (length, from) = stranger.recv_from(&mut buffer).expect("it arrives");
    assert_eq!(
        (&buffer[..length], from),
        (&b"you too"[..], SocketAddr::from((family.host(), 40001)))
    );
}

fn symmetric_network_keeps_strangers_out(family: Family) {
    let lab = Lab::shared_wide(family);
    let wide = lab.wide();
    // Another container has mappings.
    let open = full_cone(&lab, "c1");
    udp::bind(&open.netns, (family.any(), 40002))
        .send_to(b"hello", (family.far(), 9))
        .expect("it is sent");
    let c2 = lab.container("c2", &[]);
    let _echo = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    let socket = udp::bind(&c2.netns, (family.any(), 40001));
    udp::answer(&socket, (family.far(), 7));
    udp::bind(&wide.other, (family.other(), 7777))
        .send_to(b"hello", (family.host(), 40001))
        .expect("it is sent");
    socket.set_read_timeout(Some(wait::SILENCE)).expect("a timeout can be set");
    assert!(socket.recv_from(&mut [0; 16]).is_err());
}

fn containers_meet_by_their_mapped_ports(family: Family) {
    let lab = Lab::of(family);
    let (c1, c2) = (full_cone(&lab, "c1"), full_cone(&lab, "c2"));
    let echo = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    for container in [&c1, &c2] {
        udp::answer(&udp::bind(&container.netns, (family.any(), 40001)), (family.far(), 7));
    }
    let peers = echo.peers();
    assert_eq!(peers.len(), 2, "{peers:?}");
    assert!(peers.contains(&SocketAddr::from((family.host(), 40001))));
    let _inside = udp::Echo::start(&c1.netns, (c1.address, 40001), "c1");
    assert_eq!(udp::answer(&udp::client(&c2.netns, family), (family.host(), 40001)), "c1");
}

fn stranger_connects_to_mapped_tcp_port(family: Family) {
    let lab = Lab::shared_wide(family);
    let wide = lab.wide();
    let c1 = full_cone(&lab, "c1");
    let _echo = tcp::Echo::start(&lab.world, (family.far(), 7));
    let mut out = tcp::connect_from(&c1.netns, 40001, (family.far(), 7)).expect("a connection");
    tcp::echoes(&mut out).expect("an echo");
    let listener = tcp::listen(&c1.netns, (c1.address, 40001));
    let stranger = tcp::try_connect(&wide.other, (family.host(), 40001), wait::DEADLINE)
        .expect("a connection");
    let (_, peer) = listener.accept().expect("it arrives");
    assert_eq!(peer, stranger.local_addr().expect("an address"));
}

fn mapping_ends_with_its_container(family: Family) {
    let lab = Lab::shared_wide(family);
    let wide = lab.wide();
    let c1 = full_cone(&lab, "c1");
    udp::bind(&c1.netns, (family.any(), 40001))
        .send_to(b"hello", (family.far(), 9))
        .expect("it is sent");
    lab.json(&["container", "rm", &c1.name]);
    lab.undo().containers.retain(|name| *name != c1.name);
    let c2 = full_cone(&lab, "c2");
    let socket = udp::bind(&c2.netns, (family.any(), 40001));
    udp::bind(&wide.other, (family.other(), 7777))
        .send_to(b"hello", (family.host(), 40001))
        .expect("it is sent");
    socket.set_read_timeout(Some(wait::SILENCE)).expect("a timeout can be set");
    assert!(
        socket.recv_from(&mut [0; 16]).is_err(),
        "no packet to the old container reaches the new one"
    );
    let echo = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    udp::answer(&socket, (family.far(), 7));
    assert_eq!(
        echo.peers(),
        [SocketAddr::from((family.host(), 40001))].into(),
        "the port is free again"
    );
}
