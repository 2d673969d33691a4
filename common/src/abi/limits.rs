//! How many there may be of what has a number in the datapath.

/// How many slots there are. Slot 0 is nobody's.
pub const SLOTS: u32 = 1 << 16;

/// Added to an endpoint's slot, the place in [`name::COUNTS`] for its mappings.
pub const COUNT_MAPPINGS: u32 = SLOTS;

/// The same for the flows that others outside begin with it: they take nothing from what it may
/// begin itself.
pub const COUNT_INBOUND: u32 = 2 * SLOTS;

/// The same for its flows of IPv6: those of one family take nothing from what it may have of the
/// other.
pub const COUNT_IPV6: u32 = 4 * SLOTS;

/// The entries of [`name::COUNTS`].
pub const COUNTS: u32 = 8 * SLOTS;

/// How many endpoints there is room for on all networks of an instance.
pub const ENDPOINTS: u32 = 1 << 14;

/// How many networks there is room for. Number 0 is nobody's: what flows of none go by.
pub const NETWORKS: u32 = 1 << 10;
