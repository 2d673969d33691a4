//! A datapath on interfaces without a peer in use, and a model with the same tables. Each frame
//! goes through both.

pub mod pure;
pub mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use causeway::datapath::{
    Datapath, EndpointEntry, Entry, Interface, LoadOptions, PublishTarget, Trial,
};
use causeway_api::types::{
    device::Device,
    flow_options::{FlowPolicy, Mapping},
    mac::Mac,
    publish::PublishSpec,
};
use causeway_common::{abi::Network, xdp::XdpVerdict};
use causeway_netlink::{Netlink, Netns, sysctl};
use ipnet::IpNet;

use self::pure::{Models, Pure};
use crate::{
    family::{Family, V4, V6},
    maps, pins, undo,
};

/// The MAC of the bench's bridges.
pub const BRIDGE_MAC: [u8; 6] = [0x02, 0x63, 0, 0, 0, 1];

/// A loaded datapath and its model.
pub struct Bench {
    /// The datapath in the kernel.
    pub datapath: Datapath,
    /// The model.
    pub models: Models,
    netns: Netns,
    links: BTreeMap<&'static str, (u32, [u8; 6])>,
    next_slot: u32,
    options: LoadOptions,
    /// To be removed by [`Bench::clear`].
    endpoints: Vec<IpAddr>,
    publishes: Vec<PublishEntry>,
}

/// A container for [`Bench::put_container`].
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// IPv4 address. Its subnet is the /16 around it, its gateway the first address there.
    /// [`address`] derives the IPv6 addresses.
    pub address: [u8; 4],
    /// Host side.
    pub host_side: &'static str,
    /// Bridge of its network.
    pub bridge: &'static str,
    /// Its network is internal and has no icc.
    pub closed: bool,
    /// Its network masquerades.
    pub masquerade: bool,
}

/// Runs `work` on a bench in a namespace of its own, and cleans up even after a panic.
///
/// Loading takes most of a test's time, and nearly all of it on an emulated processor. So a used
/// bench is cleared and serves the next test of the process.
pub fn with_bench(work: impl FnOnce(&mut Bench) + Send) {
    let mut bench = spares::take().unwrap_or_else(Bench::new);
    let netns = bench.netns.try_clone().expect("a second handle on the bench's namespace");
    let outcome = netns
        .run(|| catch_unwind(AssertUnwindSafe(|| work(&mut bench))))
        .expect("a thread in the namespace");
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

/// Idle benches. They are removed when the process exits.
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
            // SAFETY: a function without arguments, which does not unwind: a panic in it ends the
            // process, as a failure.
            let noted = unsafe { libc::atexit(remove_all) };
            assert_eq!(noted, 0, "atexit accepts one more function");
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

/// The bridges, with the second byte of their IPv4 subnets.
const BRIDGES: [(&str, u8); 3] = [("cwa", 18), ("cwb", 19), ("cwc", 20)];
const VETHS: [(&str, &str); 7] = [
    ("h1", "p1"),
    ("h2", "p2"),
    ("h3", "p3"),
    ("h4", "p4"),
    ("h5", "p5"),
    ("up0", "pu"),
    ("lan0", "pl"),
];

/// The host's address on the uplink. [`LAN`] is its address on `lan0`, which is no uplink.
pub const HOST: [u8; 4] = [10, 0, 2, 15];
/// See [`HOST`].
pub const LAN: [u8; 4] = [192, 168, 9, 1];
/// The next hop of the default route.
const ROUTER: [u8; 4] = [10, 0, 2, 2];

/// The address of `family` that corresponds to `v4`: `2001:db8:18::2` for 172.18.0.2,
/// `2001:db8:113::10` for 203.0.113.10.
pub fn address(family: Family, v4: [u8; 4]) -> IpAddr {
    // Decimal digits become hexadecimal ones: 18 becomes 0x18.
    let digits = |byte: u8| u16::from_str_radix(&byte.to_string(), 16).expect("decimal digits");
    match (family, v4) {
        (V4, v4) => v4.into(),
        (V6, [0, 0, 0, 0]) => Ipv6Addr::UNSPECIFIED.into(),
        (V6, [127, 0, 0, 1]) => Ipv6Addr::LOCALHOST.into(),
        (V6, [224, 0, 0, last]) => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, digits(last)).into(),
        (V6, [172, network, _, host] | [_, _, network, host]) => {
            Ipv6Addr::new(0x2001, 0xdb8, digits(network), 0, 0, 0, 0, digits(host)).into()
        }
    }
}

/// The network subnet around an address.
fn subnet(family: Family, v4: [u8; 4]) -> IpNet {
    IpNet::new(address(family, v4), if family == V4 { 16 } else { 64 }).expect("a length").trunc()
}

