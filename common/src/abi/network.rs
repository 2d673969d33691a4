//! A network's policy, quotas and timeouts.

use bytemuck::{Pod, Zeroable};

#[cfg(doc)]
use crate::abi::endpoint::Endpoint;
use crate::abi::{
    state::{State, TIMERS, Timer},
    time::{Ticks, ticks},
};

/// In [`Endpoint::network`]: source addresses are masqueraded.
pub const MASQUERADE: u32 = 1;

/// In [`Endpoint::network`]: no packet goes outside.
pub const INTERNAL: u32 = 2;

/// In [`Endpoint::network`]: containers do not reach each other.
pub const NO_ICC: u32 = 4;

/// How the flows of a network are kept and translated.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
pub struct Network {
    /// Timeouts, indexed by [`Timer`].
    pub timeouts: [Ticks; TIMERS],
    /// The first port that masquerade picks if the flow's own is taken.
    pub first_port: u32,
    /// The number of ports from that one on; never zero.
    pub ports: u32,
    /// The quota: how many flows each of its endpoints may have, per family.
    pub max_flows: u32,
    /// Interface index of the bridge.
    pub bridge: u32,
    /// Bits of [`nat_behaviour`].
    pub nat_behaviour: u32,
}

/// How masquerade maps ports (RFC 4787).
pub mod nat_behaviour {
    /// Endpoint-independent mapping and filtering (RFC 4787 sections 4.1 and 5). In network 0: at
    /// least one network has it.
    pub const ENDPOINT_INDEPENDENT: u32 = 1;
}

impl Network {
    /// The defaults. The ports end below the range from which Linux picks ports of its own sockets
    /// (`net.ipv4.ip_local_port_range`).
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

    /// Ticks after the last packet until a flow in that state expires.
    #[inline(always)]
    pub const fn timeout(&self, state: State, protocol: u8) -> Ticks {
        self.timeouts[state.timer(protocol) as usize % TIMERS]
    }
}
