//! Keys and values of the maps, their names and the programs' names. A change of any layout is a
//! new [`LAYOUT`].

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{Address, Port},
    checksum,
    flow::{State, TIMERS, Ticks, Timer, ticks},
    ipv6, nat64,
    tuple::Tuple,
};

/// The version in the path of the pins: `/sys/fs/bpf/causeway/INSTANCE/vLAYOUT`.
pub const LAYOUT: u32 = 2;

/// How many slots there are. Slot 0 is nobody's.
pub const SLOTS: u32 = 1 << 16;

/// Added to an endpoint's slot, the place in [`name::COUNTS`] for its mappings.
pub const COUNT_MAPPINGS: u32 = SLOTS;

/// The same for the flows that others outside begin with it: they take nothing from what it may
/// begin itself.
pub const COUNT_INBOUND: u32 = 2 * SLOTS;

/// The same for its flows of IPv6: those of one family take nothing from what it may have of the
/// other.
pub const COUNT_IPV6: u32 = 4 * SLOTS;

/// The entries of [`name::COUNTS`].
pub const COUNTS: u32 = 8 * SLOTS;

/// How many endpoints there is room for on all networks of an instance.
pub const ENDPOINTS: u32 = 1 << 14;

/// How many networks there is room for. Number 0 is nobody's: what flows of none go by.
pub const NETWORKS: u32 = 1 << 10;

/// The entries of [`name::Maps::ports`]: one for each port of each published protocol.
pub const PORTS: u32 = 3 << 16;

/// The slot in [`name::Maps::admitted`] under which the subnets of the networks are: nobody's own,
/// so that no publish has it.
pub const SLOT_LOCAL_SUBNETS: u32 = 0;

/// In an entry of [`name::Maps::ports`]: publishes with a host address use the port, look there.
pub const BY_ADDRESS: u32 = 1 << 31;

/// The mark of a socket by which the agent finds out whether a port is taken: it alone may bind one
/// that is published.
pub const PROBE_MARK: u32 = 0xca05_e3a7;

/// Names of programs and maps in the object.
pub mod name {
    /// tc ingress on a host side.
    pub const FROM_CONTAINER: &str = "from_container";
    /// tc ingress on an uplink.
    pub const FROM_UPLINK: &str = "from_uplink";
    /// tc egress on an uplink.
    pub const TO_UPLINK: &str = "to_uplink";
    /// XDP on an uplink.
    pub const XDP_UPLINK: &str = "xdp_uplink";
    /// tc egress on a bridge.
    pub const TO_BRIDGE: &str = "to_bridge";
    /// Run by the agent: removes flows.
    pub const FLOW_GC: &str = "flow_gc";
    /// cgroup, `connect(2)`.
    pub const CONNECT4: &str = "connect4";
    /// cgroup, `sendmsg(2)` without connect.
    pub const SENDMSG4: &str = "sendmsg4";
    /// cgroup, `recvmsg(2)`.
    pub const RECVMSG4: &str = "recvmsg4";
    /// cgroup, `getpeername(2)`.
    pub const GETPEERNAME4: &str = "getpeername4";
    /// Every cgroup program: those above, and the same for IPv6 sockets, which may speak IPv4 too.
    pub const SOCKETS: [&str; 8] = [
        CONNECT4,
        SENDMSG4,
        RECVMSG4,
        GETPEERNAME4,
        "connect6",
        "sendmsg6",
        "recvmsg6",
        "getpeername6",
    ];
    /// cgroup, `bind(2)`, of IPv4 and IPv6 sockets.
    pub const BINDS: [&str; 2] = ["bind4", "bind6"];

    /// The maps that each family has of its own.
    #[derive(Clone, Copy, Debug)]
    pub struct Maps {
        /// Hash: `Tuple` to [`super::FlowEntry`].
        pub flows: &'static str,
        /// Array: the keys of flows, in the order in which they began, over and over.
        pub age_ring: &'static str,
        /// Array: how many of those were written, and how many read.
        pub age_ring_ends: &'static str,
        /// Array of one: until when flows of the host's own may live that are TCP, or have moved.
        pub host_flows_expire_at: &'static str,
        /// Hash: address to [`super::Endpoint`].
        pub endpoints: &'static str,
        /// Array: slot to [`super::Publish`].
        pub publishes: &'static str,
        /// Array: [`super::port_index`] to slot, or [`super::BY_ADDRESS`].
        pub ports: &'static str,
        /// Hash: [`super::AddressPort`] to slot.
        pub address_ports: &'static str,
        /// Trie: [`super::Admitted`] to nothing of interest.
        pub admitted: &'static str,
        /// Hash: an address of the host to nothing of interest.
        pub local: &'static str,
        /// Hash: interface index to [`super::Uplink`].
        pub uplinks: &'static str,
        /// Hash, oldest out: [`super::SocketPeer`] to the address the process meant.
        pub sockets: &'static str,
        /// Hash, oldest out: [`super::Datagram`] to [`super::Fragments`].
        pub fragments: &'static str,
        /// Hash, oldest out: [`super::QueuedKey`] to [`super::QueuedFrame`].
        pub fragment_queue: &'static str,
    }

