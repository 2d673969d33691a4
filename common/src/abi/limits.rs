//! Numbers of slots, endpoints and networks.

/// The number of slots. Slot 0 is reserved.
pub const SLOTS: u32 = 1 << 16;

/// The most endpoints that an instance can have, on all networks together.
pub const ENDPOINTS: u32 = 1 << 14;

/// The number of networks. Network 0 is reserved: flows without a network go by it.
pub const NETWORKS: u32 = 1 << 10;
