//! Every map, and which ones belong to which family.

use aya_ebpf::{
    Global,
    bindings::{
        BPF_F_NO_PREALLOC, bpf_fib_lookup, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1 as SockTuple,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as SockTuple4,
    },
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray},
};
use causeway_common::{
    abi::{
        self, AddressPort, Admitted, Datagram, Endpoint, Flow, Fragments, HeldFrame, HeldKey, Network, Publish,
        SocketAddress, SocketPeer, Uplink,
    },
    address::V4,
    answer,
    flow::Ticks,
    fragment::Passage,
    packet,
    plan::First,
    reason::{self, Reason},
    tuple::Tuple,
};

use crate::atomic::Counter;

/// The cookie of the host's namespace: sockets elsewhere are none of ours.
#[unsafe(no_mangle)]
static HOST_COOKIE: Global<u64> = Global::new(0);

/// One less than the size of the rings of flows that began.
#[unsafe(no_mangle)]
static BEGUN_MASK: Global<u32> = Global::new(0);

/// The cookie of the host's namespace.
#[inline(always)]
pub(crate) fn host_cookie() -> u64 {
    HOST_COOKIE.load()
}

// Two entries for each flow; the loader sets the size. Allocated at load: a new flow waits for no allocator and cannot fail for
// want of memory.
#[map]
static FLOWS4: HashMap<Tuple<V4>, Flow<V4>> = HashMap::with_max_entries(2 << 18, 0);
// A note for each flow; the loader sets the size, a power of two.
#[map]
static BEGUN4: Array<Tuple<V4>> = Array::with_max_entries(1 << 18, 0);
#[map]
static BEGUN_COUNTERS4: Array<u64> = Array::with_max_entries(2, 0);
#[map]
static HOST_UNTIL4: Array<Ticks> = Array::with_max_entries(1, 0);
#[map]
static ENDPOINTS4: HashMap<V4, Endpoint<V4>> = HashMap::with_max_entries(abi::ENDPOINTS, BPF_F_NO_PREALLOC);
#[map]
static PUBLISHES4: Array<Publish<V4>> = Array::with_max_entries(abi::SLOTS, 0);
#[map]
static PORTS4: Array<u32> = Array::with_max_entries(abi::PORTS, 0);
#[map]
static ADDRESS_PORTS4: HashMap<AddressPort<V4>, u32> = HashMap::with_max_entries(1 << 17, BPF_F_NO_PREALLOC);
#[map]
static ADMITTED4: LpmTrie<Admitted<V4>, u32> = LpmTrie::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);
#[map]
static LOCAL4: HashMap<V4, u32> = HashMap::with_max_entries(1 << 12, BPF_F_NO_PREALLOC);
#[map]
static UPLINKS4: HashMap<u32, Uplink<V4>> = HashMap::with_max_entries(64, BPF_F_NO_PREALLOC);
#[map]
static SOCKETS4: LruHashMap<SocketPeer<V4>, SocketAddress<V4>> = LruHashMap::with_max_entries(1 << 14, 0);
#[map]
static FRAGMENTS4: LruHashMap<Datagram<V4>, Fragments> = LruHashMap::with_max_entries(abi::DATAGRAMS, 0);
#[map]
static HELD4: LruHashMap<HeldKey<V4>, HeldFrame> = LruHashMap::with_max_entries(abi::HELD, 0);
#[map]
static EPOCHS: Array<u32> = Array::with_max_entries(abi::SLOTS, 0);
#[map]
static NETWORKS: Array<Network> = Array::with_max_entries(abi::NETWORKS, 0);
#[map]
static COUNTS: Array<u64> = Array::with_max_entries(3 * abi::SLOTS, 0);
// One for each CPU: no other program runs on the CPU meanwhile.
#[map]
static FIRST4: PerCpuArray<First<V4>> = PerCpuArray::with_max_entries(1, 0);
// By side: the tick, and how many errors were sent in it.
#[map]
static ANSWERS: PerCpuArray<[u32; 2]> = PerCpuArray::with_max_entries(4, 0);
#[map]
static PASSAGE4: PerCpuArray<Passage<V4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static FRAME: PerCpuArray<HeldFrame> = PerCpuArray::with_max_entries(1, 0);
#[map]
static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(reason::CAPACITY, 0);