    impl Maps {
        /// All of them.
        pub const fn all(&self) -> [&'static str; 14] {
            [
                self.flows,
                self.age_ring,
                self.age_ring_ends,
                self.host_flows_expire_at,
                self.endpoints,
                self.publishes,
                self.ports,
                self.address_ports,
                self.admitted,
                self.local,
                self.uplinks,
                self.sockets,
                self.fragments,
                self.fragment_queue,
            ]
        }
    }

    macro_rules! maps {
        ($family:literal) => {
            Maps {
                flows: concat!("FLOWS", $family),
                age_ring: concat!("AGE_RING", $family),
                age_ring_ends: concat!("AGE_RING_ENDS", $family),
                host_flows_expire_at: concat!("HOST_EXPIRY", $family),
                endpoints: concat!("ENDPOINTS", $family),
                publishes: concat!("PUBLISHES", $family),
                ports: concat!("PORTS", $family),
                address_ports: concat!("ADDRESS_PORTS", $family),
                admitted: concat!("ADMITTED", $family),
                local: concat!("LOCAL", $family),
                uplinks: concat!("UPLINKS", $family),
                sockets: concat!("SOCKETS", $family),
                fragments: concat!("FRAGMENTS", $family),
                fragment_queue: concat!("FRAG_QUEUE", $family),
            }
        };
    }

    /// IPv4's.
    pub const V4: Maps = maps!(4);
    /// IPv6's.
    pub const V6: Maps = maps!(6);

    /// Array: slot to epoch.
    pub const EPOCHS: &str = "EPOCHS";
    /// Array: a network's number to [`super::Network`].
    pub const NETWORKS: &str = "NETWORKS";
    /// Array: an endpoint's slot to how many flows it has begun; further those of
    /// [`super::COUNT_MAPPINGS`], [`super::COUNT_INBOUND`], [`super::COUNT_IPV6`].
    pub const COUNTS: &str = "COUNTS";
    /// Array: [`super::UplinkMac`] of an uplink at its index modulo [`super::UPLINK_MACS`].
    pub const UPLINK_MACS: &str = "UPLINK_MACS";
    /// Map of devices: the host sides whose container sides take frames from XDP, by their indexes.
    pub const RECEIVERS: &str = "RECEIVERS";
    /// Per-CPU array: reason to count.
    pub const REASONS: &str = "REASONS";
    /// Global: one less than the size of [`Maps::age_ring`], in both families.
    pub const AGE_RING_MASK: &str = "AGE_RING_MASK";
    /// Global: the cookie of the host's namespace.
    pub const HOST_COOKIE: &str = "HOST_COOKIE";
}

/// The index of a port in [`name::Maps::ports`]; none for a protocol that is not published.
#[inline(always)]
pub const fn port_index(protocol: u8, port: Port) -> Option<u32> {
    let block = match protocol {
        crate::tuple::protocol::TCP => 0,
        crate::tuple::protocol::UDP => 1 << 16,
        crate::tuple::protocol::SCTP => 2 << 16,
        _ => return None,
    };
    Some(block | port.get() as u32)
}

/// What a packet of a flow leaves with, and through.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Translation<A> {
    /// Its tuple when it leaves; `side` is where the answer arrives, so `tuple.reversed()` is the
    /// other half's key.
    pub tuple: Tuple<A>,
    /// The interface it leaves through: a host side, whose container side it enters, or an uplink.
    pub output: u32,
    /// Destination and source MAC. For an uplink those of the next hop, as they are in this tick;
    /// zero if they are not known.
    pub macs: Macs,
    /// What the change of addresses adds to a sum over them.
    pub address_delta: u16,
    /// What the change of ports adds to a sum over them.
    pub port_delta: u16,
    /// One of [`deliver`].
    pub deliver: u8,
    /// Not zero if it keeps a mapping of the container's alive ([`crate::endpoint_independent`]).
    pub refreshes_mapping: u8,
    /// The longest packet that may leave, in bytes from the IP header on; zero if any may.
    pub mtu: u16,
}

