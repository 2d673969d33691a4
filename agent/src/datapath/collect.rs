//! Collection of expired and stale flow entries, beside all requests.

use std::{
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use anyhow::Context as _;

use super::maps::flow_table::FlowTable;

/// A thread that removes expired and stale entries. A full table takes the better part of a second,
/// and no request waits for it.
#[derive(Debug)]
pub(super) struct Collector {
    wake: SyncSender<()>,
}

impl Collector {
    /// Starts the thread.
    pub(super) fn start(flows: FlowTable) -> anyhow::Result<Self> {
        let (wake, woken) = sync_channel(1);
        thread::Builder::new()
            .name("collector".to_owned())
            .spawn(move || {
                while woken.recv().is_ok() {
                    match flows.collect() {
                        Ok(0) => {}
                        Ok(freed) => tracing::debug!(freed, "collected flow entries"),
                        Err(error) => {
                            tracing::warn!(
                                "collecting flow entries: {error:#}; retrying at the next interval"
                            );
                        }
                    }
                }
            })
            .context("starting the thread that collects flow entries")?;
        Ok(Self { wake })
    }

    /// Wakes the thread. If it is busy, it runs once more afterwards.
    pub(super) fn collect(&self) {
        let _ = self.wake.try_send(());
    }
}
