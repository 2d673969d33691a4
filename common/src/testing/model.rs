//! The model: `Env` over plain collections. Decisions are tested with it, and the kernel's programs
//! are compared with it.

use core::{
    cell::{Cell, RefCell, RefMut},
    mem,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    vec::Vec,
};

use crate::{
    abi::{
        endpoint::Endpoint,
        flow_entry::FlowEntry,
        fragment::{Datagram, Fragments, QUEUED_FRAME_BYTES, QueuedKey},
        macs::Macs,
        network::Network,
        owner::Owner,
        publish::Publish,
        time::Ticks,
        uplink::Uplink,
    },
    env::{Config, FlowStore, FragmentStore, InsertError, Kernel, Route},
    wire::{
        address::{Address, Port},
        tuple::Tuple,
    },
    xdp::Receivers,
};

/// The state of one family. Tests may change every field.
#[derive(Debug)]
pub struct Model<A> {
    /// The flow table.
    pub flows: RefCell<HashMap<Tuple<A>, FlowEntry<A>>>,
    /// Number of entries that the flow table has room for.
    pub room: usize,
    /// Endpoints by address.
    pub endpoints: HashMap<A, Endpoint<A>>,
    /// Slots of publishes by protocol, port and host address; no address stands for any of the
    /// host's.
    pub ports: HashMap<(u8, Port, Option<A>), u32>,
    /// Publishes by slot.
    pub publishes: HashMap<u32, Publish<A>>,
    /// Sources that publishes admit: slot, subnet, mask.
    pub admitted: Vec<(u32, A, A)>,
    /// The host's addresses.
    pub local: HashSet<A>,
    /// Uplinks by interface.
    pub uplinks: HashMap<u32, Uplink<A>>,
    /// Routes: subnet, mask, interface. The first match counts.
    pub routes: Vec<(A, A, u32)>,
    /// MACs toward the next hop, by the interface that leads to it.
    pub next_hops: HashMap<u32, Macs>,
    /// Tuples of flows in the other family's table.
    pub other_family: HashSet<Tuple<A>>,
    /// Tuples that sockets of the host receive.
    pub sockets: HashSet<Tuple<A>>,
    /// Host sides whose containers accept XDP frames.
    pub receivers: HashSet<u32>,
    /// Networks by number.
    pub networks: HashMap<u32, Network>,
    /// The age ring: keys of flows, oldest first.
    pub age_ring: RefCell<VecDeque<Tuple<A>>>,
    /// Flow counts of endpoints, by slot.
    pub counts: RefCell<HashMap<Owner, u32>>,
    /// Epochs by slot.
    pub epochs: HashMap<u32, u32>,
    /// Latest expiry of any tracked host flow that is TCP or remapped, in ticks.
    pub host_flows_expire_at: Cell<Ticks>,
    /// Records of fragmented datagrams.
    pub datagrams: RefCell<HashMap<Datagram<A>, Fragments>>,
    /// Queued fragments.
    pub fragment_queue: RefCell<HashMap<QueuedKey<A>, Vec<u8>>>,
    /// The frame that is processed.
    pub frame: RefCell<Vec<u8>>,
    /// Reinjected frames.
    pub reinjected: RefCell<VecDeque<Vec<u8>>>,
    /// What another CPU does, once, after a copy of the frame was queued.
    pub meanwhile: Cell<Option<fn(&Self)>>,
    /// The time now, in ticks.
    pub now: Cell<Ticks>,
    /// The next random number; each use advances it.
    pub random: Cell<u32>,
}

impl<A> Default for Model<A> {
    fn default() -> Self {
        Self {
            flows: RefCell::default(),
            room: usize::MAX,
            endpoints: HashMap::new(),
            ports: HashMap::new(),
            publishes: HashMap::new(),
            admitted: Vec::new(),
            local: HashSet::new(),
            uplinks: HashMap::new(),
            routes: Vec::new(),
            next_hops: HashMap::new(),
            other_family: HashSet::new(),
            sockets: HashSet::new(),
            receivers: HashSet::new(),
            networks: HashMap::from([(0, Network::DEFAULT)]),
            age_ring: RefCell::default(),
            counts: RefCell::default(),
            epochs: HashMap::new(),
            host_flows_expire_at: Cell::new(0),
            datagrams: RefCell::default(),
            fragment_queue: RefCell::default(),
            frame: RefCell::default(),
            reinjected: RefCell::default(),
            meanwhile: Cell::new(None),
            now: Cell::new(1000),
            random: Cell::new(1),
        }
    }
}

impl<A: Address> FlowStore<A> for Model<A> {
    type Entry<'t>
        = RefMut<'t, FlowEntry<A>>
    where
        Self: 't;

