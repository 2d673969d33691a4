//! The maps of the object, made of the table in [`causeway_common::abi::maps`], and access to the
//! maps that both families share.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, DevMapHash, HashMap, LpmTrie, LruHashMap, PerCpuArray},
};
use causeway_common::{
    abi::{
        self, AddressPort, Admitted, Datagram, Endpoint, FlowEntry, Fragments, Network, Publish,
        QueuedFrame, QueuedKey, SocketAddress, SocketPeer, Uplink, UplinkMac,
        drop_reason::DropReason,
        maps::{NO_PREALLOC, PREALLOC},
        time::Ticks,
    },
    flow::fragment_context::FragmentContext,
    for_each_map, icmp_reply,
    scratch::Scratch,
    wire::{
        address::{Address, V4, V6},
        tuple::{Side, Tuple},
    },
};

use crate::{atomic::Counter, trace};

/// Cookie of the host's network namespace. Sockets in other namespaces are not handled.
#[unsafe(no_mangle)]
static HOST_COOKIE: Global<u64> = Global::new(0);

/// Size of the age rings minus one: a mask, because the size is a power of two.
#[unsafe(no_mangle)]
static AGE_RING_MASK: Global<u32> = Global::new(0);

/// Cookie of the host's network namespace.
#[inline(always)]
pub(crate) fn host_cookie() -> u64 {
    HOST_COOKIE.load()
}

/// Defines the maps of the table as statics, and [`Maps`] with those of one family.
macro_rules! define {
    (
        per_family {$($per_family:tt)*}
        shared {$($shared:tt)*}
        scratch_per_family {$($scratch_per_family:tt)*}
        scratch {$($scratch:tt)*}
    ) => {
        define!(@per_family $($per_family)* $($scratch_per_family)*);
        define!(@shared $($shared)* $($scratch)*);
    };
    (@shared $(
        $(#[$meta:meta])*
        $name:ident = $kind:ident<$($type:ty),*>[$entries:expr, $flags:expr];
    )+) => {$(
        #[map]
        pub(crate) static $name: $kind<$($type),*> = $kind::with_max_entries($entries, $flags);
    )+};
    (@per_family $(
        $(#[$meta:meta])*
        $field:ident: $v4:ident, $v6:ident = $kind:ident<$($type:ty),*>[$entries:expr, $flags:expr];
    )+) => {
        /// The maps of one family.
        pub(crate) struct Maps<A: 'static> {
            $(pub(crate) $field: &'static $kind<$($type),*>,)+
        }

        mod v4 {
            use super::*;

            type A = V4;

            $(
                #[map]
                pub(super) static $v4: $kind<$($type),*> =
                    $kind::with_max_entries($entries, $flags);
            )+
        }

        mod v6 {
            use super::*;

            type A = V6;

            $(
                #[map]
                pub(super) static $v6: $kind<$($type),*> =
                    $kind::with_max_entries($entries, $flags);
            )+
        }

        impl HasMaps for V4 {
            #[inline(always)]
            fn maps() -> Maps<Self> {
                Maps { $($field: &v4::$v4,)+ }
            }
        }

        impl HasMaps for V6 {
            #[inline(always)]
            fn maps() -> Maps<Self> {
                Maps { $($field: &v6::$v6,)+ }
            }
        }
    };
}

for_each_map!(define);

/// A family that has maps.
pub(crate) trait HasMaps: Address {
    /// The family's maps.
    fn maps() -> Maps<Self>;

    /// This CPU's scratch for a packet.
    #[inline(always)]
    fn scratch() -> Option<&'static mut Scratch<Self>> {
        // SAFETY: S3 (per-CPU map value).
        Self::maps().scratch.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
    }

    /// This CPU's context of a fragment.
    #[inline(always)]
    fn fragment_context() -> Option<&'static mut FragmentContext<Self>> {
        // SAFETY: S3 (per-CPU map value).
        Self::maps().fragment_context.get_ptr_mut(0).map(|context| unsafe { &mut *context })
    }
}

/// Counts a drop or a punt.
#[inline(always)]
pub(crate) fn count(reason: DropReason) {
    trace::reason(reason);
    if let Some(count) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: S3 (per-CPU map value).
        unsafe { *count += 1 }
    }
}

/// MAC of an uplink that has an XDP program.
#[inline(always)]
pub(crate) fn uplink_mac(index: u32) -> Option<&'static UplinkMac> {
    UPLINK_MACS.get(index % abi::UPLINK_MACS).filter(|uplink| uplink.index == index)
}

