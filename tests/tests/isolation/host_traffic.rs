//! Traffic of the host itself, and between the host and containers.

use std::io::{ErrorKind, Read as _, Write as _};

use causeway_tests::{
    families, family::Family, lab::Lab, ping, tcp, transfer, udp, wait::DEADLINE,
};

families! {
    passes_both_ways,
    host_and_container_reach_each_other,
    closed_outside_port_is_refused_at_once,
    closed_published_port_is_refused_at_once,
    datagram_to_closed_port_is_refused,
    close_reaches_the_other_side,
}

fn passes_both_ways(family: Family) {
    let lab = Lab::shared(family);
    let _c1 = lab.container("c1", &["-p", "8080:80"]);
    let _far = (
        tcp::Echo::start(&lab.world, (family.far(), 7)),
        udp::Echo::start(&lab.world, (family.far(), 7), "far"),
    );
    let _own = (
        tcp::Echo::start(&lab.host, (family.host(), 7)),
        udp::Echo::start(&lab.host, (family.host(), 7), "host"),
    );
    tcp::exchange(&lab.host, (family.far(), 7));
    tcp::exchange(&lab.world, (family.host(), 7));
    assert_eq!(udp::answer(&udp::client(&lab.host, family), (family.far(), 7)), "far");
    assert_eq!(udp::answer(&udp::client(&lab.world, family), (family.host(), 7)), "host");
    // In fragments too, which the datapath must pass on.
    for size in [family.data_of(1500), 8000] {
        ping::ping(&lab.host, family.far(), 1, size);
        ping::ping(&lab.world, family.host(), 1, size);
    }
    transfer::both_ways(
        &lab.world,
        (family.far(), 9),
        &lab.host,
        (family.far(), 9),
        transfer::SIZE / 10,
    );
}

fn host_and_container_reach_each_other(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let _own = (
        tcp::Echo::start(&lab.host, (family.any(), 7)),
        udp::Echo::start(&lab.host, (family.host(), 7), "host"),
    );
    for address in [family.host(), family.gateway()] {
        tcp::exchange(&c1.netns, (address, 7));
    }
    assert_eq!(udp::answer(&udp::client(&c1.netns, family), (family.host(), 7)), "host");
    let _inside =
        (tcp::Echo::start(&c1.netns, c1.at(7)), udp::Echo::start(&c1.netns, c1.at(7), "c1"));
    tcp::exchange(&lab.host, c1.at(7));
    assert_eq!(udp::answer(&udp::client(&lab.host, family), c1.at(7)), "c1");
}

fn closed_outside_port_is_refused_at_once(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let refused = tcp::try_connect(&c1.netns, (family.far(), 1), DEADLINE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

fn closed_published_port_is_refused_at_once(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    for from in [&lab.world, &lab.host, &c1.netns] {
        let refused = tcp::try_connect(from, (family.host(), 8080), DEADLINE).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "from {}", from.path().display());
    }
}

fn datagram_to_closed_port_is_refused(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80/udp"]);
    let c2 = lab.container("c2", &[]);
    // A closed port of the world, and a published port without a server, from each side.
    for (from, to) in [
        (&c1.netns, (family.far(), 1)),
        (&lab.world, (family.host(), 8080)),
        (&c2.netns, (family.host(), 8080)),
        (&c1.netns, (family.host(), 8080)),
        (&lab.host, (family.host(), 8080)),
    ] {
        let client = udp::client(from, family);
        client
            .connect(to)
            .unwrap_or_else(|error| panic!("from {}: {error}", from.path().display()));
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.send(b"is there an answer?").unwrap();
        // The kernel reports an error to a socket only if it quotes a datagram of the socket.
        let error = client.recv(&mut [0; 64]).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionRefused,
            "from {} to {to:?}",
            from.path().display()
        );
    }
}

fn close_reaches_the_other_side(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "8080:80"]);
    let listener = tcp::listen(&c1.netns, c1.at(80));
    for _ in 0..3 {
        let mut client = tcp::connect(&lab.world, (family.host(), 8080));
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"the last word").unwrap();
        drop(client);
        let mut heard = String::new();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        server.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "the last word");
    }
}
