//! Bulk transfers with and without checksum and segmentation offloads.

use causeway_tests::{
    families,
    family::Family,
    lab::{Container, Lab, UPLINK, WORLD_SIDE},
    offload, ping,
    transfer::{self, SIZE},
    udp,
};

families! {
    outbound_bulk,
    inbound_bulk,
    bulk_between_unequal_offloads,
    local_and_hairpin_bulk,
    any_packet_size_without_offloads,
}

fn switch_offloads(lab: &Lab, containers: &[&Container], on: bool) {
    offload::set(&lab.host, UPLINK, on);
    offload::set(&lab.world, WORLD_SIDE, on);
    for container in containers {
        offload::set(&lab.host, container.host_side(), on);
        offload::set(&container.netns, container.interface(), on);
    }
}

fn outbound_bulk(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &[]);
    for on in [true, false] {
        switch_offloads(&lab, &[&c1], on);
        transfer::both_ways(&lab.world, (family.far(), 9), &c1.netns, (family.far(), 9), SIZE);
    }
}

fn inbound_bulk(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "9000:9"]);
    for on in [true, false] {
        switch_offloads(&lab, &[&c1], on);
        transfer::both_ways(&c1.netns, c1.at(9), &lab.world, (family.host(), 9000), SIZE);
    }
}

/// As with real hardware: checksums and segments deferred by veth are completed at the uplink, and
/// the reverse.
fn bulk_between_unequal_offloads(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "9000:9", "-p", "9000:9/udp"]);
    let _far = udp::Echo::start(&lab.world, (family.far(), 7), "");
    let _inside = udp::Echo::start(&c1.netns, c1.at(9), "");
    for on in [true, false] {
        switch_offloads(&lab, &[&c1], on);
        offload::set(&lab.host, UPLINK, !on);
        offload::set(&lab.world, WORLD_SIDE, !on);
        transfer::both_ways(&lab.world, (family.far(), 9), &c1.netns, (family.far(), 9), SIZE / 10);
        transfer::both_ways(&c1.netns, c1.at(9), &lab.world, (family.host(), 9000), SIZE / 10);
        udp::answer(&udp::client(&c1.netns, family), (family.far(), 7));
        udp::answer(&udp::client(&lab.world, family), (family.host(), 9000));
    }
}

fn local_and_hairpin_bulk(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "9000:9"]);
    let c2 = lab.container("c2", &[]);
    for on in [true, false] {
        switch_offloads(&lab, &[&c1, &c2], on);
        for to in [c1.at(9), (family.host(), 9000).into()] {
            transfer::both_ways(&c1.netns, c1.at(9), &c2.netns, to, SIZE / 10);
        }
        transfer::both_ways(&c1.netns, c1.at(9), &lab.host, (family.host(), 9000), SIZE / 10);
    }
}

fn any_packet_size_without_offloads(family: Family) {
    let lab = Lab::shared(family);
    let c1 = lab.container("c1", &["-p", "9000:9/udp"]);
    switch_offloads(&lab, &[&c1], false);
    let _far = udp::Echo::start(&lab.world, (family.far(), 7), "");
    let _inside = udp::Echo::start(&c1.netns, c1.at(9), "");
    let most = family.data_of(1500);
    for size in [1, 2, 999, most - 1, most] {
        ping::ping(&c1.netns, family.far(), 1, size);
        let question: Vec<u8> = (0..size).map(|place| u8::try_from(place % 256).unwrap()).collect();
        let patience = causeway_tests::wait::DEADLINE;
        udp::ask(&udp::client(&c1.netns, family), (family.far(), 7), &question, patience).unwrap();
        udp::ask(&udp::client(&lab.world, family), (family.host(), 9000), &question, patience)
            .unwrap();
    }
}