/// The IPv4 and IPv6 subnets of a bridge's network.
fn subnets(network: u8) -> [IpNet; 2] {
    Family::ALL.map(|family| subnet(family, [172, network, 0, 0]))
}

/// A container's MAC.
pub fn mac_of(container: [u8; 4]) -> [u8; 6] {
    Mac::from_ipv4(container.into()).0
}

/// A container's link-local address.
pub fn link_local_of(container: [u8; 4]) -> IpAddr {
    Mac::from_ipv4(container.into()).link_local().into()
}

/// Removes pins, filters and the namespace of a bench.
fn remove(netns: &Netns, name: &str) {
    // The filters of clsact are in the bench's namespace.
    netns.run(|| Datapath::remove(name)).expect("a thread in the namespace").expect("the pins go");
    Netns::remove(name).expect("the namespace goes");
}

async fn make_links(netns: &Netns) -> BTreeMap<&'static str, (u32, [u8; 6])> {
    let netlink = Netlink::open(netns).await.expect("a netlink socket");
    for (bridge, network) in BRIDGES {
        let index = netlink.create_bridge(bridge, Mac(BRIDGE_MAC), 1500).await.expect("a bridge");
        speak(netns, bridge);
        for family in Family::ALL {
            let gateway = [172, network, 0, 1];
            let length = subnet(family, gateway).prefix_len();
            let gateway = IpNet::new(address(family, gateway), length).expect("a length");
            netlink.add_address(index, gateway).await.expect("its address");
        }
    }
    for (name, peer) in VETHS {
        netlink.create_veth_between(name, peer, netns).await.expect("a veth pair");
    }
    sysctl::set(netns, "ipv4/ip_forward", "1").expect("forwarding");
    let mut links = BTreeMap::new();
    for link in netlink.links().await.expect("the links") {
        let known =
            BRIDGES.iter().map(|(name, _)| *name).chain(VETHS.iter().map(|(name, _)| *name));
        if let Some(name) = known.into_iter().find(|name| *name == link.name) {
            links.insert(name, (link.index, link.mac.expect("a MAC").0));
        }
    }
    for (name, own) in [("up0", HOST), ("lan0", LAN)] {
        speak(netns, name);
        for family in Family::ALL {
            let own = IpNet::new(address(family, own), if family == V4 { 24 } else { 64 })
                .expect("a length");
            netlink.add_address(links[name].0, own).await.expect("an address");
        }
    }
    for family in Family::ALL {
        netlink
            .add_default_route(address(family, ROUTER), links["up0"].0)
            .await
            .expect("a default route");
    }
    links
}

/// How long the kernel may send packets of its own after the links are made: it checks carriers
/// within a second, and then reports multicast groups (RFC 3810 section 6.1).
const SILENCE: Duration = Duration::from_secs(2);

/// Enables IPv6 addresses and forwarding on an interface without any packets of the kernel's own,
/// which would be counted.
fn speak(netns: &Netns, interface: &str) {
    // No link-local address is needed without router solicitations. Group reports are sent at once
    // instead of within a second.
    for (key, value) in [
        ("addr_gen_mode", "1"),
        ("accept_dad", "0"),
        ("accept_ra", "0"),
        ("mldv2_unsolicited_report_interval", "1"),
        ("forwarding", "1"),
        ("disable_ipv6", "0"),
    ] {
        sysctl::set(netns, &format!("ipv6/conf/{interface}/{key}"), value)
            .expect("a silent interface");
    }
}

