//! Allocation of slots.

use std::collections::BTreeSet;

use causeway_api::Error;
use causeway_common::abi;

/// The slots in use. They are given in turn: a slot that was just freed is given again last, so
/// that a packet in flight does not meet its next user (R10).
#[derive(Debug, Default)]
pub(in crate::datapath) struct Slots {
    used: BTreeSet<u32>,
    last: u32,
}

impl Slots {
    /// Takes a free slot.
    pub(in crate::datapath) fn take(&mut self) -> anyhow::Result<u32> {
        let found = (1..abi::SLOTS)
            .map(|step| (self.last + step) % abi::SLOTS)
            .find(|slot| *slot != 0 && !self.used.contains(slot))
            .ok_or_else(|| {
                Error::in_use(format!(
                    "all {} slots for endpoints and publishes are taken",
                    abi::SLOTS - 1
                ))
                .hint("remove some first")
            })?;
        self.used.insert(found);
        self.last = found;
        Ok(found)
    }

    /// Keeps a slot that an earlier agent has taken.
    pub(in crate::datapath) fn keep(&mut self, slot: u32) {
        self.used.insert(slot);
        self.last = self.last.max(slot);
    }

    /// All slots in use.
    pub(in crate::datapath) fn used(&self) -> Vec<u32> {
        self.used.iter().copied().collect()
    }

    /// Frees a slot.
    pub(in crate::datapath) fn free(&mut self, slot: u32) {
        self.used.remove(&slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_slot_rests_and_zero_is_reserved() {
        let mut slots = Slots::default();
        assert_eq!(slots.take().unwrap(), 1);
        assert_eq!(slots.take().unwrap(), 2);
        slots.free(1);
        assert_eq!(slots.take().unwrap(), 3);
        slots.keep(abi::SLOTS - 1);
        assert_eq!(slots.take().unwrap(), 1);
    }

    #[test]
    fn exhausted_slots_are_an_error() {
        let mut slots = Slots::default();
        for _ in 1..abi::SLOTS {
            slots.take().unwrap();
        }
        assert!(slots.take().is_err());
        slots.free(77);
        assert_eq!(slots.take().unwrap(), 77);
    }
}
