//! The order in which a new flow tries the ports of a range.

use crate::{abi::network::Network, wire::address::Port};

/// Outcome of the reservation of a port. A number with names, because the scratch is a map value
/// that is zero at first.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reservation(u8);

impl Reservation {
    /// Not tried yet, or taken.
    pub const TAKEN: Self = Self(0);
    /// Reserved.
    pub const DONE: Self = Self(1);
    /// The flow table is full.
    pub const FULL: Self = Self(2);
    /// The endpoint has reached its quota.
    pub const TOO_MANY: Self = Self(3);
    /// No port is needed: a packet within one bridge that begins no flow.
    pub const NONE: Self = Self(4);

    /// Whether the flow was counted for its owner.
    #[inline(always)]
    pub const fn was_counted(self) -> bool {
        self.0 < Self::TOO_MANY.0
    }
}

/// A walk through a range of ports. It begins anywhere, and visits each port once: its step is a
/// prime that is greater than any range.
#[derive(Clone, Copy, Debug)]
pub struct PortWalk {
    base: u32,
    ports: u32,
    offset: u32,
    step: u32,
}

/// Several steps, so that two walks that meet at a port separate again.
const STEPS: [u32; 4] = [65_537, 65_539, 65_543, 65_551];

impl PortWalk {
    /// A walk without a range: no port was asked for yet.
    pub(crate) const NOT_BEGUN: Self = Self { base: 0, ports: 0, offset: 0, step: 0 };

    #[inline(always)]
    pub(crate) const fn has_begun(&self) -> bool {
        self.ports != 0
    }

    #[inline(always)]
    pub(crate) fn new(range: &Network, random: u32) -> Self {
        let (base, ports) = (range.first_port, range.ports);
        // An empty range must not divide by zero.
        let ports = if ports == 0 { 1 } else { ports };
        Self {
            base,
            ports,
            offset: (random >> 2) % ports,
            step: STEPS[random as usize & 3] % ports,
        }
    }

    #[inline(always)]
    pub(crate) fn next(&mut self) -> Port {
        let port = self.base + self.offset;
        self.offset += self.step;
        if self.offset >= self.ports {
            self.offset -= self.ports;
        }
        Port::new(port as u16)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn walk_visits_each_port_once() {
        for (first_port, ports) in
            [(1024, 31_744), (20_000, 10), (65_535, 1), (1, 65_535), (40_000, 2), (30_000, 31)]
        {
            let range = Network { first_port, ports, ..Network::DEFAULT };
            for random in [0, 1, 2, 3, 77_777, u32::MAX] {
                let mut walk = PortWalk::new(&range, random);
                let seen: HashSet<u16> = (0..ports).map(|_| walk.next().get()).collect();
                assert_eq!(seen.len(), ports as usize);
                assert!(
                    seen.iter()
                        .all(|port| (first_port..first_port + ports).contains(&u32::from(*port)))
                );
            }
        }
    }
}
