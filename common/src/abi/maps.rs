//! Names of the maps and globals in the object.

use crate::wire::address;

/// The maps that each family has of its own.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    /// Hash: `Tuple` to [`FlowEntry`].
    pub flows: &'static str,
    /// Array: the keys of flows, in the order in which they began, over and over.
    pub age_ring: &'static str,
    /// Array: how many of those were written, and how many read.
    pub age_ring_ends: &'static str,
    /// Array of one: until when flows of the host's own may live that are TCP, or have moved.
    pub host_flows_expire_at: &'static str,
    /// Hash: address to [`Endpoint`].
    pub endpoints: &'static str,
    /// Array: slot to [`Publish`].
    pub publishes: &'static str,
    /// Array: [`port_index`] to slot, or [`BY_ADDRESS`].
    pub ports: &'static str,
    /// Hash: [`AddressPort`] to slot.
    pub address_ports: &'static str,
    /// Trie: [`Admitted`] to nothing of interest.
    pub admitted: &'static str,
    /// Hash: an address of the host to nothing of interest.
    pub local: &'static str,
    /// Hash: interface index to [`Uplink`].
    pub uplinks: &'static str,
    /// Hash, oldest out: [`SocketPeer`] to the address the process meant.
    pub sockets: &'static str,
    /// Hash, oldest out: [`Datagram`] to [`Fragments`].
    pub fragments: &'static str,
    /// Hash, oldest out: [`QueuedKey`] to [`QueuedFrame`].
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

/// Array: a network's number to [`Network`].
pub const NETWORKS: &str = "NETWORKS";

/// Array: an endpoint's slot to how many flows it has begun; further those of
/// [`COUNT_MAPPINGS`], [`COUNT_INBOUND`], [`COUNT_IPV6`].
pub const COUNTS: &str = "COUNTS";

/// Array: [`UplinkMac`] of an uplink at its index modulo [`UPLINK_MACS`].
pub const UPLINK_MACS: &str = "UPLINK_MACS";

/// Map of devices: the host sides whose container sides take frames from XDP, by their indexes.
pub const RECEIVERS: &str = "RECEIVERS";

/// Per-CPU array: reason to count.
pub const REASONS: &str = "REASONS";

/// Global: one less than the size of [`Maps::age_ring`], in both families.
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