/// How a packet leaves.
pub mod deliver {
    /// `bpf_redirect_peer`, TTL decremented: into a container, from elsewhere.
    pub const CONTAINER: u8 = 1;
    /// TTL decremented, out of an uplink: `bpf_redirect` where the next hop's MAC is known,
    /// otherwise `bpf_redirect_neigh`.
    pub const UPLINK: u8 = 2;
    /// `bpf_redirect_peer`, only the MACs written: between containers of one network.
    pub const SAME_BRIDGE: u8 = 3;
    /// It goes on where it is, only the ports written: to the host, or from it out of an uplink.
    pub const STACK: u8 = 4;
    /// As [`CONTAINER`], and from an IPv6 packet it becomes an IPv4 one ([`crate::nat64`]).
    pub const CONTAINER_NAT64: u8 = 5;
}

/// The MACs of an Ethernet header, as its first twelve bytes stand in words: written to a frame by
/// three stores.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct Macs([u32; 3]);

impl Macs {
    /// From the bytes.
    pub const fn new(d: [u8; 6], s: [u8; 6]) -> Self {
        Self([
            u32::from_ne_bytes([d[0], d[1], d[2], d[3]]),
            u32::from_ne_bytes([d[4], d[5], s[0], s[1]]),
            u32::from_ne_bytes([s[2], s[3], s[4], s[5]]),
        ])
    }

    /// As words.
    #[inline(always)]
    pub const fn words(&self) -> [u32; 3] {
        self.0
    }

    /// Looked for in vain: nobody's either.
    pub const FAILED: Self = Self([0, 0, 1]);

    /// Whether they are anybody's. While one CPU writes them another may see some of the words:
    /// then they are nobody's yet. So are those that have a word of zeroes, which goes the longer
    /// way and is right.
    #[inline(always)]
    pub const fn is_resolved(&self) -> bool {
        self.0[0] != 0 && self.0[1] != 0 && self.0[2] != 0
    }

    /// Whether nobody has looked for them.
    #[inline(always)]
    pub const fn is_unresolved(&self) -> bool {
        self.0[0] | self.0[1] | self.0[2] == 0
    }

    /// The destination's bytes.
    #[inline(always)]
    pub const fn destination(&self) -> [u8; 6] {
        let (first, last) = (self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes());
        [first[0], first[1], first[2], first[3], last[0], last[1]]
    }
}

/// One direction of a flow: the value of the flow table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlowEntry<A> {
    /// Packets in this direction. Written without a lock: two CPUs at once may lose a count.
    pub packets: u64,
    /// Bytes in this direction, from the IP header on.
    pub bytes: u64,
    /// What becomes of its packets.
    pub translation: Translation<A>,
    /// The interface its packets must arrive at; zero for any.
    pub input: u32,
    /// Whose flow it is.
    pub slot: u32,
    /// The slot's epoch when it began.
    pub epoch: u32,
    /// When this direction was last used.
    pub last_used: Ticks,
    /// How long after that it ends.
    pub timeout: Ticks,
    /// A [`crate::flow::State`], the same in both halves.
    pub state: u8,
    /// 0 for the forward half, 1 for the reply half.
    pub is_reply: u8,
    /// The number of the network whose timeouts it goes by.
    pub network: u16,
    /// The slot of the endpoint that it counts for; zero for none.
    pub owner: u32,
    /// TCP: what this side expects next, as it said last. SCTP: the tag that it asked for.
    pub acknowledged: u32,
}

/// How the flows of a network are kept and translated.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
pub struct Network {
    /// By [`Timer`].
    pub timeouts: [Ticks; TIMERS],
    /// The first port that masquerade picks, where the flow's own is taken.
    pub first_port: u32,
    /// How many ports there are from that one on; never zero.
    pub ports: u32,
    /// How many flows each of its endpoints may have.
    pub max_flows: u32,
    /// The bridge's index.
    pub bridge: u32,
    /// Bits of [`mapping`].
    pub nat_behaviour: u32,
}

/// How a network's masquerade maps.
pub mod nat_behaviour {
    /// Endpoint-independent mapping and filtering (RFC 4787 sections 4.1 and 5). In network 0: some
    /// network has it.
    pub const ENDPOINT_INDEPENDENT: u32 = 1;
}