/// Redirects a frame out of a host side. Returns false if the container accepts no XDP frames.
#[inline(always)]
pub(crate) fn redirect_xdp(host_side: u32) -> bool {
    RECEIVERS.redirect(host_side, 0).is_ok()
}

/// Latest expiry of any tracked host flow that is TCP or remapped, in ticks.
#[inline(always)]
pub(crate) fn host_flows_expire_at<A: HasMaps>() -> Option<&'static mut Ticks> {
    // SAFETY: S2 (map value), an integer. Another CPU may write it at the same time; either value
    // is good.
    A::maps().host_flows_expire_at.get_ptr_mut(0).map(|until| unsafe { &mut *until })
}

/// Takes one error off the budget of this CPU and side for the tick `now`. Returns false if it is
/// used up.
#[inline(always)]
pub(crate) fn take_error_budget(side: Side, now: Ticks) -> bool {
    let Some(sent) = ICMP_BUDGET.get_ptr_mut(u32::from(side.number())) else { return false };
    // SAFETY: S3 (per-CPU map value).
    let [tick, count] = unsafe { &mut *sent };
    if *tick != now {
        (*tick, *count) = (now, 0);
    }
    *count += 1;
    *count <= icmp_reply::ERRORS_PER_TICK
}

/// This CPU's buffer for a frame that is to be queued.
#[inline(always)]
pub(crate) fn frame() -> Option<&'static mut QueuedFrame> {
    // SAFETY: S3 (per-CPU map value).
    FRAME.get_ptr_mut(0).map(|frame| unsafe { &mut *frame })
}

/// Epoch of a slot.
#[inline(always)]
pub(crate) fn epoch(slot: u32) -> u32 {
    EPOCHS.get(slot).copied().unwrap_or(0)
}

/// The network with that number.
#[inline(always)]
pub(crate) fn network(number: u32) -> Option<&'static Network> {
    NETWORKS.get(number)
}

/// The flow count at that index ([`abi::Owner::count_index`]).
#[inline(always)]
pub(crate) fn flow_count(index: u32) -> Option<Counter> {
    // SAFETY: the value is aligned, lies in a map until the program ends, and is written through a
    // `Counter` only.
    COUNTS.get_ptr_mut(index).map(|count| unsafe { Counter::new(count) })
}

/// Indices of the counters of an age ring: the numbers of the next key to push and of the oldest
/// one.
const NEXT: u32 = 0;
const OLDEST: u32 = 1;

#[inline(always)]
fn ring_counter<A: HasMaps>(which: u32) -> Option<Counter> {
    // SAFETY: the value is aligned, lies in a map until the program ends, and is written through a
    // `Counter` only.
    A::maps().age_ring_ends.get_ptr_mut(which).map(|count| unsafe { Counter::new(count) })
}

/// Pushes the key of a new flow to the age ring. An older key may be overwritten; `flow_gc` removes
/// that flow when it expires.
#[inline(always)]
pub(crate) fn push_newest<A: HasMaps>(key: &Tuple<A>) {
    let Some(next) = ring_counter::<A>(NEXT) else { return };
    if let Some(place) = A::maps().age_ring.get_ptr_mut(next.add(1) as u32 & AGE_RING_MASK.load()) {
        // SAFETY: S2 (map value). Two CPUs may write one place at the same time; the mix is a valid
        // tuple, and the key of no flow.
        unsafe { *place = *key }
    }
}

/// Pops the oldest key of the age ring.
#[inline(always)]
pub(crate) fn pop_oldest<A: HasMaps>() -> Option<Tuple<A>> {
    let next = ring_counter::<A>(NEXT)?.get();
    let oldest = ring_counter::<A>(OLDEST)?;
    let length = next.wrapping_sub(oldest.get()).cast_signed();
    let mask = AGE_RING_MASK.load();
    if length <= 0 {
        // Below zero if two CPUs popped the last key.
        oldest.set(next);
        return None;
    }
    if length > i64::from(mask) + 1 {
        // Skips keys that were overwritten. Another CPU that does so at the same time writes nearly
        // the same number.
        oldest.set(next.wrapping_sub(u64::from(mask) + 1));
    }
    let at = oldest.add(1) as u32;
    A::maps().age_ring.get(at & mask).copied()
}
