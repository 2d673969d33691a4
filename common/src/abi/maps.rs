//! Every map of the object, once: its kind, its types and how many entries it has.
//!
//! The kernel side makes its statics of this table (`ebpf/src/maps.rs`); the loader takes names,
//! pins and sizes from it. A map that each family has of its own is one row. To add a map, add its
//! row, and the layout of its value in this folder if that is new.

use crate::wire::address;

/// `BPF_F_NO_PREALLOC` (linux/bpf.h): entries are allocated when they are inserted.
pub const NO_PREALLOC: u32 = 1;

/// Entries are allocated when the map is made.
pub const PREALLOC: u32 = 0;

/// Hands the table to the macro `$expand`. The caller has in scope that macro and what it uses of a
/// row: types, `abi`, flags.
///
/// A row is `field: NAME4, NAME6 = Kind<Types>[entries, flags];` for a map of each family, in whose
/// types `A` is the family's address, and `NAME = Kind<Types>[entries, flags];` for a map of both.
/// The kinds are those of aya. The maps of `per_family` and `shared` are pinned; those of
/// `scratch_per_family` and `scratch` hold nothing once a program has ended.
#[macro_export]
macro_rules! for_each_map {
    ($expand:ident) => {
        $expand! {
            per_family {
                /// Tuple to flow entry: two entries for each flow. The loader sets the size.
                /// Allocated when it is made, so that a new flow neither waits for an allocator nor
                /// fails for want of memory.
                flows: FLOWS4, FLOWS6 = HashMap<Tuple<A>, FlowEntry<A>>[2 << 18, PREALLOC];
                /// The forward tuples of the flows, in the order in which they started, as a ring.
                /// The loader sets the size, a power of two.
                age_ring: AGE_RING4, AGE_RING6 = Array<Tuple<A>>[1 << 18, PREALLOC];
                /// How many tuples were written to the ring, and how many were read.
                age_ring_ends: AGE_RING_ENDS4, AGE_RING_ENDS6 = Array<u64>[2, PREALLOC];
                /// The latest expiry of any tracked flow of the host that is TCP or has another
                /// port outside.
                host_flows_expire_at: HOST_EXPIRY4, HOST_EXPIRY6 = Array<Ticks>[1, PREALLOC];
                /// Address of a container to its endpoint.
                endpoints: ENDPOINTS4, ENDPOINTS6 =
                    HashMap<A, Endpoint<A>>[abi::ENDPOINTS, NO_PREALLOC];
                /// Slot to publish.
                publishes: PUBLISHES4, PUBLISHES6 = Array<Publish<A>>[abi::SLOTS, PREALLOC];
                /// Index of a published port ([`port_index`](super::port_index)) to slot, or
                /// [`BY_ADDRESS`](super::BY_ADDRESS).
                ports: PORTS4, PORTS6 = Array<u32>[abi::PORTS, PREALLOC];
                /// Host address, port and protocol to slot, for publishes with a host address.
                address_ports: ADDRESS_PORTS4, ADDRESS_PORTS6 =
                    HashMap<AddressPort<A>, u32>[1 << 17, NO_PREALLOC];
                /// Slot and prefix of a source that a publish admits. Set; the value is unused.
                admitted: ADMITTED4, ADMITTED6 = LpmTrie<Admitted<A>, u32>[1 << 16, NO_PREALLOC];
                /// Addresses of the host, without the loopback's. Set; the value is unused.
                local: LOCAL4, LOCAL6 = HashMap<A, u32>[1 << 12, NO_PREALLOC];
                /// Interface index to uplink.
                uplinks: UPLINKS4, UPLINKS6 = HashMap<u32, Uplink<A>>[64, NO_PREALLOC];
                /// Socket of the host and container port to the address that its process used.
                sockets: SOCKETS4, SOCKETS6 =
                    LruHashMap<SocketPeer<A>, SocketAddress<A>>[1 << 14, PREALLOC];
                /// Datagram in fragments to what its later fragments need to know of the first.
                fragments: FRAGMENTS4, FRAGMENTS6 =
                    LruHashMap<Datagram<A>, Fragments>[abi::DATAGRAMS, PREALLOC];
                /// Queued fragments, each a copy of its frame.
                fragment_queue: FRAG_QUEUE4, FRAG_QUEUE6 =
                    LruHashMap<QueuedKey<A>, QueuedFrame>[abi::FRAGMENT_QUEUE, PREALLOC];
            }
            shared {
                /// Slot to epoch.
                EPOCHS = Array<u32>[abi::SLOTS, PREALLOC];
                /// Number of a network to the network.
                NETWORKS = Array<Network>[abi::NETWORKS, PREALLOC];
                /// Owner and family to the number of flows ([`Owner::count_index`](super::Owner)).
                COUNTS = Array<u64>[abi::COUNTS, PREALLOC];
                /// Index of an uplink modulo [`UPLINK_MACS`](super::UPLINK_MACS) to its MAC.
                UPLINK_MACS = Array<UplinkMac>[abi::UPLINK_MACS, PREALLOC];
                /// Index of a host side to the device itself: those whose container sides take
                /// frames from XDP.
                RECEIVERS = DevMapHash<>[abi::ENDPOINTS, PREALLOC];
                /// Number of a drop reason to the number of packets, per CPU.
                REASONS = PerCpuArray<u64>[abi::drop_reason::CAPACITY, PREALLOC];
            }
            scratch_per_family {
                /// One packet's scratch. No other program runs on the CPU meanwhile.
                scratch: SCRATCH4, SCRATCH6 = PerCpuArray<Scratch<A>>[1, PREALLOC];
                /// One fragment's context.
                fragment_context: FRAGMENT_CTX4, FRAGMENT_CTX6 =
                    PerCpuArray<FragmentContext<A>>[1, PREALLOC];
            }
            scratch {
                /// By side: the tick, and how many ICMP errors this CPU has sent in it.
                ICMP_BUDGET = PerCpuArray<[u32; 2]>[4, PREALLOC];
                /// A frame on its way to the fragment queue.
                FRAME = PerCpuArray<QueuedFrame>[1, PREALLOC];
            }
        }
    };
}