impl Network {
    /// Where nothing else is said. The ports are below those that Linux picks for its own sockets
    /// by default.
    pub const DEFAULT: Self = {
        let mut timeouts = [0; TIMERS];
        let mut i = 0;
        while i < Timer::SETTABLE.len() {
            timeouts[Timer::SETTABLE[i] as usize] = ticks(Timer::SETTABLE[i].default_seconds());
            i += 1;
        }
        timeouts[Timer::Closed as usize] = ticks(Timer::Closed.default_seconds());
        Self {
            timeouts,
            first_port: 1024,
            ports: 32768 - 1024,
            max_flows: u32::MAX,
            bridge: 0,
            nat_behaviour: 0,
        }
    };

    /// The last port that masquerade picks.
    pub const fn last_port(&self) -> u32 {
        self.first_port + self.ports - 1
    }

    /// How long a flow lasts in that state.
    #[inline(always)]
    pub const fn timeout(&self, state: State, protocol: u8) -> Ticks {
        self.timeouts[state.timer(protocol) as usize % TIMERS]
    }
}

/// What the datapath knows of an endpoint.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Endpoint<A> {
    /// The network's subnet.
    pub subnet: A,
    /// Its mask.
    pub mask: A,
    /// The gateway's address on the network.
    pub gateway: A,
    /// The host side's index.
    pub host_side: u32,
    /// The bridge's index, which also tells networks apart.
    pub bridge: u32,
    /// Its slot.
    pub slot: u32,
    /// Bits of [`network`].
    pub network: u32,
    /// The network's number in [`name::NETWORKS`].
    pub network_number: u32,
    /// The network's MTU in bytes, from the IP header on; at most 65,535.
    pub mtu: u32,
    /// The container side's and the bridge's: what a packet for the container carries.
    pub macs: Macs,
}

/// What a network is like.
pub mod network {
    /// Source addresses are translated.
    pub const MASQUERADE: u32 = 1;
    /// Nothing goes outside.
    pub const INTERNAL: u32 = 2;
    /// Containers do not reach each other.
    pub const NO_ICC: u32 = 4;
}

/// What the datapath knows of a publish.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Publish<A> {
    /// The container's address.
    pub container: A,
    /// The first host port.
    pub host_port: Port,
    /// The container port it leads to; the next ones follow.
    pub container_port: Port,
    /// Bits of [`publish`].
    pub flags: u32,
}

/// What a publish is like.
pub mod publish {
    /// Its sources are listed in [`super::name::Maps::admitted`].
    pub const SOURCES_LISTED: u32 = 1;
}

impl<A: Address> Publish<A> {
    /// The container port that a host port of it leads to.
    #[inline(always)]
    pub fn container_port_of(&self, host_port: Port) -> Port {
        Port::new(
            self.container_port
                .get()
                .wrapping_add(host_port.get().wrapping_sub(self.host_port.get())),
        )
    }
}

/// A published port of one host address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct AddressPort<A> {
    /// The host address.
    pub address: A,
    /// The host port.
    pub port: Port,
    /// IANA protocol number.
    pub protocol: u8,
    /// Zero.
    pub _pad: u8,
}

/// The data of a trie key: sources that a publish admits. The prefix length counts the slot's 32
/// bits too.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Admitted<A> {
    /// The publish's slot, most significant byte first: the trie compares bits in that order.
    pub slot: [u8; 4],
    /// The source.
    pub source: A,
}

/// A socket of the host, and the container port its packets go to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SocketPeer<A> {
    /// The socket's cookie, as two words.
    pub cookie: [u32; 2],
    /// The container's address.
    pub address: A,
    /// The container port.
    pub port: Port,
    /// Zero.
    pub _pad: u16,
}

/// The address that a process of the host meant.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SocketAddress<A> {
    /// The host address.
    pub address: A,
    /// The host port.
    pub port: Port,
    /// Zero.
    pub _pad: u16,
}

/// How many datagrams in fragments there is room for.
pub const DATAGRAMS: u32 = 1 << 13;

/// How many fragments that are ahead of their first can be held, of all datagrams together.
pub const FRAGMENT_QUEUE: u32 = 1 << 9;

/// The longest frame that can be held, in bytes: a power of two.
pub const QUEUED_FRAME_BYTES: usize = 1 << 11;

/// A datagram in fragments, as it arrives at one interface (RFC 791 section 2.3, RFC 8200 section
/// 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Datagram<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Identification, as the packet's bytes stand in a word.
    pub id: u32,
    /// The interface's index.
    pub input: u32,
    /// IANA number of what the fragments carry.
    pub protocol: u8,
    /// One of [`crate::tuple::side`].
    pub side: u8,
    /// Zero.
    pub _pad: u16,
}