/// Counts a packet that left the fast path.
#[inline(always)]
pub(crate) fn count(reason: Reason) {
    if let Some(count) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: the entry is this CPU's own, and the program cannot be migrated while it runs.
        unsafe { *count += 1 }
    }
}

/// Until when flows of the host's own may live that are TCP, or have moved.
#[inline(always)]
pub(crate) fn host_until<A: Family>() -> Option<&'static mut Ticks> {
    // SAFETY: an integer that lies in the map for good; another CPU's word is as good as this one's.
    A::maps().host_until.get_ptr_mut(0).map(|until| unsafe { &mut *until })
}

/// Whether this CPU may send another error to that side in the tick `now`.
#[inline(always)]
pub(crate) fn may_answer(side: u8, now: Ticks) -> bool {
    let Some(sent) = ANSWERS.get_ptr_mut(side.into()) else { return false };
    // SAFETY: as for `count`.
    let [tick, count] = unsafe { &mut *sent };
    if *tick != now {
        (*tick, *count) = (now, 0);
    }
    *count += 1;
    *count <= answer::RATE
}

/// This CPU's place for a frame that is to be held.
#[inline(always)]
pub(crate) fn frame() -> Option<&'static mut HeldFrame> {
    // SAFETY: the entry is this CPU's own, nothing else uses it while the program runs, and all of it is valid as zeroes.
    FRAME.get_ptr_mut(0).map(|frame| unsafe { &mut *frame })
}

/// The slot's epoch.
#[inline(always)]
pub(crate) fn epoch(slot: u32) -> u32 {
    EPOCHS.get(slot).copied().unwrap_or(0)
}

/// The network with that number.
#[inline(always)]
pub(crate) fn network(number: u32) -> Option<&'static Network> {
    NETWORKS.get(number)
}

/// How many flows the endpoint of a slot has.
#[inline(always)]
pub(crate) fn flow_count(slot: u32) -> Option<Counter> {
    // SAFETY: the entry is aligned, lies in the map for good, and nothing else writes it.
    COUNTS.get_ptr_mut(slot).map(|count| unsafe { Counter::new(count) })
}

/// The number that one of the counters of the ring of flows that began stands for.
const NEXT: u32 = 0;
const OLDEST: u32 = 1;

#[inline(always)]
fn ring_counter<A: Family>(which: u32) -> Option<Counter> {
    // SAFETY: as for `flow_count`.
    A::maps().begun_counters.get_ptr_mut(which).map(|count| unsafe { Counter::new(count) })
}

/// Notes that a flow with that key began. An older note may be overwritten: the agent finds that flow when it sweeps.
#[inline(always)]
pub(crate) fn note_begun<A: Family>(key: &Tuple<A>) {
    let Some(next) = ring_counter::<A>(NEXT) else { return };
    if let Some(note) = A::maps().begun.get_ptr_mut(next.add(1) as u32 & BEGUN_MASK.load()) {
        // SAFETY: a tuple is valid whatever it holds: one that two CPUs wrote at once is nobody's key.
        unsafe { *note = *key }
    }
}

/// Takes the oldest note.
#[inline(always)]
pub(crate) fn oldest_begun<A: Family>() -> Option<Tuple<A>> {
    let next = ring_counter::<A>(NEXT)?.get();
    let oldest = ring_counter::<A>(OLDEST)?;
    let behind = next.wrapping_sub(oldest.get()).cast_signed();
    let mask = BEGUN_MASK.load();
    if behind <= 0 {
        // Less than zero after two CPUs took the last one.
        oldest.set(next);
        return None;
    }
    if behind > i64::from(mask) + 1 {
        // What was overwritten. Another CPU that does the same at the same time writes nearly the same.
        oldest.set(next.wrapping_sub(u64::from(mask) + 1));
    }
    let at = oldest.add(1) as u32;
    A::maps().begun.get(at & mask).copied()
}

