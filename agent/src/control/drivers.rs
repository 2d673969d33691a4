//! XDP on the uplinks' drivers: where it runs, and why not elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use causeway_api as api;
use causeway_api::types::xdp::Xdp;

use super::snapshot::Uplink;

/// The uplinks that run the XDP program, and the containers that receive from it.
#[derive(Debug, Default)]
pub(super) struct Drivers {
    pub(super) wanted: Xdp,
    /// By index of the uplink: why its driver does not run the program; none if it does.
    pub(super) uplinks: BTreeMap<u32, Option<String>>,
    /// Indexes of the host sides whose container side was told to receive redirected frames,
    /// whether that succeeded or not.
    pub(super) asked: BTreeSet<u32>,
}

impl Drivers {
    pub(super) fn new(wanted: Xdp) -> Self {
        Self { wanted, ..Self::default() }
    }

    pub(super) fn in_use(&self) -> bool {
        self.uplinks.values().any(Option::is_none)
    }

    pub(super) fn forget(&mut self, uplink: u32) {
        self.uplinks.remove(&uplink);
    }

    pub(super) fn view(&self, uplinks: &BTreeMap<u32, Uplink>) -> Vec<api::Uplink> {
        let view = |(index, why): (&u32, &Option<String>)| {
            let interface = uplinks.get(index)?.name.clone();
            let xdp = if why.is_none() { api::XdpMode::Native } else { api::XdpMode::Off };
            Some(api::Uplink { interface, xdp, why: why.clone() })
        };
        self.uplinks.iter().filter_map(view).collect()
    }
}
