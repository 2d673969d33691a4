//! A datapath on interfaces that lead nowhere, and a model with the same tables: each frame is given to both.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicU32, Ordering},
};

use causeway::{
    datapath::{Datapath, EndpointEntry, Entry, Interface, LoadOptions, PublishEntry, Terms, Trial},
    model::{
        device::Device,
        publish::{PortRange, Protocol, PublishSpec},
    },
    net::{mac::Mac, netlink::Netlink, netns::Netns, sysctl},
};
use causeway_common::{
    abi::{self, Endpoint, Macs, Publish, Uplink, network},
    address::{Port, V4},
    forward::{self, Decision},
    model::Model,
    packet::{Arrival, Family as _},
    tuple::side,
};

use crate::{maps, pins, undo};

/// The MAC of the bench's bridges.
pub const BRIDGE_MAC: [u8; 6] = [0x02, 0x63, 0, 0, 0, 1];

/// A loaded datapath and its model.
pub struct Bench {
    /// The kernel's side.
    pub datapath: Datapath,
    /// The pure side.
    pub model: Model<V4>,
    netns: Netns,
    links: BTreeMap<&'static str, (u32, [u8; 6])>,
    next_slot: u32,
    options: LoadOptions,
    /// What is to be taken back.
    endpoints: Vec<IpAddr>,
    publishes: Vec<PublishEntry>,
}

/// A container to make known.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its address; its subnet is the /16 around it and its gateway that one's first.
    pub address: [u8; 4],
    /// Its host side.
    pub host_side: &'static str,
    /// Its network's bridge.
    pub bridge: &'static str,
    /// Its network is internal and keeps containers apart.
    pub closed: bool,
    /// Its network masquerades.
    pub masquerade: bool,
}

/// Runs `work` on a bench in a namespace of its own, and leaves nothing behind, whatever becomes of it.
///
/// Loading is most of what a test takes, and on an emulated processor nearly all: a bench that was used is made as new again, and serves the next test of
/// the process.
pub fn with_bench(work: impl FnOnce(&mut Bench) + Send) {
    let mut bench = spares::take().unwrap_or_else(Bench::new);
    let netns = bench.netns.try_clone().expect("a second handle on the bench's namespace");
    let outcome = netns.run(|| catch_unwind(AssertUnwindSafe(|| work(&mut bench)))).expect("a thread in the namespace");
    match outcome {
        Ok(()) => {
            netns.run(|| bench.clear()).expect("a thread in the namespace");
            spares::give(bench);
        }
        Err(panic) => {
            bench.remove();
            resume_unwind(panic);
        }
    }
}

/// Benches that wait for the next test. They go with the process.
mod spares {
    use std::sync::{Mutex, MutexGuard, Once, PoisonError};

    use nix::libc;

    use super::Bench;

    static SPARES: Mutex<Vec<Bench>> = Mutex::new(Vec::new());

    pub(super) fn take() -> Option<Bench> {
        spares().pop()
    }

    pub(super) fn give(bench: Bench) {
        static AT_EXIT: Once = Once::new();
        AT_EXIT.call_once(|| {
            // SAFETY: a function without arguments, which does not unwind: a panic in it ends the process, as a failure.
            let noted = unsafe { libc::atexit(remove_all) };
            assert_eq!(noted, 0, "there is room for a function to be called at the end");
        });
        spares().push(bench);
    }

    extern "C" fn remove_all() {
        spares().drain(..).for_each(Bench::remove);
    }

