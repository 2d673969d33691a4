//! [`causeway_common::env`] in the kernel: over maps, helpers and the current frame.

use core::{ffi::c_void, mem};

use crate::{atomic::Counter, ctx::skb::Skb, family::Family, maps};
use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_ANY, BPF_F_CURRENT_NETNS, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH,
        BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LOOKUP_OUTPUT, BPF_NOEXIST, bpf_fib_lookup,
        bpf_sock_tuple,
    },
    helpers::{
        bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_sk_lookup_udp, bpf_sk_release,
        bpf_skc_lookup_tcp, generated::bpf_fib_lookup as route_lookup,
    },
    maps::lpm_trie::Key,
    programs::TcContext,
};
use causeway_common::{
    abi::{
        self, AddressPort, Admitted, Datagram, Endpoint, FlowEntry, Fragments, Macs, Network,
        Publish, QUEUED_FRAME_BYTES, QueuedKey, Uplink,
        owner::Owner,
        time::{TICK_SHIFT, Ticks},
    },
    env::{Config, FlowStore, FragmentStore, InsertError, Kernel, Route},
    wire::{protocol, tuple::Tuple},
};

/// Environment of a tc program for one packet, or of an XDP program for one frame.
pub(crate) struct KernelEnv<'a, C = TcContext> {
    pub(crate) context: &'a C,
}

impl<'a, C: EbpfContext> KernelEnv<'a, C> {
    #[inline(always)]
    pub(crate) fn new(context: &'a C) -> Self {
        Self { context }
    }

    /// Looks up the route of a packet. `interface` is where the packet arrived or, with
    /// `BPF_FIB_LOOKUP_OUTPUT`, where it leaves.
    #[inline(always)]
    fn look_up_route<A: Family>(
        &self,
        packet: &Tuple<A>,
        interface: u32,
        flags: u32,
    ) -> (i64, bpf_fib_lookup) {
        // SAFETY: the struct has only integers, for which zero is valid.
        let mut params: bpf_fib_lookup = unsafe { mem::zeroed() };
        params.family = A::FAMILY;
        params.l4_protocol = packet.protocol;
        params.sport = packet.source_port.word();
        params.dport = packet.destination_port.word();
        params.ifindex = interface;
        A::set_route_addresses(packet, &mut params);
        // SAFETY: `params` is a local of this function, and its size is passed.
        let answer =
            unsafe { route_lookup(self.context.as_ptr(), &raw mut params, ROUTE_SIZE, flags) };
        (answer, params)
    }
}

const EEXIST: i32 = -17;

/// Size of the parameters of a route lookup, in bytes, as the helper takes it.
const ROUTE_SIZE: i32 = (mem::size_of::<bpf_fib_lookup>() as u32).cast_signed();

impl<A: Family, C: EbpfContext> FlowStore<A> for KernelEnv<'_, C> {
    type Entry<'t>
        = &'t mut FlowEntry<A>
    where
        Self: 't;

    #[inline(always)]
    fn flow(&self, key: &Tuple<A>) -> Option<&mut FlowEntry<A>> {
        // SAFETY: S2 (map value). The entry may be freed and reused for another flow meanwhile, or
        // written by another CPU. At worst a count is lost, or one packet is judged by an earlier
        // state.
        A::maps().flows.get_ptr_mut(key).map(|entry| unsafe { &mut *entry })
    }

    #[inline(always)]
    fn insert_flow(&self, key: &Tuple<A>, flow: &FlowEntry<A>) -> Result<(), InsertError> {
        A::maps().flows.insert(key, flow, u64::from(BPF_NOEXIST)).map_err(|error| match error {
            EEXIST => InsertError::Exists,
            _ => InsertError::Full,
        })
    }

    #[inline(always)]
    fn remove_flow(&self, key: &Tuple<A>) -> bool {
        A::maps().flows.remove(key).is_ok()
    }

    #[inline(always)]
    fn count_flow(&self, owner: Owner, most: u32) -> bool {
        let Some(count) = maps::flow_count(owner.count_index(A::COUNT_OFFSET)) else {
            return false;
        };
        // Counted before the comparison: two CPUs that only compared could both find room. The
        // count is below zero after a flow that outlived its owner was removed.
        if count.add(1).cast_signed() < i64::from(most) {
            return true;
        }
        count.add(-1);
        false
    }

    #[inline(always)]
    fn uncount_flow(&self, owner: Owner) {
        if let Some(count) = maps::flow_count(owner.count_index(A::COUNT_OFFSET)) {
            count.add(-1);
        }
    }

    #[inline(always)]
    fn push_newest(&self, key: &Tuple<A>) {
        maps::push_newest(key);
    }

    #[inline(always)]
    fn pop_oldest(&self) -> Option<Tuple<A>> {
        maps::pop_oldest()
    }

    #[inline(always)]
    fn host_flows_expire_at(&self) -> Ticks {
        maps::host_flows_expire_at::<A>().map_or(0, |until| *until)
    }

    #[inline(always)]
    fn set_host_flows_expire_at(&self, until: Ticks) {
        if let Some(known) = maps::host_flows_expire_at::<A>() {
            *known = until;
        }
    }

    #[inline(always)]
    fn is_taken_in_other_family(&self, key: &Tuple<A>) -> bool {
        A::is_taken_in_other_family(key)
    }
}

