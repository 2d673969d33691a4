//! What the kernel's own structures need to know of an address family.

use aya_ebpf::bindings::{
    bpf_fib_lookup, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as SockTuple4,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as SockTuple6,
};
use causeway_common::{
    abi,
    nat::nat64,
    pipeline,
    wire::{
        address::{V4, V6},
        tuple::{Side, Tuple},
    },
};

use crate::maps::HasMaps;

/// An address family of the datapath: its maps, and its form in the kernel's structs.
pub(crate) trait Family: pipeline::Family + HasMaps {
    /// Number of the protocol version, by which the agent selects the family in `flow_gc`.
    const NUMBER: u8;
    /// The family's part of an index of the map `COUNTS`.
    const COUNT_OFFSET: u32;
    /// Whether the kernel looks up a route with `BPF_FIB_LOOKUP_OUTPUT` for an uplink that does not
    /// forward. Otherwise the lookup is as for a packet that arrived at the network's bridge: IPv6
    /// checks forwarding of the interface itself, and an uplink that forwards ignores router
    /// advertisements.
    const ROUTES_FROM_OUTPUT: bool;
    /// Writes addresses and ports to the kernel's key for a socket lookup. Returns the length of
    /// the key in bytes.
    fn set_sock_tuple(tuple: &Tuple<Self>, key: &mut bpf_sock_tuple) -> u32;
    /// Whether a flow in the other family's table has that tuple.
    fn is_taken_in_other_family(tuple: &Tuple<Self>) -> bool;
    /// Writes addresses to the parameters of a route lookup.
    fn set_route_addresses(tuple: &Tuple<Self>, params: &mut bpf_fib_lookup);
}

impl Family for V4 {
    const NUMBER: u8 = 4;
    const COUNT_OFFSET: u32 = 0;
    const ROUTES_FROM_OUTPUT: bool = true;

    #[inline(always)]
    fn set_sock_tuple(tuple: &Tuple<Self>, key: &mut bpf_sock_tuple) -> u32 {
        key.__bindgen_anon_1.ipv4 = SockTuple4 {
            saddr: tuple.source.word(),
            daddr: tuple.destination.word(),
            sport: tuple.source_port.word(),
            dport: tuple.destination_port.word(),
        };
        size_of::<SockTuple4>() as u32
    }

    #[inline(always)]
    fn is_taken_in_other_family(tuple: &Tuple<Self>) -> bool {
        tuple.side == Side::CONTAINER
            && V6::maps().flows.get_ptr(nat64::mapped_tuple(tuple)).is_some()
    }

    #[inline(always)]
    fn set_route_addresses(tuple: &Tuple<Self>, params: &mut bpf_fib_lookup) {
        params.__bindgen_anon_3.ipv4_src = tuple.source.word();
        params.__bindgen_anon_4.ipv4_dst = tuple.destination.word();
    }
}

impl Family for V6 {
    const NUMBER: u8 = 6;
    const COUNT_OFFSET: u32 = abi::COUNT_IPV6;
    const ROUTES_FROM_OUTPUT: bool = false;

    #[inline(always)]
    fn set_sock_tuple(tuple: &Tuple<Self>, key: &mut bpf_sock_tuple) -> u32 {
        if let Some(tuple) = nat64::unmapped_tuple(tuple) {
            return V4::set_sock_tuple(&tuple, key);
        }
        // SAFETY: every member of the union is made of integers, so any content is valid.
        let key = unsafe { &mut key.__bindgen_anon_1.ipv6 };
        set_words(&mut key.saddr, &tuple.source);
        set_words(&mut key.daddr, &tuple.destination);
        key.sport = tuple.source_port.word();
        key.dport = tuple.destination_port.word();
        size_of::<SockTuple6>() as u32
    }

    #[inline(always)]
    fn is_taken_in_other_family(tuple: &Tuple<Self>) -> bool {
        nat64::unmapped_tuple(tuple).is_some_and(|tuple| V4::maps().flows.get_ptr(tuple).is_some())
    }

    #[inline(always)]
    fn set_route_addresses(tuple: &Tuple<Self>, params: &mut bpf_fib_lookup) {
        // SAFETY: every member of the unions is made of integers, so any content is valid.
        unsafe {
            set_words(&mut params.__bindgen_anon_3.ipv6_src, &tuple.source);
            set_words(&mut params.__bindgen_anon_4.ipv6_dst, &tuple.destination);
        }
    }
}

/// Word by word: as a whole the address would be copied to the stack once more.
#[inline(always)]
fn set_words(place: &mut [u32; 4], address: &V6) {
    let [a, b, c, d] = address.words();
    place[0] = a;
    place[1] = b;
    place[2] = c;
    place[3] = d;
}