    fn flow(&self, key: &Tuple<A>) -> Option<RefMut<'_, FlowEntry<A>>> {
        RefMut::filter_map(self.flows.borrow_mut(), |flows| flows.get_mut(key)).ok()
    }

    fn insert_flow(&self, key: &Tuple<A>, flow: &FlowEntry<A>) -> Result<(), InsertError> {
        let mut flows = self.flows.borrow_mut();
        if flows.contains_key(key) {
            return Err(InsertError::Exists);
        }
        if flows.len() >= self.room {
            return Err(InsertError::Full);
        }
        flows.insert(*key, *flow);
        Ok(())
    }

    fn remove_flow(&self, key: &Tuple<A>) -> bool {
        self.flows.borrow_mut().remove(key).is_some()
    }

    fn count_flow(&self, owner: Owner, most: u32) -> bool {
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(owner).or_default();
        let fits = *count < most;
        *count += u32::from(fits);
        fits
    }

    fn uncount_flow(&self, owner: Owner) {
        *self.counts.borrow_mut().get_mut(&owner).expect("a slot that was counted") -= 1;
    }

    fn push_newest(&self, key: &Tuple<A>) {
        self.age_ring.borrow_mut().push_back(*key);
    }

    fn pop_oldest(&self) -> Option<Tuple<A>> {
        self.age_ring.borrow_mut().pop_front()
    }

    fn host_flows_expire_at(&self) -> Ticks {
        self.host_flows_expire_at.get()
    }

    fn set_host_flows_expire_at(&self, until: Ticks) {
        self.host_flows_expire_at.set(until);
    }

    fn is_taken_in_other_family(&self, key: &Tuple<A>) -> bool {
        self.other_family.contains(key)
    }
}

impl<A: Address> Config<A> for Model<A> {
    fn network(&self, number: u32) -> Option<&Network> {
        self.networks.get(&number)
    }

    fn epoch(&self, slot: u32) -> u32 {
        self.epochs.get(&slot).copied().unwrap_or(0)
    }

    fn endpoint(&self, address: &A) -> Option<&Endpoint<A>> {
        self.endpoints.get(address)
    }

    fn published(&self, to: &Tuple<A>) -> Option<u32> {
        let of = |address| self.ports.get(&(to.protocol, to.destination_port, address)).copied();
        of(None).or_else(|| of(Some(to.destination)))
    }

    fn publish(&self, slot: u32) -> Option<&Publish<A>> {
        self.publishes.get(&slot)
    }

    fn admits(&self, slot: u32, source: &A) -> bool {
        self.admitted.iter().any(|(of, subnet, mask)| *of == slot && source.is_in(subnet, mask))
    }

    fn is_local(&self, address: &A) -> bool {
        self.local.contains(address)
    }

    fn uplink(&self, index: u32) -> Option<&Uplink<A>> {
        self.uplinks.get(&index)
    }
}

impl<A: Address> Kernel<A> for Model<A> {
    fn now(&self) -> Ticks {
        self.now.get()
    }

    fn random(&self) -> u32 {
        // Numerical Recipes' generator: enough to spread ports.
        self.random.set(self.random.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        self.random.get() >> 8
    }

    fn route(&self, packet: &Tuple<A>, _input: u32) -> Route {
        self.routes
            .iter()
            .find(|(subnet, mask, _)| packet.destination.is_in(subnet, mask))
            .map_or(Route::None, |(_, _, output)| Route::Through(*output))
    }

    fn next_hop(&self, _leaving: &Tuple<A>, _bridge: u32, output: u32) -> Option<Macs> {
        self.next_hops.get(&output).copied()
    }

    fn host_socket(&self, arriving: &Tuple<A>) -> bool {
        self.sockets.contains(arriving)
    }
}

impl<A> Receivers for Model<A> {
    fn accepts_xdp(&self, host_side: u32) -> bool {
        self.receivers.contains(&host_side)
    }
}

impl<A: Address> FragmentStore<A> for Model<A> {
    type Record<'t>
        = RefMut<'t, Fragments>
    where
        Self: 't;

    fn datagram(&self, datagram: &Datagram<A>) -> Option<RefMut<'_, Fragments>> {
        RefMut::filter_map(self.datagrams.borrow_mut(), |datagrams| datagrams.get_mut(datagram))
            .ok()
    }

    fn insert_datagram(&self, datagram: &Datagram<A>, record: &Fragments) -> bool {
        let mut datagrams = self.datagrams.borrow_mut();
        let free = !datagrams.contains_key(datagram);
        if free {
            datagrams.insert(*datagram, *record);
        }
        free
    }

    fn remove_datagram(&self, datagram: &Datagram<A>) {
        self.datagrams.borrow_mut().remove(datagram);
    }

    fn add_to_state(&self, record: &mut Fragments, number: u64) -> u64 {
        let before = record.state;
        record.state += number;
        before
    }

    fn swap_state(&self, record: &mut Fragments, state: u64) -> u64 {
        mem::replace(&mut record.state, state)
    }

    fn can_queue(&self) -> bool {
        self.frame.borrow().len() <= QUEUED_FRAME_BYTES
    }

    fn queue(&self, key: &QueuedKey<A>) -> bool {
        self.fragment_queue.borrow_mut().insert(*key, self.frame.borrow().clone());
        if let Some(meanwhile) = self.meanwhile.take() {
            meanwhile(self);
        }
        true
    }

    fn drop_queued(&self, key: &QueuedKey<A>) -> bool {
        self.fragment_queue.borrow_mut().remove(key).is_some()
    }

    fn reinject(&self) {
        self.reinjected.borrow_mut().push_back(self.frame.borrow().clone());
    }

    fn reinject_queued(&self, key: &QueuedKey<A>) {
        self.reinjected.borrow_mut().extend(self.fragment_queue.borrow_mut().remove(key));
    }
}
