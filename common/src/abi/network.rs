//! How the flows of a network are kept and translated.

use bytemuck::{Pod, Zeroable};

use crate::abi::{
    state::{State, TIMERS, Timer},
    time::{Ticks, ticks},
};

/// Source addresses are translated.
pub const MASQUERADE: u32 = 1;

/// Nothing goes outside.
pub const INTERNAL: u32 = 2;

/// Containers do not reach each other.
pub const NO_ICC: u32 = 4;

/// How the flows of a network are kept and translated.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
pub struct Network {
    /// By [`Timer`].
    pub timeouts: [Ticks; TIMERS],
    /// The first port that masquerade picks, where the flow's own is taken.
    pub first_port: u32,
    /// How many ports there are from that one on; never zero.
    pub ports: u32,
    /// How many flows each of its endpoints may have.
    pub max_flows: u32,
    /// The bridge's index.
    pub bridge: u32,
    /// Bits of [`mapping`].
    pub nat_behaviour: u32,
}

/// How a network's masquerade maps.
pub mod nat_behaviour {
    /// Endpoint-independent mapping and filtering (RFC 4787 sections 4.1 and 5). In network 0: some
    /// network has it.
    pub const ENDPOINT_INDEPENDENT: u32 = 1;
}

impl Network {
    /// Where nothing else is said. The ports are below those that Linux picks for its own sockets
    /// by default.
    pub const DEFAULT: Self = {
        let mut timeouts = [0; TIMERS];
        let mut i = 0;
        while i < Timer::SETTABLE.len() {
            timeouts[Timer::SETTABLE[i] as usize] = ticks(Timer::SETTABLE[i].default_seconds());
            i += 1;
        }
        timeouts[Timer::Closed as usize] = ticks(Timer::Closed.default_seconds());
        Self {
            timeouts,
            first_port: 1024,
            ports: 32768 - 1024,
            max_flows: u32::MAX,
            bridge: 0,
            nat_behaviour: 0,
        }
    };

    /// The last port that masquerade picks.
    pub const fn last_port(&self) -> u32 {
        self.first_port + self.ports - 1
    }

    /// How long a flow lasts in that state.
    #[inline(always)]
    pub const fn timeout(&self, state: State, protocol: u8) -> Ticks {
        self.timeouts[state.timer(protocol) as usize % TIMERS]
    }
}
