//! Which container a flow counts for, and which of the container's counts it is part of.

use bytemuck::{Pod, Zeroable};

use super::limits::SLOTS;

/// The owner of a flow: the slot of the endpoint that the flow counts for, with the kind of flow in
/// the bits above. Each kind has a count and a quota of its own, per family, so that none takes
/// anything from another.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
pub struct Owner(u32);

/// In an index of [`super::maps::COUNTS`]: a mapping of the container.
const MAPPING: u32 = SLOTS;

/// In an index of [`super::maps::COUNTS`]: a flow that was begun from outside.
const INBOUND: u32 = 2 * SLOTS;

/// In an index of [`super::maps::COUNTS`], with any of the others: a flow of IPv6.
pub const COUNT_IPV6: u32 = 4 * SLOTS;

/// The entries of [`super::maps::COUNTS`].
pub const COUNTS: u32 = 8 * SLOTS;

impl Owner {
    /// No container: flows of the host itself.
    pub const NONE: Self = Self(0);

    /// The container with that slot, of a flow that it began.
    #[inline(always)]
    pub const fn of(slot: u32) -> Self {
        Self(slot)
    }

    /// The container with that slot, of a flow that was begun from outside.
    #[inline(always)]
    pub const fn inbound(slot: u32) -> Self {
        Self(slot | INBOUND)
    }

    /// The same container, of a mapping.
    #[must_use]
    #[inline(always)]
    pub const fn of_mapping(self) -> Self {
        Self(self.0 | MAPPING)
    }

    /// Whether the flow counts for no container.
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The slot of the container's endpoint. ([`super::FlowEntry::slot`] is the slot through which
    /// the flow began, a publish's perhaps.)
    #[inline(always)]
    pub const fn slot(self) -> u32 {
        self.0 & (SLOTS - 1)
    }

    /// The index in [`super::maps::COUNTS`]. `family` is 0 for IPv4 and [`COUNT_IPV6`] for IPv6.
    #[inline(always)]
    pub const fn count_index(self, family: u32) -> u32 {
        self.0 | family
    }

    /// All indexes of a slot in [`super::maps::COUNTS`].
    pub const fn count_indexes(slot: u32) -> [u32; 6] {
        let (mapping, inbound) = (slot | MAPPING, slot | INBOUND);
        [slot, mapping, inbound, slot | COUNT_IPV6, mapping | COUNT_IPV6, inbound | COUNT_IPV6]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_survives_every_kind() {
        let own = Owner::of(7);
        let owners = [own, own.of_mapping(), Owner::inbound(7)];
        assert!(owners.iter().all(|owner| owner.slot() == 7 && !owner.is_none()));
        let indexes =
            [0, COUNT_IPV6].map(|family| owners.map(|owner| owner.count_index(family))).concat();
        assert_eq!(indexes, Owner::count_indexes(7));
        assert!(indexes.iter().all(|index| *index < COUNTS));
    }
}
