//! SCTP: masqueraded and published with unchanged ports and checksum.

use std::net::IpAddr;

use causeway_tests::{
    families,
    family::Family,
    lab::{Container, Lab},
    sctp::{Packet, Peer, abort, data, init, init_ack},
};
use serde_json::Value;

families! {
    association_to_world_works_until_abort,
    mid_stream_packet_creates_no_flow,
    published_port_is_reached_from_everywhere,
    taken_port_refuses_second_container,
    publish_requires_equal_ports,
}

const PORT: u16 = 38412;

/// Verification tags of the two sides.
const CLIENT_TAG: u32 = 0x1111_0001;
const SERVER_TAG: u32 = 0x2222_0002;

/// Opens an association and sends data both ways. Returns the client's address as the server sees
/// it.
#[track_caller]
fn associate(client: &Peer, server: &Peer, to: IpAddr, port: u16) -> IpAddr {
    let sent = Packet { source: port, destination: PORT, tag: 0, chunk: init(CLIENT_TAG) };
    client.send(to, &sent);
    let (seen, arrived) = server.next();
    assert_eq!(arrived, sent, "ports and everything else are unchanged");
    for (tag, chunk) in [(CLIENT_TAG, init_ack(SERVER_TAG)), (CLIENT_TAG, data())] {
        let answer = sent.answer(tag, chunk);
        server.send(seen, &answer);
        assert_eq!(client.next(), (to, answer), "the answer comes from the address that was asked");
    }
    let more = Packet { tag: SERVER_TAG, chunk: data(), ..sent };
    client.send(to, &more);
    assert_eq!(server.next(), (seen, more));
    seen
}

fn flow(lab: &Lab) -> Value {
    let flows = lab.json(&["flows", "ls"]);
    let [flow] = flows.as_array().expect("an array").as_slice() else {
        panic!("not one flow: {flows}")
    };
    assert_eq!(flow["protocol"], "sctp");
    flow.clone()
}

fn association_to_world_works_until_abort(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let (client, server) = (Peer::start(&c1.netns, family), Peer::at(&lab.world, family.far()));
    assert_eq!(associate(&client, &server, family.far(), 5000), family.host());
    assert_eq!(flow(&lab)["state"], "replied");
    // An ABORT with a wrong tag does not end it.
    let forged = Packet { source: PORT, destination: 5000, tag: 0xbad, chunk: abort() };
    server.send(family.host(), &forged);
    assert_eq!(client.next(), (family.far(), forged.clone()));
    assert_eq!(flow(&lab)["state"], "replied");
    server.send(family.host(), &Packet { tag: CLIENT_TAG, ..forged });
    client.next();
    assert_eq!(flow(&lab)["state"], "closed");
    // The same ports can carry the next association at once.
    associate(&client, &server, family.far(), 5000);
    assert_eq!(flow(&lab)["state"], "replied");
}

fn mid_stream_packet_creates_no_flow(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let (client, server) = (Peer::start(&c1.netns, family), Peer::at(&lab.world, family.far()));
    let before = lab.counted("no-flow");
    client.send(
        family.far(),
        &Packet { source: 5000, destination: PORT, tag: SERVER_TAG, chunk: data() },
    );
    assert!(server.is_silent());
    lab.expect_counted("no-flow", before + 1);
}

fn published_port_is_reached_from_everywhere(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", &format!("{PORT}:{PORT}/sctp")]);
    let c2 = lab.container("c2", &[]);
    let server = Peer::start(&c1.netns, family);
    assert_eq!(
        associate(&Peer::start(&lab.world, family), &server, family.host(), 5000),
        family.router()
    );
    let neighbour = Peer::start(&c2.netns, family);
    for (port, to) in [(5001, family.host()), (5002, family.gateway()), (5003, c1.address)] {
        assert_eq!(associate(&neighbour, &server, to, port), c2.address, "by {to}");
    }
    itself(&c1, &server);
    lab.json(&["publish", "rm", &c1.name, &format!("{PORT}:{PORT}/sctp")]);
    Peer::start(&lab.world, family).send(
        family.host(),
        &Packet { source: 5000, destination: PORT, tag: SERVER_TAG, chunk: data() },
    );
    assert!(server.is_silent(), "the association has ended with the publish");
}

/// A container reaches its own publish: one raw socket receives the packets of both ends.
fn itself(container: &Container, peer: &Peer) {
    let family = Family::of(container.address);
    let sent = Packet { source: 5004, destination: PORT, tag: 0, chunk: init(CLIENT_TAG) };
    peer.send(family.host(), &sent);
    assert_eq!(peer.next(), (family.gateway(), sent.clone()), "{container}");
    let answer = sent.answer(CLIENT_TAG, init_ack(SERVER_TAG));
    peer.send(family.gateway(), &answer);
    assert_eq!(peer.next(), (family.host(), answer));
}

fn taken_port_refuses_second_container(family: Family) {
    let lab = Lab::shared(family);
    let (c1, c2) = (lab.container("c1", &[]), lab.container("c2", &[]));
    let (first, second, server) = (
        Peer::start(&c1.netns, family),
        Peer::start(&c2.netns, family),
        Peer::at(&lab.world, family.far()),
    );
    associate(&first, &server, family.far(), 5000);
    let before = lab.counted("sctp-port-taken");
    second.send(
        family.far(),
        &Packet { source: 5000, destination: PORT, tag: 0, chunk: init(CLIENT_TAG) },
    );
    lab.expect_counted("sctp-port-taken", before + 1);
    associate(&second, &Peer::at(&lab.world, family.router()), family.router(), 5000);
    associate(&second, &server, family.far(), 5001);
}

fn publish_requires_equal_ports(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    let refused = lab.causeway(&["publish", "add", &c1.name, "8000-8001:9000-9001/sctp"]);
    assert_eq!(refused.status, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("give 9000-9001:9000-9001/sctp"), "{}", refused.stderr);
    lab.json(&["publish", "add", &c1.name, "9000-9001:9000-9001/sctp"]);
    let server = Peer::start(&c1.netns, family);
    let sent = Packet { source: 5000, destination: 9001, tag: 0, chunk: init(CLIENT_TAG) };
    Peer::start(&lab.world, family).send(family.host(), &sent);
    assert_eq!(server.next(), (family.router(), sent));
}