impl<A: Family, C: EbpfContext> Config<A> for KernelEnv<'_, C> {
    #[inline(always)]
    fn network(&self, number: u32) -> Option<&Network> {
        maps::network(number)
    }

    #[inline(always)]
    fn epoch(&self, slot: u32) -> u32 {
        maps::epoch(slot)
    }

    #[inline(always)]
    fn endpoint(&self, address: &A) -> Option<&Endpoint<A>> {
        // SAFETY: S2 (map value). At worst one packet meets an endpoint that is being added or
        // removed.
        unsafe { A::maps().endpoints.get(address) }
    }

    #[inline(always)]
    fn published(&self, to: &Tuple<A>) -> Option<u32> {
        published(to.protocol, &to.destination, to.destination_port)
    }

    #[inline(always)]
    fn publish(&self, slot: u32) -> Option<&Publish<A>> {
        A::maps().publishes.get(slot)
    }

    #[inline(always)]
    fn admits(&self, slot: u32, source: &A) -> bool {
        let data = Admitted { slot: slot.to_be_bytes(), source: *source };
        A::maps().admitted.get(Key::new(mem::size_of::<Admitted<A>>() as u32 * 8, data)).is_some()
    }

    #[inline(always)]
    fn is_local(&self, address: &A) -> bool {
        is_local(address)
    }

    #[inline(always)]
    fn uplink(&self, index: u32) -> Option<&Uplink<A>> {
        // SAFETY: S2 (map value). At worst one packet meets an uplink that is being added or
        // removed.
        unsafe { A::maps().uplinks.get(index) }
    }
}

impl<A: Family, C: EbpfContext> Kernel<A> for KernelEnv<'_, C> {
    #[inline(always)]
    fn now(&self) -> Ticks {
        // SAFETY: the helper takes no pointer.
        (unsafe { bpf_ktime_get_coarse_ns() } >> TICK_SHIFT) as Ticks
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper takes no pointer.
        unsafe { bpf_get_prandom_u32() as u32 }
    }

    #[inline(always)]
    fn route(&self, packet: &Tuple<A>, input: u32) -> Route {
        let (answer, params) = self.look_up_route(packet, input, 0);
        // A route without a neighbour entry counts: the redirect resolves the neighbour. So does
        // one that is too narrow for the packet: the length is checked elsewhere.
        let stands =
            [BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_FRAG_NEEDED];
        if stands.into_iter().any(|answers| answer == i64::from(answers)) {
            Route::Through(params.ifindex)
        } else {
            Route::None
        }
    }

    #[inline(always)]
    fn next_hop(&self, leaving: &Tuple<A>, bridge: u32, output: u32) -> Option<Macs> {
        let (answer, params) = if A::ROUTES_FROM_OUTPUT {
            self.look_up_route(leaving, output, BPF_FIB_LOOKUP_OUTPUT)
        } else {
            self.look_up_route(leaving, bridge, 0)
        };
        let known = answer == i64::from(BPF_FIB_LKUP_RET_SUCCESS) && params.ifindex == output;
        known.then(|| Macs::new(params.dmac, params.smac))
    }

    #[inline(always)]
    fn host_socket(&self, arriving: &Tuple<A>) -> bool {
        // SAFETY: the struct has only integers, for which zero is valid.
        let mut tuple: bpf_sock_tuple = unsafe { mem::zeroed() };
        let size = A::set_sock_tuple(arriving, &mut tuple);
        let context: *mut c_void = self.context.as_ptr();
        let netns = i64::from(BPF_F_CURRENT_NETNS).cast_unsigned();
        // SAFETY: `tuple` is a local of this function, and `size` is the part of it that is set. A
        // socket that is found is released below.
        let socket = unsafe {
            match arriving.protocol {
                protocol::TCP => bpf_skc_lookup_tcp(context, &raw mut tuple, size, netns, 0),
                protocol::UDP => bpf_sk_lookup_udp(context, &raw mut tuple, size, netns, 0),
                _ => return false,
            }
        };
        if socket.is_null() {
            return false;
        }
        // SAFETY: the socket was found above, and is released once.
        unsafe { bpf_sk_release(socket.cast()) };
        true
    }
}

