//! The loopback interface of a namespace that is being made.

use anyhow::Context as _;
use rtnetlink::{LinkUnspec, new_connection};

use crate::netlink::reason;

/// Index of `lo`: always the first in its namespace.
const LOOPBACK: u32 = 1;

/// Sets `lo` up in the namespace of the calling thread, which must not be one of a tokio runtime.
pub(super) fn set_up() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = new_connection().context("cannot open a netlink socket")?;
        tokio::spawn(connection);
        let change = LinkUnspec::new_with_index(LOOPBACK).up().build();
        let changed = handle.link().change(change).execute().await;
        changed.map_err(reason).context("cannot set the loopback interface up")
    })
}
