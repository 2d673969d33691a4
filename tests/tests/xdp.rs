//! XDP on the uplink of a lab, a veth: what it redirects into containers, what it leaves to tc, and
//! how it is attached and detached.

use std::fs;

use causeway_netlink::Netlink;
use causeway_tests::{
    bench::address,
    families,
    family::Family,
    lab::{Container, Lab, UPLINK, WORLD_SIDE},
    offload,
    packet::{IpFrame, Payload},
    ping, place, programs,
    raw::flag::SYN,
    snapshot::Snapshot,
    tap::Tap,
    tcp,
    transfer::{self, SIZE},
    udp, wait,
};

families! {
    known_datagrams_are_redirected,
    datagrams_of_every_size_arrive,
    pings_are_answered,
    large_transfers_arrive,
    removed_container_and_publish_get_nothing,
    next_agent_adopts_or_detaches_it,
    follows_uplink_mac_change,
    martians_are_dropped_with_and_without_xdp,
}

fn lab(family: Family, xdp: &str) -> Lab {
    let lab = Lab::without_agent().of_family(family);
    lab.start_agent(&["--xdp", xdp]);
    lab
}

/// Lets the world's link defer checksums to the other end, as virtual links do, or complete them,
/// as on a wire.
fn finish_sums(lab: &Lab, finished: bool) {
    offload::set(&lab.world, WORLD_SIDE, !finished);
}

/// The XDP mode of the uplink in `stats`, and the reason why it is off.
fn mode(lab: &Lab) -> (String, Option<String>) {
    let stats = lab.json(&["stats"]);
    let uplinks = stats["uplinks"].as_array().expect("a list of uplinks");
    assert_eq!((uplinks.len(), &uplinks[0]["interface"]), (1, &UPLINK.into()), "{stats}");
    (
        uplinks[0]["xdp"].as_str().expect("a mode").to_owned(),
        uplinks[0]["why"].as_str().map(str::to_owned),
    )
}

/// The XDP program that the kernel shows on the uplink.
fn shown(lab: &Lab) -> Option<u64> {
    let text = place::ip(&lab.host, &format!("-json link show {UPLINK}"));
    let links: serde_json::Value = serde_json::from_str(&text).expect("what ip prints");
    links[0]["xdp"]["prog"]["id"].as_u64()
}

/// The kernel frees a program once no CPU can be running it.
fn gone(lab: &Lab) {
    wait::until("the last agent's program is gone", || shown(lab).is_none().then_some(()));
}

fn mac_of_uplink(lab: &Lab) -> [u8; 6] {
    let link = place::block_on(async { Netlink::open(&lab.host).await?.link(UPLINK).await });
    link.expect("the links").and_then(|link| link.mac).expect("the uplink's MAC").0
}

/// Number of packets, of `count` answers to a container and `count` questions to a published port,
/// that the uplink hands to the kernel.
fn handed_up(lab: &Lab, container: &Container, count: usize) -> [usize; 2] {
    let (from_inside, from_outside) =
        (udp::bind(&container.netns, container.at(4000)), udp::client(&lab.world, lab.family));
    let tap = Tap::start(&lab.host, UPLINK);
    for _ in 0..count {
        udp::answer(&from_inside, (lab.family.far(), 7));
    }
    let answers = tap.udp_to(&[4000]);
    for _ in 0..count {
        udp::answer(&from_outside, (lab.family.host(), 5353));
    }
    [answers, tap.udp_to(&[5353])]
}

fn known_datagrams_are_redirected(family: Family) {
    let lab = lab(family, "on");
    assert_eq!(mode(&lab), ("native".to_owned(), None));
    assert!(shown(&lab).is_some());
    let c1 = lab.container("c1", &["-p", "5353:53/udp"]);
    let _inside = udp::Echo::start(&c1.netns, c1.at(53), "c1");
    let _far = udp::Echo::start(&lab.world, (lab.family.far(), 7), "far");
    finish_sums(&lab, true);
    // The first answer changes the state of its flow, and the first question creates one: both are
    // left to tc.
    assert_eq!(handed_up(&lab, &c1, 50), [1, 1]);
    let flows = lab.json(&["flows", "ls", "--protocol", "udp"]);
    let mut packets: Vec<_> = flows
        .as_array()
        .expect("a list")
        .iter()
        .map(|flow| flow["packets"].as_u64().expect("a number"))
        .collect();
    packets.sort_unstable();
    assert_eq!(packets, [100, 100], "each is counted once: {flows:#}");
    lab.json(&["flows", "flush"]);
    // No hardware would complete the checksums after the driver.
    finish_sums(&lab, false);
    assert_eq!(handed_up(&lab, &c1, 50), [50, 50]);
}