macro_rules! names {
    (
        per_family {$(
            $(#[$meta:meta])*
            $field:ident: $v4:ident, $v6:ident = $kind:ident<$($type:ty),*>[$($size:expr),+];
        )+}
        shared {$(
            $(#[$shared_meta:meta])*
            $shared:ident = $shared_kind:ident<$($shared_type:ty),*>[$($shared_size:expr),+];
        )+}
        scratch_per_family {$($scratch_per_family:tt)*}
        scratch {$($scratch:tt)*}
    ) => {
        /// The names of the maps that each family has of its own.
        #[derive(Clone, Copy, Debug)]
        pub struct Maps {
            $($(#[$meta])* pub $field: &'static str,)+
        }

        /// IPv4's.
        pub const V4: Maps = Maps { $($field: stringify!($v4),)+ };

        /// IPv6's.
        pub const V6: Maps = Maps { $($field: stringify!($v6),)+ };

        $($(#[$shared_meta])* pub const $shared: &str = stringify!($shared);)+

        /// The names of all maps that are pinned.
        pub const PINNED: &[&str] =
            &[$(stringify!($v4), stringify!($v6),)+ $(stringify!($shared),)+];
    };
}

for_each_map!(names);

/// Entries of [`Maps::flows`] for a number of flows; none if that is too many.
pub const fn flow_entries(flows: u32) -> Option<u32> {
    flows.checked_mul(2)
}

/// Entries of [`Maps::age_ring`] for a number of flows; none if that is too many.
pub const fn age_ring_entries(flows: u32) -> Option<u32> {
    flows.checked_next_power_of_two()
}

/// Global: one less than the entries of [`Maps::age_ring`], in both families.
pub const AGE_RING_MASK: &str = "AGE_RING_MASK";

/// Global: the cookie of the host's namespace.
pub const HOST_COOKIE: &str = "HOST_COOKIE";

/// A family that has maps of its own.
pub trait FamilyMaps: address::Address {
    /// The names of its maps.
    const MAPS: Maps;
}

impl FamilyMaps for address::V4 {
    const MAPS: Maps = V4;
}

impl FamilyMaps for address::V6 {
    const MAPS: Maps = V6;
}

#[cfg(test)]
mod tests {
    use super::PINNED;

    /// `BPF_OBJ_NAME_LEN` (linux/bpf.h), less the terminating zero: the kernel cuts longer names.
    const MAX_NAME: usize = 15;

    #[test]
    fn names_are_unique_and_fit() {
        assert!(PINNED.iter().all(|name| name.len() <= MAX_NAME));
        assert!((1..PINNED.len()).all(|i| !PINNED[i..].contains(&PINNED[i - 1])));
    }
}
