//! The agent's state: the host, what is in the datapath, and what the state file has.

use causeway_api::Error;
use tracing::error;

use super::{
    host::Host,
    installed::Installed,
    warn_once::{WarnOnce, Warning},
};
use crate::{instance::Instance, state::State};

/// The agent of one instance.
#[derive(Debug)]
pub struct Agent {
    pub(super) instance: Instance,
    pub(super) host: Host,
    pub(super) installed: Installed,
    pub(super) state: State,
    pub(super) warned: WarnOnce<Warning>,
}

impl Agent {
    /// Writes the state file, from which the next agent starts.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        self.state.save(&self.instance.state())
    }
}

/// Logs errors of an attempt to undo something: the error that it is undone for is the one that is
/// reported.
pub(super) fn log_undo_errors(errors: &[anyhow::Error]) {
    for error in errors {
        error!(error = %Error::from_chain(&**error), "taking back failed");
    }
}
