//! `--device`: veth pairs, or netkit pairs where the kernel has them.

use causeway_api::types::device::Device;
use causeway_netlink::{Netlink, link::Link};
use causeway_tests::{
    family::{Family, V6},
    lab::{Container, Lab},
    ping,
    place::block_on,
    raw, report, tcp, udp,
};

#[test]
fn netkit_is_used_or_refused_in_one_line() {
    let lab = Lab::without_agent();
    let has_netkit = block_on(Netlink::check_device(Device::Netkit)).is_ok();
    match lab.try_start_agent(&["--device", "netkit"]) {
        Ok(()) => {
            assert!(has_netkit);
            assert_eq!(kinds(&lab, &lab.container("c1", &[])), ["netkit"; 3]);
        }
        Err(error) => {
            assert!(!has_netkit, "{error:#}");
            let line = format!("{error:#}");
            let what = "this kernel cannot connect containers with netkit pairs";
            assert!(line.starts_with("causeway: up: ") && line.contains(what), "{line}");
            assert!(line.contains("Linux 6.11") && line.contains("use --device veth"), "{line}");
        }
    }
}

#[test]
fn netkit_and_veth_containers_meet() {
    if report::lacks_netkit("netkit_and_veth_containers_meet") {
        return;
    }
    let lab = Lab::without_agent().of_family(V6);
    lab.start_agent(&["--device", "netkit"]);
    let c1 = lab.container("c1", &["-p", "5000:7/udp", "-p", "5001:7"]);
    lab.end_agent();
    lab.start_agent(&["--device", "veth"]);
    let c2 = lab.container("c2", &[]);
    lab.kill_agent();
    lab.start_agent(&["--device", "netkit"]);
    let c3 = lab.container("c3", &[]);
    for (container, kind) in [(&c1, "netkit"), (&c2, "veth"), (&c3, "netkit")] {
        assert_eq!(kinds(&lab, container), [kind; 3], "{container}");
    }
    for family in Family::ALL {
        traffic(&lab, family, [&c1, &c2, &c3]);
    }
}

/// Traffic between containers with netkit and veth.
fn traffic(lab: &Lab, family: Family, containers: [&Container; 3]) {
    let [c1, c2, c3] = containers;
    let address = |container: &Container| container.address_of(family);
    let _echoes = containers.map(|container| {
        udp::Echo::start(&container.netns, (address(container), 7), &container.name)
    });
    let _served = tcp::Echo::start(&c1.netns, (address(c1), 7));
    let far = udp::Echo::start(&lab.world, (family.far(), 7), "far");
    for from in containers {
        assert_eq!(
            udp::answer(&udp::client(&from.netns, family), (family.far(), 7)),
            "far",
            "{from}"
        );
        ping::ping(&from.netns, family.far(), 7, 56);
        for to in containers {
            let answer = udp::answer(&udp::client(&from.netns, family), (address(to), 7));
            assert_eq!(answer, to.name, "{from} to {to}");
        }
    }
    assert!(far.peers().iter().all(|peer| peer.ip() == family.host()), "{:?}", far.peers());
    for from in [&lab.world, &lab.host, &c1.netns, &c2.netns, &c3.netns] {
        assert_eq!(udp::answer(&udp::client(from, family), (family.host(), 5000)), c1.name);
        tcp::exchange(from, (family.host(), 5001));
    }
    // A spoofed source address.
    let stranger = raw::Packet::udp((address(c2), 9), (family.far(), 7), b"spoofed");
    let before = lab.counted("source-address-spoofed");
    raw::Raw::sender(&c1.netns, family).send(&stranger);
    lab.expect_counted("source-address-spoofed", before + 1);
}

/// The kind of a container's link: in the agent's output, on the host, and in the container.
fn kinds(lab: &Lab, container: &Container) -> [String; 3] {
    let kind = |link: Option<Link>| link.and_then(|link| link.kind).unwrap_or_default();
    let inspected = lab.json(&["container", "inspect", &container.name]);
    let device = inspected["endpoints"][0]["device"].as_str().unwrap_or_default().to_owned();
    block_on(async {
        let host = Netlink::open(&lab.host).await?.link(container.host_side()).await?;
        let inside = Netlink::open(&container.netns).await?.link(container.interface()).await?;
        anyhow::Ok([device, kind(host), kind(inside)])
    })
    .unwrap_or_else(|error| panic!("{container}: {error:#}"))
}
