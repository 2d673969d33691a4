//! What a decision needs to know: the maps in the kernel, ordinary collections in a test.

use core::ops::DerefMut;

use crate::{
    abi::{
        endpoint::Endpoint,
        flow_entry::FlowEntry,
        fragment::{Datagram, Fragments, QueuedKey},
        macs::Macs,
        network::Network,
        publish::{self, Publish},
        state::State,
        time::Ticks,
        uplink::Uplink,
    },
    wire::{address::Address, tuple::Tuple},
};

/// Why an entry of the flow table was not inserted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InsertError {
    /// The key is taken.
    Exists,
    /// There is no room.
    Full,
}

/// Where the host would send a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// Out of the interface with that index.
    Through(u32),
    /// Nowhere.
    None,
}

/// The flow table of one family, and what is counted beside it.
///
/// An entry is held by one name at a time: it may be gone, or hold another flow, once another method
/// was called.
pub trait FlowStore<A: Address> {
    /// Half a flow, in place. (Not a closure that visits it: the compiler makes a function of that,
    /// and hands back its answer through the stack, which the verifier refuses.)
    type Entry<'t>: DerefMut<Target = FlowEntry<A>>
    where
        Self: 't;

    /// The half of a flow that has that key.
    fn flow(&self, key: &Tuple<A>) -> Option<Self::Entry<'_>>;

    /// Inserts half a flow, unless the key is there.
    fn insert_flow(&self, key: &Tuple<A>, flow: &FlowEntry<A>) -> Result<(), InsertError>;

    /// Removes half a flow; false if it is gone already.
    fn remove_flow(&self, key: &Tuple<A>) -> bool;

    /// Counts a flow for an endpoint's slot, if it has not `most` of them yet; false if it has.
    fn count_flow(&self, slot: u32, most: u32) -> bool;

    /// Counts one less.
    fn uncount_flow(&self, slot: u32);

    /// Notes that a flow with that key began.
    fn push_newest(&self, key: &Tuple<A>);

    /// Takes the oldest note.
    fn pop_oldest(&self) -> Option<Tuple<A>>;

    /// Until when flows of the host's own may live that are TCP, or have moved.
    fn host_flows_expire_at(&self) -> Ticks;

    /// Says so.
    fn set_host_flows_expire_at(&self, until: Ticks);

    /// Whether a flow that is kept among the other family's has that tuple ([`crate::crossing`]).
    fn is_taken_in_other_family(&self, key: &Tuple<A>) -> bool;
}

/// What the agent has configured for one family.
pub trait Config<A: Address> {
    /// The network with that number.
    fn network(&self, number: u32) -> Option<&Network>;

    /// How long a flow of a network lasts in a state.
    #[inline(always)]
    fn timeout(&self, network: u16, state: State, protocol: u8) -> Ticks {
        match self.network(u32::from(network)) {
            Some(network) => network.timeout(state, protocol),
            None => 0,
        }
    }

    /// The slot's epoch.
    fn epoch(&self, slot: u32) -> u32;

    /// The endpoint with that address.
    fn endpoint(&self, address: &A) -> Option<&Endpoint<A>>;

    /// The slot of the publish that a packet's destination falls to. The address is known to be the
    /// host's by [`Env::is_local`] only.
    fn published(&self, to: &Tuple<A>) -> Option<u32>;

    /// The publish with that slot.
    fn publish(&self, slot: u32) -> Option<&Publish<A>>;

    /// Whether a publish that lists its sources has that one in its list.
    fn admits(&self, slot: u32, source: &A) -> bool;

    /// Whether the address is in the subnet of a network.
    fn is_in_local_subnet(&self, address: &A) -> bool {
        self.admits(publish::SLOT_LOCAL_SUBNETS, address)
    }

    /// Whether the address is one of the host's, loopback's left out.
    fn is_local(&self, address: &A) -> bool;

    /// The interface, if it is an uplink.
    fn uplink(&self, index: u32) -> Option<&Uplink<A>>;
}

/// What the kernel knows besides: its clock, routes, neighbours and sockets.
pub trait Kernel<A: Address> {
    /// The time now.
    fn now(&self) -> Ticks;

    /// A number nobody can foretell.
    fn random(&self) -> u32;

    /// Where the host would send a packet that arrived at the interface `input`.
    fn route(&self, packet: &Tuple<A>, input: u32) -> Route;

    /// The MACs for the next hop of a packet that leaves a network, whose bridge that is, through
    /// `output`; none if they are not known.
    fn next_hop(&self, leaving: &Tuple<A>, bridge: u32, output: u32) -> Option<Macs>;

    /// Whether a socket of the host would receive a packet with that tuple.
    fn host_socket(&self, arriving: &Tuple<A>) -> bool;
}

/// All that a decision asks for: the maps in the kernel, ordinary collections in a test.
pub trait Env<A: Address>: FlowStore<A> + Config<A> + Kernel<A> {}

impl<A: Address, T: FlowStore<A> + Config<A> + Kernel<A>> Env<A> for T {}

/// The tables of datagrams in fragments, and the frame that is decided about.
pub trait FragmentStore<A: Address> {
    /// A record, to be looked at and changed in place.
    type Record<'t>: DerefMut<Target = Fragments>
    where
        Self: 't;

    /// The record of a datagram.
    fn datagram(&self, datagram: &Datagram<A>) -> Option<Self::Record<'_>>;
    /// Inserts a record; false if there is one, or no room.
    fn insert_datagram(&self, datagram: &Datagram<A>, record: &Fragments) -> bool;
    /// Removes a record.
    fn remove_datagram(&self, datagram: &Datagram<A>);
    /// Adds to a record's state, and answers what it was; in one step, and in order with every
    /// other access.
    fn add_to_state(&self, record: &mut Fragments, number: u64) -> u64;
    /// Replaces a record's state, and answers what it was; likewise.
    fn swap_state(&self, record: &mut Fragments, state: u64) -> u64;
    /// Whether the frame is short enough to be held.
    fn can_queue(&self) -> bool;
    /// Holds a copy of the frame; false if that cannot be.
    fn queue(&self, key: &QueuedKey<A>) -> bool;
    /// Removes a held frame; false if it is gone already.
    fn drop_queued(&self, key: &QueuedKey<A>) -> bool;
    /// Sends the frame again into the interface where it arrived: a copy.
    fn reinject(&self);
    /// Sends a held frame into the interface where the frame arrived, and removes it. The frame
    /// itself is lost.
    fn reinject_queued(&self, key: &QueuedKey<A>);
}