    fn spares() -> MutexGuard<'static, Vec<Bench>> {
        SPARES.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const BRIDGES: [(&str, &str); 3] = [("cwa", "172.18.0.1/16"), ("cwb", "172.19.0.1/16"), ("cwc", "172.20.0.1/16")];
const VETHS: [(&str, &str); 7] =
    [("h1", "p1"), ("h2", "p2"), ("h3", "p3"), ("h4", "p4"), ("h5", "p5"), ("up0", "pu"), ("lan0", "pl")];

/// Removes what a bench leaves in the kernel.
fn remove(netns: &Netns, name: &str) {
    // In its namespace, which has the filters where there are no links.
    netns.run(|| Datapath::remove(name)).expect("a thread in the namespace").expect("the pins go");
    Netns::remove(name).expect("the namespace goes");
}

async fn make_links(netns: &Netns) -> BTreeMap<&'static str, (u32, [u8; 6])> {
    let netlink = Netlink::open(netns).await.expect("a netlink socket");
    for (bridge, address) in BRIDGES {
        let index = netlink.create_bridge(bridge, Mac(BRIDGE_MAC), 1500).await.expect("a bridge");
        netlink.add_address(index, address.parse().expect("an address")).await.expect("its address");
    }
    for (name, peer) in VETHS {
        netlink.create_veth_between(name, peer, netns).await.expect("a veth pair");
    }
    sysctl::set(netns, "ipv4/ip_forward", "1").expect("forwarding");
    let mut links = BTreeMap::new();
    for link in netlink.links().await.expect("the links") {
        let known = BRIDGES.iter().map(|(name, _)| *name).chain(VETHS.iter().map(|(name, _)| *name));
        if let Some(name) = known.into_iter().find(|name| *name == link.name) {
            links.insert(name, (link.index, link.mac.expect("a MAC").0));
        }
    }
    let up = links["up0"].0;
    netlink.add_address(up, "10.0.2.15/24".parse().expect("an address")).await.expect("the uplink's address");
    netlink.add_address(links["lan0"].0, "192.168.9.1/24".parse().expect("an address")).await.expect("an address");
    netlink.add_default_route(IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2)), up).await.expect("a default route");
    links
}

