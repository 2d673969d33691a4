//! Agents that are killed, ended and started again under traffic, and two agents on one machine.

use causeway_tests::{families, family::Family, lab::Lab, ping, tcp, udp, wait};

families! {
    killed_agent_loses_no_packet,
    terminated_agent_loses_no_packet,
    instances_on_two_hosts_are_independent,
}

/// Checks that all traffic goes on while `interrupt` ends the agent and while the next one starts,
/// and that the state is the same afterwards.
fn traffic_survives(family: Family, interrupt: impl Fn(&Lab)) {
    let lab = Lab::of(family);
    let c1 = lab.container("c1", &["-p", "8080:80", "-p", "8080:80/udp"]);
    let c2 = lab.container("c2", &[]);
    let (_far, _far_tcp) = (
        udp::Echo::start(&lab.world, (family.far(), 7), "far"),
        tcp::Echo::start(&lab.world, (family.far(), 7)),
    );
    let (_inside, _inside_tcp) =
        (udp::Echo::start(&c1.netns, c1.at(80), "c1"), tcp::Echo::start(&c1.netns, c1.at(80)));
    let chatters = [
        ("to the world", udp::Chatter::start(udp::client(&c1.netns, family), (family.far(), 7))),
        (
            "from the world",
            udp::Chatter::start(udp::client(&lab.world, family), (family.host(), 8080)),
        ),
        (
            "through the hairpin",
            udp::Chatter::start(udp::client(&c2.netns, family), (family.host(), 8080)),
        ),
        ("between containers", udp::Chatter::start(udp::client(&c2.netns, family), c1.at(80))),
    ];
    let lost = || {
        chatters
            .iter()
            .filter(|(_, chatter)| chatter.has_lost())
            .map(|(what, _)| *what)
            .collect::<Vec<_>>()
    };
    let mut streams = [
        tcp::exchange(&c1.netns, (family.far(), 7)),
        tcp::exchange(&lab.world, (family.host(), 8080)),
        tcp::exchange(&c2.netns, (family.host(), 8080)),
        tcp::exchange(&lab.host, (family.loopback(), 8080)),
    ];
    let lists =
        || [["network", "ls"], ["container", "ls"], ["publish", "ls"]].map(|verb| lab.json(&verb));
    let before = lists();

    for _ in 0..3 {
        interrupt(&lab);
        for stream in &mut streams {
            tcp::echoes(stream).unwrap();
        }
        // New flows too: no packet needs the agent.
        tcp::exchange(&c2.netns, (family.far(), 7));
        tcp::exchange(&lab.world, (family.host(), 8080));
        tcp::exchange(&lab.host, (family.host(), 8080));
        ping::ping(&c1.netns, family.far(), 1, 56);
        assert!(lost().is_empty(), "lost without an agent: {:?}", lost());
        let during: Vec<_> = chatters.iter().map(|(_, chatter)| chatter.answered()).collect();
        lab.start_agent(&[]);
        for stream in &mut streams {
            tcp::echoes(stream).unwrap();
        }
        wait::until("every exchange goes on", || {
            assert!(lost().is_empty(), "lost while the next agent came: {:?}", lost());
            chatters
                .iter()
                .zip(&during)
                .all(|((_, chatter), during)| chatter.answered() > *during)
                .then_some(())
        });
    }

    assert_eq!(lists(), before, "the new agent has the state of the old one");
    let flows = lab.json(&["flows", "ls"]);
    let of_c1 = |flow: &&serde_json::Value| flow["container"].as_str() == Some(&c1.name);
    assert!(flows.as_array().unwrap().iter().filter(of_c1).count() >= 4, "{flows:#}");
    for (_, chatter) in chatters {
        chatter.finish();
    }
    let c3 = lab.container("c3", &["-p", "8083:80"]);
    let _echo = tcp::Echo::start(&c3.netns, c3.at(80));
    tcp::exchange(&lab.world, (family.host(), 8083));
    lab.json(&["container", "rm", &c1.name]);
    assert!(tcp::is_unreachable(&lab.world, (family.host(), 8080)));
}

fn killed_agent_loses_no_packet(family: Family) {
    traffic_survives(family, Lab::kill_agent);
}

fn terminated_agent_loses_no_packet(family: Family) {
    traffic_survives(family, Lab::end_agent);
}

fn instances_on_two_hosts_are_independent(family: Family) {
    let one = Lab::of(family);
    let other = Lab::of(family);
    let in_one = one.container("c1", &["-p", "8080:80/udp"]);
    let in_other = other.container("c1", &["-p", "8080:80/udp"]);
    assert_eq!(in_one.address, in_other.address, "the same subnet in both");
    let echoes = [
        udp::Echo::start(&in_one.netns, in_one.at(80), "one"),
        udp::Echo::start(&in_other.netns, in_other.at(80), "other"),
        udp::Echo::start(&one.world, (family.far(), 7), "world of one"),
        udp::Echo::start(&other.world, (family.far(), 7), "world of the other"),
    ];
    let from = |netns| udp::bind(netns, (family.any(), 40006));
    assert_eq!(udp::answer(&from(&one.world), (family.host(), 8080)), "one");
    assert_eq!(udp::answer(&from(&other.world), (family.host(), 8080)), "other");
    assert_eq!(udp::answer(&udp::client(&one.host, family), (family.loopback(), 8080)), "one");
    assert_eq!(udp::answer(&udp::client(&other.host, family), (family.loopback(), 8080)), "other");
    assert_eq!(udp::answer(&from(&in_one.netns), (family.far(), 7)), "world of one");
    assert_eq!(udp::answer(&from(&in_other.netns), (family.far(), 7)), "world of the other");

    let chatter = udp::Chatter::start(udp::client(&other.world, family), (family.host(), 8080));
    drop(echoes);
    let _echo = udp::Echo::start(&in_other.netns, in_other.at(80), "other");
    drop(one);
    assert_eq!(udp::answer(&udp::client(&other.world, family), (family.host(), 8080)), "other");
    assert_eq!(udp::answer(&udp::client(&other.host, family), (family.loopback(), 8080)), "other");
    drop(chatter);
}