/// What later fragments of a datagram need to know of its first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
pub struct Fragments {
    /// One of [`crate::fragment::state`], and how many fragments were held. Written by several CPUs
    /// at once.
    pub state: u64,
    /// When the first of them came, or the last first one.
    pub since: Ticks,
    /// The identification that they leave with.
    pub id: u32,
    /// Source port.
    pub source_port: Port,
    /// Destination port.
    pub destination_port: Port,
    /// One of [`crate::tuple::echo`].
    pub echo: u8,
    /// Zero.
    pub _pad: [u8; 3],
}

/// A fragment that is held.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct QueuedKey<A> {
    /// Its datagram.
    pub datagram: Datagram<A>,
    /// Which of its held ones, in the order in which they came.
    pub number: u32,
}

/// A frame that is held, as it arrived.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct QueuedFrame {
    /// How many of the bytes are the frame's.
    pub length: u32,
    /// The frame.
    pub bytes: [u8; QUEUED_FRAME_BYTES],
}

impl<A> Translation<A> {
    /// The MACs, if they are a container's: those of a next hop are known for a tick only.
    #[inline(always)]
    pub fn macs_of_container(&self) -> Macs {
        if self.deliver == deliver::UPLINK { Macs::default() } else { self.macs }
    }
}

impl<A: Address> Translation<A> {
    /// Sets it from the tuple a packet arrives with to the one it leaves with.
    #[inline(always)]
    pub fn set(&mut self, from: &Tuple<A>, to: &Tuple<A>, egress: &Egress) {
        self.address_delta = checksum::delta(from.address_sum(), to.address_sum());
        self.port_delta = checksum::delta(from.port_sum(), to.port_sum());
        self.tuple = *to;
        self.output = egress.output;
        self.macs = egress.macs;
        self.deliver = egress.deliver;
        self.refreshes_mapping = egress.refreshes_mapping;
        self.mtu = egress.mtu;
    }
}

/// Where one direction of a flow leaves.
#[derive(Clone, Copy, Debug)]
pub struct Egress {
    /// The interface's index.
    pub output: u32,
    /// For a container.
    pub macs: Macs,
    /// One of [`deliver`].
    pub deliver: u8,
    /// Not zero if what leaves keeps a mapping alive.
    pub refreshes_mapping: u8,
    /// The longest packet that may leave; zero if any may.
    pub mtu: u16,
}

/// What the datapath knows of an uplink.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Uplink<A> {
    /// The address that masqueraded flows get.
    pub address: A,
    /// In bytes, from the IP header on; at most 65,535.
    pub mtu: u32,
}

/// How many uplinks there can be XDP programs on, and a little more than that: two whose places are
/// one must do with one.
pub const UPLINK_MACS: u32 = 256;

/// An uplink's own MAC: frames with another one are not for the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct UplinkMac {
    /// The interface; zero for none.
    pub index: u32,
    /// Its MAC.
    pub mac: [u8; 6],
    /// Zero.
    pub _pad: u16,
}

impl Egress {
    /// Into a container.
    #[inline(always)]
    pub fn container<A>(endpoint: &Endpoint<A>) -> Self {
        Self {
            output: endpoint.host_side,
            macs: endpoint.macs,
            deliver: deliver::CONTAINER,
            refreshes_mapping: 0,
            mtu: endpoint.mtu as u16,
        }
    }

    /// Into a container that has IPv4 alone, from IPv6.
    #[inline(always)]
    pub fn container_nat64<A>(endpoint: &Endpoint<A>) -> Self {
        // As long as it is before it becomes shorter. What is no longer than that no IPv6 link may
        // refuse (RFC 8200 section 5), nor does any container.
        let mtu = endpoint
            .mtu
            .wrapping_add(nat64::HEADER_GROWTH)
            .clamp(ipv6::LEAST_MTU, u32::from(u16::MAX));
        Self { deliver: deliver::CONTAINER_NAT64, mtu: mtu as u16, ..Self::container(endpoint) }
    }

    /// Out of an uplink.
    #[inline(always)]
    pub fn uplink<A>(index: u32, uplink: &Uplink<A>) -> Self {
        Self {
            output: index,
            macs: Macs::new([0; 6], [0; 6]),
            deliver: deliver::UPLINK,
            refreshes_mapping: 0,
            mtu: uplink.mtu as u16,
        }
    }
}
