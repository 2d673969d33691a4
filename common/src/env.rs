//! The state that decisions read and write, as traits: maps in the kernel, plain collections in
//! tests.

use core::ops::DerefMut;

use crate::{
    abi::{
        endpoint::Endpoint,
        flow_entry::FlowEntry,
        fragment::{Datagram, Fragments, QueuedKey},
        macs::Macs,
        network::Network,
        owner::Owner,
        publish::{self, Publish},
        state::State,
        time::Ticks,
        uplink::Uplink,
    },
    wire::{address::Address, packet::Packet, tuple::Tuple},
};

/// Why an entry of the flow table was not inserted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InsertError {
    /// The key exists already.
    Exists,
    /// The table is full.
    Full,
}

/// Where the host routes a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// Out of the interface with that index.
    Through(u32),
    /// There is no route.
    None,
}

/// The flow table of one family, and the counters beside it.
///
/// Hold one entry at a time: after a call of another method it may be gone, or belong to another
/// flow.
pub trait FlowStore<A: Address> {
    /// A flow entry, in place. (Not a closure that visits it: the compiler makes a function of the
    /// closure that returns its result through the stack, which the verifier refuses.)
    type Entry<'t>: DerefMut<Target = FlowEntry<A>>
    where
        Self: 't;

    /// Looks up the entry with that key.
    fn flow(&self, key: &Tuple<A>) -> Option<Self::Entry<'_>>;

    /// Inserts an entry, unless the key exists.
    fn insert_flow(&self, key: &Tuple<A>, flow: &FlowEntry<A>) -> Result<(), InsertError>;

    /// Removes an entry. Returns false if it is gone already.
    fn remove_flow(&self, key: &Tuple<A>) -> bool;

    /// Counts a packet in its flow's entry. What is counted per container goes here: the entry has
    /// its owner.
    #[inline(always)]
    fn touch(&self, entry: &mut FlowEntry<A>, packet: &Packet<A>, now: Ticks) {
        entry.touch(packet, now);
    }

    /// Counts a flow for its owner. Returns false if that has `most` of them already.
    fn count_flow(&self, owner: Owner, most: u32) -> bool;

    /// Takes one flow off its owner's count.
    fn uncount_flow(&self, owner: Owner);

    /// Pushes the key of a new flow to the age ring.
    fn push_newest(&self, key: &Tuple<A>);

    /// Pops the oldest key of the age ring.
    fn pop_oldest(&self) -> Option<Tuple<A>>;

    /// Latest expiry of any tracked host flow that is TCP or remapped, in ticks. After it, TCP
    /// packets without a SYN skip the lookup.
    fn host_flows_expire_at(&self) -> Ticks;

    /// Sets the latest expiry of tracked host flows.
    fn set_host_flows_expire_at(&self, until: Ticks);

    /// Whether a flow in the other family's table has that tuple ([`crate::nat::nat64`]).
    fn is_taken_in_other_family(&self, key: &Tuple<A>) -> bool;
}

/// What the agent has configured for one family.
pub trait Config<A: Address> {
    /// The network with that number.
    fn network(&self, number: u32) -> Option<&Network>;

    /// Timeout of a flow of that network in a state, in ticks.
    #[inline(always)]
    fn timeout(&self, network: u16, state: State, protocol: u8) -> Ticks {
        match self.network(u32::from(network)) {
            Some(network) => network.timeout(state, protocol),
            None => 0,
        }
    }

    /// The epoch of a slot.
    fn epoch(&self, slot: u32) -> u32;

    /// The endpoint with that address.
    fn endpoint(&self, address: &A) -> Option<&Endpoint<A>>;

    /// The slot of the publish that a packet's destination belongs to. That the address is the
    /// host's is known from [`Config::is_local`] only.
    fn published(&self, to: &Tuple<A>) -> Option<u32>;

    /// The publish with that slot.
    fn publish(&self, slot: u32) -> Option<&Publish<A>>;

    /// Whether a publish with a list of sources admits that source.
    fn admits(&self, slot: u32, source: &A) -> bool;

    /// Whether the address is in the subnet of any network.
    fn is_in_local_subnet(&self, address: &A) -> bool {
        self.admits(publish::SLOT_LOCAL_SUBNETS, address)
    }

    /// Whether the address is one of the host's, loopback excepted.
    fn is_local(&self, address: &A) -> bool;

    /// The uplink with that interface index.
    fn uplink(&self, index: u32) -> Option<&Uplink<A>>;
}

/// Other state of the kernel: clock, routes, neighbours and sockets.
pub trait Kernel<A: Address> {
    /// The time now, in ticks.
    fn now(&self) -> Ticks;

    /// An unpredictable number.
    fn random(&self) -> u32;

    /// Where the host routes a packet that arrived at the interface `input`.
    fn route(&self, packet: &Tuple<A>, input: u32) -> Route;

    /// The MACs toward the next hop of a packet that leaves through `output`, from the network with
    /// that bridge. None if they are not known.
    fn next_hop(&self, leaving: &Tuple<A>, bridge: u32, output: u32) -> Option<Macs>;

    /// Whether a socket of the host would receive a packet with that tuple.
    fn host_socket(&self, arriving: &Tuple<A>) -> bool;
}

/// All state that decisions read and write.
pub trait Env<A: Address>: FlowStore<A> + Config<A> + Kernel<A> {}

impl<A: Address, T: FlowStore<A> + Config<A> + Kernel<A>> Env<A> for T {}

/// Records and queued fragments of fragmented datagrams, and the frame that is being processed.
pub trait FragmentStore<A: Address> {
    /// The record of a datagram, in place.
    type Record<'t>: DerefMut<Target = Fragments>
    where
        Self: 't;

    /// The record of a datagram.
    fn datagram(&self, datagram: &Datagram<A>) -> Option<Self::Record<'_>>;
    /// Inserts a record. Returns false if there is one already, or no room.
    fn insert_datagram(&self, datagram: &Datagram<A>, record: &Fragments) -> bool;
    /// Removes a record.
    fn remove_datagram(&self, datagram: &Datagram<A>);
    /// Adds to a record's state, and returns the state before: one atomic step, ordered with every
    /// other access.
    fn add_to_state(&self, record: &mut Fragments, number: u64) -> u64;
    /// Replaces a record's state, and returns the state before: one atomic step, ordered with every
    /// other access.
    fn swap_state(&self, record: &mut Fragments, state: u64) -> u64;
    /// Whether the frame is short enough to be queued.
    fn can_queue(&self) -> bool;
    /// Queues a copy of the frame. Returns false if that failed.
    fn queue(&self, key: &QueuedKey<A>) -> bool;
    /// Removes a queued frame. Returns false if it is gone already.
    fn drop_queued(&self, key: &QueuedKey<A>) -> bool;
    /// Reinjects a copy of the frame into the interface where it arrived.
    fn reinject(&self);
    /// Reinjects a queued frame into the interface where the current frame arrived, and removes it
    /// from the queue. It replaces the current frame, which is lost.
    fn reinject_queued(&self, key: &QueuedKey<A>);
}
