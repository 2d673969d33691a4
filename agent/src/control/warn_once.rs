//! Warnings that are logged once while their cause lasts.

use std::collections::BTreeSet;

/// The warnings whose cause lasts, by key.
#[derive(Debug)]
pub(super) struct WarnOnce<K>(BTreeSet<K>);

/// A cause that the agent meets again at every look at the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Warning {
    /// No interface qualifies as an uplink.
    NoUplink,
    /// The bridge of the network of that name was removed.
    BridgeGone(String),
    /// The bridge of the network of that name does not forward IPv6.
    NotForwarding(String),
    /// The kernel cannot destroy sockets.
    NoSocketDestroy,
}

impl<K: Ord> WarnOnce<K> {
    pub(super) const fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// Whether the warning is due; it is not due again until [`Self::clear`].
    pub(super) fn is_due(&mut self, key: K) -> bool {
        self.0.insert(key)
    }

    /// Notes that the cause is over.
    pub(super) fn clear(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// Notes that every cause but those that last is over.
    pub(super) fn retain(&mut self, lasts: impl FnMut(&K) -> bool) {
        self.0.retain(lasts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_due_again_after_its_cause_was_over() {
        let mut warned = WarnOnce::new();
        assert!(warned.is_due(1) && !warned.is_due(1) && warned.is_due(2));
        warned.clear(&1);
        assert!(warned.is_due(1) && !warned.is_due(2));
        warned.retain(|key| *key == 1);
        assert!(!warned.is_due(1) && warned.is_due(2));
    }
}
