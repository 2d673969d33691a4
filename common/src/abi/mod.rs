//! What the kernel side and the agent share: keys and values of the maps, the tables of maps and
//! programs, and the reasons for which packets leave the fast path. A change of any layout is a new
//! [`LAYOUT`].

pub mod drop_reason;
pub mod endpoint;
pub mod flow_entry;
pub mod fragment;
pub mod limits;
pub mod macs;
pub mod maps;
pub mod network;
pub mod owner;
mod plain_bytes;
pub mod programs;
pub mod publish;
pub mod socket;
pub mod state;
pub mod time;
pub mod translation;
pub mod uplink;

pub use self::{
    drop_reason::{DropReason, Fate},
    endpoint::Endpoint,
    flow_entry::FlowEntry,
    fragment::{
        DATAGRAMS, Datagram, FRAGMENT_QUEUE, Fragments, QUEUED_FRAME_BYTES, QueuedFrame, QueuedKey,
    },
    limits::{ENDPOINTS, NETWORKS, SLOTS},
    macs::Macs,
    network::{Network, nat_behaviour},
    owner::{COUNT_IPV6, COUNTS, Owner},
    publish::{AddressPort, Admitted, BY_ADDRESS, PORTS, Publish, SLOT_LOCAL_SUBNETS, port_index},
    socket::{PROBE_MARK, SocketAddress, SocketPeer},
    translation::{Deliver, Translation},
    uplink::{UPLINK_MACS, Uplink, UplinkMac},
};

/// The version in the path of the pins: `/sys/fs/bpf/causeway/INSTANCE/vLAYOUT`.
pub const LAYOUT: u32 = 2;