impl<A: Family> FragmentStore<A> for KernelEnv<'_> {
    type Record<'t>
        = &'t mut Fragments
    where
        Self: 't;

    #[inline(always)]
    fn datagram(&self, datagram: &Datagram<A>) -> Option<&mut Fragments> {
        // SAFETY: S2 (map value). The record may be freed and reused for another datagram
        // meanwhile; the worst result is one fragment that finds no flow.
        A::maps().fragments.get_ptr_mut(datagram).map(|record| unsafe { &mut *record })
    }

    #[inline(always)]
    fn insert_datagram(&self, datagram: &Datagram<A>, record: &Fragments) -> bool {
        A::maps().fragments.insert(datagram, record, u64::from(BPF_NOEXIST)).is_ok()
    }

    #[inline(always)]
    fn remove_datagram(&self, datagram: &Datagram<A>) {
        // A record that is gone already needs no removal.
        let _ = A::maps().fragments.remove(datagram);
    }

    #[inline(always)]
    fn add_to_state(&self, record: &mut Fragments, number: u64) -> u64 {
        state(record).add(number.cast_signed())
    }

    #[inline(always)]
    fn swap_state(&self, record: &mut Fragments, value: u64) -> u64 {
        state(record).swap(value)
    }

    #[inline(always)]
    fn can_queue(&self) -> bool {
        self.context.len() as usize <= QUEUED_FRAME_BYTES
    }

    #[inline(always)]
    fn queue(&self, key: &QueuedKey<A>) -> bool {
        let Some(frame) = maps::frame() else { return false };
        if !Skb::new(self.context).copy_to(frame) {
            return false;
        }
        // By reference: by value the frame would be copied to the stack.
        let frame: &_ = frame;
        A::maps().fragment_queue.insert(key, frame, REPLACE).is_ok()
    }

    #[inline(always)]
    fn drop_queued(&self, key: &QueuedKey<A>) -> bool {
        A::maps().fragment_queue.remove(key).is_ok()
    }

    #[inline(always)]
    fn reinject(&self) {
        Skb::new(self.context).reinject();
    }

    #[inline(always)]
    fn reinject_queued(&self, key: &QueuedKey<A>) {
        // SAFETY: S2 (map value). A frame that is reused for another fragment meanwhile must not be
        // sent: it is sent only if the removal below succeeds, which shows that it was not.
        let Some(frame) = (unsafe { A::maps().fragment_queue.get(key) }) else { return };
        if Skb::new(self.context).become_frame(frame) && FragmentStore::<A>::drop_queued(self, key)
        {
            Skb::new(self.context).reinject();
        }
    }
}

#[inline(always)]
fn state(record: &mut Fragments) -> Counter {
    // SAFETY: the record is aligned, lies in a map value until the program ends, and its state is
    // written through a `Counter` only once it is in the map.
    unsafe { Counter::new(&raw mut record.state) }
}

/// Slot of the publish at that address and port.
#[inline(always)]
pub(crate) fn published<A: Family>(
    protocol: u8,
    address: &A,
    port: causeway_common::wire::address::Port,
) -> Option<u32> {
    let slot = *A::maps().ports.get(abi::port_index(protocol, port)?)?;
    match slot {
        0 => None,
        abi::BY_ADDRESS => {
            let key = AddressPort { address: *address, port, protocol, _pad: 0 };
            // SAFETY: S2 (map value); it is copied at once.
            unsafe { A::maps().address_ports.get(key).copied() }
        }
        slot => Some(slot),
    }
}

/// Whether a publish conflicts with a socket of the host that is bound to that address and port, as
/// a second socket would.
#[inline(always)]
pub(crate) fn publish_conflicts<A: Family>(
    protocol: u8,
    address: &A,
    port: causeway_common::wire::address::Port,
) -> bool {
    let entry =
        abi::port_index(protocol, port).and_then(|index| A::maps().ports.get(index).copied());
    match entry {
        None | Some(0) => false,
        Some(abi::BY_ADDRESS) => {
            let key = AddressPort { address: *address, port, protocol, _pad: 0 };
            *address == A::UNSPECIFIED || A::maps().address_ports.get_ptr(key).is_some()
        }
        // Publishes do not receive multicast.
        Some(_) => !address.is_multicast(),
    }
}

/// Whether the address is one of the host's, loopback excepted.
#[inline(always)]
pub(crate) fn is_local<A: Family>(address: &A) -> bool {
    A::maps().local.get_ptr(address).is_some()
}

/// Flags of an insert that replaces an existing key.
pub(crate) const REPLACE: u64 = BPF_ANY as u64;