fn datagrams_of_every_size_arrive(family: Family) {
    let lab = lab(family, "on");
    let c1 = lab.container("c1", &["-p", "5353:53/udp"]);
    let _inside = udp::Echo::start(&c1.netns, c1.at(53), "");
    let _far = udp::Echo::start(&lab.world, (lab.family.far(), 7), "");
    for finished in [true, false] {
        finish_sums(&lab, finished);
        for (client, to) in [
            (udp::client(&c1.netns, lab.family), (lab.family.far(), 7)),
            (udp::client(&lab.world, lab.family), (lab.family.host(), 5353)),
        ] {
            // The last ones are fragmented.
            let most = family.data_of(1500);
            for size in (0..64).chain([500, most - 1, most, most + 1, 4000, 60_000]) {
                let question: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
                let answer = udp::ask(&client, to, &question, wait::DEADLINE);
                assert!(
                    answer.is_ok(),
                    "{size} bytes to {to:?}, sums finished: {finished}: {answer:?}"
                );
            }
        }
    }
}

fn pings_are_answered(family: Family) {
    let lab = lab(family, "on");
    let c1 = lab.container("c1", &[]);
    for size in [0, 1, 56, 1400, 3000] {
        for _ in 0..3 {
            ping::ping(&c1.netns, lab.family.router(), 77, size);
        }
    }
    // Pings of the host itself pass.
    ping::ping(&lab.host, lab.family.router(), 77, 56);
    ping::ping(&lab.world, lab.family.host(), 77, 56);
}

fn large_transfers_arrive(family: Family) {
    let lab = lab(family, "on");
    let c1 = lab.container("c1", &["-p", "9000:9"]);
    for on in [true, false] {
        offload::set(&lab.world, WORLD_SIDE, on);
        offload::set(&lab.host, UPLINK, on);
        transfer::both_ways(
            &lab.world,
            (lab.family.far(), 9),
            &c1.netns,
            (lab.family.far(), 9),
            SIZE / 10,
        );
        transfer::both_ways(&c1.netns, c1.at(9), &lab.world, (lab.family.host(), 9000), SIZE / 10);
        transfer::both_ways(
            &lab.host,
            (lab.family.host(), 9001),
            &lab.world,
            (lab.family.host(), 9001),
            SIZE / 10,
        );
    }
}

fn removed_container_and_publish_get_nothing(family: Family) {
    let lab = lab(family, "on");
    finish_sums(&lab, true);
    let first = lab.container("c1", &["-p", "5353:53/udp"]);
    let client = udp::client(&lab.world, lab.family);
    let echo = udp::Echo::start(&first.netns, first.at(53), "first");
    for _ in 0..3 {
        assert_eq!(udp::answer(&client, (lab.family.host(), 5353)), "first");
    }
    lab.json(&["publish", "rm", &first.name, "5353:53/udp"]);
    assert!(udp::is_silent(&client, (lab.family.host(), 5353)), "the publish is gone");
    drop(echo);
    lab.json(&["container", "rm", &first.name]);
    let second = lab.container("c2", &["-p", "5353:53/udp"]);
    let _echo = udp::Echo::start(&second.netns, second.at(53), "second");
    for _ in 0..3 {
        assert_eq!(udp::answer(&client, (lab.family.host(), 5353)), "second");
    }
}

fn martians_are_dropped_with_and_without_xdp(family: Family) {
    let groups = address(family, [224, 0, 0, 1]);
    for xdp in ["on", "off"] {
        let lab = lab(family, xdp);
        let count = || lab.json(&["stats"])["reasons"]["martian"].as_u64();
        assert_eq!(count(), Some(0));
        let macs = (mac_of_uplink(&lab), [2, 9, 9, 9, 9, 9]);
        // The kernel of a sender would not send them.
        let wire = Tap::start(&lab.world, WORLD_SIDE);
        for source in [family.loopback(), groups] {
            wire.send(
                &IpFrame::new(macs, source, family.host(), Payload::Tcp(4000, 22, SYN)).bytes(),
            );
        }
        wait::until("both are counted", || (count() == Some(2)).then_some(()));
    }
}

#[test]
fn veth_is_skipped_and_stats_say_why() {
    for (arguments, reason) in
        [(&[][..], "it was not asked for"), (&["--xdp", "auto"], "it is a veth")]
    {
        let lab = Lab::without_agent();
        lab.start_agent(arguments);
        let (mode, why) = mode(&lab);
        assert_eq!(mode, "off");
        assert!(why.is_some_and(|why| why.starts_with(reason)));
        assert_eq!(shown(&lab), None);
        let text = lab.causeway(&["stats"]).ok().stdout;
        assert!(text.contains(&format!("uplink0  off: {reason}")), "{text}");
    }
}

#[test]
fn option_overrides_configuration_file() {
    let lab = Lab::without_agent();
    let path = lab.folder("config").join("causeway.toml");
    fs::write(&path, "xdp = \"on\"\n").unwrap();
    let config = path.display().to_string();
    lab.start_agent(&["--config", &config]);
    assert_eq!(mode(&lab), ("native".to_owned(), None));
    lab.end_agent();
    lab.start_agent(&["--config", &config, "--xdp", "off"]);
    assert_eq!(mode(&lab), ("off".to_owned(), Some("it was not asked for".to_owned())));
    gone(&lab);
}

