//! The flow table is swept beside everything else.

use std::{
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use anyhow::Context as _;

use super::maps::flow_table::FlowTable;

/// A thread that frees the entries of ended flows: a full table takes it a good part of a second,
/// which no request waits for.
#[derive(Debug)]
pub(super) struct Sweeper {
    wake: SyncSender<()>,
}

impl Sweeper {
    /// Starts the thread.
    pub(super) fn start(flows: FlowTable) -> anyhow::Result<Self> {
        let (wake, woken) = sync_channel(1);
        thread::Builder::new()
            .name("sweeper".to_owned())
            .spawn(move || {
                while woken.recv().is_ok() {
                    match flows.sweep() {
                        Ok(0) => {}
                        Ok(freed) => tracing::debug!(freed, "swept the flow table"),
                        Err(error) => {
                            tracing::warn!("sweeping the flow table: {error:#}; it is tried again")
                        }
                    }
                }
            })
            .context("starting the thread that sweeps the flow table")?;
        Ok(Self { wake })
    }

    /// Wakes the thread. One that is at it still will look again afterwards.
    pub(super) fn sweep(&self) {
        let _ = self.wake.try_send(());
    }
}