/// A family's maps.
pub(crate) struct Maps<A: 'static> {
    pub(crate) flows: &'static HashMap<Tuple<A>, Flow<A>>,
    pub(crate) begun: &'static Array<Tuple<A>>,
    pub(crate) begun_counters: &'static Array<u64>,
    pub(crate) host_until: &'static Array<Ticks>,
    pub(crate) endpoints: &'static HashMap<A, Endpoint<A>>,
    pub(crate) publishes: &'static Array<Publish<A>>,
    pub(crate) ports: &'static Array<u32>,
    pub(crate) address_ports: &'static HashMap<AddressPort<A>, u32>,
    pub(crate) admitted: &'static LpmTrie<Admitted<A>, u32>,
    pub(crate) local: &'static HashMap<A, u32>,
    pub(crate) uplinks: &'static HashMap<u32, Uplink<A>>,
    pub(crate) sockets: &'static LruHashMap<SocketPeer<A>, SocketAddress<A>>,
    pub(crate) fragments: &'static LruHashMap<Datagram<A>, Fragments>,
    pub(crate) held: &'static LruHashMap<HeldKey<A>, HeldFrame>,
}

/// A family that the datapath handles: its maps, and the kernel's own structures for it.
pub(crate) trait Family: packet::Family + 'static {
    /// Its maps.
    fn maps() -> Maps<Self>;
    /// This CPU's place for the first packet of a flow.
    fn first() -> Option<&'static mut First<Self>>;
    /// This CPU's place for a fragment on its way.
    fn passage() -> Option<&'static mut Passage<Self>>;
    /// The kernel's key for a socket lookup, and its size.
    fn sock_tuple(tuple: &Tuple<Self>) -> (bpf_sock_tuple, u32);
    /// Puts a packet's addresses into the parameters of a route lookup.
    fn set_route_addresses(tuple: &Tuple<Self>, params: &mut bpf_fib_lookup);
}

impl Family for V4 {
    #[inline(always)]
    fn maps() -> Maps<Self> {
        Maps {
            flows: &FLOWS4,
            begun: &BEGUN4,
            begun_counters: &BEGUN_COUNTERS4,
            host_until: &HOST_UNTIL4,
            endpoints: &ENDPOINTS4,
            publishes: &PUBLISHES4,
            ports: &PORTS4,
            address_ports: &ADDRESS_PORTS4,
            admitted: &ADMITTED4,
            local: &LOCAL4,
            uplinks: &UPLINKS4,
            sockets: &SOCKETS4,
            fragments: &FRAGMENTS4,
            held: &HELD4,
        }
    }

    #[inline(always)]
    fn first() -> Option<&'static mut First<Self>> {
        // SAFETY: the entry is this CPU's own, nothing else uses it while the program runs, and all of it is valid as zeroes.
        FIRST4.get_ptr_mut(0).map(|first| unsafe { &mut *first })
    }

    #[inline(always)]
    fn passage() -> Option<&'static mut Passage<Self>> {
        // SAFETY: as for `first`.
        PASSAGE4.get_ptr_mut(0).map(|passage| unsafe { &mut *passage })
    }

    #[inline(always)]
    fn sock_tuple(tuple: &Tuple<Self>) -> (bpf_sock_tuple, u32) {
        let ipv4 = SockTuple4 {
            saddr: tuple.source.word(),
            daddr: tuple.destination.word(),
            sport: tuple.source_port.word(),
            dport: tuple.destination_port.word(),
        };
        (bpf_sock_tuple { __bindgen_anon_1: SockTuple { ipv4 } }, size_of::<SockTuple4>() as u32)
    }

    #[inline(always)]
    fn set_route_addresses(tuple: &Tuple<Self>, params: &mut bpf_fib_lookup) {
        params.__bindgen_anon_3.ipv4_src = tuple.source.word();
        params.__bindgen_anon_4.ipv4_dst = tuple.destination.word();
    }
}