fn next_agent_adopts_or_detaches_it(family: Family) {
    let lab = lab(family, "off");
    finish_sums(&lab, true);
    let c1 = lab.container("c1", &["-p", "5353:53/udp", "-p", "5354:53/udp"]);
    let _inside = udp::Echo::start(&c1.netns, c1.at(53), "c1");
    let _far = udp::Echo::start(&lab.world, (lab.family.far(), 7), "far");
    let chatters = [
        udp::Chatter::start(udp::client(&c1.netns, lab.family), (lab.family.far(), 7)),
        udp::Chatter::start(udp::client(&lab.world, lab.family), (lab.family.host(), 5354)),
    ];
    assert_eq!(handed_up(&lab, &c1, 10), [10, 10]);
    lab.kill_agent();
    lab.start_agent(&["--xdp", "on"]);
    // Also into a container that existed before.
    assert_eq!(handed_up(&lab, &c1, 10), [0, 1]);
    let program = shown(&lab);
    lab.kill_agent();
    assert_eq!(shown(&lab), program);
    assert_eq!(handed_up(&lab, &c1, 10), [0, 1]);
    lab.start_agent(&["--xdp", "on"]);
    assert_ne!(shown(&lab), program, "the next agent's own program");
    assert_eq!(handed_up(&lab, &c1, 10), [0, 1]);
    lab.end_agent();
    lab.start_agent(&["--xdp", "auto"]);
    gone(&lab);
    // The program disappears from the interface before the driver has stopped.
    wait::until("the driver has stopped", || (handed_up(&lab, &c1, 10) == [10, 10]).then_some(()));
    for chatter in chatters {
        chatter.finish();
    }
}

#[test]
fn down_restores_the_uplink() {
    let lab = Lab::without_agent();
    let look = || {
        let offloads = [offload::get(&lab.host, UPLINK), offload::get(&lab.world, WORLD_SIDE)];
        (
            Snapshot::of(&lab.host),
            place::ip(&lab.host, &format!("-details link show {UPLINK}")),
            offloads,
        )
    };
    let before = look();
    lab.start_agent(&["--xdp", "on"]);
    lab.container("c1", &[]);
    assert!(shown(&lab).is_some());
    assert_ne!(look().2, before.2, "XDP changes offloads at the world's end");
    lab.kill_agent();
    lab.json(&["down"]);
    lab.undo().used = false;
    let after = look();
    assert_eq!((after.1, after.2), (before.1, before.2));
    let differences = before.0.differences(&after.0);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn foreign_program_stays_attached() {
    let lab = Lab::without_agent();
    let uplink = || nix::net::if_::if_nametoindex(UPLINK).and_then(programs::pass_by_xdp);
    let theirs = place::run(&lab.host, uplink).expect("a foreign program");
    let id = shown(&lab);
    lab.start_agent(&["--xdp", "on"]);
    let (mode, why) = mode(&lab);
    assert_eq!(mode, "off");
    assert!(
        why.as_ref().is_some_and(|why| why.starts_with("another XDP program is attached")),
        "{why:?}"
    );
    let log =
        fs::read_to_string(causeway_tests::undo::folder(&lab.instance).join("agent.log")).unwrap();
    let line = log.lines().find(|line| line.contains("XDP was asked for and is off"));
    assert!(
        line.is_some_and(|line| line.contains("WARN") && line.contains("another XDP program")),
        "{log}"
    );
    assert_eq!(shown(&lab), id);
    let c1 = lab.container("c1", &["-p", "5353:53/udp", "-p", "5353:53"]);
    let _inside =
        (udp::Echo::start(&c1.netns, c1.at(53), "c1"), tcp::Echo::start(&c1.netns, c1.at(53)));
    assert_eq!(udp::answer(&udp::client(&lab.world, lab.family), (lab.family.host(), 5353)), "c1");
    tcp::exchange(&lab.world, (lab.family.host(), 5353));
    drop(theirs);
}

fn follows_uplink_mac_change(family: Family) {
    let lab = lab(family, "on");
    finish_sums(&lab, true);
    let c1 = lab.container("c1", &["-p", "5353:53/udp"]);
    let _inside = udp::Echo::start(&c1.netns, c1.at(53), "c1");
    let _far = udp::Echo::start(&lab.world, (lab.family.far(), 7), "far");
    assert_eq!(handed_up(&lab, &c1, 10), [1, 1]);
    place::ip(&lab.host, &format!("link set {UPLINK} address 02:00:00:00:00:99"));
    let host = lab.family.host();
    place::ip(
        &lab.world,
        &format!("neighbour replace {host} lladdr 02:00:00:00:00:99 dev {WORLD_SIDE}"),
    );
    wait::until("the driver goes by the new one", || {
        (handed_up(&lab, &c1, 3) == [0, 1]).then_some(())
    });
}