impl Bench {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        undo::sweep();
        // Labs count from zero; benches from 1000.
        let name = undo::unique_name(1000 + NUMBER.fetch_add(1, Ordering::Relaxed));
        let netns = Netns::create(&name).expect("the bench's namespace (the tests need root)");
        for scope in ["all", "default"] {
            // The kernel's own IPv6 packets would be counted.
            let key = format!("ipv6/conf/{scope}/disable_ipv6");
            sysctl::set(&netns, &key, "1").expect("no IPv6 of the bench's own");
        }
        let cookie = netns.cookie().expect("a cookie");
        let options = LoadOptions {
            instance: name.clone(),
            host_cookie: cookie,
            flows: 512,
            allow_bind: false,
        };
        let made = netns.run(|| {
            catch_unwind(AssertUnwindSafe(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                let links = runtime.block_on(make_links(&netns));
                let made = Instant::now();
                let datapath = Datapath::load(&options).expect("the datapath loads");
                // Loading has already taken most of this time.
                thread::sleep(SILENCE.saturating_sub(made.elapsed()));
                (links, datapath)
            }))
        });
        match made.expect("a thread in the namespace") {
            Ok((links, datapath)) => Self {
                datapath,
                models: Models::default(),
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

    /// Removes all entries, flows and models. Slots are reused only after other slots, as in the
    /// agent. Must run in the bench's namespace.
    fn clear(&mut self) {
        for publish in std::mem::take(&mut self.publishes) {
            self.datapath.remove_publish(&publish.spec.ports).expect("the publish goes");
        }
        for address in std::mem::take(&mut self.endpoints) {
            self.datapath.remove_endpoint(address).expect("the endpoint goes");
        }
        for (bridge, network) in BRIDGES {
            self.datapath
                .remove_bridge(self.index(bridge), &subnets(network))
                .expect("the bridge goes");
        }
        for uplink in ["up0", "lan0"] {
            self.datapath.remove_uplink(self.index(uplink)).expect("the uplink goes");
        }
        self.datapath.set_local_addresses(&BTreeSet::new()).expect("the host has no address");
        self.datapath.settle().expect("entries of a former agent are removed");
        self.datapath.flush_flows().expect("the flows end");
        let left = maps::empty(&pins::maps(&self.options.instance));
        assert!(left.is_empty(), "entries are left in {}", left.join(" and "));
        self.datapath.settle().expect("the defaults are written");
        self.models = Models::default();
        self.next_slot = 1;
    }

    fn remove(self) {
        let Self { datapath, netns, options, .. } = self;
        drop(datapath);
        remove(&netns, &options.instance);
    }

    /// Index of an interface.
    pub fn index(&self, name: &str) -> u32 {
        self.links[name].0
    }

    /// MAC of an interface.
    pub fn mac(&self, name: &str) -> [u8; 6] {
        self.links[name].1
    }

    fn interface(&self, name: &str) -> Interface {
        Interface { index: self.index(name), name: name.to_owned() }
    }

    /// Adds the host: bridges, uplink, local addresses and routes, in both families.
    pub fn put_host(&mut self) {
        for (bridge, network) in BRIDGES {
            let subnets = subnets(network);
            self.datapath
                .put_bridge(&self.interface(bridge), &subnets, &default_policy())
                .expect("the bridge");
            self.models.put_subnets(&subnets);
        }
        self.put_uplink(1500);
        let local = [HOST, LAN].into_iter().chain(BRIDGES.map(|(_, network)| [172, network, 0, 1]));
        let local: BTreeSet<IpAddr> =
            local.flat_map(|v4| Family::ALL.map(|family| address(family, v4))).collect();
        self.datapath.set_local_addresses(&local).expect("the host's addresses");
        self.models.put_local(&local);
        let [lan, up] = ["lan0", "up0"].map(|name| self.index(name));
        for family in Family::ALL {
            let of_lan = IpNet::new(address(family, LAN), if family == V4 { 24 } else { 64 })
                .expect("a length");
            self.models.put_route(&of_lan.trunc(), lan);
            self.models.put_route(&IpNet::new(address(family, [0; 4]), 0).expect("a length"), up);
        }
    }

    /// Adds the uplink, or updates its MTU.
    pub fn put_uplink(&mut self, mtu: u32) {
        let uplink = self.interface("up0");
        let IpAddr::V6(v6) = address(V6, HOST) else { unreachable!("it was asked for") };
        self.datapath.put_uplink(&uplink, Some(HOST.into()), Some(v6), mtu).expect("the uplink");
        self.models.put_uplink(uplink.index, &Family::ALL.map(|family| address(family, HOST)), mtu);
    }

    /// Attaches the XDP program to the uplink, and marks the containers behind `receivers` as able
    /// to take redirected frames.
    pub fn put_xdp(&mut self, receivers: &[&'static str]) {
        let mac = Mac(self.mac("up0"));
        self.datapath.put_xdp(&self.interface("up0"), mac).expect("XDP on a veth");
        for name in receivers {
            let index = self.index(name);
            self.datapath.put_receiver(index).expect("a receiver");
            self.models.put_receiver(index);
        }
    }

    /// Makes a network full-cone (endpoint-independent mapping and filtering). The model then
    /// treats every network so.
    pub fn put_full_cone(&mut self, bridge: &'static str) {
        let policy = FlowPolicy { mapping: Mapping::FullCone, ..default_policy() };
        self.put_flow_policy(bridge, &policy);
        self.models.put_full_cone();
    }

    /// Changes the flow policy of a network in the kernel, not in the model.
    pub fn put_flow_policy(&mut self, bridge: &'static str, policy: &FlowPolicy) {
        let (_, network) =
            BRIDGES.into_iter().find(|(name, _)| *name == bridge).expect("a bridge of the bench's");
        self.datapath
            .put_bridge(&self.interface(bridge), &subnets(network), policy)
            .expect("the bridge");
    }

    /// Adds a container with IPv4 only.
    pub fn put_container(&mut self, place: Place) {
        let entry = self.endpoint_entry(place);
        self.put_endpoint(&entry, place.host_side);
    }

    /// Adds a container with its IPv4, IPv6 and link-local addresses.
    pub fn put_dual(&mut self, place: Place) {
        self.put_container(place);
        let [_, network, ..] = place.address;
        let v6 = EndpointEntry {
            gateway: address(V6, [172, network, 0, 1]),
            subnet: subnet(V6, place.address),
            ..self.endpoint_entry(place)
        };
        for address in [address(V6, place.address), link_local_of(place.address)] {
            self.put_endpoint(&EndpointEntry { address, ..v6.clone() }, place.host_side);
        }
    }

    fn put_endpoint(&mut self, entry: &EndpointEntry, host_side: &str) {
        self.datapath.put_endpoint(entry, &self.interface(host_side)).expect("the endpoint");
        self.endpoints.push(entry.address);
        let slot = self.take_slot();
        self.models.put_endpoint(entry, slot);
    }

    /// Adds a further address of a container in the kernel, not in the model.
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

    /// Removes a container with its addresses of both families.
    pub fn remove_endpoint(&mut self, container: [u8; 4]) {
        for address in [address(V4, container), address(V6, container), link_local_of(container)] {
            self.datapath.remove_endpoint(address).expect("the address goes");
        }
    }

    /// The endpoint entry of a container.
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

    /// Number of entries in a hash map.
    pub fn entries(&self, map: &str) -> usize {
        maps::count(&pins::maps(&self.options.instance), map)
    }

    /// Publishes to the IPv4 and IPv6 address of a container. `publish` has the form of `causeway
    /// publish add`.
    pub fn put_publish(&mut self, container: [u8; 4], publish: &str, from: &[&str]) {
        let entry = dual_entry(container, publish, from);
        self.publish(&entry);
        let slot = self.take_slot();
        self.models.put_publish(&entry, slot);
    }

    /// Publishes in the kernel, not in the model.
    pub fn publish(&mut self, entry: &PublishEntry) {
        self.datapath.put_publish(&entry.spec, entry.target).expect("the publish");
        self.publishes.push(entry.clone());
    }

    fn take_slot(&mut self) -> u32 {
        self.next_slot += 1;
        self.next_slot - 1
    }

    /// Loads the datapath again, as the next agent does. The pinned maps keep the entries of the
    /// last one.
    pub fn restart(&mut self) {
        self.datapath = Datapath::load(&self.options).expect("the datapath loads again");
    }

    /// Removes every flow in the kernel and the model. Fragment state stays in the kernel.
    pub fn flush(&mut self) {
        self.datapath.flush_flows().expect("the flows end");
        self.models.flush();
    }

    /// Runs a frame through the program in the kernel.
    pub fn kernel(&self, entry: Entry, input: &str, frame: &[u8]) -> Trial {
        self.datapath.try_frame(entry, self.index(input), 0, frame).expect("the frame runs")
    }

    /// Runs a frame through the pure decisions for XDP.
    pub fn early(&self, input: &str, frame: &[u8]) -> XdpVerdict<Vec<u8>> {
        if frame[..6] == self.mac(input) {
            self.models.decide_early(self.index(input), frame)
        } else {
            XdpVerdict::Pass
        }
    }

    /// Runs a frame with an IP packet through the pure decisions. `None` if it is malformed.
    pub fn pure(&self, entry: Entry, input: &str, frame: &[u8]) -> Option<Pure> {
        self.models.decide(entry, self.index(input), frame)
    }
}

/// The flow policy of networks that name none, with the model's limit of flows per container.
pub fn default_policy() -> FlowPolicy {
    FlowPolicy { max_flows: Some(Network::DEFAULT.max_flows), ..FlowPolicy::default() }
}

/// A publish in the form that the datapath takes.
#[derive(Clone, Debug)]
pub struct PublishEntry {
    /// Ports and options.
    pub spec: PublishSpec,
    /// Addresses of the container.
    pub target: PublishTarget,
}

/// A publish of IPv4 only.
pub fn publish_entry(container: [u8; 4], publish: &str, from: &[&str]) -> PublishEntry {
    let mut spec: PublishSpec = publish.parse().expect("a publish");
    spec.options.from = from.iter().map(|source| source.parse().expect("a subnet")).collect();
    PublishEntry { spec, target: PublishTarget { v4: Some(container.into()), v6: None } }
}

/// A publish of both families, unless its host address belongs to one.
pub fn dual_entry(container: [u8; 4], publish: &str, from: &[&str]) -> PublishEntry {
    let entry = publish_entry(container, publish, from);
    let IpAddr::V6(v6) = address(V6, container) else { unreachable!("it was asked for") };
    PublishEntry { target: PublishTarget { v6: Some(v6), ..entry.target }, ..entry }
}