impl Bench {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        undo::sweep();
        // Apart from the labs, which count from zero.
        let name = undo::unique_name(1000 + NUMBER.fetch_add(1, Ordering::Relaxed));
        let netns = Netns::create(&name).expect("the bench's namespace (the tests need root)");
        for scope in ["all", "default"] {
            // Its own packets would be counted too.
            let key = format!("ipv6/conf/{scope}/disable_ipv6");
            sysctl::set(&netns, &key, "1").expect("no IPv6 of the bench's own");
        }
        let cookie = netns.cookie().expect("a cookie");
        let options = LoadOptions { instance: name.clone(), host_cookie: cookie, flows: 512, allow_bind: false };
        let made = netns.run(|| {
            catch_unwind(AssertUnwindSafe(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                let links = runtime.block_on(make_links(&netns));
                (links, Datapath::load(&options).expect("the datapath loads"))
            }))
        });
        match made.expect("a thread in the namespace") {
            Ok((links, datapath)) => Self {
                datapath,
                model: Model::default(),
                netns,
                links,
                next_slot: 1,
                options,
                endpoints: Vec::new(),
                publishes: Vec::new(),
            },
            Err(panic) => {
                remove(&netns, &name);
                resume_unwind(panic);
            }
        }
    }

    /// Makes it as new, but that slots are others' before they are given again. In its namespace.
    fn clear(&mut self) {
        for publish in std::mem::take(&mut self.publishes) {
            self.datapath.remove_publish(&publish).expect("the publish goes");
        }
        for address in std::mem::take(&mut self.endpoints) {
            self.datapath.remove_endpoint(address).expect("the endpoint goes");
        }
        for (bridge, gateway) in BRIDGES {
            let subnet = gateway.parse::<ipnet::IpNet>().expect("an address").trunc();
            self.datapath.remove_bridge(self.index(bridge), &[subnet]).expect("the bridge goes");
        }
        for uplink in ["up0", "lan0"] {
            self.datapath.remove_uplink(self.index(uplink)).expect("the uplink goes");
        }
        self.datapath.set_local_addresses(&BTreeSet::new()).expect("the host has no address");
        self.datapath.settle().expect("what a former agent left goes");
        self.datapath.flush_flows().expect("the flows end");
        let left = maps::empty(&pins::maps(&self.options.instance));
        assert!(left.is_empty(), "nobody took back what is in {}", left.join(" and "));
        self.datapath.settle().expect("the defaults are written");
        self.model = Model::default();
        self.next_slot = 1;
    }

    fn remove(self) {
        let Self { datapath, netns, options, .. } = self;
        drop(datapath);
        remove(&netns, &options.instance);
    }

    /// An interface's index.
    pub fn index(&self, name: &str) -> u32 {
        self.links[name].0
    }

    /// An interface's MAC.
    pub fn mac(&self, name: &str) -> [u8; 6] {
        self.links[name].1
    }

    fn interface(&self, name: &str) -> Interface {
        Interface { index: self.index(name), name: name.to_owned() }
    }

    /// Makes the host's own known: the uplink, its addresses, the routes.
    pub fn put_host(&mut self) {
        for (bridge, gateway) in BRIDGES {
            let subnet = gateway.parse::<ipnet::IpNet>().expect("an address").trunc();
            self.datapath.put_bridge(&self.interface(bridge), &[subnet], &Terms::default()).expect("the bridge");
            self.model.admitted.push((abi::INSIDE, v4(subnet.network()), v4(subnet.netmask())));
        }
        let uplink = self.interface("up0");
        self.datapath.put_uplink(&uplink, Some([10, 0, 2, 15].into()), None, 1500).expect("the uplink");
        let local = [[10, 0, 2, 15], [192, 168, 9, 1], [172, 18, 0, 1], [172, 19, 0, 1], [172, 20, 0, 1]];
        self.datapath.set_local_addresses(&BTreeSet::from(local.map(IpAddr::from))).expect("the host's addresses");
        self.model.local.extend(local.map(V4::new));
        self.model.uplinks.insert(uplink.index, Uplink { address: V4::new([10, 0, 2, 15]), mtu: 1500 });
        let lan = self.index("lan0");
        self.model.routes.push((V4::new([192, 168, 9, 0]), V4::new([255, 255, 255, 0]), lan));
        self.model.routes.push((V4::new([0; 4]), V4::new([0; 4]), uplink.index));
    }

    /// Lets the uplink's driver run the XDP program, and the containers behind those host sides take what it redirects.
    pub fn put_xdp(&mut self, receivers: &[&'static str]) {
        let mac = Mac(self.mac("up0"));
        self.datapath.put_xdp(&self.interface("up0"), mac).expect("XDP on a veth");
        for name in receivers {
            let index = self.index(name);
            self.datapath.put_receiver(index).expect("a receiver");
            self.model.receivers.insert(index);
        }
    }

    /// Gives a network mapping and filtering that do not depend on the other side. In the model all networks have that then.
    pub fn put_full_cone(&mut self, bridge: &'static str) {
        let (_, gateway) = BRIDGES.into_iter().find(|(name, _)| *name == bridge).expect("a bridge of the bench's");
        let subnet = gateway.parse::<ipnet::IpNet>().expect("an address").trunc();
        let terms = Terms { full_cone: true, ..Terms::default() };
        self.datapath.put_bridge(&self.interface(bridge), &[subnet], &terms).expect("the bridge");
        self.model.networks.insert(0, abi::Network { mapping: abi::mapping::FULL_CONE, ..abi::Network::DEFAULT });
    }

    /// Makes a container known.
    pub fn put_container(&mut self, place: Place) {
        let [a, b, ..] = place.address;
        let host_side = self.interface(place.host_side);
        let entry = self.endpoint_entry(place);
        self.datapath.put_endpoint(&entry, &host_side).expect("the endpoint");
        self.endpoints.push(entry.address);
        let slot = self.take_slot();
        self.model.endpoints.insert(
            V4::new(place.address),
            Endpoint {
                subnet: V4::new([a, b, 0, 0]),
                mask: V4::new([255, 255, 0, 0]),
                gateway: V4::new([a, b, 0, 1]),
                host_side: entry.host_side,
                bridge: entry.bridge,
                slot,
                network: if place.masquerade { network::MASQUERADE } else { 0 }
                    | if place.closed { network::INTERNAL | network::NO_ICC } else { 0 },
                network_number: 0,
                mtu: 1500,
                macs: Macs::new(entry.mac.0, BRIDGE_MAC),
            },
        );
    }

    /// Makes another address of a container known, in the kernel alone. The gateway's and the subnet are of its family.
    pub fn put_address(&mut self, place: Place, address: &str, gateway: &str, subnet: &str) {
        let host_side = self.interface(place.host_side);
        let entry = EndpointEntry {
            address: address.parse().expect("an address"),
            gateway: gateway.parse().expect("an address"),
            subnet: subnet.parse().expect("a subnet"),
            ..self.endpoint_entry(place)
        };
        self.datapath.put_endpoint(&entry, &host_side).expect("the endpoint's other address");
        self.endpoints.push(entry.address);
    }

    /// What the datapath is told of a container.
    pub fn endpoint_entry(&self, place: Place) -> EndpointEntry {
        let [a, b, ..] = place.address;
        EndpointEntry {
            address: place.address.into(),
            gateway: [a, b, 0, 1].into(),
            subnet: format!("{a}.{b}.0.0/16").parse().expect("a subnet"),
            mac: Mac::from_ipv4(place.address.into()),
            bridge_mac: Mac(BRIDGE_MAC),
            host_side: self.index(place.host_side),
            bridge: self.index(place.bridge),
            masquerade: place.masquerade,
            internal: place.closed,
            icc: !place.closed,
            mtu: 1500,
            device: Device::Veth,
        }
    }

    /// How many entries a hash map has.
    pub fn entries(&self, map: &str) -> usize {
        maps::count(&pins::maps(&self.options.instance), map)
    }

    /// Publishes, as in `causeway publish add`: the ports' form is that of the command line.
    pub fn put_publish(&mut self, container: [u8; 4], publish: &str, from: &[&str]) {
        let entry = publish_entry(container, publish, from);
        self.publish(&entry);
        self.model_publish(&entry, container);
    }

    /// Publishes in the kernel alone.
    pub fn publish(&mut self, entry: &PublishEntry) {
        self.datapath.put_publish(entry).expect("the publish");
        self.publishes.push(entry.clone());
    }

    fn model_publish(&mut self, entry: &PublishEntry, container: [u8; 4]) {
        let slot = self.take_slot();
        let host_address = entry.host_address.map(v4);
        let ports: PortRange = entry.host_ports;
        let protocol: Protocol = entry.protocol;
        for port in ports.start()..=ports.end() {
            self.model.ports.insert((protocol.number(), Port::new(port), host_address), slot);
        }
        self.model.publishes.insert(
            slot,
            Publish {
                container: V4::new(container),
                host_port: Port::new(ports.start()),
                container_port: Port::new(entry.container_ports.start()),
                flags: if entry.from.is_empty() { 0 } else { abi::publish::SOURCES_LISTED },
            },
        );
        for source in &entry.from {
            self.model.admitted.push((slot, v4(source.network()), v4(source.netmask())));
        }
    }

    fn take_slot(&mut self) -> u32 {
        self.next_slot += 1;
        self.next_slot - 1
    }

    /// Another agent takes over: what the last one put is in the kernel still.
    pub fn restart(&mut self) {
        self.datapath = Datapath::load(&self.options).expect("the datapath loads again");
    }

    /// Ends every flow on both sides. What is known of datagrams in fragments stays in the kernel.
    pub fn flush(&mut self) {
        self.datapath.flush_flows().expect("the flows end");
        self.model.flows.borrow_mut().clear();
        self.model.datagrams.borrow_mut().clear();
        self.model.held.borrow_mut().clear();
        self.model.again.borrow_mut().clear();
    }

    /// What the kernel's program makes of a frame.
    pub fn kernel(&self, entry: Entry, input: &str, frame: &[u8]) -> Trial {
        self.datapath.try_frame(entry, self.index(input), 0, frame).expect("the frame runs")
    }

    /// What the pure code makes of a frame with an IPv4 packet; none where it is malformed.
    pub fn pure(&self, entry: Entry, input: &str, frame: &[u8]) -> Option<Decision<V4>> {
        let arrival = Arrival {
            side: if entry == Entry::HostSide { side::CONTAINER } else { side::UPLINK },
            input: self.index(input),
            length: u32::try_from(frame.len()).expect("a short frame"),
            gso_size: 0,
        };
        let packet = V4::parse(frame, arrival).ok()?;
        self.model.frame.replace(frame.to_vec());
        Some(forward::decide(frame, &packet, &self.model))
    }
}

/// A publish as the datapath takes it.
pub fn publish_entry(container: [u8; 4], publish: &str, from: &[&str]) -> PublishEntry {
    let spec: PublishSpec = publish.parse().expect("a publish");
    PublishEntry {
        protocol: spec.protocol,
        host_address: spec.host_address,
        host_ports: spec.host_ports,
        container_ports: spec.container_ports,
        container_v4: Some(container.into()),
        container_v6: None,
        from: from.iter().map(|source| source.parse().expect("a subnet")).collect(),
    }
}

fn v4(address: IpAddr) -> V4 {
    match address {
        IpAddr::V4(address) => V4::new(address.octets()),
        IpAddr::V6(address) => panic!("{address} is IPv6"),
    }
}
