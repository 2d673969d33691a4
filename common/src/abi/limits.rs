//! Numbers of slots, endpoints and networks, and the index of a container's flow counts.

/// The number of slots. Slot 0 is reserved.
pub const SLOTS: u32 = 1 << 16;

/// Added to an endpoint's slot: the index in [`super::maps::COUNTS`] of its mappings. Without any
/// of these it is that of the flows that the container began.
pub const COUNT_MAPPINGS: u32 = SLOTS;

/// Likewise for flows that were begun from outside. They have a quota of their own, so that they
/// leave the container's untouched.
pub const COUNT_INBOUND: u32 = 2 * SLOTS;

/// Likewise for IPv6, together with any of the others: each family has its own quota.
pub const COUNT_IPV6: u32 = 4 * SLOTS;

/// The entries of [`super::maps::COUNTS`].
pub const COUNTS: u32 = 8 * SLOTS;

/// The most endpoints that an instance can have, on all networks together.
pub const ENDPOINTS: u32 = 1 << 14;

/// The number of networks. Network 0 is reserved: flows without a network go by it.
pub const NETWORKS: u32 = 1 << 10;
